"""Runs in MLflow."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pixelq.agents.runs.progress import FAILED, FINISHED, STOPPED
from pixelq.agents.training.callbacks import Training
from pixelq.agents.training.trackers.tracker import DEFAULT_PROJECT, Tracker

MOST_PARAMETERS = 100
"""Greatest number of parameters that MLflow takes at once."""
MOST_CHARACTERS = 500
"""Length at which the value of a parameter is cut off; servers of some versions take no longer ones."""
STATES = {FINISHED: "FINISHED", STOPPED: "KILLED", FAILED: "FAILED"}
"""MLflow's names of the phases."""


class MlflowTracker(Tracker):
    """Keeps a run in MLflow: at `MLFLOW_TRACKING_URI`, which may be a local database, or where MLflow itself does.

    The project is MLflow's experiment. Its parameters are those with which the run began; config.json among the
    artifacts is that of the last time that it was resumed.

    Args:
        project, name, policies, film: As in `Tracker`.

    Raises:
        MissingExtra: If mlflow is not installed.
    """

    library = "mlflow"
    title = "MLflow"

    def open(self, run: str | None, project: str | None, config: dict[str, Any], training: Training) -> str:
        """Open a run of MLflow."""
        self._client = self._service.MlflowClient()
        if run is not None:
            self._client.update_run(run, status="RUNNING")
        else:
            name = self.name or (training.out.resolve().name if training.out is not None else None)
            run = str(self._client.create_run(self._experiment(project), run_name=name).info.run_id)
            make = self._service.entities.Param
            texts = [make(name, str(value)[:MOST_CHARACTERS]) for name, value in _flat(config)]
            for first in range(0, len(texts), MOST_PARAMETERS):
                self._client.log_batch(run, params=texts[first : first + MOST_PARAMETERS])
        self._run = run
        self._client.log_dict(run, config, "config.json")
        return run

    def _experiment(self, project: str | None) -> str:
        """Return the ID of the experiment, which is created if there is none of its name."""
        if project is None:
            if "MLFLOW_EXPERIMENT_ID" in os.environ:
                return os.environ["MLFLOW_EXPERIMENT_ID"]
            project = os.environ.get("MLFLOW_EXPERIMENT_NAME", DEFAULT_PROJECT)
        found = self._client.get_experiment_by_name(project)
        return str(self._client.create_experiment(project) if found is None else found.experiment_id)

    def log(self, values: dict[str, float], step: int) -> None:
        """Send scalars by name."""
        now, make = int(1000 * time.time()), self._service.entities.Metric
        self._client.log_batch(self._run, metrics=[make(name, value, now, step) for name, value in values.items()])

    def log_policy(self, folder: Path, marks: list[str], step: int) -> None:
        """Send a policy to the folders `best` and `latest` of the artifacts."""
        for mark in marks:
            self._client.log_artifacts(self._run, str(folder), mark)

    def log_film(self, path: Path, step: int) -> None:
        """Send a film to the artifacts."""
        self._client.log_artifact(self._run, str(path))

    def close(self, phase: str) -> None:
        """Say how the run ended."""
        self._client.set_terminated(self._run, STATES[phase])


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the entries of nested mappings, with the names of those around them before their own."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value

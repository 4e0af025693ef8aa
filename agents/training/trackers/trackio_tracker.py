"""Runs in Trackio."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from pixelq.agents.training.callbacks import Training
from pixelq.agents.training.trackers.tracker import DEFAULT_PROJECT, Tracker


class TrackioTracker(Tracker):
    """Keeps a run in Trackio: in its local database, or where its environment variables say (`TRACKIO_SPACE_ID`).

    Trackio finds runs by their names, so a few letters are added to each.

    Args:
        project, name, policies, film: As in `Tracker`.

    Raises:
        MissingExtra: If trackio is not installed.
    """

    library = "trackio"
    title = "Trackio"

    def open(self, run: str | None, project: str | None, config: dict[str, Any], training: Training) -> str:
        """Open a run of Trackio."""
        name = self.name or (training.out.resolve().name if training.out is not None else DEFAULT_PROJECT)
        run = run or f"{name}-{secrets.token_hex(3)}"
        self._run = self._service.init(project=project or DEFAULT_PROJECT, name=run, config=config, resume="allow")
        return run

    def log(self, values: dict[str, float], step: int) -> None:
        """Send scalars by name."""
        self._run.log(values, step=step)

    def log_policy(self, folder: Path, marks: list[str], step: int) -> None:
        """Send a policy as a version of the artifact `policy-RUN`."""
        artifact = self._service.Artifact(f"policy-{self._run.name}", type="model", metadata={"step": step})
        artifact.add_dir(str(folder))
        self._run.log_artifact(artifact, aliases=[*marks, f"step-{step}"])

    def log_film(self, path: Path, step: int) -> None:
        """Send a film, which the dashboard plays."""
        self._run.log({"film": self._service.Video(str(path))}, step=step)

    def close(self, phase: str) -> None:
        """Finish the run."""
        self._service.finish()

"""Runs in Weights & Biases."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pixelq.agents.runs.progress import FAILED
from pixelq.agents.training.callbacks import Training
from pixelq.agents.training.trackers.tracker import DEFAULT_PROJECT, Tracker


class WandbTracker(Tracker):
    """Keeps a run in Weights & Biases, whose own settings and environment variables hold, such as `WANDB_MODE=offline`.

    Its files lie in the run's folder unless `WANDB_DIR` names another. A run of `wandb.init` that is active already is
    used, and left open.

    Args:
        project, name, policies, film: As in `Tracker`.
        **options: Further arguments of `wandb.init`, such as `entity`, `group` or `tags`.

    Raises:
        MissingExtra: If wandb is not installed.
    """

    library = "wandb"
    title = "Weights & Biases"

    def __init__(
        self,
        project: str | None = None,
        name: str | None = None,
        *,
        policies: bool = True,
        film: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(project, name, policies=policies, film=film)
        self.options = options
        self._run: Any = None
        self._is_own = True

    def open(self, run: str | None, project: str | None, config: dict[str, Any], training: Training) -> str:
        """Open a run of wandb."""
        self._is_own = self._service.run is None
        if not self._is_own:
            self._run = self._service.run
        else:
            options: dict[str, Any] = {"name": self.name, "project": project}
            if project is None and "WANDB_PROJECT" not in os.environ:
                options["project"] = DEFAULT_PROJECT
            if training.out is not None:
                options["name"] = self.name or training.out.resolve().name
                if "WANDB_DIR" not in os.environ:
                    options["dir"] = str(training.out)
            if run is not None:
                options |= {"id": run, "resume": "allow"}
            self._run = self._service.init(**options | self.options)
        self._run.config.update(config, allow_val_change=True)
        return str(self._run.id)

    def log(self, values: dict[str, float], step: int) -> None:
        """Send scalars by name."""
        self._run.log(values, step=step)

    def log_policy(self, folder: Path, marks: list[str], step: int) -> None:
        """Send a policy as a version of the artifact `policy-RUN`."""
        artifact = self._service.Artifact(f"policy-{self._run.id}", type="model", metadata={"step": step})
        artifact.add_dir(str(folder))
        self._run.log_artifact(artifact, aliases=[*marks, f"step-{step}"])

    def log_film(self, path: Path, step: int) -> None:
        """Send a film, which the run's page plays."""
        self._run.log({"film": self._service.Video(str(path), format="mp4")}, step=step)

    def close(self, phase: str) -> None:
        """Finish the run, unless it was active before."""
        run, self._run = self._run, None
        if run is not None and self._is_own:
            run.finish(exit_code=int(phase == FAILED))

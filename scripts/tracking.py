"""Trackers by the names that `--track` has for them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from pixelq.agents.runs.tracking import tracked_by
from pixelq.agents.training.trackers.mlflow_tracker import MlflowTracker
from pixelq.agents.training.trackers.tracker import Tracker
from pixelq.agents.training.trackers.trackio_tracker import TrackioTracker
from pixelq.agents.training.trackers.wandb_tracker import WandbTracker

TRACKERS: dict[str, type[Tracker]] = {kind.library: kind for kind in (WandbTracker, MlflowTracker, TrackioTracker)}


def make_trackers(names: Iterable[str], project: str | None) -> list[Tracker]:
    """Return a tracker for each name.

    Args:
        names: Keys of `TRACKERS`.
        project: Project of their records; None for the default.

    Raises:
        MissingExtra: If a library is not installed.
    """
    return [TRACKERS[name](project) for name in dict.fromkeys(names)]


def say_untracked(run: Path, names: Iterable[str]) -> None:
    """Say which records of a run do not go on, because a run's folder alone sends nothing anywhere.

    Args:
        run: The run folder.
        names: Trackers that go on.
    """
    for name in tracked_by(run):
        if name in TRACKERS and name not in names:
            print(
                f"pixelq train: the record of this run in {name} is continued only with --track {name}", file=sys.stderr
            )

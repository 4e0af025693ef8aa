"""How the cells of a sweep stand, read from their run folders and from how their processes ended."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pixelq.agents.distributed.process import outcome_of
from pixelq.agents.errors import InvalidRun
from pixelq.agents.runs.folder import is_in_use
from pixelq.agents.runs.progress import EVALUATING, FAILED, FINISHED, SILENT, STOPPED, TRAINING, UNKNOWN
from pixelq.agents.runs.status import MeanAt, read_status
from pixelq.agents.runs.tables import FINAL_EVALUATION

WAITING = "waiting"
"""State of a cell that has not begun."""
QUEUED = "queued"
"""State of a cell that has been handed to the launcher, and has written nothing yet."""
RUNNING = frozenset({TRAINING, EVALUATING})
STATES = (FINISHED, TRAINING, EVALUATING, QUEUED, WAITING, STOPPED, SILENT, FAILED)
"""States in the order in which they are counted for the user."""


@dataclass(frozen=True)
class CellState:
    """How a cell stands."""

    name: str
    """Name of its run folder."""
    state: str
    """One of `STATES`; finished only when its final evaluation is written, too."""
    step: int = 0
    """Agent steps taken."""
    steps: int = 0
    """Agent steps that it is to take."""
    steps_per_second: float | None = None
    """Agent steps per second, while it runs; None if that is not known."""
    last_return: float | None = None
    """Mean return of its last training episodes; None before the first ends."""
    last_evaluation: MeanAt | None = None
    """Its last evaluation; None before the first."""
    seconds_left: float | None = None
    """Seconds until its end, while it runs; None if that is not known."""
    tries: int = 0
    """Times that it has failed since the sweep was started; 0 if that is not known."""
    problem: str | None = None
    """What it said when it failed, or what is wrong with its files; None if nothing is."""

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.state == FINISHED


def state_of(sweep: Path, name: str, steps: int) -> CellState:
    """Return how a cell stands, by its files.

    Args:
        sweep: Folder of the sweep.
        name: Name of the cell.
        steps: Agent steps that it is to take.
    """
    run, ended = sweep / name, outcome_of(sweep, name)
    problem = ended.said if ended is not None and ended.is_failure else None
    if not os.path.lexists(run / "config.json"):
        return CellState(name, WAITING if problem is None else FAILED, 0, steps, problem=problem)
    try:
        status = read_status(run)
    except InvalidRun as error:
        return CellState(name, FAILED, 0, steps, problem=str(error))
    is_done = status.step >= steps or status.stopped is not None
    if is_done and (run / FINAL_EVALUATION).exists():
        state = FINISHED
    elif is_in_use(run):
        state = TRAINING if status.step < steps and status.state != EVALUATING else EVALUATING
    elif problem is not None or status.state == FAILED:
        state = FAILED
    else:
        state = STOPPED if ended is not None or status.state not in (*RUNNING, UNKNOWN) else status.state
    is_running = state in RUNNING
    return CellState(
        name,
        state,
        status.step,
        steps,
        status.steps_per_second if is_running else None,
        status.last_return,
        status.last_evaluation,
        status.seconds_left if is_running else None,
        problem=problem,
    )

"""progress.json of a run folder: how far the run is, for other processes."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pixelq.agents.storage.files import read_regular, replace_file
from pixelq.agents.storage.json_values import is_count, is_number

PROGRESS = "progress.json"
EVERY = 2.0
"""Least number of seconds between two writes."""
MOST_BYTES = 2**20
TRAINING, EVALUATING, FINISHED, STOPPED, FAILED = "training", "evaluating", "finished", "stopped", "failed"
PHASES = (TRAINING, EVALUATING, FINISHED, STOPPED, FAILED)
"""What a run is doing: finished after its last step, stopped by a signal, failed with an error."""
SILENT = "silent"
"""State of a run that says that it trains and has written nothing for a while: its process was probably killed."""
UNKNOWN = "unknown"
"""State of a run that says nothing of itself and has steps left."""
SILENT_SECONDS = 60.0
"""Seconds without a new progress.json after which a run is silent; writing a checkpoint takes a while."""


@dataclass(frozen=True)
class Progress:
    """How far a run is. Counts are of the whole run, also over what was resumed."""

    phase: str
    """One of `PHASES`."""
    written: float
    """Time of this report, in seconds since 1970."""
    step: int
    """Agent steps taken."""
    steps: int
    """Agent steps at the run's end."""
    frames: int
    """Frames of the emulator."""
    episodes: int
    """Training episodes that ended."""
    updates: int
    """Updates of the network."""
    epsilon: float
    """Probability of a random action."""
    steps_per_second: float | None
    """Agent steps per second of training, over the last half minute; None before it is known."""
    seconds_left: float | None
    """Seconds until the last step, evaluations included; None before the speed is known."""
    wall_seconds: float
    """Seconds that the run has taken so far."""
    returns: tuple[float | None, ...]
    """[N], raw return so far of each environment's episode; None where it is not finite."""
    lengths: tuple[int, ...]
    """[N], steps so far of each environment's episode."""

    @property
    def state(self) -> str:
        """The phase, or `SILENT` if the run should have written since."""
        is_silent = self.phase in (TRAINING, EVALUATING) and time.time() - self.written > SILENT_SECONDS
        return SILENT if is_silent else self.phase


class ProgressFile:
    """Writes progress.json, and gives up quietly where it cannot: no run ends because nobody can watch it.

    Args:
        path: The file; None writes nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._due = 0.0

    @property
    def is_due(self) -> bool:
        """Whether the last write is two seconds ago."""
        return self.path is not None and time.monotonic() >= self._due

    def write(self, progress: Progress) -> None:
        """Replace the file."""
        self._due = time.monotonic() + EVERY
        if self.path is not None:
            with suppress(OSError):
                replace_file(self.path, json.dumps(asdict(progress)).encode(), synced=False)


def read_progress(run: Path) -> Progress | None:
    """Return what progress.json of a run folder says; None if it is missing or damaged."""
    try:
        values = json.loads(read_regular(run / PROGRESS, MOST_BYTES), parse_constant=_refuse)
    except (OSError, ValueError, RecursionError):
        return None
    return _checked(values)


def state_by_steps(step: int, steps: int | None) -> str:
    """Return the state of a run without progress.json, which older versions did not write.

    Args:
        step: Agent steps taken.
        steps: Agent steps at the run's end; None if that is not known.
    """
    return FINISHED if steps and step >= steps else UNKNOWN


def duration_text(seconds: float) -> str:
    """Return seconds in the unit that suits them."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number")


def _is_number(value: object) -> bool:
    return is_number(value, -(2.0**63), 2.0**63)


def _checked(values: Any) -> Progress | None:
    """Return the values as a `Progress`, or None if one is missing or has the wrong type; other entries are ignored."""
    names = Progress.__dataclass_fields__
    if not isinstance(values, dict) or not names.keys() <= values.keys():
        return None
    returns, lengths = values["returns"], values["lengths"]
    if not (isinstance(returns, list) and isinstance(lengths, list) and len(returns) == len(lengths)):
        return None
    fits = (
        values["phase"] in PHASES
        and all(is_count(values[name]) for name in ("step", "steps", "frames", "episodes", "updates"))
        and all(_is_number(values[name]) for name in ("written", "epsilon", "wall_seconds"))
        and all(values[name] is None or _is_number(values[name]) for name in ("steps_per_second", "seconds_left"))
        and all(value is None or _is_number(value) for value in returns)
        and all(is_count(value) for value in lengths)
    )
    if not fits:
        return None
    return Progress(**{name: values[name] for name in names} | {"returns": tuple(returns), "lengths": tuple(lengths)})

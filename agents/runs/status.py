"""How runs stand: what `pixelq status` prints, read from their files without PyTorch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelq.agents.errors import InvalidRun
from pixelq.agents.runs.progress import PROGRESS, read_progress, state_by_steps
from pixelq.agents.runs.tables import last_row, read_config
from pixelq.agents.storage.json_values import count_in, is_count, is_number, number_in
from pixelq.agents.storage.pointers import best_evaluation, evaluations_of


@dataclass(frozen=True)
class MeanAt:
    """The mean return of an evaluation."""

    step: int
    """Agent step at which it was played."""
    mean: float | None
    """Mean return; None if it is not finite."""


@dataclass(frozen=True)
class Stop:
    """How a callback ended a run before its last step, or at it."""

    step: int
    """Agent step."""
    callback: str | None
    """Name of the callback; None if something else asked for the end."""
    why: str
    """What it said of the end."""


@dataclass(frozen=True)
class Status:
    """How a run stands."""

    run: str
    """Its folder."""
    env: str | None
    """ID of its environment; None if it has none."""
    state: str
    """A phase of progress.json, `silent` or `unknown`; see `pixelq.agents.runs.progress`. Where a callback stopped the
    run, that is `finished`."""
    step: int
    """Agent steps taken."""
    steps: int | None
    """Agent steps at its end, also if a callback stopped it before; None if that is not known."""
    steps_per_second: float | None
    """Agent steps per second of training; None if that is not known."""
    seconds_left: float | None
    """Seconds until its end as it was last written; None if that is not known."""
    wall_seconds: float | None
    """Seconds that it has taken; None if that is not known."""
    written: float | None
    """Time of its last progress.json, in seconds since 1970; None if there is none."""
    last_return: float | None
    """Mean return of the last 100 training episodes; None before the first ends."""
    last_evaluation: MeanAt | None
    """Its last evaluation; None before the first."""
    best_evaluation: MeanAt | None
    """Its best evaluation, the first of equals; None before the first."""
    stopped: Stop | None = None
    """How a callback stopped it; None if none has."""
    problem: str | None = None
    """What is wrong with its files, if what is said comes from others."""


def read_status(run: Path) -> Status:
    """Return how a run stands.

    Raises:
        InvalidRun: If there is no run in the folder.
    """
    config, progress, row = read_config(run), read_progress(run), last_row(run / "metrics.csv")
    env, own_steps = config["env"], config.get("steps")
    step, steps = count_in(row.get("step", "")) or 0, own_steps if is_count(own_steps) else None
    evaluations, stop = list(evaluations_of(run)), stop_of(config)
    is_damaged = progress is None and os.path.lexists(run / PROGRESS)
    return Status(
        run=str(run),
        env=env if isinstance(env, str) else None,
        state=state_by_steps(step, steps) if progress is None else progress.state,
        step=step if progress is None else progress.step,
        steps=steps if progress is None or stop is not None else progress.steps,
        steps_per_second=_number(row, "steps_per_second") if progress is None else progress.steps_per_second,
        seconds_left=None if progress is None else progress.seconds_left,
        wall_seconds=_number(row, "wall_seconds") if progress is None else progress.wall_seconds,
        written=None if progress is None else progress.written,
        last_return=_number(row, "return_mean_100" if row.get("return_mean_100") else "return_mean"),
        last_evaluation=_mean_at(evaluations[-1] if evaluations else None),
        best_evaluation=_mean_at(best_evaluation(evaluations)),
        stopped=stop,
        problem=f"{run / PROGRESS} is damaged; what is said of the run is from its tables" if is_damaged else None,
    )


def stop_of(config: Mapping[str, Any]) -> Stop | None:
    """Return how a callback stopped a run, of which config.json says this; None if none has."""
    found = config.get("stopped")
    if not isinstance(found, dict) or not is_count(found.get("step")):
        return None
    callback, why = found.get("callback"), found.get("why")
    return Stop(found["step"], callback if isinstance(callback, str) else None, str(why))


def runs_in(folder: Path) -> list[Path]:
    """Return the folder itself if it holds a run, or else those of its folders that do, by name.

    Raises:
        InvalidRun: If there is none, or the folder cannot be read.
    """
    if os.path.lexists(folder / "config.json"):
        return [folder]
    try:
        found = [folder / name for name in sorted(os.listdir(folder))]
    except OSError as error:
        raise InvalidRun(f"no run in {folder} ({error.strerror}); give the folder of a run, or of several") from error
    found = [run for run in found if os.path.lexists(run / "config.json")]
    if not found:
        raise InvalidRun(f"no run in {folder}; give the folder of a run, or of several")
    return found


def _number(row: dict[str, str], name: str) -> float | None:
    """Return the number in a cell; None if it holds none that is finite."""
    value = number_in(row.get(name, ""))
    return value if is_number(value) else None


def _mean_at(evaluation: tuple[int, float] | None) -> MeanAt | None:
    if evaluation is None:
        return None
    step, mean = evaluation
    return MeanAt(step, mean if is_number(mean) else None)

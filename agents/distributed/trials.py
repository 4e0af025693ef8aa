"""Trials of a search: their cells, what their evaluations are worth on the way, and their value at the end."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelq.agents.distributed.cells import FREE, Cell, cells_of
from pixelq.agents.distributed.search_space import SEARCH, Dimension, check_only_searched, search_space
from pixelq.agents.distributed.spec import Spec, spec_of
from pixelq.agents.errors import InvalidRun, InvalidSpec
from pixelq.agents.results.records import read_evaluation
from pixelq.agents.runs.tables import FINAL_EVALUATION
from pixelq.agents.storage.pointers import evaluations_of
from pixelq.envs import human_normalized_score

EVALUATIONS = 10
"""Evaluations of a run by which a trial may be pruned, unless the specification has `evaluate_every`."""


@dataclass(frozen=True)
class SearchPlan:
    """What is searched, and what a trial is: `spec` is that of a sweep, with one agent, and without [search]."""

    values: Mapping[str, Any]
    """Values of the specification without [search]."""
    spec: Spec
    """The same, checked."""
    space: tuple[Dimension, ...]
    """What the settings of a trial are drawn from."""
    cells: tuple[Cell, ...]
    """Cells with the settings that all trials share, and else the preset's."""

    @property
    def evaluate_every(self) -> int:
        """Steps of a run between two evaluations."""
        every = self.spec.flags.evaluate_every
        assert every is not None
        return every

    def usual(self) -> dict[str, Any] | None:
        """Return the preset's own settings as Optuna names them; None if one is outside its range."""
        found = {each.name: each.label(getattr(self.cells[0].config, each.name)) for each in self.space}
        return None if None in found.values() else found

    def settings(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a trial as a specification has them.

        Args:
            params: What Optuna calls them.
        """
        return {each.name: each.setting(params[each.name]) for each in self.space if each.name in params}

    def names(self, number: int) -> tuple[str, ...]:
        """Return the names of a trial's cells."""
        return tuple(f"trial{number:04}-{cell.name}" for cell in self.cells)

    def cells_of(self, number: int, settings: Mapping[str, Any]) -> list[Cell]:
        """Return the cells of a trial: one for each environment and seed.

        Raises:
            InvalidSpec: If the settings cannot be run.
        """
        own = {name: [value] for name, value in settings.items()}  # which may be a list itself
        cells = cells_of(spec_of({**self.values, "agent": {**self.values.get("agent", {}), **own}}))
        return [dataclasses.replace(cell, name=name) for cell, name in zip(cells, self.names(number), strict=True)]

    def record(self) -> dict[str, Any]:
        """Return what identifies the search, as JSON values."""
        cell = self.cells[0].record()
        return {
            "envs": list(self.spec.envs),
            "presets": list(self.spec.presets),
            "seeds": list(self.spec.seeds),
            "steps": self.spec.steps,
            "agent": cell["agent"],
            "flags": {name: value for name, value in cell["flags"].items() if name not in FREE},
            SEARCH: {each.name: each.record() for each in self.space},
        }

    def score(self, cell: Cell, mean: float) -> float:
        """Return what a mean return counts: with several environments, on the scale from random play to a human."""
        if len(self.spec.envs) == 1:
            return mean
        normalized = human_normalized_score(cell.env, mean)
        assert normalized is not None
        return normalized


def plan_of(values: Mapping[str, Any]) -> SearchPlan:
    """Return the search with the values that SPEC.toml has.

    Raises:
        InvalidSpec: If a value does not fit.
        InvalidEnv: If there is no such environment.
    """
    bare = {key: value for key, value in values.items() if key != SEARCH}
    spec = spec_of(bare)
    if spec.preset_steps:
        raise InvalidSpec("steps must stand at the top of a search's specification, not under [preset]")
    if spec.flags.evaluate_every is None:
        bare["evaluate_every"] = max(1, spec.steps // EVALUATIONS)
        spec = spec_of(bare)
    elif spec.flags.evaluate_every > spec.steps:
        raise InvalidSpec(
            f"evaluate_every must be at most steps ({spec.steps:,}) in a search, got {spec.flags.evaluate_every:,}; "
            "trials are compared by their evaluations on the way"
        )
    space = search_space(values)
    check_only_searched(bare, space)
    cells = cells_of(spec)
    if len(spec.presets) != 1:
        raise InvalidSpec(f"presets must have one name in a search, got {len(spec.presets)}; search each by itself")
    if len(cells) != len(spec.envs) * len(spec.seeds):
        raise InvalidSpec(
            f"agent must have one value of each field in a search; lists of values stand under [{SEARCH}]"
        )
    for env in spec.envs if len(spec.envs) > 1 else ():
        if human_normalized_score(env, 0.0) is None:
            raise InvalidSpec(
                "envs must be one environment in a search, or Atari games, whose human-normalised scores are averaged; "
                f"{env} has none"
            )
    return SearchPlan(bare, spec, space, tuple(cells))


def reports(
    tables: Sequence[Sequence[tuple[int, float]]], is_over: Sequence[bool], together: int, steps: int
) -> Iterator[tuple[int, float]]:
    """Yield the steps and values of a trial on its way, as far as they are certain; they never change later.

    The first runs, as many as go together, are valued at each step at which they are evaluated, by their mean. The next
    ones add to what those before them have reached, and their steps count from there on: with two runs that go one
    after the other, the second one's evaluation at step s is at `steps` + s, and the value there is the mean of the
    first one's last evaluation and this one.

    Args:
        tables: Steps and scores of the evaluations of each run.
        is_over: Whether no more will come of each.
        together: Number of runs of the trial that go at once.
        steps: Steps of a run.
    """
    before: list[float] = []
    for block, start in enumerate(range(0, len(tables), together)):
        runs = list(zip(tables[start : start + together], is_over[start : start + together], strict=True))
        for step in sorted({step for table, _ in runs for step, _ in table}):
            if not all(over or (table and table[-1][0] >= step) for table, over in runs):
                return
            now = [next((score for at, score in reversed(table) if at <= step), math.nan) for table, _ in runs]
            value = sum(before + now) / len(before + now)
            if math.isfinite(value):
                yield block * steps + step, value
        if not all(over for _, over in runs):
            return
        before += [table[-1][1] for table, _ in runs if table]


def scores_of(plan: SearchPlan, out: Path, cells: Sequence[Cell]) -> list[list[tuple[int, float]]]:
    """Return the steps and scores of the evaluations of each cell.

    The steps are those at which evaluations were due: several environments may go a few steps beyond them, differently
    in each run, and a pruner compares trials at equal steps. One that was not due, when a callback stopped the run, has
    its own.
    """
    every, steps = plan.evaluate_every, plan.spec.steps
    found = []
    for cell in cells:
        scores = dict[int, float]()
        for step, mean in evaluations_of(out / cell.name):
            due = steps if step >= steps else step // every * every
            scores[step if due in scores or due == 0 else due] = plan.score(cell, mean)
        found.append(list(scores.items()))
    return found


def value_of(plan: SearchPlan, out: Path, cells: Sequence[Cell]) -> float:
    """Return the value of a trial whose cells have finished: the mean of their final evaluations.

    Raises:
        InvalidRun: If one has no mean return.
    """
    found = list[float]()
    for cell in cells:
        mean = read_evaluation(out / cell.name / FINAL_EVALUATION)["mean"]
        if mean is None:
            raise InvalidRun(f"the final evaluation of {cell.name} has no mean return; did no episode end?")
        found.append(plan.score(cell, float(mean)))
    return sum(found) / len(found)

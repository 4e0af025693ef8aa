"""Learning curves: means and spreads over seeds of training episodes and of evaluations."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelq.agents.config.agent_config import SPEED_ONLY
from pixelq.agents.config.schedules import shown_setting
from pixelq.agents.errors import InvalidRun
from pixelq.agents.results.records import Group, Run, read_groups
from pixelq.agents.runs.columns import PER_EPISODE

BINS = 120
"""Number of bins of a training curve."""
HOUR = 3600.0
"""Seconds in an hour."""
Array = NDArray[np.float64]
"""Numbers in double precision."""


class Curve(NamedTuple):
    """Statistics over seeds at P points."""

    x: Array
    """Places [P] in frames, steps or hours."""
    mean: Array
    """Means [P] over the seeds that have a value."""
    std: Array
    """Unbiased standard deviations [P] over these seeds; NaN for one seed."""
    low: Array
    """Lowest values [P]."""
    high: Array
    """Highest values [P]."""
    seeds: NDArray[np.int64]
    """Numbers of seeds [P]."""


class AgentCurve(NamedTuple):
    """Evaluations of an agent over its seeds, for a picture."""

    name: str
    """Name of the agent among the others on its environment."""
    seeds: int
    """Number of its runs."""
    curve: Curve
    """Mean returns over steps."""


def training_curve(runs: Iterable[Run], measure: str, axis: str) -> Curve:
    """Return a column of metrics.csv in bins of equal width, averaged over the seeds that have a value there.

    A row belongs to the bin of its middle, between its own end and the end of the row before it. It is weighted by
    the episodes that ended in it if the column is a mean over episodes, and else by its length. Where one seed has a
    value and another has none, the other one is interpolated between its neighbouring values; without that, the mean
    would jump from seed to seed.

    Args:
        runs: One run for each seed.
        measure: Name of the column.
        axis: `frames`, `step` or `hours`.
    """
    rows = [_weighted_rows(run, measure, axis) for run in runs]
    end = max((float(x[-1]) for x, _, _ in rows if len(x)), default=0.0)
    edges = np.linspace(0.0, end or 1.0, BINS + 1)
    binned = np.array([bin_means(x, y, weight, edges) for x, y, weight in rows])  # [N, BINS]
    kept = np.isfinite(binned).any(0)
    centers = ((edges[1:] + edges[:-1]) / 2)[kept]
    return _over_seeds(centers, np.array([_interpolated(centers, values) for values in binned[:, kept]]))


def evaluation_curve(runs: Sequence[Run], axis: str) -> Curve:
    """Return the means of evaluations, averaged over the seeds that were evaluated at about the same step.

    The places are means over these seeds; see `matched_evaluations`.

    Args:
        runs: One run for each seed.
        axis: `frames`, `step` or `hours`.
    """
    which = matched_evaluations([run.evaluations["step"] for run in runs])  # [N, P]
    found, places = np.full((2, *which.shape), np.nan)
    for i, run in enumerate(runs):
        there = which[i] >= 0
        found[i, there] = run.evaluations["mean"][which[i, there]]
        places[i, there] = _places(run, run.evaluations["step"], axis)[which[i, there]]
    known = np.isfinite(places)
    seeds = known.sum(0)
    middle = np.divide(np.where(known, places, 0.0).sum(0), seeds, out=np.zeros(len(seeds)), where=seeds > 0)
    return _over_seeds(middle, found)


def matched_evaluations(steps: Sequence[Array]) -> NDArray[np.int64]:
    """Return which evaluations of N seeds belong together: rows [N, P] by place, −1 where a seed has none.

    Counts of steps differ a little from seed to seed, as a step of all environments counts those that do not reset.
    So evaluations belong together that are less than half of the usual distance between two of a seed apart.

    Args:
        steps: The rising steps of the evaluations of each seed.
    """
    distances = np.concatenate([np.diff(of_seed, prepend=0.0) for of_seed in steps])
    apart = float(np.median(distances)) / 2 if len(distances) else 0.0
    next_rows, places = [0] * len(steps), list[list[int]]()
    while True:
        heads = [of_seed[row] if row < len(of_seed) else np.inf for of_seed, row in zip(steps, next_rows, strict=True)]
        first = min(heads)
        if not np.isfinite(first):
            return np.array(places, np.int64).reshape(-1, len(steps)).T
        is_here = [head == first or head - first < apart for head in heads]
        places.append([row if here else -1 for row, here in zip(next_rows, is_here, strict=True)])
        next_rows = [row + here for row, here in zip(next_rows, is_here, strict=True)]


def curves_by_env(
    runs: Sequence[str | os.PathLike[str]], names: Mapping[str, str] | None = None
) -> dict[str, list[AgentCurve]]:
    """Return the evaluation curve of each agent by environment, over the steps that all its seeds have reached.

    Runs are grouped into agents as in `read_groups`. Agents are named by their presets if no two on an environment have
    the same, and otherwise by the settings in which they differ.

    Args:
        runs: Run folders.
        names: Names of agents to use instead, by the name of the folder of one of their runs.

    Raises:
        InvalidRun: If there is no run in a folder or it has no evaluations, two runs are of the same agent with the
            same seed, or the runs of an agent were evaluated at different steps.
    """
    panels: dict[str, list[Group]] = {}
    for group in read_groups(runs):
        for run in group.runs:
            if not len(run.evaluations["step"]):
                raise InvalidRun(f"{run.path} has no evaluations yet; train it further first")
        panels.setdefault(group.env, []).append(group)
    return {
        env: [
            AgentCurve(name, len(group.runs), _common_evaluations(group.runs))
            for name, group in zip(_names(groups, names or {}), groups, strict=True)
        ]
        for env, groups in panels.items()
    }


def bin_means(x: Array, y: Array, weight: Array, edges: Array) -> Array:
    """Return the weighted means [B] of values in bins; NaN where a bin has no weight.

    Args:
        x: Ends [R] of the intervals that the values belong to, rising; each begins at the end before, the first at 0.
            A value belongs to the bin of the middle of its interval.
        y: Values [R]; NaN has no weight.
        weight: Weights [R].
        edges: Edges [B + 1] of the bins.
    """
    middle = (x + np.concatenate([[0.0], x[:-1]])) / 2 if len(x) else x
    is_valid = np.isfinite(y) & (weight > 0)
    where = np.clip(np.searchsorted(edges, middle[is_valid], "right") - 1, 0, len(edges) - 2)
    totals = np.bincount(where, weight[is_valid] * y[is_valid], len(edges) - 1)
    weights = np.bincount(where, weight[is_valid], len(edges) - 1)
    return np.asarray(np.divide(totals, weights, out=np.full(len(edges) - 1, np.nan), where=weights > 0))


def _over_seeds(x: Array, values: Array) -> Curve:
    """Return the statistics of values [N, P] of N seeds at P places, without places where no seed has a value."""
    if not values.size:
        empty = np.zeros(0)
        return Curve(empty, empty, empty, empty, empty, np.zeros(0, np.int64))
    is_valid = np.isfinite(values)
    seeds = is_valid.sum(0)
    kept = seeds > 0
    x, values, is_valid, seeds = x[kept], values[:, kept], is_valid[:, kept], seeds[kept]
    mean = np.where(is_valid, values, 0.0).sum(0) / seeds
    squares = np.where(is_valid, (values - mean) ** 2, 0.0).sum(0)
    std = np.sqrt(np.divide(squares, seeds - 1, out=np.full(len(x), np.nan), where=seeds > 1))
    low, high = np.where(is_valid, values, np.inf).min(0), np.where(is_valid, values, -np.inf).max(0)
    return Curve(x, mean, std, low, high, seeds)


def _interpolated(x: Array, y: Array) -> Array:
    """Return `y` [P] with straight lines in place of NaN between two values; NaN at either end stays."""
    is_valid = np.isfinite(y)
    return np.interp(x, x[is_valid], y[is_valid], np.nan, np.nan) if is_valid.any() else y


def _weighted_rows(run: Run, measure: str, axis: str) -> tuple[Array, Array, Array]:
    """Return the ends [R], values [R] and weights [R] of the rows of a run's metrics."""
    metrics = run.metrics
    total = metrics["episodes"] if measure in PER_EPISODE else metrics["step"]
    return _places(run, metrics["step"], axis), metrics[measure], np.diff(total, prepend=0.0)


def _places(run: Run, steps: Array, axis: str) -> Array:
    """Return the places of a run's steps on an axis."""
    if axis == "step":
        return steps
    if axis == "frames":
        return steps * run.frames_per_step
    seconds = run.metrics["wall_seconds"]
    is_known = np.isfinite(seconds)
    return np.interp(steps, run.metrics["step"][is_known], seconds[is_known]) / HOUR if is_known.any() else steps * 0.0


def _names(groups: Sequence[Group], given: Mapping[str, str]) -> list[str]:
    """Return the names of the agents on one environment, for `curves_by_env`."""
    agents = [group.runs[0].config["agent"] for group in groups]
    differing = [name for name in agents[0] if name not in SPEED_ONLY and len({str(a.get(name)) for a in agents}) > 1]
    names = [", ".join(f"{name} {shown_setting(agent.get(name))}" for name in differing) for agent in agents]
    if not all(names) or len(set(names)) < len(names):  # they differ in their rules or their number of steps
        names = [group.agent for group in groups]
    if len({group.preset for group in groups}) == len(groups):
        names = [group.preset for group in groups]
    for i, group in enumerate(groups):
        names[i] = next((given[run.name] for run in group.runs if run.name in given), names[i])
    return names


def _common_evaluations(runs: Sequence[Run]) -> Curve:
    """Return the curve of the evaluations that all of the runs have, over the mean of their steps.

    Raises:
        InvalidRun: If one has an evaluation between those of the others; see `matched_evaluations`.
    """
    steps = [run.evaluations["step"] for run in runs]
    which = matched_evaluations(steps)[:, : min(map(len, steps))]
    if (which < 0).any():
        raise InvalidRun(
            f"{' and '.join(str(run.path) for run in runs)} were evaluated at different steps; draw them one by one"
        )
    places, means = (
        np.array([run.evaluations[column][rows] for run, rows in zip(runs, which, strict=True)])
        for column in ("step", "mean")
    )
    return _over_seeds(np.floor(places.mean(0)), means)

"""Learning curves: means and spreads over seeds, over frames or hours, and the published curves behind them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelq.agents.report.page import Section
from pixelq.agents.results.comparison import MILLION, PUBLISHED_AS
from pixelq.agents.results.records import Group, Run
from pixelq.envs import PUBLISHED_AGENTS, PUBLISHED_SOURCE, published_curve, reference_score

BINS = 120
HOUR = 3600.0
MEASURES = {
    "return_mean": "mean return of training episodes",
    "length_mean": "mean length of training episodes (steps)",
    "loss": "loss",
    "q_mean": "mean q-value",
    "steps_per_second": "steps per second",
}
OF_MEMORY = {"q_discrepancy": "relative error of q-values where learning from a sequence begins"}
"""Of agents with memory."""
PER_EPISODE = ("return_mean", "length_mean")
"""Means over the episodes that ended in a row, so that a row counts by them."""
Array = NDArray[np.float64]


class Curve(NamedTuple):
    """Means over seeds at P points; a spread is NaN where there is one seed."""

    x: Array
    """[P], frames, steps or hours."""
    mean: Array
    """[P]."""
    std: Array
    """[P], over seeds, the unbiased one."""
    seeds: NDArray[np.int64]
    """[P], how many."""


def curves_section(groups: Sequence[Group]) -> Section:
    """The section of learning curves, a chart for each environment."""
    colours = {agent: i for i, agent in enumerate(dict.fromkeys(group.agent for group in groups))}
    envs = list(dict.fromkeys(group.env for group in groups))
    runs = [run for group in groups for run in group.runs]
    measures = MEASURES | (OF_MEMORY if any(np.isfinite(run.metrics["q_discrepancy"]).any() for run in runs) else {})
    data = [_chart(env, [group for group in groups if group.env == env], colours, measures) for env in envs]
    charts = [{"env": chart["env"], "is_atari": chart["is_atari"]} for chart in data]
    values = {"charts": charts, "measures": measures, "source": PUBLISHED_SOURCE}
    return Section("curves", "Learning curves", values, data)


def training_curve(runs: Iterable[Run], measure: str, axis: str) -> Curve:
    """A column of metrics.csv in bins of equal width, a mean over the seeds that have one there.

    A row lies in the bin of its middle, between its own end and that of the row before. It counts by the episodes
    that ended in it where the column is a mean over them, else by its length. Where one seed has a value, another
    that has none there counts by the line between its neighbouring ones: else the mean would leap from seed to seed.

    Args:
        runs: one for each seed.
        measure: the column.
        axis: ``frames``, ``step`` or ``hours``.
    """
    rows = [_weighted_rows(run, measure, axis) for run in runs]
    end = max((float(x[-1]) for x, _, _ in rows if len(x)), default=0.0)
    edges = np.linspace(0.0, end or 1.0, BINS + 1)
    binned = np.array([bin_means(x, y, weight, edges) for x, y, weight in rows])  # [N, BINS]
    kept = np.isfinite(binned).any(0)
    places = ((edges[1:] + edges[:-1]) / 2)[kept]
    return _over_seeds(places, np.array([_filled(places, values) for values in binned[:, kept]]))


def bin_means(x: Array, y: Array, weight: Array, edges: Array) -> Array:
    """Weighted means [B] of y [R] in the bins of x [R] between B + 1 edges; NaN where a bin holds no weight.

    ``x`` holds ends of intervals, rising; the one before the first ends at 0. NaN in ``y`` has no weight.
    """
    middle = (x + np.concatenate([[0.0], x[:-1]])) / 2 if len(x) else x
    is_there = np.isfinite(y) & (weight > 0)
    where = np.clip(np.searchsorted(edges, middle[is_there], "right") - 1, 0, len(edges) - 2)
    totals = np.bincount(where, weight[is_there] * y[is_there], len(edges) - 1)
    weights = np.bincount(where, weight[is_there], len(edges) - 1)
    return np.asarray(np.divide(totals, weights, out=np.full(len(edges) - 1, np.nan), where=weights > 0))


def _filled(x: Array, y: Array) -> Array:
    """``y`` [P] with straight lines over NaN between two values; NaN before the first and after the last stays."""
    is_there = np.isfinite(y)
    return np.interp(x, x[is_there], y[is_there], np.nan, np.nan) if is_there.any() else y


def evaluation_curve(runs: Sequence[Run], axis: str) -> Curve:
    """Means of evaluations, those at the same step over all seeds together; ``axis`` as for ``training_curve``."""
    steps = np.unique(np.concatenate([run.evaluations["step"] for run in runs]))
    found = np.full((len(runs), len(steps)), np.nan)
    places, seeds = np.zeros((2, len(steps)))
    for i, run in enumerate(runs):
        at = np.searchsorted(steps, run.evaluations["step"])
        found[i, at] = run.evaluations["mean"]
        places[at] += _places(run, run.evaluations["step"], axis)
        seeds[at] += 1
    return _over_seeds(places / seeds, found)


def _weighted_rows(run: Run, measure: str, axis: str) -> tuple[Array, Array, Array]:
    """Ends, values and weights of the rows of a run's metrics."""
    metrics = run.metrics
    counted = metrics["episodes"] if measure in PER_EPISODE else metrics["step"]
    return _places(run, metrics["step"], axis), metrics[measure], np.diff(counted, prepend=0.0)


def _places(run: Run, steps: Array, axis: str) -> Array:
    """Where steps of a run lie on an axis."""
    if axis == "step":
        return steps
    if axis == "frames":
        return steps * run.frames_per_step
    return np.interp(steps, run.metrics["step"], run.metrics["wall_seconds"]) / HOUR if run.steps else steps * 0.0


def _over_seeds(x: Array, values: Array) -> Curve:
    """Mean and spread over the seeds [N] that have a value at each of P places; places without any are left out."""
    if not values.size:
        empty = np.zeros(0)
        return Curve(empty, empty, empty, np.zeros(0, np.int64))
    is_there = np.isfinite(values)
    seeds = is_there.sum(0)
    kept = seeds > 0
    x, values, is_there, seeds = x[kept], values[:, kept], is_there[:, kept], seeds[kept]
    mean = np.where(is_there, values, 0.0).sum(0) / seeds
    squares = np.where(is_there, (values - mean) ** 2, 0.0).sum(0)
    std = np.sqrt(np.divide(squares, seeds - 1, out=np.full(len(x), np.nan), where=seeds > 1))
    return Curve(x, mean, std, seeds)


def _chart(env: str, groups: Sequence[Group], colours: dict[str, int], measures: Iterable[str]) -> dict[str, Any]:
    """What the script draws of one environment, as JSON values."""
    reference = reference_score(env)
    is_atari = any(run.frames_per_step > 1 for group in groups for run in group.runs)
    axes = ["frames", "hours"] if is_atari else ["step", "hours"]
    return {
        "env": env,
        "is_atari": is_atari,
        "axes": axes,
        "references": {} if reference is None else reference._asdict(),
        "series": [
            {
                "name": group.agent,
                "colour": colours[group.agent],
                "evaluation": {axis: _evaluations_as_json(group.runs, axis) for axis in axes},
                **{
                    measure: {axis: _as_json(training_curve(group.runs, measure, axis)) for axis in axes}
                    for measure in measures
                },
            }
            for group in groups
        ],
        "published": _published(env, groups) if is_atari else [],
    }


def _published(env: str, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """The published curves as far as the runs go; those of the runs' own presets, or else DQN's, are seen at first."""
    if not any(group.has_published_rules for group in groups):
        return []
    frames = max(run.frames for group in groups for run in group.runs)
    seen = {PUBLISHED_AS[group.preset] for group in groups if group.preset in PUBLISHED_AS} or {"DQN"}
    found = []
    for agent in PUBLISHED_AGENTS:
        curve = published_curve(env, agent)
        if curve is not None:
            middle = curve.middle_millions * MILLION
            shown = middle <= max(frames, MILLION) + MILLION / 2
            part = Curve(middle[shown], curve.mean[shown], curve.std[shown], curve.seeds[shown])
            found.append({"name": agent, "hidden": agent not in seen, **_as_json(part)})
    return found


def _evaluations_as_json(runs: Sequence[Run], axis: str) -> dict[str, Any]:
    """Evaluations; a single run's have the 95% interval over their episodes, several runs' the spread over seeds."""
    curve = _as_json(evaluation_curve(runs, axis))
    if len(runs) == 1 and len(curve["x"]) == len(runs[0].evaluations["step"]):
        low, high = (runs[0].evaluations[name] for name in ("ci95_low", "ci95_high"))
        return {**curve, "low": _numbers(low), "high": _numbers(high), "interval": "95% interval over episodes"}
    return curve


def _as_json(curve: Curve) -> dict[str, Any]:
    return {
        "x": _numbers(curve.x),
        "mean": _numbers(curve.mean),
        "low": _numbers(curve.mean - curve.std),
        "high": _numbers(curve.mean + curve.std),
        "seeds": curve.seeds.tolist(),
        "interval": "± std over seeds",
    }


def _numbers(values: Array) -> list[float | None]:
    """Six digits are more than a screen shows; NaN is null."""
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in values]

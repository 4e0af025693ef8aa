"""Section of learning curves: means and spreads over seeds, by frames or hours, and the published curves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelq.agents.report.page import Section
from pixelq.agents.results.comparison import MILLION, PUBLISHED_AS
from pixelq.agents.results.curves import Array, Curve, evaluation_curve, training_curve
from pixelq.agents.results.records import Group, Run
from pixelq.envs import PUBLISHED_AGENTS, PUBLISHED_SOURCE, published_curve, reference_score

MEASURES = {
    "return_mean": "mean return of training episodes",
    "length_mean": "mean length of training episodes (steps)",
    "loss": "loss",
    "q_mean": "mean q-value",
    "steps_per_second": "steps per second",
}
"""Columns of metrics.csv that can be drawn, and their names for readers."""
OF_SOME = {
    "return_mean_100": "mean return of the last 100 training episodes",
    "q_discrepancy": "relative error of q-values where learning from a sequence begins",
}
"""Further columns, of newer runs and of agents with an LSTM."""


def curves_section(groups: Sequence[Group]) -> Section:
    """Return the section of learning curves, with a chart for each environment."""
    colours = {agent: i for i, agent in enumerate(dict.fromkeys(group.agent for group in groups))}
    envs = list(dict.fromkeys(group.env for group in groups))
    runs = [run for group in groups for run in group.runs]
    measures = MEASURES | {
        name: called
        for name, called in OF_SOME.items()
        if any(name in run.metrics and np.isfinite(run.metrics[name]).any() for run in runs)
    }
    data = [_chart(env, [group for group in groups if group.env == env], colours, measures) for env in envs]
    charts = [{"env": chart["env"], "is_atari": chart["is_atari"]} for chart in data]
    values = {"charts": charts, "measures": measures, "source": PUBLISHED_SOURCE}
    return Section("curves", "Learning curves", values, data)


def _chart(env: str, groups: Sequence[Group], colours: dict[str, int], measures: Iterable[str]) -> dict[str, Any]:
    """Return what the script draws for one environment, as JSON values."""
    reference = reference_score(next(filter(None, (group.published_env for group in groups)), ""))
    is_atari = any(run.frames_per_step > 1 for group in groups for run in group.runs)
    axes = ["frames", "hours"] if is_atari else ["step", "hours"]
    return {
        "env": env,
        "is_atari": is_atari,
        "axes": axes,
        "references": {} if reference is None else reference._asdict(),
        "series": [
            {
                "name": group.label,
                "colour": colours[group.agent],
                "evaluation": {axis: _evaluations_as_json(group.runs, axis) for axis in axes},
                **{
                    measure: {axis: _curve_as_json(training_curve(group.runs, measure, axis)) for axis in axes}
                    for measure in measures
                },
            }
            for group in groups
        ],
        "published": _published(env, groups) if is_atari else [],
    }


def _published(env: str, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return the published curves, up to the end of the runs, as JSON values.

    Those of the runs' presets, or else that of DQN, are shown at first; the others are hidden.
    """
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
            part = _as_json(middle[shown], curve.mean[shown], curve.std[shown], curve.seeds[shown])
            found.append({"name": agent, "hidden": agent not in seen, **part})
    return found


def _evaluations_as_json(runs: Sequence[Run], axis: str) -> dict[str, Any]:
    """Return the evaluations of runs as JSON values.

    Those of a single run have 95% intervals over episodes, those of several runs the spread over seeds.
    """
    curve = _curve_as_json(evaluation_curve(runs, axis))
    if len(runs) == 1 and len(curve["x"]) == len(runs[0].evaluations["step"]):
        low, high = (runs[0].evaluations[name] for name in ("ci95_low", "ci95_high"))
        return {**curve, "low": _numbers(low), "high": _numbers(high), "interval": "95% interval over episodes"}
    return curve


def _curve_as_json(curve: Curve) -> dict[str, Any]:
    """Return a curve as JSON values."""
    return _as_json(curve.x, curve.mean, curve.std, curve.seeds)


def _as_json(x: Array, mean: Array, std: Array, seeds: NDArray[np.int64]) -> dict[str, Any]:
    """Return means [P] and standard deviations [P] over seeds at places [P] as JSON values."""
    return {
        "x": _numbers(x),
        "mean": _numbers(mean),
        "low": _numbers(mean - std),
        "high": _numbers(mean + std),
        "seeds": seeds.tolist(),
        "interval": "± std over seeds",
    }


def _numbers(values: Array) -> list[float | None]:
    """Return numbers as JSON values with six digits, more than a screen can show; NaN becomes null."""
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in values]

"""Section over several games: aggregates with intervals, performance profiles, probability of improvement, Atari-5.

Agarwal et al. 2021 (arXiv:2108.13264); see `pixelq.agents.results.aggregates`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelq.agents.errors import InvalidRun
from pixelq.agents.report.page import Section
from pixelq.agents.results.aggregates import (
    Estimate,
    aggregates,
    atari57_median,
    performance_profiles,
    probability_of_improvement,
)
from pixelq.agents.results.baselines import published_scores
from pixelq.agents.results.formatting import format_count
from pixelq.agents.results.records import Group
from pixelq.agents.results.scores import ScoreMatrices, run_scores, score_matrices
from pixelq.envs import ATARI5

METRICS = {
    "iqm": "interquartile mean",
    "median": "median",
    "mean": "mean",
    "optimality_gap": "optimality gap (less is better)",
}
"""Names of the aggregates, for readers."""
THRESHOLDS = 121
"""Number of points of a performance profile."""


def across_section(groups: Sequence[Group]) -> Section | None:
    """Return the section over games; None for a single game, or if runs are missing for it."""
    scored = [(group, found) for group in groups if (found := run_scores(group))]
    runs = [run for _, found in scored for run in found]
    if len({run.game for run in runs}) < 2:
        return None
    try:
        matrices = score_matrices(runs)
    except InvalidRun:
        return None
    labels = {group.agent: group.label for group in groups}
    shortest = min(run.frames for run in runs)
    published: dict[str, NDArray[np.float64]] = {}
    if any(group.has_published_rules for group in groups):
        of_agents = published_scores(matrices.games, shortest)
        published = {f"{agent}, published": scores for agent, scores in of_agents.items()}
    four = aggregates(matrices.scores | published)
    names = [*matrices.scores, *published]
    data = {
        "metrics": METRICS,
        "agents": [
            {
                "name": labels.get(name, name),
                "is_published": name in published,
                "estimates": {metric: _as_json(getattr(four[name], metric)) for metric in METRICS},
            }
            for name in names
        ],
        "profiles": [
            {**profile, "name": labels.get(profile["name"], profile["name"])}
            for profile in _profiles(matrices.scores | published)
        ],
    }
    values = {
        "games": matrices.games,
        "metrics": METRICS,
        "rows": [
            {
                "name": labels.get(name, name),
                "seeds": len(matrices.seeds[name]) if name in matrices.seeds else "means",
                "cells": [_format(getattr(four[name], metric)) for metric in METRICS],
            }
            for name in names
        ],
        "improvements": _improvements(matrices, labels),
        "atari57": _atari57(matrices, labels),
        "published_at": format_count(shortest) if published else None,
        "has_one_seed": any(len(seeds) == 1 for seeds in matrices.seeds.values()),
    }
    return Section("across", "Over all games", values, data)


def missing_for_aggregates(groups: Sequence[Group]) -> str | None:
    """Return why there are no aggregates over several games; None if there are some, or there is only one game."""
    runs = [run for group in groups for run in run_scores(group)]
    if len({run.game for run in runs}) < 2:
        return None
    try:
        score_matrices(runs)
    except InvalidRun as error:
        return str(error)
    return None


def _profiles(scores: Mapping[str, NDArray[np.float64]]) -> list[dict[str, Any]]:
    """Return the performance profile of each agent as JSON values, given its human-normalised scores."""
    most = max(2.0, float(np.ceil(max(matrix.max() for matrix in scores.values()))))
    profiles = performance_profiles(scores, np.linspace(0.0, most, THRESHOLDS))
    return [
        {
            "name": name,
            "x": profile.taus.round(4).tolist(),
            "mean": profile.value.round(5).tolist(),
            "low": None if profile.low is None else profile.low.round(5).tolist(),
            "high": None if profile.high is None else profile.high.round(5).tolist(),
        }
        for name, profile in profiles.items()
    ]


def _improvements(matrices: ScoreMatrices, labels: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the probability that a run of one agent scores higher than a run of another, for each pair of agents."""
    names = list(matrices.scores)
    return [
        {
            "ours": labels.get(ours, ours),
            "theirs": labels.get(theirs, theirs),
            "probability": _format(probability_of_improvement(matrices.scores[ours], matrices.scores[theirs])),
        }
        for i, ours in enumerate(names)
        for theirs in names[i + 1 :]
    ]


def _atari57(matrices: ScoreMatrices, labels: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the median over 57 games as Atari-5 predicts it; nothing unless all its five games were played."""
    if not set(ATARI5) <= set(matrices.games):
        return []
    return [
        {"name": labels.get(name, name), "median": _format(atari57_median(scores, matrices.games))}
        for name, scores in matrices.scores.items()
    ]


def _as_json(estimate: Estimate) -> dict[str, float | None]:
    """Return an estimate as JSON values."""
    return {name: None if value is None else round(value, 5) for name, value in estimate._asdict().items()}


def _format(estimate: Estimate) -> str:
    """Return an estimate as text with its interval, if it has one."""
    value, *ends = (None if part is None else f"{part:.3f}".replace("-", "−") for part in estimate)
    return f"{value} ({' to '.join(map(str, ends))})" if estimate.low is not None else str(value)

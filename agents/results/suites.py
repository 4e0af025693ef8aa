"""Scores over the games of a suite: aggregates of each agent, with intervals over its seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pixelq.agents.errors import UserError
from pixelq.agents.evaluation.scoring import Request, mark_of
from pixelq.agents.results.aggregates import aggregates, atari57_median
from pixelq.agents.results.formatting import pluralize
from pixelq.agents.results.scores import score_matrices, scores_of
from pixelq.envs import ATARI5, ATARI26, ATARI57
from pixelq.envs.games import game_of

SUITES = {"atari5": ATARI5, "atari26": ATARI26, "atari57": ATARI57}
"""Games of each suite, as ROM names."""
NAMES = {"iqm": "interquartile mean", "median": "median", "mean": "mean", "optimality_gap": "optimality gap"}
"""Names of the aggregates in print."""


def check_suite(suite: str, requests: Iterable[Request]) -> None:
    """Check, before any game is played, that the policies form complete agents on the games of a suite.

    Raises:
        UserError: If games are missing or not of the suite, or some policies are the best of their run and others
            the last.
        InvalidRun: If a policy does not belong to a run, or seeds are missing.
    """
    requests = list(requests)
    played, games = {game_of(request.env) for request in requests}, set(SUITES[suite])
    for names, what in ((games - played, "lack"), (played - games, f"also play games that are not in {suite}:")):
        if names:
            few = ", ".join(sorted(names)[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise UserError(f"the policies {what} {few}; `suite={suite}` takes all its games and no others")
    marks = {mark_of(request.checkpoint) for request in requests}
    if {"best", "last"} <= marks:
        raise UserError(
            "some policies are the best of their run and others the last; give `which=best` or `which=last`"
        )
    unplayed = [
        {"env": r.env, "protocol": r.protocol, "checkpoint": str(r.checkpoint), "mark": mark_of(r.checkpoint)}
        | {"step": 0, "mean": 0.0}  # stands for the evaluation
        for r in requests
    ]
    score_matrices(scores_of(zip((request.checkpoint for request in requests), unplayed, strict=True)))


def over_games(evaluations: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the aggregates of each agent as JSON values, each with an interval if the agent has several seeds.

    Args:
        evaluations: JSON values of scores, with each of an agent's seeds on each game.

    Raises:
        InvalidRun: If one does not belong to a run, or seeds or games are missing.
    """
    matrices = score_matrices(scores_of((Path(values["checkpoint"]), values) for values in evaluations))
    found: dict[str, dict[str, Any]] = {}
    for name, of_agent in aggregates(matrices.scores).items():
        found[name] = {metric: estimate._asdict() for metric, estimate in of_agent._asdict().items()}
        found[name]["seeds"] = matrices.seeds[name]
    if set(matrices.games) == set(ATARI5):
        for name, scores in matrices.scores.items():
            found[name]["atari57_median"] = atari57_median(scores, matrices.games)._asdict()
    return found


def describe_aggregates(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the aggregates of `over_games` as lines for the terminal."""
    lines = []
    for name, figures in found.items():
        lines.append(f"{name} · {pluralize(len(figures['seeds']), 'seed')} · human-normalised")
        rows = NAMES | ({"atari57_median": "median of 57, by Atari-5"} if "atari57_median" in figures else {})
        for metric, called in rows.items():
            value, low, high = (figures[metric][key] for key in ("value", "low", "high"))
            interval = "" if low is None else f"   95% interval {low:.3f} to {high:.3f}"
            lines.append(f"  {called:<24} {value:.3f}{interval}")
    return "\n".join(lines)

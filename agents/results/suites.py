"""Scores over the games of a suite: an aggregate of each agent, with intervals over its seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pixelq.agents.errors import UserError
from pixelq.agents.evaluation.scoring import Request, mark_of
from pixelq.agents.results.aggregates import aggregates, atari57_median, load_rliable
from pixelq.agents.results.formatting import counted
from pixelq.agents.results.scores import score_matrices, score_of
from pixelq.envs import ATARI5, ATARI26, ATARI57
from pixelq.envs.games import game_of

SUITES = {"atari5": ATARI5, "atari26": ATARI26, "atari57": ATARI57}
NAMES = {"iqm": "interquartile mean", "median": "median", "mean": "mean", "optimality_gap": "optimality gap"}


def check_suite(suite: str, requests: Iterable[Request]) -> None:
    """Sees, before anything is played, that the policies can be put together: an agent's on all games of a suite.

    Raises:
        UserError: games are missing or are others, or some policies are their runs' best and some the last.
        InvalidRun: one is of no run, or seeds are lacking.
        MissingExtra: rliable is not there, which aggregates need.
    """
    load_rliable()
    requests = list(requests)
    played, games = {game_of(request.env) for request in requests}, set(SUITES[suite])
    for names, what in ((games - played, "lack"), (played - games, f"are also of games that {suite} has not:")):
        if names:
            few = ", ".join(sorted(names)[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise UserError(f"the policies {what} {few}; --suite {suite} takes all its games and no others")
    marks = {mark_of(request.checkpoint) for request in requests}
    if {"best", "last"} <= marks:
        raise UserError("some policies are their runs' best and some the last; give --which best or --which last")
    facts = [
        {"env": r.env, "protocol": r.protocol, "flicker": r.flicker, "checkpoint": str(r.checkpoint)}
        | {"step": 0, "mean": 0.0}  # nothing is played yet
        for r in requests
    ]
    score_matrices([score_of(request.checkpoint, fact) for request, fact in zip(requests, facts, strict=True)])


def over_games(evaluations: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The aggregates of each agent, as JSON values: of each its value, and its interval where there are several seeds.

    Args:
        evaluations: JSON values of scores, of every agent each of its seeds on each game.

    Raises:
        InvalidRun: one is of no run, or seeds or games are lacking.
        MissingExtra: rliable is not there.
    """
    matrices = score_matrices([score_of(Path(values["checkpoint"]), values) for values in evaluations])
    found: dict[str, dict[str, Any]] = {}
    for name, four in aggregates(matrices.scores).items():
        found[name] = {metric: estimate._asdict() for metric, estimate in four._asdict().items()}
        found[name]["seeds"] = matrices.seeds[name]
    if set(matrices.games) == set(ATARI5):
        for name, scores in matrices.scores.items():
            found[name]["atari57_median"] = atari57_median(scores, matrices.games)._asdict()
    return found


def describe_aggregates(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The aggregates in a few lines for people."""
    lines = []
    for name, figures in found.items():
        seeds = len(figures["seeds"])
        lines.append(f"{name} · {counted(seeds, 'seed')} · human-normalised")
        rows = NAMES | ({"atari57_median": "median of 57, by Atari-5"} if "atari57_median" in figures else {})
        for metric, called in rows.items():
            value, low, high = (figures[metric][key] for key in ("value", "low", "high"))
            interval = "" if low is None else f"   95% interval {low:.3f} to {high:.3f}"
            lines.append(f"  {called:<24} {value:.3f}{interval}")
    return "\n".join(lines)

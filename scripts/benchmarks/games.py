"""A table of runs on MinAtar's or Atari games, with an interval over seeds and games.

`python -m pixelq.scripts.benchmarks.games RUN …` prints it in Markdown: the last evaluation of each agent on each game,
and the interquartile mean over all, with the interval of Agarwal et al. 2021. It needs the same seeds of each agent on
each of the games that were played. docs/minatar.md and docs/results tell how to make the runs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixelq.agents.errors import InvalidRun, UserError
from pixelq.agents.results.aggregates import Aggregates, aggregates
from pixelq.agents.results.records import Group, read_groups
from pixelq.envs import is_atari, reference_score

RANDOM = {"Asterix": 0.51, "Breakout": 0.38, "Freeway": 0.30, "Seaquest": 0.09, "SpaceInvaders": 4.05}
"""Mean return of random play of the actions that matter in MinAtar (`v1`), by game, as we measured it."""
Scores = dict[str, NDArray[np.float64]]
"""Mean raw returns [seeds, games] by agent."""


def random_play(env: str) -> float | None:
    """Return the mean return of random play in an environment; None if it is not known."""
    if env.startswith("MinAtar/"):
        return RANDOM.get(short_name(env)) if env.endswith("-v1") else None
    reference = reference_score(env) if is_atari(env) else None
    return None if reference is None else reference.random


def short_name(env: str) -> str:
    """Return the name of a game, without the namespace and the version of its environment."""
    return env.rpartition("/")[2].rpartition("-v")[0]


def last_scores(groups: Sequence[Group]) -> tuple[list[str], Scores]:
    """Return the games' environments, and the last evaluations of each agent's seeds on them.

    Raises:
        InvalidRun: If a run is of another environment, unfinished, or an agent lacks seeds on a game.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for group in groups:
        game = group.env
        if random_play(game) is None:
            of = "MinAtar/*-v1 or an Atari game with published scores"
            raise InvalidRun(f"{group.runs[0].path} must be a run on {of}, got one on {game}")
        for run in group.runs:
            if run.last is None or run.last.step < run.config["steps"]:
                raise InvalidRun(f"{run.path} has no evaluation after its last step; let the run finish")
            found.setdefault(group.label, {}).setdefault(game, {})[run.seed] = run.last.mean
    games = sorted({game for of_agent in found.values() for game in of_agent})
    for label, of_agent in found.items():
        seeds = {tuple(of_agent.get(game, ())) for game in games}
        if len(seeds) > 1:
            raise InvalidRun(f"the runs of {label} must have the same seeds on each of {', '.join(games)}")
    return games, {
        label: np.array([list(of_agent[game].values()) for game in games]).T for label, of_agent in found.items()
    }


def normalized(games: Sequence[str], scores: Scores) -> dict[str, Aggregates]:
    """Return the aggregates of scores on which 0 is random play, and 1 the best agent's mean on that game."""
    low = np.array([random_play(game) for game in games], dtype=np.float64)
    best = np.max([of_agent.mean(0) for of_agent in scores.values()], axis=0)
    if (best <= low).any():
        raise InvalidRun("an agent must be better than random play on each game; train longer")
    return aggregates({label: (of_agent - low) / (best - low) for label, of_agent in scores.items()})


def table(games: Sequence[str], scores: Scores, over_games: Mapping[str, Aggregates]) -> str:
    """Return the table in Markdown: means and the lowest and highest seed, and interquartile means with intervals."""
    names = " | ".join(map(short_name, games))
    lines = [f"| agent | seeds | {names} | interquartile mean |", "| --- " * (len(games) + 3) + "|"]
    for label, of_agent in scores.items():
        cells = [
            f"{each.mean():.1f}" + (f" ({each.min():.1f} to {each.max():.1f})" if len(each) > 1 else "")
            for each in of_agent.T
        ]
        value, low, high = over_games[label].iqm
        interval = "" if low is None else f" ({low:.2f} to {high:.2f})"
        lines.append(f"| {label} | {len(of_agent)} | {' | '.join(cells)} | {value:.2f}{interval} |")
    random = " | ".join(f"{random_play(game):.1f}" for game in games)
    return "\n".join([*lines, f"| random play | | {random} | 0 |"])


def main(paths: Sequence[str]) -> int:
    """Print the table of the runs in folders; return the exit code."""
    try:
        games, scores = last_scores(read_groups(map(Path, paths)))
        print(table(games, scores, normalized(games, scores)))
    except UserError as error:
        print(f"games: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

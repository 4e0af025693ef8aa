"""Published learning curves, for comparison with runs.

`dopamine_atari.csv.gz` holds the curves of the Dopamine project's baselines on 60 Atari games (Castro et al. 2018,
arXiv:1812.06110), averaged over their seeds. The source is under the Apache License 2.0: `dopamine_atari.LICENSE`.
"""

import csv
import gzip
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from pixelq.envs.games import game_of

PUBLISHED_AGENTS = ("DQN", "C51", "QR-DQN", "IQN", "Rainbow")
"""Names of the published agents; Rainbow is Dopamine's, without double, dueling and noisy layers."""

PUBLISHED_SOURCE = "Castro et al. 2018"
"""Citation of the published curves."""


@dataclass(frozen=True)
class PublishedCurve:
    """Mean raw return of the training episodes in each of M intervals, with sticky actions and whole episodes."""

    agent: str
    """Name of the agent, one of `PUBLISHED_AGENTS`."""
    frames_millions: NDArray[np.float64]
    """Ends of the intervals in million frames, [M]; an interval begins where the one before it ends."""
    mean: NDArray[np.float64]
    """Means over seeds, [M]."""
    std: NDArray[np.float64]
    """Standard deviations over seeds, [M]."""
    seeds: NDArray[np.int64]
    """Numbers of seeds, [M]."""

    @property
    def middle_millions(self) -> NDArray[np.float64]:
        """Middles of the intervals in million frames, [M]: where to plot the means."""
        return self.frames_millions - 0.5


def published_curve(env_id_or_game: str, agent: str) -> PublishedCurve | None:
    """Return the published curve of an agent with the Nature network, or None for a game without one.

    Args:
        env_id_or_game: An environment id or a ROM name.
        agent: A name of `PUBLISHED_AGENTS`.

    Raises:
        ValueError: If no published agent has that name.
    """
    if agent not in PUBLISHED_AGENTS:
        raise ValueError(f"agent must be one of {', '.join(PUBLISHED_AGENTS)}, got {agent!r}")
    header, lines = _table()
    rows = list(csv.DictReader([header, *lines.get(f"{game_of(env_id_or_game)},nature,{agent}", ())]))
    if not rows:
        return None
    frames, mean, std, seeds = (
        np.array([float(row[column]) for row in rows])
        for column in ("frames_millions", "mean_return", "std_over_seeds", "seeds")
    )
    return PublishedCurve(agent, frames, mean, std, seeds.astype(np.int64))


def has_published_rules(rules: str) -> bool:
    """Return whether a game was played as by the published agents: with sticky actions and without flicker.

    Args:
        rules: Rules as in `Protocol.rules`.
    """
    return rules == "sticky"


@cache
def _table() -> tuple[str, dict[str, list[str]]]:
    """Return the header and the lines of the table by their first three cells: game, network and agent.

    They are read once, because a report asks for many curves.
    """
    packed = (files("pixelq.envs") / "dopamine_atari.csv.gz").read_bytes()
    header, *lines = gzip.decompress(packed).decode().splitlines()
    curves: dict[str, list[str]] = {}
    for line in lines:
        curves.setdefault(",".join(line.split(",", 3)[:3]), []).append(line)
    return header, curves

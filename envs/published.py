"""Published learning curves, to lay a run beside.

`dopamine_atari.csv.gz` holds those of the Dopamine project's baselines on 60 Atari games (Castro et al. 2018,
arXiv:1812.06110), averaged over their seeds. Its source is under the Apache License 2.0: `dopamine_atari.LICENSE`.
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


@dataclass(frozen=True)
class PublishedCurve:
    """Mean raw return of the training episodes in each of M intervals, with sticky actions and whole episodes."""

    agent: str
    frames_millions: NDArray[np.float64]
    """[M], the interval's end; it begins where the one before ends."""
    mean: NDArray[np.float64]
    """[M], over seeds."""
    std: NDArray[np.float64]
    """[M], over seeds."""
    seeds: NDArray[np.int64]
    """[M], how many."""

    @property
    def middle_millions(self) -> NDArray[np.float64]:
        """[M], the interval's middle in million frames, where its mean belongs."""
        return self.frames_millions - 0.5


def published_curve(env_id_or_game: str, agent: str) -> PublishedCurve | None:
    """The published curve of an agent with the Nature network; None for a game without one.

    Raises:
        ValueError: no agent of `PUBLISHED_AGENTS` has that name.
    """
    if agent not in PUBLISHED_AGENTS:
        raise ValueError(f"no curve of {agent!r} is published; there are {', '.join(PUBLISHED_AGENTS)}")
    game = game_of(env_id_or_game)
    header, *lines = _lines()
    rows = list(csv.DictReader([header, *(line for line in lines if line.startswith(f"{game},nature,{agent},"))]))
    if not rows:
        return None
    frames, mean, std, seeds = (
        np.array([float(row[column]) for row in rows])
        for column in ("frames_millions", "mean_return", "std_over_seeds", "seeds")
    )
    return PublishedCurve(agent, frames, mean, std, seeds.astype(np.int64))


def has_published_rules(protocol: str, flicker: float = 0.0) -> bool:
    """Whether a game was played as the published agents played it: with sticky actions, and every picture seen."""
    return protocol == "sticky" and not flicker


@cache
def _lines() -> list[str]:
    """The table's lines, with the Nature network's rows only: read once, as a report asks for many curves."""
    packed = (files("pixelq.envs") / "dopamine_atari.csv.gz").read_bytes()
    header, *lines = gzip.decompress(packed).decode().splitlines()
    return [header, *(line for line in lines if ",nature," in line)]

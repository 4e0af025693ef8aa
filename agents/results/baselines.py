"""What an evaluation is laid beside: the published agents at the same number of frames, random play, and a person."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pixelq.agents.results.comparison import MILLION, SPREAD, deviations
from pixelq.envs import (
    PUBLISHED_AGENTS,
    has_published_rules,
    human_normalized_score,
    published_curve,
    reference_score,
)


class Baseline(NamedTuple):
    """One baseline on a game, and where a run stands against it."""

    name: str
    """``random``, ``human`` or one of `pixelq.envs.PUBLISHED_AGENTS`."""
    mean: float
    """Raw return."""
    std: float | None
    """Over seeds; None of random and human play."""
    seeds: int | None
    human_normalized: float | None
    """None for a game without reference scores."""
    ratio: float | None
    """How many times as far above random play as the baseline the run lies; below 0 where it is worse than random."""
    deviations: float | None
    """How many of the baseline's standard deviations over seeds the run lies above its mean."""

    @property
    def is_inside(self) -> bool | None:
        """Whether the run lies within two of them; None where no spread is known."""
        return None if self.deviations is None else abs(self.deviations) <= SPREAD


def baselines(
    env_id_or_game: str, mean: float, frames: int, protocol: str = "sticky", flicker: float = 0.0
) -> tuple[Baseline, ...]:
    """Lays a mean raw return after a number of emulator frames beside random play, a person and the published agents.

    The ratio is (run − random) / (baseline − random), which is that of the human-normalised scores. Raw returns have
    none that means anything: in Pong −10 is not half as good as −20. There is none either where the baseline itself
    is within two standard deviations of random play: it has learnt nothing to be a multiple of.

    A published value is the mean over the training episodes in a million frames and belongs to their middle; between
    two middles it is interpolated, as is its spread. ε is 1 in the first frames and falls to 0.01 in the first million,
    so that early on an evaluation looks better beside them than it is; `compare_run` lays training beside training.
    They have sticky actions and see every picture. By other rules, before the first million's middle, after the last
    million and on games that were not published there are none of them.

    Args:
        env_id_or_game: environment id or ROM name.
        mean: of the run's evaluation.
        frames: at which the evaluated policy was saved.
        protocol: by whose rules it was evaluated.
        flicker: probability that a picture was black.

    Returns:
        random, human, and then the agents; those that are known.
    """
    reference = reference_score(env_id_or_game)
    rows = []
    if reference is not None:
        rows += [_row(env_id_or_game, mean, name, score) for name, score in reference._asdict().items()]
    for agent in PUBLISHED_AGENTS if has_published_rules(protocol, flicker) else ():
        curve = published_curve(env_id_or_game, agent)
        if curve is None:
            continue
        middle, at = curve.middle_millions, frames / MILLION
        if middle[0] <= at <= curve.frames_millions[-1]:
            its_mean, std = (float(np.interp(at, middle, values)) for values in (curve.mean, curve.std))
            seeds = int(curve.seeds[np.abs(middle - at).argmin()])
            rows.append(_row(env_id_or_game, mean, agent, its_mean, std, seeds))
    return tuple(rows)


def _row(
    env: str, mean: float, name: str, its_mean: float, std: float | None = None, seeds: int | None = None
) -> Baseline:
    """A run's mean beside a baseline's."""
    reference = reference_score(env)
    ratio = None
    if reference is not None and its_mean - reference.random > SPREAD * (std or 0.0):
        ratio = (mean - reference.random) / (its_mean - reference.random)
    distance = None if std is None else deviations(mean - its_mean, std)
    return Baseline(name, its_mean, std, seeds, human_normalized_score(env, its_mean), ratio, distance)

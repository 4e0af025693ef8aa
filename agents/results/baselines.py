"""Baselines of an evaluation: random play, a human player, and the published agents at the same number of frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelq.agents.results.comparison import MILLION, SPREAD, deviations
from pixelq.envs import (
    PUBLISHED_AGENTS,
    has_published_rules,
    human_normalized_score,
    published_curve,
    reference_score,
)


class Baseline(NamedTuple):
    """A baseline on a game, and how a run compares with it."""

    name: str
    """`random`, `human` or one of `pixelq.envs.PUBLISHED_AGENTS`."""
    mean: float
    """Mean raw return of the baseline."""
    std: float | None
    """Standard deviation over seeds; None for random and human play."""
    seeds: int | None
    """Number of seeds; None for random and human play."""
    human_normalized: float | None
    """Human-normalised score of the baseline; None for a game without reference scores."""
    ratio: float | None
    """Score of the run above random play, divided by the baseline's; negative if the run is worse than random play."""
    deviations: float | None
    """Distance of the run above the baseline's mean, in the baseline's standard deviations over seeds."""

    @property
    def is_inside(self) -> bool | None:
        """Whether the run lies within `SPREAD` standard deviations of the mean; None if there is no deviation."""
        return None if self.deviations is None else abs(self.deviations) <= SPREAD


def baselines(env_id_or_game: str, mean: float, frames: int, protocol: str = "sticky") -> tuple[Baseline, ...]:
    """Compare a mean raw return after a number of emulator frames with random play, a human and the published agents.

    The ratio is (run − random) / (baseline − random), which is the ratio of the human-normalised scores. A ratio of
    raw returns would be meaningless: in Pong, −10 is not half as good as −20. There is no ratio where the baseline
    itself is within two standard deviations of random play, because it has learned nothing to be a multiple of.

    A published value is the mean over the training episodes in a million frames and belongs to the middle of that
    million; between two middles, the value and its spread are interpolated. In the published training, ε is 1 in the
    first frames and falls to 0.01 during the first million, so that an early evaluation looks better beside these
    values than it is; `compare_run` compares training with training. The published agents have sticky actions and see
    every frame. They are left out under other rules, before the middle of the first million, after the last million,
    and on games that were not published.

    Args:
        env_id_or_game: Environment id or ROM name.
        mean: Mean raw return of the policy after these frames; not of the best policy of a run, which is a maximum.
        frames: Number of emulator frames for which the policy was trained.
        protocol: Rules of the evaluation, such as `sticky` or `sticky+flicker=0.5`.

    Returns:
        The known ones of random play, human play and the published agents, in this order.
    """
    reference = reference_score(env_id_or_game)
    rows = []
    if reference is not None:
        rows += [_row(env_id_or_game, mean, name, score) for name, score in reference._asdict().items()]
    for agent in PUBLISHED_AGENTS if has_published_rules(protocol) else ():
        curve = published_curve(env_id_or_game, agent)
        if curve is None:
            continue
        middle, at = curve.middle_millions, frames / MILLION
        if middle[0] <= at <= curve.frames_millions[-1]:
            its_mean, std = (float(np.interp(at, middle, values)) for values in (curve.mean, curve.std))
            seeds = int(curve.seeds[np.abs(middle - at).argmin()])
            rows.append(_row(env_id_or_game, mean, agent, its_mean, std, seeds))
    return tuple(rows)


def published_scores(games: Sequence[str], frames: int) -> dict[str, NDArray[np.float64]]:
    """Return the human-normalised scores [1, games] of the published agents that played all of the games.

    Args:
        games: ROM names.
        frames: Number of emulator frames after which the scores are taken.
    """
    by_game = [{row.name: row.human_normalized for row in baselines(game, 0.0, frames)} for game in games]
    return {
        agent: np.array([[scores[agent] for scores in by_game]], np.float64)
        for agent in PUBLISHED_AGENTS
        if all(agent in scores for scores in by_game)
    }


def _row(
    env: str, mean: float, name: str, its_mean: float, std: float | None = None, seeds: int | None = None
) -> Baseline:
    """Compare a run's mean with a baseline's."""
    reference = reference_score(env)
    ratio = None
    if reference is not None and its_mean - reference.random > SPREAD * (std or 0.0):
        ratio = (mean - reference.random) / (its_mean - reference.random)
    distance = None if std is None else deviations(mean - its_mean, std)
    return Baseline(name, its_mean, std, seeds, human_normalized_score(env, its_mean), ratio, distance)

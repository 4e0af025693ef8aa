"""Aggregate statistics over runs and games with bootstrap intervals, after Agarwal et al. 2021 (arXiv:2108.13264).

Scores are human-normalised: 0 is random play, 1 is a human player. Every interval is the 95% percentile interval of a
stratified bootstrap: the runs of each game are resampled with replacement, independently of the other games, and the
games stay fixed. The interval says what other seeds would give, not what other games would; with fewer than about
five runs it is too narrow. A single run has no interval: every resample is that run, which says nothing about other
seeds. Estimates and intervals equal those of the authors' library rliable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixelq.agents.errors import InvalidScores

RESAMPLES = 2_000
"""Resamples of a bootstrap."""
CONFIDENCE = 0.95
"""Confidence level of every interval."""
Matrix = NDArray[np.float64]
"""Scores [runs, games]."""

ATARI5_WEIGHTS = {
    "battle_zone": 0.3819751237831753,
    "double_dunk": 0.0679099488887574,
    "name_this_game": 0.310804148620847,
    "phoenix": 0.12412619402774641,
    "qbert": 0.08048518286466755,
}
"""Regression weights of Atari-5 (Aitchison et al. 2023, arXiv:2210.02019).

All digits are from plot_util.py of the first author's github.com/maitchison/PPO; a least-squares fit without intercept
to dataset.csv of github.com/maitchison/Atari-5 reproduces them.
"""


class Estimate(NamedTuple):
    """A statistic and its 95% interval; without an interval for a single run."""

    value: float
    """Statistic of the scores."""
    low: float | None
    """Lower end of the interval; None for a single run."""
    high: float | None
    """Upper end of the interval; None for a single run."""


class Aggregates(NamedTuple):
    """Performance of an agent over all its runs and games."""

    iqm: Estimate
    """Interquartile mean: mean of all runs × games scores without the lowest and the highest quarter."""
    median: Estimate
    """Median over games of the mean over runs."""
    mean: Estimate
    """Mean over games of the mean over runs."""
    optimality_gap: Estimate
    """Mean amount by which scores fall short of 1, where scores above 1 count as 1; less is better."""


class Profile(NamedTuple):
    """Fraction of all runs × games scores above each of T thresholds."""

    taus: NDArray[np.float64]
    """Thresholds [T]."""
    value: NDArray[np.float64]
    """Fractions [T]."""
    low: NDArray[np.float64] | None
    """Lower ends [T] of the 95% intervals, each for its threshold alone; None for a single run."""
    high: NDArray[np.float64] | None
    """Upper ends [T]; None for a single run."""


def aggregates(scores: Mapping[str, ArrayLike], *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Aggregates]:
    """Return the four aggregates of each agent.

    The order of the runs and the presence of other agents make no difference.

    Args:
        scores: Human-normalised scores [runs, games] by agent, on the same games in the same order.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.

    Raises:
        InvalidScores: If the scores are not such matrices, or hold NaN.
    """
    found = {}
    for name, matrix in _matrices(scores).items():
        value, low, high = _estimate(_four_aggregates, (matrix,), resamples, seed)
        found[name] = Aggregates(*(_as_estimate(value, low, high, i) for i in range(4)))
    return found


def performance_profiles(
    scores: Mapping[str, ArrayLike], taus: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Profile]:
    """Return, for each agent, the fraction of scores above each threshold (Agarwal et al. 2021, equation 1).

    Args:
        scores: Human-normalised scores as in `aggregates`.
        taus: Thresholds [T].
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.

    Raises:
        InvalidScores: If the scores are not such matrices, or hold NaN.
    """
    thresholds = np.asarray(taus, dtype=np.float64)

    def fractions_above(matrix: Matrix) -> NDArray[np.float64]:
        return np.asarray((matrix.reshape(-1, 1) > thresholds).mean(0))

    return {
        name: Profile(thresholds, *_estimate(fractions_above, (matrix,), resamples, seed))
        for name, matrix in _matrices(scores).items()
    }


def probability_of_improvement(
    ours: ArrayLike, theirs: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Return the probability that a run of ours scores higher than one of theirs, averaged over games.

    A tie counts as one half. This is the Mann-Whitney U statistic divided by its maximum (Agarwal et al. 2021,
    section 4.3).

    Args:
        ours: Scores [runs, games].
        theirs: Scores [their runs, games], on the same games in the same order.
        resamples: Number of bootstrap resamples of both.
        seed: Seed of the bootstrap.

    Raises:
        InvalidScores: If the scores are not such matrices, or hold NaN.
    """

    def probability(x: Matrix, y: Matrix) -> NDArray[np.float64]:
        above, same = x[:, None] > y[None], x[:, None] == y[None]  # [ours, theirs, games]
        return np.array([np.mean(above + 0.5 * same)])

    matrices = _matrices({"ours": ours, "theirs": theirs})
    return _as_estimate(*_estimate(probability, tuple(matrices.values()), resamples, seed), 0)


def atari57_median(scores: ArrayLike, games: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Return the median over 57 Atari games, predicted from the five of Atari-5 (Aitchison et al. 2023).

    log₁₀(1 + median) = Σ w · log₁₀(1 + max(0, score)), where scores are in percent and averaged over runs, and w is
    `ATARI5_WEIGHTS`. The authors' cross-validated relative error of 10.4% is not part of the interval, which covers
    the seeds alone. For the five agents of the Dopamine project after 200 million frames (sticky actions,
    `pixelq.envs.published_curve`), the prediction is 16% to 31% below the median of the 55 published games.

    Args:
        scores: Human-normalised scores [runs, games].
        games: ROM name of each column, as in `pixelq.envs.ATARI5`; games other than the five are ignored.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.

    Raises:
        InvalidScores: If one of the five games is missing, or the scores are not such a matrix, or hold NaN.
    """
    matrix = _matrices({"these runs": scores})["these runs"]
    if len(games) != matrix.shape[1]:
        raise InvalidScores(f"games must name each of the {matrix.shape[1]} columns of scores, got {len(games)} names")
    missing = [game for game in ATARI5_WEIGHTS if game not in games]
    if missing:
        raise InvalidScores(f"Atari-5 also needs scores on {', '.join(missing)}; give runs of all five games")
    weights = np.array(list(ATARI5_WEIGHTS.values()))

    def predicted_median(matrix: Matrix) -> NDArray[np.float64]:
        percent = 100 * matrix.mean(0).clip(min=0)
        return np.array([(10 ** (weights @ np.log10(1 + percent)) - 1) / 100])

    five = matrix[:, [games.index(game) for game in ATARI5_WEIGHTS]]
    return _as_estimate(*_estimate(predicted_median, (five,), resamples, seed), 0)


def _four_aggregates(matrix: Matrix) -> NDArray[np.float64]:
    """Return interquartile mean, median, mean and optimality gap [4] of scores [runs, games]."""
    quarter = matrix.size // 4
    middle = slice(quarter, matrix.size - quarter)
    game_means = matrix.mean(0)
    return np.array(
        [
            np.partition(matrix, (middle.start, middle.stop - 1), axis=None)[middle].mean(),
            np.median(game_means),
            game_means.mean(),
            1 - np.minimum(matrix, 1).mean(),
        ]
    )


def _estimate(
    statistic: Callable[..., NDArray[np.float64]], matrices: tuple[Matrix, ...], resamples: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Return a statistic [S] of one matrix, or of several that are resampled independently, and its interval's ends.

    `RandomState`, drawn from in this order, gives the same resamples as rliable.
    """
    if resamples < 1:
        raise InvalidScores(f"resamples must be at least 1, got {resamples}")
    value = statistic(*matrices)
    if min(len(matrix) for matrix in matrices) == 1:
        return value, None, None
    rng = np.random.RandomState(seed)
    resampled = np.empty((resamples, len(value)))
    for row in resampled:
        row[:] = statistic(*(_resample(matrix, rng) for matrix in matrices))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.percentile(resampled, (100 * tail, 100 * (1 - tail)), axis=0)
    return value, low, high


def _resample(matrix: Matrix, rng: np.random.RandomState) -> Matrix:
    """Draw the runs of each game with replacement, independently of the other games."""
    runs, games = matrix.shape
    return matrix[rng.choice(runs, (runs, games)), np.arange(games)]


def _matrices(scores: Mapping[str, ArrayLike]) -> dict[str, Matrix]:
    """Return the scores as arrays, with the runs of each game sorted by score.

    Runs are exchangeable; sorting them makes the intervals independent of the order in which they are given.

    Raises:
        InvalidScores: If they are not matrices of finite numbers, or differ in their number of games.
    """
    matrices: dict[str, Matrix] = {}
    for name, values in scores.items():
        try:
            matrix = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidScores(
                f"scores of {name} must be a matrix of numbers [runs, games]; give as many runs for each game"
            ) from error
        if matrix.ndim != 2 or not matrix.size:
            raise InvalidScores(
                f"scores of {name} must have the shape [runs, games] with at least one of each, got {matrix.shape}"
            )
        if not np.isfinite(matrix).all():
            run, game = np.argwhere(~np.isfinite(matrix))[0]
            raise InvalidScores(
                f"scores of {name} must be finite, got {matrix[run, game]} (run {run}, game {game}); "
                "leave out that run or game"
            )
        first = next(iter(matrices), name)
        if matrix.shape[1] != matrices.get(first, matrix).shape[1]:
            raise InvalidScores(
                f"scores of {first} and {name} must be on the same games, got {matrices[first].shape[1]} and "
                f"{matrix.shape[1]} games"
            )
        matrices[name] = np.sort(matrix, axis=0)
    return matrices


def _as_estimate(
    value: NDArray[np.float64], low: NDArray[np.float64] | None, high: NDArray[np.float64] | None, i: int
) -> Estimate:
    """Return the i-th of several estimates."""
    if low is None or high is None:
        return Estimate(float(value[i]), None, None)
    return Estimate(float(value[i]), float(low[i]), float(high[i]))

"""Statistics over runs and games, with intervals, as Agarwal et al. 2021 (arXiv:2108.13264) have them, by rliable.

Scores are human-normalised: 0 is random play, 1 a person. Every interval is the 95% percentile interval of a
stratified bootstrap: the runs of each game are drawn anew, each game's by themselves, the games stay. It tells what
other seeds would give, not what other games would; of fewer than five runs or so it is too narrow. Of a single run
there is none: drawing it again and again gives the same score, which says nothing about other seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixelq.agents.errors import InvalidScores, MissingExtra

RESAMPLES = 2_000
Matrix = NDArray[np.float64]
"""Scores [runs, games]."""

ATARI5_WEIGHTS = {
    "battle_zone": 0.3819751237831753,
    "double_dunk": 0.0679099488887574,
    "name_this_game": 0.310804148620847,
    "phoenix": 0.12412619402774641,
    "qbert": 0.08048518286466755,
}
"""Aitchison et al. 2023 (arXiv:2210.02019), to all digits in the first author's github.com/maitchison/PPO,
plot_util.py; a least-squares fit to dataset.csv of github.com/maitchison/Atari-5, no intercept, gives them again."""


class Estimate(NamedTuple):
    """A statistic and its 95% interval; of a single run the interval is None."""

    value: float
    low: float | None
    high: float | None


class Aggregates(NamedTuple):
    """How good an agent is over all its runs and games."""

    iqm: Estimate
    """Interquartile mean: of all runs × games scores the mean without the lowest and the highest quarter."""
    median: Estimate
    """Over games, of the mean over runs."""
    mean: Estimate
    optimality_gap: Estimate
    """How far scores stay below 1 in the mean, those above 1 counted as 1; less is better."""


class Profile(NamedTuple):
    """Fraction of all runs × games scores above each of T thresholds."""

    taus: NDArray[np.float64]
    """[T]."""
    value: NDArray[np.float64]
    """[T]."""
    low: NDArray[np.float64] | None
    """[T], of the 95% interval at each threshold by itself; None of a single run."""
    high: NDArray[np.float64] | None
    """[T]."""


def aggregates(scores: Mapping[str, ArrayLike], *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Aggregates]:
    """The four aggregates of each agent; the order of runs changes nothing, nor which other agents are there.

    Args:
        scores: human-normalised scores [runs, games] by agent, of the same games in the same order.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        InvalidScores: they are no such matrices, or hold NaN.
        MissingExtra: rliable is not there.
    """
    metrics = load_rliable().metrics

    def four(matrix: Matrix) -> NDArray[np.float64]:
        return np.array(
            [
                metrics.aggregate_iqm(matrix),
                metrics.aggregate_median(matrix),
                metrics.aggregate_mean(matrix),
                metrics.aggregate_optimality_gap(matrix),
            ]
        )

    found = {}
    for name, matrix in _matrices(scores).items():
        value, low, high = _estimate(four, (matrix,), resamples, seed)
        found[name] = Aggregates(*(_as_estimate(value, low, high, i) for i in range(4)))
    return found


def performance_profiles(
    scores: Mapping[str, ArrayLike], taus: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Profile]:
    """Of each agent, the fraction of scores above each threshold (Agarwal et al. 2021, equation 1).

    Args:
        scores: as for ``aggregates``.
        taus: thresholds [T].
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        InvalidScores: they are no such matrices, or hold NaN.
        MissingExtra: rliable is not there.
    """
    thresholds = np.asarray(taus, dtype=np.float64)

    def above(matrix: Matrix) -> NDArray[np.float64]:  # rliable's own goes through a Python call a threshold
        return np.asarray((matrix.reshape(-1, 1) > thresholds).mean(0))

    return {
        name: Profile(thresholds, *_estimate(above, (matrix,), resamples, seed))
        for name, matrix in _matrices(scores).items()
    }


def probability_of_improvement(
    ours: ArrayLike, theirs: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """The probability that a run of ours scores more than one of theirs, mean over games; of equal scores, a half.

    That is the Mann-Whitney U statistic over its maximum (Agarwal et al. 2021, section 4.3).

    Args:
        ours: scores [runs, games].
        theirs: [their runs, games], the same games in the same order.
        resamples: of the bootstrap, which draws both.
        seed: of the bootstrap.

    Raises:
        InvalidScores: they are no such matrices, or hold NaN.
        MissingExtra: rliable is not there.
    """

    def probability(x: Matrix, y: Matrix) -> NDArray[np.float64]:  # rliable's computes p-values too, for minutes
        above, same = x[:, None] > y[None], x[:, None] == y[None]  # [ours, theirs, games]
        return np.array([np.mean(above + 0.5 * same)])

    matrices = _matrices({"ours": ours, "theirs": theirs})
    return _as_estimate(*_estimate(probability, tuple(matrices.values()), resamples, seed), 0)


def atari57_median(scores: ArrayLike, games: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """The median over 57 Atari games, foretold from the five of Atari-5 (Aitchison et al. 2023, arXiv:2210.02019).

    log₁₀(1 + median) = Σ w · log₁₀(1 + max(0, score)), scores in percent and means over runs, w `ATARI5_WEIGHTS`. The
    authors' cross-validated relative error is 10.4%, which is not in the interval; that is of the seeds alone. Of the
    Dopamine project's five agents after 200 million frames (sticky actions, `pixelq.envs.published_curve`) it foretells
    16% to 31% less than the median of the 55 games published.

    Args:
        scores: human-normalised scores [runs, games].
        games: the columns' ROM names, as in `pixelq.envs.ATARI5`; games beside the five are left out.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        InvalidScores: one of the five games is not there, or the scores are no such matrix, or hold NaN.
        MissingExtra: rliable is not there.
    """
    matrix = _matrices({"these runs": scores})["these runs"]
    if len(games) != matrix.shape[1]:
        raise InvalidScores(f"there are {len(games)} games for scores on {matrix.shape[1]}; name each column's game")
    lacking = [game for game in ATARI5_WEIGHTS if game not in games]
    if lacking:
        raise InvalidScores(f"Atari-5 needs scores on {', '.join(lacking)} too; give runs of all five games")
    weights = np.array(list(ATARI5_WEIGHTS.values()))

    def median(matrix: Matrix) -> NDArray[np.float64]:
        percent = 100 * matrix.mean(0).clip(min=0)
        return np.array([(10 ** (weights @ np.log10(1 + percent)) - 1) / 100])

    five = matrix[:, [games.index(game) for game in ATARI5_WEIGHTS]]
    return _as_estimate(*_estimate(median, (five,), resamples, seed), 0)


class _Rliable(NamedTuple):
    library: Any
    metrics: Any


def load_rliable() -> _Rliable:
    """rliable's modules, imported only where they are needed: a second, and an extra of ours.

    Raises:
        MissingExtra: they cannot be imported.
    """
    try:
        from rliable import library, metrics
    except ImportError as error:  # pandas 3 has no place for what arch looks for
        raise MissingExtra(
            f"statistics over runs need rliable, which cannot be imported ({error}); pip install 'pixelq[report]'"
        ) from error
    return _Rliable(library, metrics)


def _matrices(scores: Mapping[str, ArrayLike]) -> dict[str, Matrix]:
    """The scores as arrays, each game's runs in order of score: they are exchangeable, and so no other order counts.

    Raises:
        InvalidScores: they are no matrices of finite numbers, or not of the same games.
    """
    matrices: dict[str, Matrix] = {}
    for name, values in scores.items():
        try:
            matrix = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidScores(
                f"the scores of {name} are no matrix of runs by games; give numbers, as many runs of each game"
            ) from error
        if matrix.ndim != 2 or not matrix.size:
            raise InvalidScores(
                f"the scores of {name} have the shape {matrix.shape}; give one or more runs by one or more games"
            )
        if not np.isfinite(matrix).all():
            run, game = np.argwhere(~np.isfinite(matrix))[0]
            raise InvalidScores(
                f"the scores of {name} hold {matrix[run, game]} (run {run}, game {game}); leave that run or game out"
            )
        first = next(iter(matrices), name)
        if matrix.shape[1] != matrices.get(first, matrix).shape[1]:
            raise InvalidScores(
                f"there are {matrices[first].shape[1]} games of {first} and {matrix.shape[1]} of {name}; give the same"
            )
        matrices[name] = np.sort(matrix, axis=0)
    return matrices


def _estimate(
    statistic: Callable[..., NDArray[np.float64]], matrices: tuple[Matrix, ...], resamples: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """A statistic [S] of one matrix, or of several that are resampled apart, and its interval's two ends."""
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; it must be at least 1")
    library = load_rliable().library
    if min(len(matrix) for matrix in matrices) == 1:
        return statistic(*matrices), None, None
    resampled = matrices[0] if len(matrices) == 1 else list(matrices)
    with _numpy_seeded(seed):
        values, intervals = library.get_interval_estimates({"": resampled}, statistic, reps=resamples)
    low, high = intervals[""]
    return values[""], low, high


@contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """Seeds NumPy's global generator, from which rliable draws whatever it is given, and puts it back as it was."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


def _as_estimate(
    value: NDArray[np.float64], low: NDArray[np.float64] | None, high: NDArray[np.float64] | None, i: int
) -> Estimate:
    """The i-th of several estimates."""
    if low is None or high is None:
        return Estimate(float(value[i]), None, None)
    return Estimate(float(value[i]), float(low[i]), float(high[i]))

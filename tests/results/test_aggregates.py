"""Statistics over runs and games: the numbers of rliable, of small arrays by hand, and of published scores."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from pixelq.agents.errors import InvalidScores
from pixelq.agents.results.aggregates import (
    ATARI5_WEIGHTS,
    Aggregates,
    aggregates,
    atari57_median,
    performance_profiles,
    probability_of_improvement,
)
from pixelq.envs import ATARI5, ATARI57, PUBLISHED_AGENTS, human_normalized_score, published_curve
from pixelq.scripts import compare
from pixelq.scripts.main import main
from tests.support.cases import examples

Matrix = NDArray[np.float64]
RLIABLE: dict[str, Any] = json.loads((Path(__file__).parent / "rliable.json").read_text())
"""What rliable 1.2.0 with arch 7.2.0 gave for `fixed_scores`, each game's runs in order of score.

`np.random.seed(7)` stood before each call of `get_interval_estimates` or `create_performance_profile`. Among the shapes
[runs, games] are those of rliable's examples: 5 runs of 55 games, and 100 runs of the 26 games of Atari 100k.
"""


def some_scores(runs: int, games: int, seed: int = 0) -> Matrix:
    return np.random.default_rng(seed).lognormal(-0.3, 0.9, (runs, games))


def matrices(runs: st.SearchStrategy[int], games: st.SearchStrategy[int]) -> st.SearchStrategy[Matrix]:
    return st.tuples(runs, games).flatmap(
        lambda shape: arrays(np.float64, shape, elements=st.floats(-2, 20, allow_subnormal=False))
    )


ANY_SCORES = matrices(st.integers(1, 6), st.integers(1, 5))


def fixed_scores(runs: int, games: int, seed: int = 0) -> Matrix:
    """Scores by a generator whose numbers no version of NumPy changes."""
    return np.random.RandomState(seed).lognormal(-0.3, 0.9, (runs, games))


@pytest.mark.parametrize("expected", RLIABLE["aggregates"], ids=lambda expected: str(expected["shape"]))
def test_aggregates_are_rliables(expected: dict[str, Any]) -> None:
    found = aggregates({"a": fixed_scores(*expected["shape"])}, resamples=expected["resamples"], seed=7)["a"]
    for part in ("value", "low", "high"):
        np.testing.assert_allclose([getattr(estimate, part) for estimate in found], expected[part], rtol=1e-12)
    assert Aggregates._fields == ("iqm", "median", "mean", "optimality_gap")


def test_profiles_are_rliables() -> None:
    scores, taus = np.sort(fixed_scores(5, 55), axis=0), np.linspace(0, 4, 9)
    scores[2, 3] = taus[2]  # on a threshold, hence not above it
    found = performance_profiles({"a": scores}, taus, resamples=100, seed=7)["a"]
    for part in ("value", "low", "high"):
        np.testing.assert_allclose(getattr(found, part), RLIABLE["profile"][part], rtol=1e-12)
    assert found.taus.tolist() == taus.tolist()


def test_probability_of_improvement_is_rliables() -> None:
    ours, theirs = (np.sort(fixed_scores(runs, 4, seed), axis=0).round(1) for runs, seed in ((5, 0), (3, 1)))
    assert set(ours.flat) & set(theirs.flat)  # some are equal
    estimate = probability_of_improvement(ours, theirs, resamples=50, seed=7)
    np.testing.assert_allclose(estimate, RLIABLE["improvement"], rtol=1e-12)


@given(matrices(st.integers(1, 7), st.integers(1, 7)))
def test_the_interquartile_mean_is_of_the_middle_half(scores: Matrix) -> None:
    rising, cut = np.sort(scores, axis=None), int(0.25 * scores.size)
    found = aggregates({"a": scores}, resamples=1)["a"].iqm.value
    assert found == pytest.approx(sum(rising[cut : len(rising) - cut]) / (len(rising) - 2 * cut), abs=1e-12)


def test_aggregates_by_hand() -> None:
    # Two runs of four games. Of the eight scores −1 0.2 0.4 0.6 0.8 1 2 9 the middle four are 0.4 to 1.
    scores = np.array([[0.2, 0.8, 9.0, -1.0], [0.4, 0.6, 2.0, 1.0]])
    found = aggregates({"a": scores}, resamples=10)["a"]
    assert found.iqm.value == pytest.approx((0.4 + 0.6 + 0.8 + 1.0) / 4)
    assert found.median.value == pytest.approx((0.3 + 0.7) / 2)  # of the games' means 0.3 0.7 5.5 0
    assert found.mean.value == pytest.approx(13 / 8)
    assert found.optimality_gap.value == pytest.approx((0.8 + 0.6 + 0.2 + 0.4 + 0 + 0 + 2 + 0) / 8)


def test_the_interval_by_hand() -> None:
    # Of two runs 0 and 1 a resample has the mean 0, ½ or 1 with probability ¼, ½, ¼: the 2.5% ends are 0 and 1.
    assert aggregates({"a": [[0.0], [1.0]]}, resamples=400)["a"].mean == (0.5, 0.0, 1.0)
    # Of eight games with such runs the sum is binomial over 16, and P(≤ 3) = 1.1%, P(≤ 4) = 3.8%.
    assert aggregates({"a": [[0.0] * 8, [1.0] * 8]})["a"].mean == (0.5, 4 / 16, 12 / 16)


def test_profiles_and_probability_by_hand() -> None:
    profile = performance_profiles({"a": [[0.0, 1.0], [2.0, 3.0]]}, [-1, 0, 0.5, 2, 3], resamples=10)["a"]
    assert profile.value.tolist() == [1.0, 0.75, 0.75, 0.25, 0.0]
    # Game 1: 3 beats 1 and 2, 1 ties with one and loses once: 2.5 of 4. Game 2: all 4.
    assert probability_of_improvement([[3.0, 9.0], [1.0, 8.0]], [[1.0, 0.0], [2.0, 7.0]]).value == (2.5 / 4 + 1) / 2
    assert probability_of_improvement([[1.0], [2.0]], [[1.0], [2.0]]).value == 0.5


@settings(max_examples=examples(25), deadline=None)
@given(ANY_SCORES, st.data())
def test_the_order_of_runs_changes_nothing(scores: Matrix, data: st.DataObject) -> None:
    order = [data.draw(st.permutations(range(len(scores)))) for _ in range(scores.shape[1])]  # each game's by itself
    shuffled = np.stack([scores[runs, game] for game, runs in enumerate(order)], axis=1)
    assert aggregates({"a": scores}, resamples=20) == aggregates({"a": shuffled}, resamples=20)
    other = some_scores(3, scores.shape[1])
    assert probability_of_improvement(scores, other, resamples=20) == probability_of_improvement(
        shuffled, other, resamples=20
    )
    one, two = (performance_profiles({"a": x}, [0, 1, 2], resamples=20)["a"] for x in (scores, shuffled))
    np.testing.assert_equal(one, two)


@settings(max_examples=examples(25), deadline=None)
@given(matrices(st.integers(2, 6), st.integers(1, 5)), st.integers(0, 2**32 - 1))
def test_intervals_contain_the_mean_and_the_gap(scores: Matrix, seed: int) -> None:
    found = aggregates({"a": scores}, resamples=400, seed=seed)["a"]
    for estimate in (found.mean, found.optimality_gap):  # those without bias; a median may lie outside of its own
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low - 1e-9 <= estimate.value <= estimate.high + 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_intervals_contain_the_estimates_of_usual_scores(seed: int) -> None:
    ours, theirs = some_scores(5, 8, seed), some_scores(4, 8, seed + 100)
    found = [*aggregates({"a": ours})["a"], probability_of_improvement(ours, theirs, resamples=400)]
    for estimate in found:
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low < estimate.value < estimate.high
    profile = performance_profiles({"a": ours}, [0.5, 1.0, 2.0], resamples=400)["a"]
    assert profile.low is not None
    assert profile.high is not None
    assert (profile.low < profile.value).all()
    assert (profile.value < profile.high).all()


@settings(max_examples=examples(40), deadline=None)
@given(ANY_SCORES, st.data())
def test_better_scores_are_never_worse(scores: Matrix, data: st.DataObject) -> None:
    gain = data.draw(arrays(np.float64, scores.shape, elements=st.floats(0, 3, allow_subnormal=False)))
    before, after = (aggregates({"a": x}, resamples=1)["a"] for x in (scores, scores + gain))
    for name in ("iqm", "median", "mean"):
        assert getattr(after, name).value >= getattr(before, name).value - 1e-9
    assert after.optimality_gap.value <= before.optimality_gap.value + 1e-9
    taus = [-1.0, 0.0, 1.0, 5.0]
    profiles = [performance_profiles({"a": x}, taus, resamples=1)["a"].value for x in (scores, scores + gain)]
    assert (profiles[1] >= profiles[0]).all()
    assert all(high >= low for high, low in pairwise(profiles[0]))  # fewer are above a higher threshold
    assert probability_of_improvement(scores + gain, scores, resamples=1).value >= 0.5
    five = some_scores(2, 5)
    five[0, 0] = float(scores[0, 0])
    more = five.copy()
    more[0, 0] += gain[0, 0]
    assert atari57_median(more, ATARI5, resamples=1).value >= atari57_median(five, ATARI5, resamples=1).value - 1e-9


def test_the_same_scores_give_the_same_intervals_whatever_else_there_is() -> None:
    a, b = some_scores(4, 3), some_scores(6, 3, seed=1)
    alone = aggregates({"a": a}, resamples=50)["a"]
    assert aggregates({"b": b, "a": a}, resamples=50)["a"] == alone
    assert aggregates({"a": a}, resamples=50, seed=1)["a"].mean != alone.mean


def test_the_global_generator_is_left_alone() -> None:
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.random(4)  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    aggregates({"a": some_scores(4, 3)}, resamples=5)
    assert np.random.random(4).tolist() == expected.tolist()  # noqa: NPY002


def test_a_single_run_has_no_interval() -> None:
    one, many = some_scores(1, 5), some_scores(4, 5)
    found = aggregates({"one": one, "many": many}, resamples=5)
    assert found["one"].mean == (pytest.approx(one.mean()), None, None)
    assert all(estimate.low is estimate.high is None for estimate in found["one"])
    assert all(estimate.low is not None for estimate in found["many"])
    profile = performance_profiles({"a": one}, [0.5])["a"]
    assert (profile.value, profile.low, profile.high) == ((one > 0.5).mean(), None, None)
    assert probability_of_improvement(many, one)[1:] == (None, None)  # what seeds of theirs would give is unknown
    assert atari57_median(one, ATARI5)[1:] == (None, None)


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [
        (
            {"a": [[1.0, 2.0], [3.0]]},
            r"scores of a must be a matrix of numbers \[runs, games\]; give as many runs for each game",
        ),
        ({"a": [["x"]]}, "must be a matrix"),
        ({"a": [1.0, 2.0]}, r"must have the shape .*, got \(2,\)"),
        ({"a": np.zeros((0, 3))}, r"must have the shape .*, got \(0, 3\)"),
        ({"a": [[0.5, 1.0], [0.5, float("nan")]]}, r"must be finite, got nan \(run 1, game 1\); leave out that run"),
        ({"a": [[float("inf")]]}, "got inf"),
        ({"a": [[1.0, 2.0]], "b": [[1.0]]}, "scores of a and b must be on the same games, got 2 and 1 games"),
    ],
)
def test_what_is_no_matrix_of_scores_is_refused(scores: Any, sentence: str) -> None:
    with pytest.raises(InvalidScores, match=sentence):
        aggregates(scores)
    with pytest.raises(InvalidScores, match=sentence):
        performance_profiles(scores, [0.5])


def test_other_arguments_are_refused() -> None:
    with pytest.raises(InvalidScores, match="scores of ours and theirs must be on the same games, got 1 and 2 games"):
        probability_of_improvement([[1.0]], [[1.0, 2.0]])
    with pytest.raises(ValueError, match="resamples must be at least 1, got 0"):
        aggregates({"a": [[1.0]]}, resamples=0)
    with pytest.raises(InvalidScores, match="also needs scores on name_this_game, qbert"):
        atari57_median([[1.0, 1.0, 1.0]], ["battle_zone", "double_dunk", "phoenix"])
    with pytest.raises(InvalidScores, match="games must name each of the 1 columns of scores, got 5 names"):
        atari57_median([[1.0]], ATARI5)


def test_wrong_scores_are_a_sentence_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: Any) -> None:
        aggregates({"a": []})

    monkeypatch.setattr(compare, "main", fail)
    (tmp_path / "config.json").write_text(json.dumps({"env": "ALE/Pong-v5", "protocol": "sticky", "agent": {}}))
    assert main(["compare", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("pixelq compare: scores of a must have the shape [runs, games]")


# Scores and medians over all games that have one, in percent, from dataset.csv of github.com/maitchison/Atari-5, in
# the order of ATARI5; and what its fit foretells, with reference scores of one digit more than ours.
PUBLISHED_FIVES = {
    "DQN (noop)": ((29900.0, -6.60, 8207.80, 8485.20, 13117.3), 77.570281, 89.933699),
    "C51": ((28742.0, 2.50, 12542.0, 17490.0, 23784.0), 177.713541, 126.134947),
    "IQN": ((42244.0, 5.60, 22682.0, 56599.0, 25750.0), 237.829293, 215.876435),
    "Rainbow (noop)": ((62010.0, -0.30, 13136.0, 108528.6, 33817.5), 227.047824, 225.104615),
    "Agent57": ((934134.88, 23.93, 54386.77, 908264.15, 580328.14), 1975.813953, 1817.760524),
    "MuZero": ((848623.0, 23.94, 157177.85, 955137.84, 72276.0), 2041.120948, 2091.608308),
}


@pytest.mark.parametrize("agent", PUBLISHED_FIVES)
def test_atari5_foretells_published_medians(agent: str) -> None:
    raw, median, foretold = PUBLISHED_FIVES[agent]
    scores = [human_normalized_score(game, score) for game, score in zip(ATARI5, raw, strict=True)]
    found = 100 * atari57_median([scores], ATARI5).value
    assert found == pytest.approx(foretold, rel=0.002)
    assert found == pytest.approx(median, rel=0.30 if agent == "C51" else 0.17)  # C51 is the fit's worst but one


def test_atari5_by_hand() -> None:
    assert tuple(ATARI5_WEIGHTS) == ATARI5
    assert atari57_median(np.zeros((1, 5)), ATARI5).value == 0.0
    assert atari57_median([[-0.5] * 5], ATARI5).value == 0.0  # below random play counts as random play
    # All at 100%: 101 to the sum of the weights, less 1; the sum is 0.9653006.
    assert 100 * atari57_median(np.ones((1, 5)), ATARI5).value == pytest.approx(101**0.9653006 - 1)
    two = atari57_median([[1.0] * 5, [0.0] * 5], ATARI5, resamples=2_000)  # runs are averaged first
    assert 100 * two.value == pytest.approx(51**0.9653006 - 1)
    assert two.low is not None
    assert two.high is not None
    assert 0 <= two.low < two.value < two.high <= 1


def test_atari5_takes_columns_by_name() -> None:
    scores = some_scores(3, 7)
    games = ("pong", *ATARI5, "breakout")
    expected = atari57_median(scores[:, 1:6], ATARI5, resamples=20)
    assert atari57_median(scores, games, resamples=20) == expected
    assert atari57_median(scores[:, ::-1], games[::-1], resamples=20) == expected


@pytest.mark.slow
def test_atari5_foretells_less_than_dopamines_agents_have() -> None:
    errors = []
    for agent in PUBLISHED_AGENTS:
        curves = {game: published_curve(game, agent) for game in ATARI57}
        scores = {game: human_normalized_score(game, curve.mean[-1]) for game, curve in curves.items() if curve}
        assert len(scores) == 55
        median = np.median([score for score in scores.values() if score is not None])
        errors.append(atari57_median([[scores[game] for game in ATARI5]], ATARI5).value / median - 1)
    assert [round(error, 2) for error in errors] == [-0.18, -0.16, -0.31, -0.17, -0.19]

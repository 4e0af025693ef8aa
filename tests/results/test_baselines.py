"""Evaluations beside published agents, random play and people: which numbers, and what is a ratio and what is none."""

import math

import pytest

from pixelq.agents.results.baselines import Baseline, baselines
from pixelq.envs import PUBLISHED_AGENTS, human_normalized_score, published_curve


def rows(env: str, mean: float, frames: int) -> dict[str, Baseline]:
    return {row.name: row for row in baselines(env, mean, frames)}


def test_rows_are_random_human_and_the_published_agents() -> None:
    assert list(rows("ALE/Breakout-v5", 7.0, 2_000_000)) == ["random", "human", *PUBLISHED_AGENTS]
    assert list(rows("ALE/Surround-v5", 0.0, 2_000_000)) == ["random", "human"]  # not published
    other = [baselines("ALE/Breakout-v5", 7.0, 2_000_000, rules) for rules in ("nature", "sticky+flicker=0.5")]
    assert [[row.name for row in found] for found in other] == [["random", "human"]] * 2
    assert list(rows("ALE/AirRaid-v5", 500.0, 2_000_000)) == list(PUBLISHED_AGENTS)  # no reference scores
    assert rows("CartPole-v1", 500.0, 2_000_000) == {}


def test_random_and_human_rows_by_hand() -> None:
    found = rows("pong", -10.0, 0)
    assert found["random"] == ("random", -20.7, None, None, 0.0, None, None)
    assert found["random"].is_inside is None
    assert found["human"] == ("human", 14.6, None, None, 1.0, pytest.approx(10.7 / 35.3), None)


def test_a_published_row_by_hand() -> None:
    # DQN on Breakout in the second million frames, whose middle is at 1.5: 7.11 ± 0.934; random play 1.7, human 30.5.
    row = rows("ALE/Breakout-v5", 9.0, 1_500_000)["DQN"]
    assert row[:4] == ("DQN", 7.11, 0.934, 5)
    assert row.human_normalized == pytest.approx((7.11 - 1.7) / 28.8)
    assert row.ratio == pytest.approx((9.0 - 1.7) / (7.11 - 1.7))
    assert row.deviations == pytest.approx((9.0 - 7.11) / 0.934)
    assert row.is_inside is False
    assert rows("ALE/Breakout-v5", 8.9, 1_500_000)["DQN"].is_inside is True


def test_values_between_two_middles_are_interpolated() -> None:
    # DQN on Pong: millions 2, 3 and 4 at −18.36, −16.12 and −13.74, ± 0.872, 1.62 and 1.64.
    at_the_end = rows("pong", -17.0, 2_000_000)["DQN"]
    assert at_the_end.mean == pytest.approx((-18.36 - 16.12) / 2)
    assert at_the_end.std == pytest.approx((0.872 + 1.62) / 2)
    later = rows("pong", -17.0, 2_750_000)["DQN"]
    assert later.mean == pytest.approx(-16.12 + 0.25 * (16.12 - 13.74))
    assert later.std == pytest.approx(1.62 + 0.25 * 0.02)


@pytest.mark.parametrize("agent", PUBLISHED_AGENTS)
@pytest.mark.parametrize("million", [1, 17, 200])
def test_at_a_millions_middle_the_values_are_the_tables(agent: str, million: int) -> None:
    curve = published_curve("qbert", agent)
    assert curve is not None
    row = rows("qbert", 0.0, million * 1_000_000 - 500_000)[agent]
    assert (row.mean, row.std, row.seeds) == (curve.mean[million - 1], curve.std[million - 1], 5)


def test_there_is_nothing_published_before_and_after() -> None:
    for frames, is_there in ((499_999, False), (500_000, True), (200_000_000, True), (200_000_001, False)):
        assert ("DQN" in rows("pong", 0.0, frames)) is is_there
    curve = published_curve("pong", "DQN")
    assert curve is not None
    assert rows("pong", 0.0, 200_000_000)["DQN"].mean == curve.mean[-1]


def test_the_ratio_is_that_of_normalised_scores() -> None:
    better, worse = rows("pong", 5.0, 10_000_000)["IQN"], rows("pong", -20.9, 10_000_000)["IQN"]
    ours = human_normalized_score("pong", 5.0)
    assert ours is not None
    assert better.human_normalized is not None
    assert better.ratio == pytest.approx(ours / better.human_normalized)
    assert worse.ratio is not None
    assert -0.01 < worse.ratio < 0  # raw returns would give a large negative number
    assert rows("pong", better.mean, 10_000_000)["IQN"].ratio == pytest.approx(1.0)


def test_there_is_no_ratio_to_an_agent_that_has_learnt_nothing() -> None:
    row = rows("montezuma_revenge", 99.0, 1_500_000)["DQN"]
    assert (row.mean, row.std, row.ratio, row.deviations, row.is_inside) == (0.0, 0.0, None, math.inf, False)
    same = rows("montezuma_revenge", 0.0, 1_500_000)["DQN"]
    assert (same.ratio, same.deviations, same.is_inside) == (None, 0.0, True)
    skiing = rows("skiing", -9_000.0, 1_500_000)["Rainbow"]
    assert skiing.std is not None
    assert skiing.mean + 17_098.1 <= 2 * skiing.std
    assert skiing.ratio is None
    # On Breakout the first million's 1.809 ± 0.105 is above the random player's 1.7 by one deviation.
    assert rows("breakout", 5.0, 500_000)["DQN"].ratio is None


def test_a_game_without_reference_scores_has_no_ratio() -> None:
    row = rows("ALE/AirRaid-v5", 500.0, 500_000)["C51"]
    assert row[:6] == ("C51", 481.5, 22.8, 5, None, None)
    assert row.deviations == pytest.approx((500 - 481.5) / 22.8)
    assert row.is_inside is True

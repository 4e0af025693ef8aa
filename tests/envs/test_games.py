"""The benchmark's games and the scores that results are normalised by."""

import gymnasium
import pytest
from gymnasium.envs.registration import EnvSpec
from hypothesis import given
from hypothesis import strategies as st

from pixelq.envs import ATARI5, ATARI26, ATARI57, REFERENCE_SCORES, InvalidEnv, human_normalized_score, id_of


def test_suites():
    assert len(ATARI57) == len(set(ATARI57)) == 57
    assert len(ATARI26) == len(set(ATARI26)) == 26
    assert ATARI5 == ("battle_zone", "double_dunk", "name_this_game", "phoenix", "qbert")
    assert set(ATARI26) < set(ATARI57)
    assert set(ATARI5) < set(ATARI57)


@pytest.mark.parametrize("game", ATARI57)
def test_every_game_has_an_id_with_its_rom(game):
    assert gymnasium.spec(id_of(game)).kwargs["game"] == game
    assert id_of(game).lower() == f"ale/{game.replace('_', '')}-v5"


def test_unknown_game_has_no_id():
    with pytest.raises(InvalidEnv, match="unknown game 'pnog'; give a ROM name"):
        id_of("pnog")


def test_scores_by_hand():
    assert REFERENCE_SCORES["pong"] == (-20.7, 14.6)
    assert human_normalized_score("pong", 21.0) == pytest.approx(41.7 / 35.3)
    assert human_normalized_score("ALE/Breakout-v5", 401.2) == pytest.approx(399.5 / 28.8)
    assert human_normalized_score("skiing", -4336.9) == pytest.approx(1.0)
    assert human_normalized_score("CartPole-v1", 500.0) is None
    assert human_normalized_score("ALE/Pooyan-v5", 500.0) is None
    assert human_normalized_score("nothing", 500.0) is None


@given(st.sampled_from(ATARI57), st.floats(-1e6, 1e6))
def test_normalisation_is_linear_from_random_to_human(game, share):
    random, human = REFERENCE_SCORES[game]
    assert human > random
    for name in (game, id_of(game)):
        assert human_normalized_score(name, random + share * (human - random)) == pytest.approx(share, abs=1e-3)


def test_games_of_other_packages_have_no_human_scores(monkeypatch):
    """MinAtar's are registered with the names of Atari's."""
    entry = "minatar.gym:BaseEnv"
    monkeypatch.setitem(gymnasium.registry, "Small/Pong-v1", EnvSpec("Small/Pong-v1", entry, kwargs={"game": "pong"}))
    assert human_normalized_score("Small/Pong-v1", 21.0) is None
    assert human_normalized_score("ALE/Pong-v5", 21.0) == pytest.approx(41.7 / 35.3)

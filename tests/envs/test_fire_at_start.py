"""FIRE after the no-ops at the start of a game, as the protocol `envpool` has it."""

import dataclasses

import numpy as np
import pytest

from pixelq.envs import PROTOCOLS, AtariVec, has_published_rules, make_vec, resolve_protocol
from pixelq.envs.atari_single import AtariGame
from tests.support.cases import representative

ENVPOOL = PROTOCOLS["envpool"]
BREAKOUT, MS_PACMAN = "ALE/Breakout-v5", "ALE/MsPacman-v5"


def starts(envs, resets):
    """Return the numbers of frames before the first observation."""
    return np.concatenate([envs.reset()[1]["episode_frame_number"] for _ in range(resets)])


@pytest.mark.parametrize(
    ("env_id", "options", "fires"),
    representative(
        [(BREAKOUT, {}, 1), (MS_PACMAN, {}, 0), (MS_PACMAN, {"full_action_space": True}, 1)], keep=[(MS_PACMAN, {}, 0)]
    ),
)
def test_every_number_of_no_ops_is_as_likely_and_fire_follows_where_the_game_has_it(env_id, options, fires):
    protocol = dataclasses.replace(ENVPOOL, noop_max=3)
    envs = make_vec(env_id, 4, 0, protocol, num_threads=1, **options)
    assert isinstance(envs, AtariVec)
    assert ("FIRE" in envs.action_meanings) == bool(fires)
    counts = np.bincount(starts(envs, 12), minlength=5)
    assert counts[: 1 + fires].tolist() == [0] * (1 + fires)
    assert counts[4 + fires :].sum() == 0
    expected = 48 / 3
    chi = ((counts[1 + fires : 4 + fires] - expected) ** 2 / expected).sum()
    assert chi < 14  # two degrees of freedom: above 14 once in a thousand times


def test_fire_serves_the_first_ball_and_no_other():
    """Without any action, Breakout loses the ball that FIRE has served, and then waits for ever."""
    lost: dict[str, tuple[list[int], list[int]]] = {}
    for name in ("nature", "envpool"):
        envs = make_vec(BREAKOUT, 1, 0, name, num_threads=1)
        envs.reset()
        marks = np.zeros(1, np.int64)
        for _ in range(100):
            _, _, terminated, truncated, info = envs.step(np.zeros(1, np.int64))
            assert not (terminated | truncated).any()
            marks += info["life_lost"]
        lost[name] = (5 - info["lives"]).tolist(), marks.tolist()
    assert lost == {"nature": ([0], [0]), "envpool": ([1], [1])}


def test_a_single_game_starts_as_the_native_one():
    protocol = dataclasses.replace(ENVPOOL, noop_max=0)
    native = make_vec(BREAKOUT, 1, 0, protocol, num_threads=1, frame_stack=1)
    single = AtariGame(BREAKOUT, protocol)
    (pictures, info), (picture, single_info) = native.reset(), single.reset(seed=0)
    assert info["episode_frame_number"].tolist() == [single_info["episode_frame_number"]] == [1]
    for _ in range(60):
        np.testing.assert_array_equal(pictures[0, 0], picture)
        pictures, picture = native.step(np.array([0]))[0], single.step(np.int64(0))[0]
    counts = [AtariGame(MS_PACMAN, protocol).reset(seed=0)[1]["episode_frame_number"]]
    game = AtariGame(BREAKOUT, ENVPOOL)
    counts += [game.reset(seed=seed)[1]["episode_frame_number"] for seed in (1, *[None] * 12)]
    assert counts[0] == 0
    assert 2 <= min(counts[1:]) < 12 < max(counts[1:]) <= 31


def test_games_are_restored_exactly_and_other_rules_are_told_apart():
    envs = make_vec(BREAKOUT, 2, 3, "envpool", num_threads=1)
    envs.reset()
    for action in np.random.default_rng(0).integers(0, 4, (60, 2)):
        envs.step(action)
    state = envs.get_state()
    after = [envs.step(np.array([1, 2]))[0] for _ in range(10)]
    again = make_vec(BREAKOUT, 2, 4, "envpool", num_threads=1)
    again.set_state(state)
    np.testing.assert_array_equal([again.step(np.array([1, 2]))[0] for _ in range(10)], after)
    assert ", noop_min=1, fire_at_start=True)" in envs._game
    assert "fire_at_start" not in make_vec(BREAKOUT, 1, 3, "nature", num_threads=1)._game


def test_the_rules_are_pqns_and_not_those_of_the_published_curves():
    assert (ENVPOOL.repeat_action_probability, ENVPOOL.noop_max, ENVPOOL.max_frames) == (0.0, 30, 4 * 27_000)
    assert (ENVPOOL.life_loss_ends_return, ENVPOOL.evaluation_epsilon, ENVPOOL.fire_at_start) == (True, 0.0, True)
    assert resolve_protocol("envpool") is ENVPOOL
    assert not has_published_rules("envpool")
    assert not any(protocol.fire_at_start for name, protocol in PROTOCOLS.items() if name != "envpool")

"""Atari games one by one: as the native environment plays them, and what it lacks."""

import dataclasses
import warnings
from typing import Any

import numpy as np
import pytest

from pixelq.envs import PROTOCOLS, AtariVec, InvalidEnv, make_filmed, make_vec, with_flicker
from pixelq.envs.atari_single import AtariGame, AtariGames, AtariOptions

PLAIN = dataclasses.replace(PROTOCOLS["nature"], noop_max=0)


def played(envs: Any, steps: int, seed: int = 0) -> list[Any]:
    """Return all that random actions bring."""
    rng, (observations, info) = np.random.default_rng(seed), envs.reset()
    outcomes = [(observations.copy(), info["lives"])]
    for _ in range(steps):
        *outcome, info = envs.step(rng.integers(0, 4, envs.num_envs))
        outcomes.append((*outcome, info["lives"], info.get("life_lost"), info["episode_frame_number"]))
    return outcomes


def test_the_first_mode_is_the_native_game_to_the_bit() -> None:
    protocol = with_flicker(dataclasses.replace(PLAIN, max_frames=4 * 190), 0.3)
    ours = make_vec("ALE/Breakout-v5", 1, 0, protocol, env_kwargs={"mode": 0, "difficulty": 0})
    native = make_vec("ALE/Breakout-v5", 1, 0, protocol)
    assert isinstance(ours, AtariGames)
    assert isinstance(native, AtariVec)
    for name in ("single_observation_space", "action_meanings", "frame_stack", "env_id", "protocol", "frames_per_step"):
        assert getattr(ours, name) == getattr(native, name), name
    one, other = played(ours, 400), played(native, 400)
    for t, (own, theirs) in enumerate(zip(one, other, strict=True)):
        for part, same in zip(own, theirs, strict=True):
            np.testing.assert_array_equal(part, same, err_msg=f"step {t}")
    terminated, truncated, lost = (sum(step[k][0] for step in one[1:]) for k in (2, 3, 5))
    assert (terminated, truncated) == (1, 1)
    assert lost == 7
    assert sum(step[1][0] for step in one[1:]) > 0


def test_other_modes_and_difficulties_are_other_games() -> None:
    plain, *others = (
        played(make_vec("ALE/Breakout-v5", 1, 0, PLAIN, env_kwargs=kwargs), 40)
        for kwargs in ({"mode": 0}, {"mode": 16}, {"difficulty": 1})
    )
    assert [any((one[0] != two[0]).any() for one, two in zip(plain, other, strict=True)) for other in others] == [
        True,
        True,
    ]


def test_ram_is_the_machine_s_memory() -> None:
    envs = make_vec("ALE/Pong-v5", 2, 0, "sticky", env_kwargs={"obs_type": "ram"})
    assert (envs.single_observation_space.shape, envs.single_observation_space.dtype) == ((128,), np.uint8)
    assert (envs.frame_stack, envs.frames_per_step, envs.env_id) == (1, 4, "ALE/Pong-v5")
    envs.reset()
    observations = envs.step(np.array([2, 3]))[0]
    assert isinstance(envs, AtariGames)
    for row, single in zip(observations, envs._singles, strict=True):
        np.testing.assert_array_equal(row, single.unwrapped._ale.getRAM())
    assert (observations[0] != observations[1]).any()


def test_arguments_for_pictures_have_no_effect_on_ram_but_a_warning() -> None:
    ram: Any = {"env_kwargs": {"obs_type": "ram"}}
    with pytest.warns(UserWarning, match="no effect") as caught:
        envs = make_vec("ALE/Pong-v5", 1, frame_stack=3, frame_size=42, **ram)
    assert [str(each.message) for each in caught] == [
        "only images are stacked, so frame_stack 3 has no effect; wrap the environment in "
        "gymnasium.wrappers.FrameStackObservation to stack its observations",
        "only images are resized, so frame_size 42 has no effect; leave it out",
    ]
    assert [each.filename for each in caught] == [__file__] * 2
    assert (envs.single_observation_space.shape, envs.arguments) == ((128,), ram)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_vec("ALE/Pong-v5", 1, frame_stack=1, **ram)
        make_vec("ALE/Pong-v5", 1, frame_stack=3, frame_size=42, env_kwargs={"mode": 0})


def test_games_are_restored_exactly() -> None:
    options: Any = {"protocol": "nature", "env_kwargs": {"mode": 16}, "frame_stack": 2, "frame_size": 42}
    envs = make_vec("ALE/Breakout-v5", 1, 3, **options)
    before = played(envs, 60)[-1][0]
    state = envs.get_state()
    after = [envs.step(np.array([1]))[0] for _ in range(30)]
    again = make_vec("ALE/Breakout-v5", 1, 4, **options)
    np.testing.assert_array_equal(again.set_state(state), before)
    np.testing.assert_array_equal([again.step(np.array([1]))[0] for _ in range(30)], after)


def test_no_ops_are_drawn_from_the_seed() -> None:
    game = AtariGame("ALE/Breakout-v5", PROTOCOLS["nature"])
    begun = [game.reset(seed=seed)[1]["episode_frame_number"] for seed in (0, *[None] * 7, 0)]
    assert begun[0] == begun[-1]
    assert len(set(begun)) > 4
    assert 1 <= min(begun) < 10
    assert 20 < max(begun) <= 30


def test_films_of_such_games() -> None:
    film = make_filmed("ALE/Pong-v5", 0, PLAIN, env_kwargs={"difficulty": 0})
    native = make_filmed("ALE/Pong-v5", 0, PLAIN)
    film.reset(), native.reset()
    for action in (0, 2, 3):
        np.testing.assert_array_equal(film.frame(), native.frame())
        film.step(np.array([action])), native.step(np.array([action]))
    assert film.frame().shape == (210, 160, 3)


def test_frame_sizes_are_those_of_the_native_environment() -> None:
    size = 96
    native = make_vec("ALE/Pong-v5", 1, 0, PLAIN, frame_size=size)
    ours = make_vec("ALE/Pong-v5", 1, 0, PLAIN, frame_size=size, env_kwargs={"mode": 0})
    assert isinstance(native, AtariVec)
    assert native.single_observation_space.shape == (4, size, size)
    for one, other in zip(played(native, 9), played(ours, 9), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
    assert make_filmed("ALE/Pong-v5", frame_size=size).single_observation_space.shape == (4, size, size)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"env_kwargs": {"mode": 3}}, "mode of 'ALE/Pong-v5' must be one of 0, 1, got 3"),
        ({"env_kwargs": {"difficulty": 4}}, "difficulty of 'ALE/Pong-v5' must be one of 0, 1, 2, 3, got 4"),
        ({"env_kwargs": {"mode": True}}, "mode of 'ALE/Pong-v5' must be one of 0, 1, got True"),
        ({"env_kwargs": {"obs_type": "rgb"}}, "obs_type must be 'grayscale' or 'ram', got 'rgb'"),
        ({"env_kwargs": {"frameskip": 1}}, "env_kwargs of an Atari game must be among mode, difficulty and obs_type"),
        ({"env_kwargs": {"obs_type": "ram"}, "flicker": 0.5}, "only pictures flicker; leave flicker out, or obs_type"),
        ({"env_kwargs": {"obs_type": "ram"}, "frame_stack": 17}, "frame_stack must be at most 16, got 17"),
        ({"grayscale": "x"}, "grayscale must be True or False, got 'x'"),
        ({"full_action_space": "x"}, "full_action_space must be True or False, got 'x'"),
        ({"frame_size": 0}, "frame_size must be an integer of at least 1, got 0"),
        ({"frame_size": 84.0}, "frame_size must be an integer of at least 1, got 84.0"),
        ({"frame_size": 600, "env_kwargs": {"mode": 0}}, "frame_size must be at most 512, got 600"),
    ],
)
def test_what_the_game_does_not_have_is_refused(options: Any, sentence: str) -> None:
    for make in (make_vec, make_filmed):
        with pytest.raises(InvalidEnv) as caught:
            make("ALE/Pong-v5", **options)
        assert str(caught.value).startswith(sentence)


def test_options_of_a_game() -> None:
    assert AtariOptions.of("ALE/Pong-v5", {}) == AtariOptions.of("ALE/Pong-v5", {"obs_type": "grayscale", "mode": None})

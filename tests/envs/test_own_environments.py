"""Environments of a user's own: classes, arguments and wrappers, and the arguments that make them again."""

import functools
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest

from pixelq.envs import AtariVec, GymnasiumVec, InvalidEnv, make_filmed, make_vec
from pixelq.envs.make import check_arguments
from tests.support.own_envs import Line, Plus, Times, Twice, nothing

OWN = "tests.support.own_envs"


def played(envs: AtariVec | GymnasiumVec, steps: int = 40) -> list[Any]:
    """Everything that environments return on a fixed way."""
    results: list[Any] = [envs.reset()[0].tolist()]
    for step in range(steps):
        results += [part.tolist() for part in envs.step(np.full(envs.num_envs, step % 3 > 0, np.int64))[:4]]
    return results


@pytest.mark.parametrize("env", [Line, f"{OWN}:Line", f"{OWN}:Line(size=9)", functools.partial(Line, size=9)])
def test_arguments_and_wrappers_make_the_same_environments_again(env: Any) -> None:
    options: dict[str, Any] = {"env_kwargs": {"size": 3, "prize": np.float32(5)}, "max_episode_steps": 7}
    envs = make_vec(env, 2, 1, wrappers=[functools.partial(Times, by=3.0), f"{OWN}:Plus( by=1 )"], **options)
    assert envs.arguments == {
        "env_kwargs": {"size": 3, "prize": 5.0},
        "wrappers": [f"{OWN}:Times(by=3.0)", f"{OWN}:Plus(by=1)"],
        "max_episode_steps": 7,
    }
    results = played(envs)
    assert {reward for rewards in results[2::4] for reward in rewards} == {0.0, 1.0, 16.0}  # a reset, a step, a prize
    assert envs.env_id is not None
    assert envs.env_id.startswith(f"{OWN}:Line")
    again = make_vec(envs.env_id, 2, 1, "gymnasium", **envs.arguments)
    assert played(again) == results
    assert (again.env_id, again.arguments) == (envs.env_id, envs.arguments)


def test_the_first_wrapper_is_the_innermost() -> None:
    for wrappers, prize in (([Times, Plus], 1 * 2 + 2), ([Plus, Times], (1 + 2) * 2)):
        results = played(make_vec(Line, 2, 1, wrappers=wrappers))
        assert max(reward for rewards in results[2::4] for reward in rewards) == prize


@pytest.mark.parametrize(("env", "action"), [(Line, 0), ("pixelq/RepeatPrevious-v0", 0)])
def test_the_time_limit_lies_inside_the_wrappers(env: Any, action: int) -> None:
    envs = make_vec(env, 1, 0, max_episode_steps=6, wrappers=[Twice])
    envs.reset()
    assert [bool(envs.step(np.array([action]))[3][0]) for _ in range(3)] == [False, False, True]


def test_arguments_reach_registered_environments() -> None:
    envs = make_vec("pixelq/RepeatPrevious-v0", 1, env_kwargs={"num_values": 7}, wrappers=[Plus])
    assert envs.single_action_space.n == 7
    assert (envs.env_id, envs.arguments) == (
        "pixelq/RepeatPrevious-v0",
        {"env_kwargs": {"num_values": 7}, "wrappers": [f"{OWN}:Plus"]},
    )
    assert make_vec("pixelq/RepeatPrevious-v0", 1).arguments == {}


def test_what_has_no_name_cannot_be_made_again() -> None:
    unnamed: list[tuple[Any, dict[str, Any]]] = [
        (lambda size=5: Line(size), {"env_kwargs": {"size": 3}}),
        (Line, {"wrappers": [lambda env: Plus(env)]}),
        (Line, {"env_kwargs": {"prize": complex(1)}}),
        ("pixelq/RepeatPrevious-v0", {"wrappers": [functools.partial(Plus, by=object())], "max_episode_steps": 5}),
    ]
    for env, options in unnamed:
        envs = make_vec(env, 1, **options)
        assert (envs.env_id, envs.arguments) == (None, {})


def test_later_changes_of_the_arguments_have_no_effect() -> None:
    changed: dict[str, Any] = {"size": 3}
    envs = make_vec(Line, 2, env_kwargs=changed)
    changed["size"] = 8
    assert isinstance(envs, GymnasiumVec)
    assert envs.restart().shape == (2, 3)


def test_states_are_restored_through_wrappers() -> None:
    envs, other = (make_vec(Line, 2, seed, wrappers=[Times, Twice]) for seed in (1, 2))
    played(envs, 10)
    other.set_state(envs.get_state())
    for step in range(10):
        ours, theirs = (each.step(np.full(2, step % 2)) for each in (envs, other))
        assert [part.tolist() for part in ours[:4]] == [part.tolist() for part in theirs[:4]]


def test_films_show_the_same_environment() -> None:
    film = make_filmed(Line, 3, env_kwargs={"size": 5}, wrappers=[Twice], max_episode_steps=9)
    envs = make_vec(Line, 1, 3, env_kwargs={"size": 5}, wrappers=[Twice], max_episode_steps=9)
    assert isinstance(film, GymnasiumVec)
    assert played(film) == played(envs)
    assert film.frame().shape == (16, 80, 3)
    with pytest.raises(InvalidEnv, match=r"Line\.long' cannot be filmed: .*unexpected keyword argument 'render_mode'"):
        make_filmed(Line.long)


def test_atari_games_say_how_they_were_made() -> None:
    assert make_vec("ALE/Pong-v5", 1).arguments == {}
    envs = make_vec("ALE/Pong-v5", 1, frame_stack=2, full_action_space=True, max_episode_steps=5, flicker=0.5)
    assert envs.arguments == {"full_action_space": True, "frame_stack": 2, "max_episode_steps": 5}
    again = make_vec("ALE/Pong-v5", 1, 0, envs.protocol, **envs.arguments)
    assert again.single_observation_space.shape == (2, 84, 84)
    assert (again.single_action_space.n, again.protocol) == (18, envs.protocol)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"env_kwargs": {"sizes": 3}}, r"cannot be made: .*unexpected keyword argument 'sizes'"),
        ({"env_kwargs": {"size": "three"}}, "cannot be made: "),
        ({"env_kwargs": 5}, "env_kwargs must be a dictionary of keyword arguments, got 5"),
        ({"env_kwargs": {5: 5}}, "env_kwargs must be a dictionary"),
        ({"env_kwargs": {"render_mode": "human"}}, "must not hold 'render_mode'"),
        ({"wrappers": Times}, "wrappers must be a list of classes, functions or their names, got <class"),
        ({"wrappers": f"{OWN}:Times"}, "wrappers must be a list"),
        ({"wrappers": [5]}, "a wrapper must be a class or function, or the name of one, got 5"),
        ({"wrappers": [f"{OWN}:Nothing"]}, "has no class or function 'Nothing'"),
        ({"wrappers": [f"{OWN}:OWN"]}, "has no class or function 'OWN'"),
        ({"wrappers": [nothing]}, "the wrapper 'tests.*:nothing' must return an environment, got one of type NoneType"),
        ({"wrappers": [f"{OWN}:Times(of=3)"]}, r"the wrapper '.*Times\(of=3\)' fails: .*unexpected keyword argument"),
        ({"wrappers": [gymnasium.wrappers.vector.ClipReward]}, "the wrapper '.*ClipReward' fails: "),
    ],
)
@pytest.mark.parametrize("make", [make_vec, make_filmed])
def test_bad_arguments(make: Callable[..., Any], options: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidEnv, match=why):
        make(Line, **options)


def test_what_gymnasium_itself_takes_is_no_argument_of_an_environment() -> None:
    with pytest.raises(InvalidEnv, match="env_kwargs must be arguments of the environment, got 'num_envs'"):
        make_vec("pixelq/Catch-v0", env_kwargs={"num_envs": 3})
    with pytest.raises(InvalidEnv, match="env_kwargs of an Atari game must be among mode, difficulty and obs_type"):
        make_vec("ALE/Pong-v5", env_kwargs={"size": 3})


def test_only_arguments_of_make_vec_are_taken_from_files() -> None:
    check_arguments({"env_kwargs": {}, "wrappers": [], "frame_stack": 1, "max_episode_steps": 3})
    for name in ("seed", "num_envs", "protocol", "id", "no_such", "flicker"):
        with pytest.raises(InvalidEnv, match=f"the environments need the argument '{name}'"):
            check_arguments({name: 1})
    with pytest.raises(InvalidEnv, match="full_action_space must be True or False, got 'yes'"):
        make_vec("ALE/Pong-v5", 1, full_action_space="yes")  # type: ignore[arg-type]

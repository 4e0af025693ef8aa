"""Atari games for `make_vec` and `make_filmed`: on the native vector environment where it can, otherwise one by one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium

from pixelq.envs.atari import AtariVec
from pixelq.envs.atari_single import AtariGames, AtariOptions
from pixelq.envs.film import FilmedAtari
from pixelq.envs.protocols import Protocol

Wrap = Callable[[gymnasium.Env[Any, Any]], gymnasium.Env[Any, Any]]

ATARI_STACK = 4
"""Number of pictures in an observation of an Atari game unless another is asked for."""


def atari_vec(
    env_id: str,
    num_envs: int,
    seed: int,
    protocol: Protocol,
    *,
    full_action_space: bool = False,
    num_threads: int = 0,
    frame_stack: int | None = None,
    frame_size: int | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    wrappers: Sequence[Wrap] = (),
) -> AtariVec | AtariGames:
    """Make N copies of an Atari game.

    Args:
        env_id, num_envs, seed, protocol, full_action_space, num_threads: See `AtariVec`.
        frame_stack: Number of pictures in an observation; None for 4.
        frame_size: Height and width of a picture; None for 84.
        env_kwargs: See `AtariOptions`.
        wrappers: Functions that wrap each game, the first one innermost.

    Raises:
        InvalidEnv: If an argument is out of range, or the game has no such mode or difficulty.
    """
    shared = _shared(full_action_space, frame_stack, frame_size)
    options = AtariOptions.of(env_id, env_kwargs or {})
    if options == AtariOptions() and not wrappers:
        return AtariVec(env_id, num_envs, seed, protocol, num_threads=num_threads, **shared)
    return AtariGames(env_id, num_envs, seed, protocol, options=options, wrappers=wrappers, **shared)


def filmed_atari(
    env_id: str,
    seed: int,
    protocol: Protocol,
    *,
    full_action_space: bool = False,
    frame_stack: int | None = None,
    frame_size: int | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    wrappers: Sequence[Wrap] = (),
) -> FilmedAtari | AtariGames:
    """Make one Atari game that has a method `frame()`; arguments and errors as in `atari_vec`."""
    shared = _shared(full_action_space, frame_stack, frame_size)
    options = AtariOptions.of(env_id, env_kwargs or {})
    if options == AtariOptions() and not wrappers:
        return FilmedAtari(env_id, seed, protocol, **shared)
    filmed: dict[str, Any] = {"options": options, "wrappers": wrappers, "render_mode": "rgb_array"}
    return AtariGames(env_id, 1, seed, protocol, **filmed, **shared)


def _shared(full_action_space: bool, frame_stack: int | None, frame_size: int | None) -> dict[str, Any]:
    return {
        "full_action_space": full_action_space,
        "frame_stack": ATARI_STACK if frame_stack is None else frame_stack,
        "frame_size": 84 if frame_size is None else frame_size,
    }

"""Vector environments from an environment id, with or without a colour picture to film."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np

from pixelq.envs.atari import FRAMES_PER_STEP, AtariVec
from pixelq.envs.checks import checked_count
from pixelq.envs.errors import InvalidEnv, reason
from pixelq.envs.failures import Failures
from pixelq.envs.film import FilmedAtari
from pixelq.envs.gymnasium_vec import GymnasiumVec
from pixelq.envs.ids import check_id, is_atari
from pixelq.envs.protocols import NO_LIMIT, Protocol, resolve_protocol, with_flicker

ATARI_STACK = 4
"""Number of pictures in an observation of an Atari game unless another is asked for."""


def make_vec(
    id: str | Callable[[], gymnasium.Env[Any, Any]],
    num_envs: int = 8,
    seed: int = 0,
    protocol: str | Protocol = "sticky",
    *,
    full_action_space: bool = False,
    num_threads: int = 0,
    frame_stack: int | None = None,
    flicker: float | None = None,
    max_episode_steps: int | None = None,
) -> AtariVec | GymnasiumVec:
    """Make N copies of an environment as one `gymnasium.vector.VectorEnv`.

    Ids that come with this package are `pixelq/Catch-v0` and, for agents with memory, `pixelq/TMaze-v0`,
    `pixelq/RepeatPrevious-v0` and `pixelq/CartPoleWithoutVelocities-v0`.

    Args:
        id: `ALE/*-v5`; any Gymnasium id with Discrete actions and a Box observation, also one of the form
            `MODULE:ID`, whose module is imported; or a class or function that makes such an environment.
        num_envs: Number of copies N.
        seed: Non-negative seed; two different seeds share no environment.
        protocol: `sticky`, `nature`, `100k`, one of them with flicker as in `sticky+flicker=0.5`, or a `Protocol`.
            Only Atari games depend on it.
        full_action_space: Atari only: whether to use all 18 joystick actions instead of the game's own.
        num_threads: Atari only: number of emulation threads, 0 for one per core of the machine.
        frame_stack: Atari only: number of pictures in an observation, 1 to 16; None for 4. For others, a
            number above 1 has no effect but a warning.
        flicker: Atari only: probability in [0, 1), per step, that the newest frame is black (Hausknecht and Stone
            2015), in place of the protocol's. None keeps the protocol's.
        max_episode_steps: Number of steps after which an episode is truncated, in place of the protocol's or of the
            registered one; None keeps that. An Atari step is four frames.

    Raises:
        InvalidEnv: If there is no such environment or protocol, an argument is out of range, the environment cannot be
            made, or one that is no Atari game is to flicker.
    """
    id = check_id(id) if isinstance(id, str) or not callable(id) else id
    rules = _rules(id, protocol, flicker, frame_stack, max_episode_steps)
    if isinstance(id, str) and is_atari(id):
        return AtariVec(
            id,
            num_envs,
            seed,
            rules,
            full_action_space=full_action_space,
            num_threads=num_threads,
            frame_stack=ATARI_STACK if frame_stack is None else frame_stack,
        )
    return GymnasiumVec(id, num_envs, seed, max_episode_steps=max_episode_steps)


def make_filmed(
    id: str,
    seed: int = 0,
    protocol: str | Protocol = "sticky",
    *,
    full_action_space: bool = False,
    frame_stack: int | None = None,
    flicker: float | None = None,
    max_episode_steps: int | None = None,
) -> FilmedAtari | GymnasiumVec:
    """Make one environment that plays the same as that of `make_vec` and has a method `frame()`.

    `frame()` returns the current picture in colour, uint8 [height, width, 3], without flicker. The arguments are those
    of `make_vec`.

    Raises:
        InvalidEnv: As in `make_vec`, and if the environment draws no picture.
    """
    id = check_id(id)
    rules = _rules(id, protocol, flicker, frame_stack, max_episode_steps)
    if is_atari(id):
        stack = ATARI_STACK if frame_stack is None else frame_stack
        return FilmedAtari(id, seed, rules, full_action_space=full_action_space, frame_stack=stack)
    GymnasiumVec(id, 1, seed).close()  # raises a clear error for whatever has nothing to do with drawing
    _check_draws(id)
    return GymnasiumVec(id, 1, seed, render_mode="rgb_array", max_episode_steps=max_episode_steps)


def _rules(
    id: str | Callable[[], gymnasium.Env[Any, Any]],
    protocol: str | Protocol,
    flicker: float | None,
    frame_stack: int | None,
    max_episode_steps: int | None,
) -> Protocol:
    """Return the protocol with the given flicker and time limit, or its own for None.

    Warn of a frame stack that has no effect.

    Raises:
        InvalidEnv: If there is no such protocol, the flicker or the limit is out of range, or an environment that is no
            Atari game is to flicker.
    """
    if max_episode_steps is not None:
        most = NO_LIMIT // FRAMES_PER_STEP
        max_episode_steps = checked_count("max_episode_steps", max_episode_steps, least=1, most=most)
    resolved = resolve_protocol(protocol)
    if not (isinstance(id, str) and is_atari(id)):
        if (resolved.flicker if flicker is None else flicker) != 0.0:
            raise InvalidEnv("only Atari games flicker; leave flicker out")
        if frame_stack not in (None, 1):
            warnings.warn(
                f"only Atari games stack frames, so frame_stack {frame_stack} has no effect; "
                "register the environment with gymnasium.wrappers.FrameStackObservation to stack its observations",
                stacklevel=3,  # the caller of make_vec
            )
        return resolved
    if max_episode_steps is not None:
        resolved = replace(resolved, max_frames=max_episode_steps * FRAMES_PER_STEP)
    return resolved if flicker is None else with_flicker(resolved, flicker)


def _check_draws(env_id: str) -> None:
    """Check that an environment draws pictures.

    It draws one picture, because environments report only then that they cannot, or that a package is missing.

    Raises:
        InvalidEnv: If it draws none.
    """
    refused = Failures(lambda error: InvalidEnv(f"{env_id!r} cannot be filmed: {reason(error)}"))
    with refused, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the error above says what Gymnasium warns of
        env = gymnasium.make(env_id, render_mode="rgb_array")
        env.reset(seed=0)
        picture = env.render()
        env.close()
    if not isinstance(picture, np.ndarray) or picture.ndim != 3:
        raise InvalidEnv(f"{env_id!r} cannot be filmed: it has no render mode 'rgb_array'")

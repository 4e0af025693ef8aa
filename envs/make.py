"""From an environment id to a vector environment, with or without a colour picture to film."""

import warnings

import gymnasium
import numpy as np

from pixelq.envs.atari import AtariVec
from pixelq.envs.errors import InvalidEnv, reason
from pixelq.envs.film import FilmedAtari
from pixelq.envs.gymnasium_vec import ClassicVec
from pixelq.envs.ids import check_id, is_atari
from pixelq.envs.protocols import Protocol, resolve_protocol


def make_vec(
    id: str,
    num_envs: int = 8,
    seed: int = 0,
    protocol: str | Protocol = "sticky",
    *,
    full_action_space: bool = False,
    num_threads: int = 0,
    frame_stack: int = 4,
    flicker: float = 0.0,
) -> AtariVec | ClassicVec:
    """N copies of an environment as one `gymnasium.vector.VectorEnv`.

    Ids that come with this package: `pixelq/Catch-v0`; and, for players with memory, `pixelq/TMaze-v0`,
    `pixelq/RepeatPrevious-v0` and `pixelq/CartPoleWithoutVelocities-v0`.

    Args:
        id: `ALE/*-v5`, or any Gymnasium id with Discrete actions and a Box observation.
        num_envs: how many copies, N.
        seed: non-negative; two different seeds share no environment.
        protocol: `sticky`, `nature`, `100k` or a `Protocol`; only Atari games differ by it.
        full_action_space: Atari only: all 18 joystick actions in place of the game's own.
        num_threads: Atari only: emulation threads, 0 for as many as the machine has cores.
        frame_stack: Atari only, ignored by others: pictures in an observation, 1 to 16.
        flicker: Atari only: probability in [0, 1) that a step's picture is blank (Hausknecht and Stone 2015).

    Raises:
        InvalidEnv: when there is no such environment or protocol, it cannot be played here, or what is no Atari game is
            to flicker.
    """
    resolved = resolve_protocol(protocol)
    check_id(id)
    if is_atari(id):
        return AtariVec(
            id,
            num_envs,
            seed,
            resolved,
            full_action_space=full_action_space,
            num_threads=num_threads,
            frame_stack=frame_stack,
            flicker=flicker,
        )
    _check_steady(flicker)
    return ClassicVec(id, num_envs, seed)


def make_filmed(
    id: str,
    seed: int = 0,
    protocol: str | Protocol = "sticky",
    *,
    full_action_space: bool = False,
    frame_stack: int = 4,
    flicker: float = 0.0,
) -> FilmedAtari | ClassicVec:
    """What `make_vec` makes of one environment and the same arguments, playing the same, with a method `frame()`.

    `frame()` is the current picture in colour, uint8 [height, width, 3]; it does not flicker.

    Raises:
        InvalidEnv: as `make_vec`, and when the environment draws no picture.
    """
    resolved = resolve_protocol(protocol)
    check_id(id)
    if is_atari(id):
        return FilmedAtari(
            id, seed, resolved, full_action_space=full_action_space, frame_stack=frame_stack, flicker=flicker
        )
    _check_steady(flicker)
    ClassicVec(id, 1, seed).close()  # says what is wrong, if it is not the drawing
    _check_draws(id)
    return ClassicVec(id, 1, seed, render_mode="rgb_array")


def _check_steady(flicker: float) -> None:
    if flicker != 0.0:
        raise InvalidEnv("only Atari games flicker; leave flicker out")


def _check_draws(env_id: str) -> None:
    """Draws one picture, because an environment says only then that it cannot or that a package is missing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Gymnasium warns of is told by the error
            env = gymnasium.make(env_id, render_mode="rgb_array")
            env.reset(seed=0)
            picture = env.render()
            env.close()
    except (gymnasium.error.Error, ImportError, NotImplementedError, TypeError, AssertionError) as error:
        raise InvalidEnv(f"{env_id!r} cannot be filmed: {reason(error)}") from error
    if not isinstance(picture, np.ndarray) or picture.ndim != 3:
        raise InvalidEnv(f"{env_id!r} cannot be filmed: it has no render mode 'rgb_array'")

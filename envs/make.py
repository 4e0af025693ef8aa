"""Vector environments from an environment id, with or without a colour picture to film."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import gymnasium

from pixelq.envs.atari import FRAMES_PER_STEP, AtariVec, check_flag
from pixelq.envs.atari_single import AtariGames, is_ram
from pixelq.envs.checks import checked_count, picture_refusal
from pixelq.envs.errors import InvalidEnv, quoted, reason
from pixelq.envs.failures import Failures
from pixelq.envs.film import FilmedAtari
from pixelq.envs.gymnasium_vec import GymnasiumVec
from pixelq.envs.ids import check_id, is_atari
from pixelq.envs.make_atari import atari_vec, filmed_atari
from pixelq.envs.observed import Preparation
from pixelq.envs.protocols import GYMNASIUM, NO_LIMIT, Protocol, resolve_protocol, with_flicker
from pixelq.envs.recipe import Recipe, Wrappers

Envs = TypeVar("Envs", AtariVec | AtariGames, GymnasiumVec)


def make_vec(
    id: str | Callable[..., gymnasium.Env[Any, Any]],
    num_envs: int = 8,
    seed: int = 0,
    protocol: str | Protocol = "sticky",
    *,
    full_action_space: bool = False,
    num_threads: int = 0,
    frame_stack: int | None = None,
    frame_size: int | None = None,
    grayscale: bool = False,
    flicker: float | None = None,
    max_episode_steps: int | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    wrappers: Wrappers = (),
) -> AtariVec | AtariGames | GymnasiumVec:
    """Make N copies of an environment as one `gymnasium.vector.VectorEnv`.

    Ids that come with this package are `pixelq/Catch-v0` and, for agents with memory, `pixelq/TMaze-v0`,
    `pixelq/RepeatPrevious-v0` and `pixelq/CartPoleWithoutVelocities-v0`.

    Args:
        id: `ALE/*-v5`; any Gymnasium id with Discrete actions and observations that are numbers, also one of the form
            `MODULE:ID`, whose module is imported; or a class or function that makes such an environment, or its name
            as `MODULE:NAME` or `MODULE:NAME(key=value)`. Other observations than a Box become one vector; see
            `Preparation`.
        num_envs: Number of copies N.
        seed: Non-negative seed; two different seeds share no environment.
        protocol: `sticky`, `nature`, `100k`, `envpool`, one of them with flicker as in `sticky+flicker=0.5`, or a
            `Protocol`. Only Atari games depend on it.
        full_action_space: Atari only: whether to use all 18 joystick actions instead of the game's own.
        num_threads: Atari only: number of emulation threads, 0 for one per core of the machine.
        frame_stack: Number of pictures in an observation, 1 to 16, those from before the episode black; None for 4 on
            Atari and 1 otherwise. Where there are no pictures, a number above 1 has no effect but a warning.
        frame_size: Height and width to which pictures are resized, 1 to 512; None for 84 on Atari and otherwise those
            that they have. For the memory of an Atari game it has no effect but a warning.
        grayscale: Whether pictures in colour become grey. Those of Atari games always are.
        flicker: Atari only: probability in [0, 1), per step, that the newest frame is black (Hausknecht and Stone
            2015), in place of the protocol's. None keeps the protocol's.
        max_episode_steps: Number of steps after which an episode is truncated, in place of the protocol's or of the
            registered one; None keeps that. An Atari step is four frames. Wrappers lie around this limit.
        env_kwargs: Keyword arguments of the environment, such as `{"is_slippery": False}`; of an Atari game its `mode`,
            `difficulty`, and `obs_type="ram"` for the 128 bytes of memory in place of pictures.
        wrappers: What to wrap around each environment, the innermost first: classes or functions that take an
            environment and return one, or their names as `MODULE:NAME` or `MODULE:NAME(key=value)`. Atari games with
            wrappers or `env_kwargs` are stepped one after another and not in threads.

    The result's attribute `arguments` holds what makes the same environments again, as JSON values; agents save it. A
    lambda and what is defined in a function cannot be found again: then `env_id` is None, and only Python can go on.

    Raises:
        InvalidEnv: If there is no such environment or protocol, an argument is out of range, the environment cannot be
            made, or one that is no Atari game is to flicker or to have all joystick actions.
    """
    id = check_id(id) if isinstance(id, str) or not callable(id) else id
    rules = _rules(id, protocol, flicker, max_episode_steps)
    _check_options(id, full_action_space, grayscale, num_threads)
    if isinstance(id, str) and is_atari(id):
        recipe = Recipe.of(id, env_kwargs, wrappers, max_episode_steps)
        pictures = (full_action_space, frame_stack, frame_size)
        games = atari_vec(recipe, num_envs, seed, rules, *pictures, num_threads=num_threads)
        return _warned(games, frame_stack, frame_size if is_ram(recipe.env_kwargs) else None)
    preparation = Preparation(frame_size, bool(grayscale), 1 if frame_stack is None else frame_stack)
    made: dict[str, Any] = {"env_kwargs": env_kwargs, "wrappers": wrappers, "preparation": preparation}
    return _warned(GymnasiumVec(id, num_envs, seed, max_episode_steps=max_episode_steps, **made), frame_stack)


def make_filmed(
    id: str | Callable[..., gymnasium.Env[Any, Any]],
    seed: int = 0,
    protocol: str | Protocol = "sticky",
    *,
    full_action_space: bool = False,
    frame_stack: int | None = None,
    frame_size: int | None = None,
    grayscale: bool = False,
    flicker: float | None = None,
    max_episode_steps: int | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    wrappers: Wrappers = (),
) -> FilmedAtari | AtariGames | GymnasiumVec:
    """Make one environment that plays the same as that of `make_vec` and has a method `frame()`.

    `frame()` returns the current picture in colour, uint8 [height, width, 3], without flicker. The arguments are those
    of `make_vec`.

    Raises:
        InvalidEnv: As in `make_vec`, and if the environment draws no picture.
    """
    id = check_id(id) if isinstance(id, str) or not callable(id) else id
    rules = _rules(id, protocol, flicker, max_episode_steps)
    _check_options(id, full_action_space, grayscale)
    if isinstance(id, str) and is_atari(id):
        recipe = Recipe.of(id, env_kwargs, wrappers, max_episode_steps)
        return filmed_atari(recipe, seed, rules, full_action_space, frame_stack, frame_size)
    made: dict[str, Any] = {"max_episode_steps": max_episode_steps, "env_kwargs": env_kwargs, "wrappers": wrappers}
    GymnasiumVec(id, 1, seed, **made).close()  # raises a clear error for whatever has nothing to do with drawing
    _check_draws(Recipe.of(id, **made))
    preparation = Preparation(frame_size, bool(grayscale), 1 if frame_stack is None else frame_stack)
    return GymnasiumVec(id, 1, seed, render_mode="rgb_array", preparation=preparation, **made)


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Check that arguments from a file are such as `make_vec` notes in the attribute `arguments`.

    `make_vec` checks their values.

    Raises:
        InvalidEnv: If one is another.
    """
    apart = ("id", "num_envs", "seed", "protocol", "num_threads", "flicker")
    for name in arguments:
        if name in apart or name not in inspect.signature(make_vec).parameters:
            raise InvalidEnv(f"the environments need the argument {quoted(name)}, which this version does not have")


def _rules(
    id: str | Callable[..., gymnasium.Env[Any, Any]],
    protocol: str | Protocol,
    flicker: float | None,
    max_episode_steps: int | None,
) -> Protocol:
    """Return the protocol with the given flicker and time limit, or its own for None.

    Raises:
        InvalidEnv: If there is no such protocol, the flicker or the limit is out of range, or an environment that is no
            Atari game is to flicker.
    """
    if max_episode_steps is not None:
        most = NO_LIMIT // FRAMES_PER_STEP
        max_episode_steps = checked_count("max_episode_steps", max_episode_steps, least=1, most=most)
    is_other = not (isinstance(id, str) and is_atari(id))
    resolved = GYMNASIUM if is_other and protocol == GYMNASIUM.name else resolve_protocol(protocol)
    if is_other:
        if (resolved.flicker if flicker is None else flicker) != 0.0:
            raise InvalidEnv("only Atari games flicker; leave flicker out")
        return resolved
    if max_episode_steps is not None:
        resolved = replace(resolved, max_frames=max_episode_steps * FRAMES_PER_STEP)
    return resolved if flicker is None else with_flicker(resolved, flicker)


def _check_options(
    id: str | Callable[..., gymnasium.Env[Any, Any]], full_action_space: bool, grayscale: bool, num_threads: int = 0
) -> None:
    """Check the arguments that not every environment reads.

    Raises:
        InvalidEnv: If one has another type or is out of range, or an environment that is no Atari game is to have all
            joystick actions.
    """
    check_flag("full_action_space", full_action_space)
    check_flag("grayscale", grayscale)
    checked_count("num_threads", num_threads, least=0)
    if full_action_space and not (isinstance(id, str) and is_atari(id)):
        raise InvalidEnv("only Atari games have all joystick actions; leave full_action_space out")


def _warned(envs: Envs, frame_stack: int | None, frame_size: int | None = None) -> Envs:
    """Return environments, with a warning of arguments for pictures that have no effect.

    Args:
        envs: The environments.
        frame_stack: Number of frames that is asked for; None for any.
        frame_size: Size that is asked for where there are no pictures; None where it has an effect.
    """
    if frame_stack is not None and envs.frame_stack != frame_stack:
        warnings.warn(
            f"only images are stacked, so frame_stack {frame_stack} has no effect; "
            "wrap the environment in gymnasium.wrappers.FrameStackObservation to stack its observations",
            stacklevel=3,  # the caller of make_vec
        )
    if frame_size is not None:
        warnings.warn(f"only images are resized, so frame_size {frame_size} has no effect; leave it out", stacklevel=3)
    return envs


def _check_draws(recipe: Recipe) -> None:
    """Check that an environment draws pictures.

    It draws one picture, because environments report only then that they cannot, or that a package is missing.

    Raises:
        InvalidEnv: If it draws none.
    """
    refused = Failures(lambda error: InvalidEnv(f"{quoted(recipe.name)} cannot be filmed: {reason(error)}"))
    with refused, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the error above says what Gymnasium warns of
        env = recipe.wrap(recipe.make("rgb_array"))
        env.reset(seed=0)
        picture = env.render()
        env.close()
        modes = env.metadata.get("render_modes") or ()
    if picture is None and "rgb_array" not in modes:
        raise InvalidEnv(f"{quoted(recipe.name)} cannot be filmed: it has no render mode 'rgb_array'")
    refusal = picture_refusal(picture)
    if refusal is not None:
        raise InvalidEnv(f"{quoted(recipe.name)} cannot be filmed: {refusal}")

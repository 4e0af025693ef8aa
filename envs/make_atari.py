"""Atari games for `make_vec` and `make_filmed`: on the native vector environment where it can, otherwise one by one."""

from pixelq.envs.atari import ATARI_SIZE, ATARI_STACK, AtariVec
from pixelq.envs.atari_single import AtariGames, AtariOptions
from pixelq.envs.film import FilmedAtari
from pixelq.envs.protocols import Protocol
from pixelq.envs.recipe import Recipe


def atari_vec(
    recipe: Recipe,
    num_envs: int,
    seed: int,
    protocol: Protocol,
    full_action_space: bool = False,
    frame_stack: int | None = None,
    frame_size: int | None = None,
    *,
    num_threads: int = 0,
) -> AtariVec | AtariGames:
    """Make N copies of an Atari game.

    Args:
        recipe: Id, arguments and wrappers. The protocol has the time limit already.
        num_envs, seed, protocol, full_action_space, num_threads: See `AtariVec`.
        frame_stack: Number of pictures in an observation; None for 4.
        frame_size: Height and width of a picture; None for 84.

    Raises:
        InvalidEnv: If an argument is out of range, or the game has no such mode or difficulty.
    """
    env_id = str(recipe.env)
    stack, size = ATARI_STACK if frame_stack is None else frame_stack, ATARI_SIZE if frame_size is None else frame_size
    if _needs_single_games(recipe):
        return AtariGames(recipe, num_envs, seed, protocol, full_action_space, stack, size)
    made = AtariVec(
        env_id,
        num_envs,
        seed,
        protocol,
        full_action_space=full_action_space,
        num_threads=num_threads,
        frame_stack=stack,
        frame_size=size,
    )
    made.arguments |= recipe.arguments
    return made


def filmed_atari(
    recipe: Recipe,
    seed: int,
    protocol: Protocol,
    full_action_space: bool = False,
    frame_stack: int | None = None,
    frame_size: int | None = None,
) -> FilmedAtari | AtariGames:
    """Make one Atari game that has a method `frame()`; arguments and errors as in `atari_vec`."""
    stack, size = ATARI_STACK if frame_stack is None else frame_stack, ATARI_SIZE if frame_size is None else frame_size
    if _needs_single_games(recipe):
        return AtariGames(recipe, 1, seed, protocol, full_action_space, stack, size, render_mode="rgb_array")
    pictures = {"frame_stack": stack, "frame_size": size}
    return FilmedAtari(str(recipe.env), seed, protocol, full_action_space=full_action_space, **pictures)


def _needs_single_games(recipe: Recipe) -> bool:
    """Return whether the native environment cannot play a game as it is asked for."""
    return bool(recipe.wrappers) or AtariOptions.of(str(recipe.env), recipe.env_kwargs) != AtariOptions()

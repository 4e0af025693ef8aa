"""What agents see of an environment: one Box, of spaces of other kinds and of pictures that are to be prepared."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple
from gymnasium.wrappers import FlattenObservation, FrameStackObservation, GrayscaleObservation
from numpy.typing import NDArray

from pixelq.envs.checks import checked_count
from pixelq.envs.errors import InvalidEnv, printable, quoted
from pixelq.envs.flicker import DEEPEST_STACK
from pixelq.envs.resizing import LARGEST_FRAME, ResizeObservation

Env = gymnasium.Env[Any, Any]

MOST_NUMBERS = 2**24
"""Most numbers in an observation of which an agent can be saved."""
MANY_NUMBERS = 20_000
"""Numbers of an observation that was laid out as one vector, above which a training begins with a warning."""

DARKEST = 16
"""Brightness below which no picture in colours of uint8 stays, so that smaller numbers are something else."""
FARTHEST = 10.0
"""Greatest absolute value of pictures that somebody has scaled for a network."""


@dataclass(frozen=True)
class Preparation:
    """What is done to the observations of an environment before agents see them.

    Discrete, MultiDiscrete, MultiBinary, Dict and Tuple spaces are always laid out as one vector, by Gymnasium's
    `FlattenObservation`: each discrete value as one-hot. Pictures stay as they are unless one of these is given.

    Raises:
        InvalidEnv: If a value is out of range.
    """

    frame_size: int | None = None
    """Height and width to which pictures are resized by `ResizeObservation`."""
    grayscale: bool = False
    """Whether pictures in colour become grey, by Gymnasium's `GrayscaleObservation`."""
    frame_stack: int = 1
    """Number of pictures in an observation, [S, ...], the newest last; those from before the episode are black."""

    def __post_init__(self) -> None:
        if self.frame_size is not None:
            checked_count("frame_size", self.frame_size, least=1, most=LARGEST_FRAME)
        if not isinstance(self.grayscale, bool):
            raise InvalidEnv(f"grayscale must be True or False, got {quoted(self.grayscale)}")
        checked_count("frame_stack", self.frame_stack, least=1, most=DEEPEST_STACK)

    def stacks(self, space: Space[Any]) -> bool:
        """Return whether observations of an environment with this space are stacks."""
        return self.frame_stack > 1 and _is_image(space)

    def arguments(self, space: Space[Any]) -> dict[str, Any]:
        """Return the arguments of `make_vec` that prepare an environment with this space, as JSON values."""
        size = {} if self.frame_size is None else {"frame_size": int(self.frame_size)}
        grey = {"grayscale": True} if self.grayscale else {}
        return size | grey | ({"frame_stack": int(self.frame_stack)} if self.stacks(space) else {})

    def refusal(self, space: Space[Any]) -> str | None:
        """Return what is wrong with the observations of an environment, or None if agents can see them."""
        parts = list(_parts(space))
        for path, part in parts:
            if not isinstance(part, Box | Discrete | MultiBinary | MultiDiscrete):
                return _cannot_flatten(space, path, part)
        size = gymnasium.spaces.flatdim(space)
        is_resized = isinstance(space, Box) and self.frame_size is not None
        if size < 1 or (size > MOST_NUMBERS and not is_resized):
            return f"has observations of {size:,} numbers; give an environment with 1 to {MOST_NUMBERS:,}"
        asked_for = [name for name in ("frame_size", "grayscale") if getattr(self, name)]
        is_picture = _is_image(space) and space.dtype == np.uint8 and (space.shape or ())[2:] in ((), (1,), (3,))
        if asked_for and not is_picture:
            return (
                f"has observations {printable(str(space))}; leave out {asked_for[0]}, which needs pictures, a Box "
                "uint8 [height, width] or [height, width, 3]"
            )
        return None

    def wrap(self, env: Env) -> Env:
        """Return an environment with prepared observations; one that `refusal` refuses stays as it is."""
        space = env.observation_space
        if self.refusal(space) is not None:
            return env
        if not isinstance(space, Box):
            return FlattenObservation(env)
        if self.grayscale and (space.shape or ())[2:] == (3,):
            env = GrayscaleObservation(env)
        if self.frame_size is not None and (space.shape or ())[:2] != (self.frame_size, self.frame_size):
            env = ResizeObservation(env, self.frame_size)
        return FrameStackObservation(env, self.frame_stack, padding_type="zero") if self.stacks(space) else env


UNPREPARED = Preparation()
"""Preparation of observations that are only laid out as one vector where they are no Box."""


def range_notes(space: Space[Any]) -> tuple[str, ...]:
    """Return sentences about observations that networks read on another scale than they may be meant.

    Networks divide uint8 by 255 and read all other types as they are.

    Args:
        space: The observations of an environment before they are prepared.
    """
    if not isinstance(space, Box):
        return _size_notes(space)
    low, high = space.low, space.high
    if space.dtype == np.uint8 and high.max(initial=0) < 255:
        return (
            f"the observations are uint8 of at most {high.max(initial=0)}, and networks divide uint8 by 255; if they "
            "are no colours, show them as float32, for instance by gymnasium.wrappers.DtypeObservation",
        )
    if _is_image(space) and space.dtype != np.uint8 and _goes_to_255(space):
        return (
            f"the observations are pictures of {space.dtype} in [{low.min():g}, {high.max():g}], and networks read "
            "these as they are; show them as uint8, which networks divide by 255",
        )
    if not _is_image(space) and space.dtype != np.uint8 and space.shape and (low == 0).all() and (high == 255).all():
        return (
            f"the observations are {space.dtype} in [0, 255], and networks do not scale these; divide them by 255 in a "
            "wrapper, or show whole numbers as uint8, which networks divide by 255",
        )
    return ()


def _size_notes(space: Space[Any]) -> tuple[str, ...]:
    """Return a sentence about observations that become a very long vector."""
    size, parts = gymnasium.spaces.flatdim(space), [part for _, part in _parts(space)]
    if size <= MANY_NUMBERS:
        return ()
    if any(_is_image(part) for part in parts):
        return (
            f"the observations are laid out as {size:,} numbers for a network without convolutions, which does not "
            "know which pixels are neighbours; to see a picture, keep it alone by a wrapper",
        )
    vector = "one-hot vectors" if all(isinstance(part, Discrete) for part in parts) else "vectors"
    return (
        f"the observations become {vector} of {size:,} numbers, for which the network and the replay need much memory; "
        "show them as fewer numbers in a wrapper",
    )


def unscaled_parts(space: Space[Any]) -> tuple[str, ...]:
    """Return the keys of what may be colours in a Dict or Tuple, and becomes part of a vector that is not uint8."""
    parts = () if isinstance(space, Box) else tuple(_parts(space))
    if all(isinstance(part, Box) and part.dtype == np.uint8 for _, part in parts):
        return ()
    return tuple(path for path, part in parts if isinstance(part, Box) and _goes_to_255(part))


def value_notes(observations: NDArray[Any], unscaled: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return sentences, as `range_notes` does, about the first observations of a training.

    Args:
        observations: The observations [N, *shape].
        unscaled: What `unscaled_parts` returned of their space.
    """
    if not observations.size:
        return ()
    low, high = observations.min(), observations.max()
    if observations.dtype == np.uint8 and 0 < high < DARKEST:
        return (
            f"the first observations are uint8 of at most {high}, and networks divide uint8 by 255; if they are no "
            "colours, show them as float32, for instance by gymnasium.wrappers.DtypeObservation",
        )
    if unscaled and high > FARTHEST:
        names = " and ".join(map(repr, unscaled))
        return (
            f"the observations in {names} may be colours of up to 255, and are not scaled beside others; if they are, "
            "divide them by 255 in a wrapper",
        )
    if observations.dtype.kind == "f" and observations.ndim > 2 and max(-low, high) > FARTHEST:
        return (
            f"the first observations are {observations.dtype} from {low:g} to {high:g}, and networks read these as "
            "they are; if they are pictures, scale them to about [0, 1] in a wrapper, or show colours as uint8",
        )
    return ()


def _parts(space: Space[Any], path: str = "") -> Iterator[tuple[str, Space[Any]]]:
    """Iterate over the spaces in Dicts and Tuples at any depth, with their keys: `camera.left`, or `0`."""
    within: Any = space.spaces.items() if isinstance(space, Dict) else ()
    within = enumerate(space.spaces) if isinstance(space, Tuple) else within
    if not isinstance(space, Dict | Tuple):
        yield path, space
    for key, part in within:
        yield from _parts(part, f"{path}.{key}" if path else str(key))


def _cannot_flatten(space: Space[Any], path: str, part: Space[Any]) -> str:
    """Return what is wrong with observations, of which a part is no Box and no number."""
    kinds = "give an environment with a Box, Discrete, MultiDiscrete or MultiBinary, or a Dict or Tuple of these"
    if part is space:
        return f"has observations {printable(str(space))}; {kinds}"
    sentence = f"has observations with {printable(str(part), 60)} as {path!r}, which cannot be laid out as numbers; "
    if isinstance(space, Dict):
        kept = [name for name, each in space.spaces.items() if _all_fit(each)]
        if kept:
            return f"{sentence}keep the others by the wrapper gymnasium.wrappers.FilterObservation with {kept}"
    return sentence + kinds


def _all_fit(space: Space[Any]) -> bool:
    return all(isinstance(part, Box | Discrete | MultiBinary | MultiDiscrete) for _, part in _parts(space))


def _is_image(space: Space[Any]) -> bool:
    return isinstance(space, Box) and len(space.shape) in (2, 3)


def _goes_to_255(space: Box) -> bool:
    """Return whether the bounds of a space are those of colours that are not scaled."""
    return bool(space.high.max(initial=0) == 255)

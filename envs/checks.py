"""Guards and seeds that every vector environment of this package shares."""

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelq.envs.errors import InvalidEnv


def spread_seeds(seed: int, num_envs: int) -> NDArray[np.int32]:
    """Well-spread positive int32 seeds [num_envs]; environment k's does not depend on `num_envs`.

    `seed + k` would make the second environment of seed 0 the first of seed 1.

    Raises:
        InvalidEnv: when the seed is negative or not an integer.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InvalidEnv(f"seed must be a non-negative integer, not {seed!r}")
    words = np.random.SeedSequence(int(seed)).generate_state(num_envs, np.uint32)
    return (words >> 1).astype(np.int32)  # 31 bits: the emulator takes a negative seed for none at all


MOST = 2**20
"""No count may be greater: memory for so many environments or threads ends before."""


def checked_count(name: str, value: int, least: int, most: int = MOST) -> int:
    """`value`, if it is an integer of at least `least` and at most `most`.

    Raises:
        InvalidEnv: when it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InvalidEnv(f"{name} must be an integer of at least {least}, not {value!r}")
    if value > most:
        raise InvalidEnv(f"{name} must be at most {most:,}, not {value:,}")
    return int(value)


def checked_actions(actions: Any, num_envs: int, num_actions: int) -> NDArray[np.int64]:
    """A copy of `actions` as int64 [num_envs], each in [0, num_actions).

    Raises:
        ValueError: when shape, type or range is wrong; an action out of range hangs the native emulator.
    """
    array = np.asarray(actions)
    if array.dtype.kind not in "iu" or array.shape != (num_envs,):
        raise ValueError(
            f"actions must be integers of shape ({num_envs},), not {array.dtype.name} of shape {array.shape}"
        )
    if array.min() < 0 or array.max() >= num_actions:
        raise ValueError(f"actions must be in 0..{num_actions - 1}, not {array.min()}..{array.max()}")
    return array.astype(np.int64)


def checksums(name: str, *parts: NDArray[Any]) -> NDArray[np.uint32]:
    """CRC-32 [N] of a name and then of each environment's row of every part [N, ...]."""
    crcs = [zlib.crc32(name.encode())] * len(parts[0])
    for part in parts:
        crcs = [zlib.crc32(row, crc) for row, crc in zip(part, crcs, strict=True)]
    return np.array(crcs, np.uint32)


def checked_options(options: dict[str, Any] | None) -> None:
    """Refuses reset options, which nothing here would read.

    Raises:
        ValueError: when there are any.
    """
    if options:
        raise ValueError(f"reset takes no options here, not {sorted(options)}")


def require_reset(is_reset: bool) -> None:
    """Refuses to go on without a reset.

    Raises:
        RuntimeError: when there was none.
    """
    if not is_reset:
        raise RuntimeError("the environment was not reset; call reset first")


def require_received(method: str, is_sent: bool) -> None:
    """Refuses a method while a step is under way.

    Raises:
        RuntimeError: when one is.
    """
    if is_sent:
        raise RuntimeError(f"{method} was called between send and recv; call recv first")

"""Checks and seeds that all vector environments of this package share."""

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelq.envs.errors import InvalidEnv, NotFinite, quoted

MOST = 2**20
"""Largest value of any count; memory for that many environments or threads runs out before."""


class PartOfSeed(int):
    """Seed of some environments of a larger number: they are those that would have the seed from the k-th on.

    Args:
        seed: Seed of all of them.
        first: Number of the first one, k.
    """

    first: int

    def __new__(cls, seed: int, first: int) -> "PartOfSeed":
        """Return the seed."""
        made = super().__new__(cls, seed)
        made.first = first
        return made


def spread_seeds(seed: int, num_envs: int) -> NDArray[np.int32]:
    """Return well-spread non-negative seeds, int32 [num_envs].

    The seed of environment k does not depend on `num_envs`. With `seed + k` instead, the second environment of seed 0
    would be the first of seed 1.

    Raises:
        InvalidEnv: If the seed is negative or not an integer.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InvalidEnv(f"seed must be a non-negative integer, got {quoted(seed)}")
    first = seed.first if isinstance(seed, PartOfSeed) else 0
    words = np.random.SeedSequence(int(seed)).generate_state(first + num_envs, np.uint32)[first:]
    return (words >> 1).astype(np.int32)  # 31 bits: the emulator ignores a negative seed


def checked_count(name: str, value: int, least: int, most: int = MOST) -> int:
    """Check that a value is an integer in [`least`, `most`], and return it as an int.

    Raises:
        InvalidEnv: If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InvalidEnv(f"{name} must be an integer of at least {least}, got {quoted(value)}")
    if value > most:
        raise InvalidEnv(f"{name} must be at most {most:,}, got {value:,}")
    return int(value)


def checked_render_mode(render_mode: str | None) -> str | None:
    """Check that a render mode is None or `rgb_array`, and return it.

    Raises:
        InvalidEnv: If it is not.
    """
    if render_mode not in (None, "rgb_array"):
        raise InvalidEnv(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
    return render_mode


def checked_actions(actions: Any, num_envs: int, num_actions: int) -> NDArray[np.int64]:
    """Check that actions are integers [num_envs] in [0, num_actions), and return a copy as int64.

    Raises:
        ValueError: If shape, type or range is wrong; an action out of range hangs the native emulator.
    """
    array = np.asarray(actions)
    if array.dtype.kind not in "iu" or array.shape != (num_envs,):
        raise ValueError(
            f"actions must be integers of shape ({num_envs},), got {array.dtype.name} of shape {array.shape}"
        )
    if array.min() < 0 or array.max() >= num_actions:
        raise ValueError(f"actions must be in 0..{num_actions - 1}, got {array.min()}..{array.max()}")
    return array.astype(np.int64)


def check_finite(name: str, observations: NDArray[Any], rewards: NDArray[Any] | None = None) -> None:
    """Check that the rewards [N] of a step and, if they are floats, the observations [N, *shape] are finite in float32.

    Otherwise values and losses would no longer be numbers much later, and the learning rate would be blamed.

    Args:
        name: Name of the environments, for the error.
        observations: The observations.
        rewards: The rewards; None after a reset. A None among them counts as NaN.

    Raises:
        NotFinite: If one is not.
    """
    if rewards is not None:
        with np.errstate(over="ignore"):
            finite = np.isfinite(np.asarray(rewards, np.float32))
        if not finite.all():
            k = int(finite.argmin())
            raise NotFinite(f"{quoted(name)} failed: environment {k} gave the reward {_shown(rewards[k])}")
    if observations.dtype.kind == "f":
        with np.errstate(over="ignore"):
            finite = np.isfinite(observations.astype(np.float32, copy=False))
        if not finite.all():
            k, *place = np.argwhere(~finite)[0].tolist()
            value = observations[(k, *place)]
            raise NotFinite(f"{quoted(name)} failed: environment {k} gave the observation {_shown(value)} at {place}")


def _shown(value: Any) -> str:
    """Return a value that is not finite in float32 as text."""
    return f"{value}, too large for float32" if np.isfinite(np.float64(value)) else f"{value}"


def checksums(name: str, *parts: NDArray[Any]) -> NDArray[np.uint32]:
    """Return the CRC-32, uint32 [N], of a name followed by each environment's row of every part [N, ...]."""
    crcs = [zlib.crc32(name.encode())] * len(parts[0])
    for part in parts:
        crcs = [zlib.crc32(row, crc) for row, crc in zip(part, crcs, strict=True)]
    return np.array(crcs, np.uint32)


def checked_options(options: dict[str, Any] | None) -> None:
    """Check that there are no reset options, because the environments of this package read none.

    Raises:
        ValueError: If there are any.
    """
    if options:
        raise ValueError(f"reset takes no options, got {sorted(options)}")


def require_reset(is_reset: bool) -> None:
    """Check that the environments were reset.

    Raises:
        RuntimeError: If they were not.
    """
    if not is_reset:
        raise RuntimeError("the environment was not reset; call reset first")


def require_received(method: str, is_sent: bool) -> None:
    """Check that no step is in progress when a method is called.

    Raises:
        RuntimeError: If one is.
    """
    if is_sent:
        raise RuntimeError(f"{method} was called between send and recv; call recv first")


def picture_refusal(picture: Any) -> str | None:
    """Return what is wrong with what `render` returned, or None for a picture uint8 [height, width, 3]."""
    if not isinstance(picture, np.ndarray):
        found = f"a {type(picture).__name__}"
    elif picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8:
        return None
    else:
        found = f"{picture.dtype} {[*picture.shape]}"
    return f"render() returned {found}, not a picture uint8 [height, width, 3]"

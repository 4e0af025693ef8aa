"""Exact states of games: the last seed of each environment and the actions since."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelq.envs.errors import InvalidEnv

ANCHOR_EVERY = 10_000
"""Number of steps since an environment's last anchor after which it gets a new one when its episode ends.

An anchor costs an Atari game about 0.1 s, and restoring plays all steps since the anchor again.
"""

Ints = NDArray[np.int64]

_SEEDS = 2**31
_NAMES = ("bases", "anchors", "lengths", "actions", "crcs")


class ActionLog:
    """Log of the last anchor of each of N environments and of every action since.

    An anchor is a reset with a seed that belongs to that environment alone. The anchors of an environment are numbered
    from 0, and base seed and number determine the seed, so a log that starts at the last anchor determines the game.
    All environments step together; therefore logs of different lengths end in the same row.

    Args:
        bases: Seeds of the environments' anchors 0, integers [N] in [0, 2³¹).
        num_actions: Number of actions; every action is less than this.
    """

    def __init__(self, bases: NDArray[np.integer[Any]], num_actions: int) -> None:
        self._bases = bases.astype(np.int64)
        self._anchors = np.full(len(bases), -1, np.int64)  # the first `renew` makes it 0
        self._marker = num_actions  # instead of an action: all environments were reset without seeds
        self._rows = np.zeros((1024, len(bases)), np.min_scalar_type(num_actions))
        self._starts = np.zeros(len(bases), np.int64)  # first row of each log
        self._end = 0  # next row to write

    def append(self, actions: Ints | int) -> None:
        """Record a step with actions [N]."""
        if self._end == len(self._rows):
            self._make_room()
        self._rows[self._end] = actions
        self._end += 1

    def due(self, done: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which environments need a new anchor, bool [N]: their episode is done, and the last anchor is old."""
        return done & (self._end - self._starts > ANCHOR_EVERY)

    def renew(self, mask: NDArray[np.bool_]) -> Ints:
        """Clear the logs where `mask` [N] is set, and return the seeds [N] of their next anchors, −1 for the others.

        Seeds are less than 2³¹, because the emulator ignores a negative one.
        """
        self._anchors[mask] += 1
        self._starts[mask] = self._end
        return self._seeds(mask)

    def reset(self, *, anew: bool) -> Ints:
        """Record a reset of all environments, and return the seeds [N] to use for it, −1 for none.

        Args:
            anew: Whether all environments get an anchor, because the logs do not determine their present states.
        """
        everywhere = np.ones_like(self._starts, np.bool_)
        if anew:
            return self.renew(everywhere)
        self.append(self._marker)
        return self.renew(self.due(everywhere))

    def get_state(self, crcs: NDArray[np.uint32]) -> dict[str, NDArray[Any]]:
        """Return the logs as plain arrays, with the checksums `crcs` [N] by which the caller verifies its games."""
        logs = [self._rows[start : self._end, k] for k, start in enumerate(self._starts)]
        return {
            "bases": self._bases.copy(),
            "anchors": self._anchors.copy(),
            "lengths": self._end - self._starts,
            "actions": np.concatenate(logs),
            "crcs": crcs.copy(),
        }

    @classmethod
    def from_state(
        cls, state: Mapping[str, NDArray[Any]], num_envs: int, num_actions: int
    ) -> tuple["ActionLog", NDArray[np.uint32]]:
        """Return the log that wrote a state, and the checksums [N] in the state.

        Raises:
            InvalidEnv: If no log with these numbers of environments and actions can have written it.
        """
        if not isinstance(state, Mapping) or set(state) != set(_NAMES):
            raise InvalidEnv(f"the state of environments must hold the arrays {', '.join(_NAMES)} and nothing else")
        shape = (num_envs,)
        log = cls(_checked(state, "bases", np.int64, shape, _SEEDS), num_actions)
        log._anchors = _checked(state, "anchors", np.int64, shape, _SEEDS).copy()
        actions = _checked(state, "actions", log._rows.dtype, None, num_actions + 1)
        lengths = _checked(state, "lengths", np.int64, shape, len(actions) + 1)
        if lengths.sum() != len(actions):
            raise InvalidEnv(f"the state's lengths must sum to its {len(actions)} actions, got {lengths.sum()}")
        log._end = int(lengths.max())
        log._starts = log._end - lengths
        log._rows = np.zeros((max(log._end, 1024), num_envs), log._rows.dtype)
        for k, part in enumerate(np.split(actions, np.cumsum(lengths)[:-1])):
            log._rows[log._starts[k] : log._end, k] = part
        is_reset = log._rows[: log._end] == log._marker
        is_absent = np.arange(log._end)[:, None] < log._starts
        if (is_reset.any(axis=1) & ~(is_reset | is_absent).all(axis=1)).any():
            raise InvalidEnv("the state's actions must reset all environments at once, got a reset of some")
        return log, _checked(state, "crcs", np.uint32, shape, 2**32).copy()

    def replay(self) -> Iterator[Ints | tuple[Ints, NDArray[np.bool_]]]:
        """Iterate over the steps and resets that lead from a reset of all environments to the end of the logs.

        Environments whose log has not begun yet are stepped too, with action 0.

        Yields:
            The actions [N] of a step; or, for a reset, a pair of the seeds [N], −1 for none, and the mask [N] of the
            environments to reset.
        """
        everywhere = np.ones_like(self._starts, np.bool_)
        for row in range(self._end + 1):
            begins = self._starts == row
            if begins.any():
                yield self._seeds(begins), begins
            if row < self._end:
                actions = self._rows[row].astype(np.int64)
                is_reset = (actions == self._marker).any()
                yield (self._seeds(~everywhere), everywhere) if is_reset else actions

    def _seeds(self, mask: NDArray[np.bool_]) -> Ints:
        seeds = np.full(len(mask), -1, np.int64)
        for k in np.flatnonzero(mask):
            seeds[k] = _anchor_seed(int(self._bases[k]), int(self._anchors[k]))
        return seeds

    def _make_room(self) -> None:
        """Drop the rows before the longest log, and double the number of rows if that does not free half of them."""
        first = int(self._starts.min())
        kept = self._rows[first : self._end]
        size = len(self._rows) * (2 if 2 * len(kept) > len(self._rows) else 1)
        self._rows = np.zeros((size, kept.shape[1]), kept.dtype)
        self._rows[: len(kept)] = kept
        self._starts -= first
        self._end -= first


def _anchor_seed(base: int, number: int) -> int:
    """Return the seed of an anchor: the base itself for anchor 0, as without anchors, and 31 mixed bits for others."""
    return base if number == 0 else int(np.random.SeedSequence([base, number]).generate_state(1)[0] >> 1)


def _checked(state: Mapping[str, Any], name: str, dtype: Any, shape: tuple[int] | None, bound: int) -> NDArray[Any]:
    """Return an array of a state, checked to have one axis, the given type and shape, and values in [0, `bound`).

    Args:
        state: Arrays by name.
        name: Name of the array.
        dtype: Type of the array.
        shape: Shape of the array, or None for any length.
        bound: Exclusive upper bound of the values.

    Raises:
        InvalidEnv: If the array is different.
    """
    array = state[name]
    if not isinstance(array, np.ndarray):
        raise InvalidEnv(f"the state's {name} must be an array, got {type(array).__name__}")
    if array.dtype != dtype or array.ndim != 1 or shape not in (None, array.shape):
        found = f"{array.dtype} of shape {array.shape}"
        raise InvalidEnv(f"the state's {name} must be {np.dtype(dtype)} of shape {shape or '(T,)'}, got {found}")
    if array.size and (array.min() < 0 or array.max() >= bound):
        raise InvalidEnv(f"the state's {name} must be in [0, {bound}), got {array.min()} to {array.max()}")
    return array

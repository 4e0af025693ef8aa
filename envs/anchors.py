"""What puts games exactly where they were: each one's last seed and the actions sent since."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelq.envs.errors import InvalidEnv

ANCHOR_EVERY = 10_000
"""An environment with more steps than this since its last anchor gets another one when its episode ends.

An anchor costs an Atari game about 0.1 s, and restoring plays again all steps since.
"""

Ints = NDArray[np.int64]

_SEEDS = 2**31
_NAMES = ("bases", "anchors", "lengths", "actions", "crcs")


class ActionLog:
    """For each of N environments, its anchor and every action since.

    An anchor is a reset with a seed of the environment's own. The anchors of an environment are numbered from 0, and
    base seed and number give the seed, so a log that starts at the last one says all there is to say about the game.
    All environments step at once; therefore logs of different lengths end in the same row.

    Args:
        bases: seed of each environment's anchor 0, integers [N] in [0, 2³¹).
        num_actions: actions are less than this.
    """

    def __init__(self, bases: NDArray[np.integer[Any]], num_actions: int) -> None:
        self._bases = bases.astype(np.int64)
        self._anchors = np.full(len(bases), -1, np.int64)  # the first `renew` makes it 0
        self._marker = num_actions  # in place of an action: all environments were reset without seeds
        self._rows = np.zeros((1024, len(bases)), np.min_scalar_type(num_actions))
        self._starts = np.zeros(len(bases), np.int64)  # the row in which each log starts
        self._end = 0  # the row to be written next

    def append(self, actions: Ints | int) -> None:
        """Writes down a step with `actions` [N]."""
        if self._end == len(self._rows):
            self._make_room()
        self._rows[self._end] = actions
        self._end += 1

    def due(self, done: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which of the environments [N] whose episode is `done` [N] have gone long enough without a new anchor."""
        return done & (self._end - self._starts > ANCHOR_EVERY)

    def renew(self, mask: NDArray[np.bool_]) -> Ints:
        """Empties the logs where `mask` [N] is set, and returns the seeds [N] of their next anchors, −1 for the others.

        Seeds are less than 2³¹: the emulator takes a negative one for none at all.
        """
        self._anchors[mask] += 1
        self._starts[mask] = self._end
        return self._seeds(mask)

    def reset(self, *, anew: bool) -> Ints:
        """Writes down a reset of all environments, and returns the seeds [N] that it needs, −1 for none.

        Args:
            anew: the logs do not say where the environments are, so all get an anchor.
        """
        everywhere = np.ones_like(self._starts, np.bool_)
        if anew:
            return self.renew(everywhere)
        self.append(self._marker)
        return self.renew(self.due(everywhere))

    def get_state(self, crcs: NDArray[np.uint32]) -> dict[str, NDArray[Any]]:
        """The logs as plain arrays, and with them `crcs` [N], by which the caller knows its games again."""
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
        """The logs that wrote `state`, and the crcs [N] in it.

        Raises:
            InvalidEnv: when no log of so many environments and actions can have written it.
        """
        if not isinstance(state, Mapping) or set(state) != set(_NAMES):
            raise InvalidEnv(f"the state of environments must hold the arrays {', '.join(_NAMES)} and nothing else")
        shape = (num_envs,)
        log = cls(_checked(state, "bases", np.int64, shape, _SEEDS), num_actions)
        log._anchors = _checked(state, "anchors", np.int64, shape, _SEEDS).copy()
        actions = _checked(state, "actions", log._rows.dtype, None, num_actions + 1)
        lengths = _checked(state, "lengths", np.int64, shape, len(actions) + 1)
        if lengths.sum() != len(actions):
            raise InvalidEnv(f"the state's lengths sum to {lengths.sum()}, but it has {len(actions)} actions")
        log._end = int(lengths.max())
        log._starts = log._end - lengths
        log._rows = np.zeros((max(log._end, 1024), num_envs), log._rows.dtype)
        for k, part in enumerate(np.split(actions, np.cumsum(lengths)[:-1])):
            log._rows[log._starts[k] : log._end, k] = part
        is_reset = log._rows[: log._end] == log._marker
        is_absent = np.arange(log._end)[:, None] < log._starts
        if (is_reset.any(axis=1) & ~(is_reset | is_absent).all(axis=1)).any():
            raise InvalidEnv("the state's actions reset some environments and not the others")
        return log, _checked(state, "crcs", np.uint32, shape, 2**32).copy()

    def replay(self) -> Iterator[Ints | tuple[Ints, NDArray[np.bool_]]]:
        """What to do after a reset of all environments, to come where the logs end.

        Yields actions [N] of a step, or seeds [N], −1 for none, and mask [N] of a reset. Environments whose log has not
        begun yet are stepped too, with action 0.
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
        """Forgets the rows before the longest log, and doubles the rows if that does not free half of them."""
        first = int(self._starts.min())
        kept = self._rows[first : self._end]
        size = len(self._rows) * (2 if 2 * len(kept) > len(self._rows) else 1)
        self._rows = np.zeros((size, kept.shape[1]), kept.dtype)
        self._rows[: len(kept)] = kept
        self._starts -= first
        self._end -= first


def _anchor_seed(base: int, number: int) -> int:
    """The base itself for anchor 0, so that anchors leave the start of a game as it is; else spread over 31 bits."""
    return base if number == 0 else int(np.random.SeedSequence([base, number]).generate_state(1)[0] >> 1)


def _checked(state: Mapping[str, Any], name: str, dtype: Any, shape: tuple[int] | None, bound: int) -> NDArray[Any]:
    """The array of that name, if it has that type, that shape or one axis, and integers in [0, `bound`)."""
    array = state[name]
    if not isinstance(array, np.ndarray):
        raise InvalidEnv(f"the state's {name} must be an array, not {type(array).__name__}")
    if array.dtype != dtype or array.ndim != 1 or shape not in (None, array.shape):
        found = f"{array.dtype} of shape {array.shape}"
        raise InvalidEnv(f"the state's {name} must be {np.dtype(dtype)} of shape {shape or '(T,)'}, not {found}")
    if array.size and (array.min() < 0 or array.max() >= bound):
        raise InvalidEnv(f"the state's {name} must be in [0, {bound}), not {array.min()} to {array.max()}")
    return array

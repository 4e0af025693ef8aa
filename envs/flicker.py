"""Frames that the player does not get to see."""

import numpy as np
from numpy.typing import NDArray

from pixelq.envs.anchors import Ints
from pixelq.envs.errors import InvalidEnv

DEEPEST_STACK = 16
"""No observation of an Atari game has more frames than this."""

Flags = NDArray[np.bool_]


class Flicker:
    """For each of N environments, which frames of its stack of S are blank.

    Each step's newest frame is blank with the given probability, and stays so while it moves through the stack: the
    flickering games of Hausknecht and Stone 2015, "Deep Recurrent Q-Learning for Partially Observable MDPs".

    The coins are a function of the seed of the environment's last anchor and of the steps and resets since, so whoever
    plays a log of them again (`pixelq.envs.anchors`) sees the same frames.

    Args:
        probability: of a blank frame, in [0, 1).
        num_envs: N.
        frame_stack: S.

    Raises:
        InvalidEnv: when the probability is out of range.
    """

    def __init__(self, probability: float, num_envs: int, frame_stack: int) -> None:
        is_number = isinstance(probability, int | float | np.number) and not isinstance(probability, bool)
        if not is_number or not 0.0 <= probability < 1.0:
            raise InvalidEnv(f"flicker must be a probability in [0, 1), not {probability!r}")
        self.probability = float(probability)
        self._seeds = np.zeros(num_envs, np.int64)
        self._steps = np.zeros(num_envs, np.int64)  # and resets since the anchor
        self._blank = np.zeros((num_envs, frame_stack), np.bool_)

    @property
    def options(self) -> tuple[()] | tuple[int, float]:
        """Depth and probability, to tell states apart; nothing for four steady frames, which old states are of."""
        shown = (self._blank.shape[1], self.probability)
        return () if shown == (4, 0.0) else shown

    def advance(self, observations: NDArray[np.uint8], seeds: Ints, moved: Flags) -> None:
        """Tosses the coins of new frames, and hides what is blank of the observations that they are in.

        Args:
            observations: uint8 [N, S, height, width], changed in place.
            seeds: int64 [N], of those that have a new anchor in it; −1 for the others.
            moved: bool [N], stepped or reset, and therefore with a new frame.
        """
        if not self.probability:
            return
        self._steps[moved] += 1
        is_anchor = seeds >= 0
        self._seeds[is_anchor] = seeds[is_anchor]
        self._steps[is_anchor] = 0
        # After a reset the older places are blank by themselves, so what was blank before it may stay there.
        self._blank[moved, :-1] = self._blank[moved, 1:]
        self._blank[moved, -1] = (uniform(self._seeds, self._steps) < self.probability)[moved]
        self.hide(observations)

    def hide(self, observations: NDArray[np.uint8]) -> None:
        """Blanks frames of the current observations, uint8 [N, S, height, width], in place."""
        if self.probability:
            observations[self._blank] = 0


def uniform(seeds: Ints, steps: Ints) -> NDArray[np.float64]:
    """Numbers in [0, 1), one for each pair of a seed in [0, 2³¹) and a step in [0, 2³²).

    They are outputs of one SplitMix64 generator (Steele et al. 2014), of which each seed has 2³² in a row for its own.
    """
    words = (seeds.astype(np.uint64) << np.uint64(32)) + steps.astype(np.uint64) + np.uint64(1)
    words *= np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53

"""Black frames: Atari observations from which some frames are hidden."""

import numpy as np
from numpy.typing import NDArray

from pixelq.envs.anchors import Ints

DEEPEST_STACK = 16
"""Largest number of frames in an observation of an Atari game."""

Flags = NDArray[np.bool_]


class Flicker:
    """Black frames in the stacks of N environments, S frames each.

    Each step's newest frame is black with the given probability, and stays black while it moves through the stack: the
    flickering games of Hausknecht and Stone 2015, "Deep Recurrent Q-Learning for Partially Observable MDPs".

    Which frames are black is a function of the seed of the environment's last anchor and of the number of steps and
    resets since, so that replaying a log of them (`pixelq.envs.anchors`) shows the same frames again.

    Args:
        probability: Probability of a black frame, in [0, 1); see `Protocol.flicker`.
        num_envs: Number of environments N.
        frame_stack: Number of frames S in an observation.
    """

    def __init__(self, probability: float, num_envs: int, frame_stack: int) -> None:
        self.probability = probability
        self._seeds = np.zeros(num_envs, np.int64)
        self._steps = np.zeros(num_envs, np.int64)  # steps and resets since the anchor
        self._black = np.zeros((num_envs, frame_stack), np.bool_)

    @property
    def options(self) -> tuple[()] | tuple[int, float]:
        """Frame stack and probability, which checksums of states include.

        Empty for four frames without flicker: states saved before the two options existed are of those.
        """
        options = (self._black.shape[1], self.probability)
        return () if options == (4, 0.0) else options

    def advance(self, observations: NDArray[np.uint8], seeds: Ints, moved: Flags) -> None:
        """Draw which of the new frames are black, and hide the black frames of observations.

        Args:
            observations: Observations, uint8 [N, S, height, width], changed in place.
            seeds: Seeds of environments with a new anchor, int64 [N]; −1 for the others.
            moved: Environments that were stepped or reset and therefore have a new frame, bool [N].
        """
        if not self.probability:
            return
        self._steps[moved] += 1
        is_anchor = seeds >= 0
        self._seeds[is_anchor] = seeds[is_anchor]
        self._steps[is_anchor] = 0
        # After a reset the older frames of the stack are black anyway, so their flags need no reset.
        self._black[moved, :-1] = self._black[moved, 1:]
        self._black[moved, -1] = (uniform(self._seeds, self._steps) < self.probability)[moved]
        self.hide(observations)

    def hide(self, observations: NDArray[np.uint8]) -> None:
        """Make the black frames of the current observations black, uint8 [N, S, height, width], in place."""
        if self.probability:
            observations[self._black] = 0


def uniform(seeds: Ints, steps: Ints) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each pair of a seed in [0, 2³¹) and a step in [0, 2³²).

    The numbers are outputs of one SplitMix64 generator (Steele et al. 2014), in which each seed owns 2³² consecutive
    outputs.
    """
    words = (seeds.astype(np.uint64) << np.uint64(32)) + steps.astype(np.uint64) + np.uint64(1)
    words *= np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53

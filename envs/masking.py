"""Environments whose observations are shown only in part."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from pixelq.envs.errors import InvalidEnv


class MaskObservation(gymnasium.ObservationWrapper[NDArray[Any], Any, NDArray[Any]], RecordConstructorArgs):
    """Wrapper that keeps some entries of an observation, in the given order, and hides the others.

    Args:
        env: An environment whose observations are a Box [n].
        indices: Indices of the entries to keep, without repetition; the observation is [len(indices)].

    Raises:
        InvalidEnv: If the observations are not such a Box, or the indices are empty, repeated or out of range.
    """

    def __init__(self, env: gymnasium.Env[NDArray[Any], Any], indices: Sequence[int]) -> None:
        RecordConstructorArgs.__init__(self, indices=indices)
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, Box) or len(space.shape) != 1:
            raise InvalidEnv(f"the observation space must be a Box with one axis, got {space}")
        kept, size = list(indices), space.shape[0]
        is_integer = all(isinstance(k, int | np.integer) and not isinstance(k, bool) for k in kept)
        if not kept or not is_integer or len(set(kept)) < len(kept) or min(kept) < 0 or max(kept) >= size:
            raise InvalidEnv(f"indices must be distinct integers in 0..{size - 1}, at least one, got {kept}")
        self._kept = np.array(kept)
        self.observation_space = Box(space.low[self._kept], space.high[self._kept], dtype=space.dtype.type)

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        """Return the kept entries of an observation [n]."""
        kept: NDArray[Any] = observation[self._kept]
        return kept


gymnasium.register(
    "pixelq/CartPoleWithoutVelocities-v0",
    entry_point="gymnasium.envs.classic_control.cartpole:CartPoleEnv",
    max_episode_steps=500,
    reward_threshold=475.0,
    additional_wrappers=(MaskObservation.wrapper_spec(indices=[0, 2]),),  # cart position, pole angle
)

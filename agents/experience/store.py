"""What the collector writes to: a replay or a rollout."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pixelq.agents.experience.ring import Ring
from pixelq.networks import LSTMState


class Store(Protocol):
    """Rows of the steps of N environments, on the learner's device."""

    ring: Ring
    num_envs: int
    frame_stack: int

    @property
    def time(self) -> int:
        """Number of time steps written so far."""

    @property
    def most_state_bytes(self) -> int:
        """Greatest number of bytes of what `state` returns."""

    def keep_masks(self, num_actions: int) -> None:
        """Be ready for masks of A actions."""

    def observe(self, obs: NDArray[Any], state: LSTMState | None = None, mask: NDArray[np.bool_] | None = None) -> None:
        """Begin a row of each environment with its observation, the LSTM's state before it reads it, and its mask."""

    def latest(self) -> Tensor:
        """Return the observations [N, *observation] of the last `observe`, with stacks rebuilt, on the device."""

    def complete(
        self,
        action: NDArray[Any],
        reward: NDArray[Any],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        life_lost: NDArray[np.bool_] | None = None,
    ) -> None:
        """End the rows that `observe` began with the outcome of the step; see `Replay.complete`."""

    def cut(self, obs: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> None:
        """Note that the environments were reset from outside, after they showed observations [N, *observation]."""

    def abandon(self, envs: NDArray[np.bool_]) -> None:
        """Cut the episodes of some environments, bool [N], off at the observations of the last `observe`.

        No transition starts there, whatever `complete` says.
        """

    def state(self) -> dict[str, Tensor]:
        """Return the state that `load_state` restores; the rows of the ring are not part of it."""

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore a state, after the rows of the ring have been restored.

        Raises:
            ValueError: If it is not the state of such a store.
        """

"""Exploration: random actions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def epsilon_greedy(
    greedy: NDArray[np.int64],
    num_actions: int,
    epsilon: float | NDArray[np.float64],
    rng: np.random.Generator,
    masks: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """Return actions [N]: in each environment by itself a uniformly random one with probability ε ([] or [N]).

    Args:
        greedy: The other actions [N].
        num_actions: Number of actions A.
        epsilon: ε.
        rng: Source of the random numbers, of which as many are drawn for every ε.
        masks: Whether each action is allowed, bool [N, A], at least one in each environment; None allows all.
    """
    explore = rng.random(greedy.shape[0]) < epsilon
    if masks is None:
        return np.where(explore, rng.integers(num_actions, size=greedy.shape[0]), greedy)
    # One number for each environment, whatever is allowed there, so that no environment's actions depend on another's.
    rank = (rng.random(greedy.shape[0]) * masks.sum(1)).astype(np.int64)  # among the allowed actions
    return np.where(explore, (masks.cumsum(1) > rank[:, None]).argmax(1), greedy)

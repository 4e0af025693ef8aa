"""Exploration: random actions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def epsilon_greedy(
    greedy: NDArray[np.int64], num_actions: int, epsilon: float | NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return actions [N]: in each environment by itself a uniformly random one with probability ε ([] or [N])."""
    explore = rng.random(greedy.shape[0]) < epsilon
    return np.where(explore, rng.integers(num_actions, size=greedy.shape[0]), greedy)

"""Exploration: when to act at random."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixelq.agents.config import AgentConfig


def epsilon_at(config: AgentConfig, step: int) -> float:
    """ε at an agent step: its start up to learning_starts, then linear over epsilon_steps, then its end."""
    fraction = min(max((step - config.learning_starts) / config.epsilon_steps, 0.0), 1.0)
    return config.epsilon_start + fraction * (config.epsilon_end - config.epsilon_start)


def epsilon_greedy(
    greedy: NDArray[np.int64], num_actions: int, epsilon: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Actions [N]: each environment tosses its own coin and takes a uniform action with probability ε."""
    explore = rng.random(greedy.shape[0]) < epsilon
    return np.where(explore, rng.integers(num_actions, size=greedy.shape[0]), greedy)

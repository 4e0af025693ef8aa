"""Schedules: exploration, step size and importance weights as functions of the agent step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixelq.agents.config.agent_config import AgentConfig


def linear(step: int, first: int, steps: int, start: float, end: float) -> float:
    """Return a value that is `start` up to the step `first`, then goes linearly to `end` within `steps`."""
    fraction = min(max((step - first) / steps, 0.0), 1.0)
    return start + fraction * (end - start)


def epsilon_at(config: AgentConfig, step: int) -> float:
    """Return ε at an agent step: `epsilon_start` up to `learning_starts`, then a linear decay; 0 from `epsilon_off` on.

    This is the schedule that all environments share; see `epsilons_at` for the ladder.
    """
    if _is_off(config, step):
        return 0.0
    return linear(step, config.learning_starts, config.epsilon_steps, config.epsilon_start, config.epsilon_end)


def epsilon_ladder(num_envs: int) -> NDArray[np.float64]:
    """Return ε of each environment [N], εᵢ = 0.4^(1 + 7 i / (N − 1)) (Horgan et al. 2018, section 4).

    It falls from 0.4 to 0.0007. A single environment has the middle one, 0.016.
    """
    place = np.linspace(0.0, 1.0, num_envs) if num_envs > 1 else np.array([0.5])
    ladder: NDArray[np.float64] = 0.4 ** (1 + 7 * place)
    return ladder


def epsilons_at(config: AgentConfig, step: int, num_envs: int) -> NDArray[np.float64]:
    """Return ε of each environment [N] at an agent step."""
    if config.epsilon_ladder and not _is_off(config, step):
        return epsilon_ladder(num_envs)
    return np.full(num_envs, epsilon_at(config, step))


def _is_off(config: AgentConfig, step: int) -> bool:
    return config.epsilon_off is not None and step >= config.epsilon_off


def learning_rate_at(config: AgentConfig, step: int) -> float:
    """Return the optimiser's step size at an agent step."""
    if config.learning_rate_steps is None:
        return config.learning_rate
    first, steps = config.learning_starts, config.learning_rate_steps
    return linear(step, first, steps, config.learning_rate, config.learning_rate_end)


def priority_beta_at(config: AgentConfig, step: int) -> float:
    """Return the exponent of the importance weights at an agent step."""
    if config.priority_beta_steps is None:
        return config.priority_beta
    first, steps = config.learning_starts, config.priority_beta_steps
    return linear(step, first, steps, config.priority_beta, config.priority_beta_end)


def crossed(every: int, before: int, after: int) -> bool:
    """Return whether a multiple of `every` lies in (before, after]."""
    return after // every > before // every

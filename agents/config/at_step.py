"""Settings of an agent at a step of its learning: exploration, step size, importance weights, returns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixelq.agents.config.agent_config import AgentConfig


def linear(step: int, first: int, steps: int, start: float, end: float) -> float:
    """Return a value that is `start` up to the step `first`, then goes linearly to `end` within `steps`.

    The schedule `Linear` ends exactly at `end`. This may miss it by rounding, as it always has: old runs go on exactly.
    """
    fraction = min(max((step - first) / steps, 0.0), 1.0)
    return start + fraction * (end - start)


def epsilon_at(config: AgentConfig, step: int) -> float:
    """Return ε at an agent step: `epsilon`, or a linear decay from `learning_starts` on; 0 from `epsilon_off` on.

    This is the schedule that all environments share; see `epsilons_at` for the ladder.
    """
    if _is_off(config, step):
        return 0.0
    if config.epsilon is not None:
        return config.value_at("epsilon", step)
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
    start = config.value_at("learning_rate", step)
    if config.learning_rate_steps is None:
        return start
    return linear(step, config.learning_starts, config.learning_rate_steps, start, config.learning_rate_end)


def priority_beta_at(config: AgentConfig, step: int) -> float:
    """Return the exponent of the importance weights at an agent step."""
    start = config.value_at("priority_beta", step)
    if config.priority_beta_steps is None:
        return start
    return linear(step, config.learning_starts, config.priority_beta_steps, start, config.priority_beta_end)


def gamma_at(config: AgentConfig, step: int) -> float:
    """Return the discount of one step at an agent step."""
    return config.value_at("gamma", step)


def n_step_at(config: AgentConfig, step: int) -> int:
    """Return the steps of a return at an agent step; a schedule's value is rounded to the nearest integer."""
    return round(config.value_at("n_step", step))


def longest_return(config: AgentConfig) -> int:
    """Return the most steps that a return ever has."""
    return config.greatest("n_step")


def epochs_at(config: AgentConfig, step: int) -> int:
    """Return the epochs in which a rollout that ends at an agent step is learned from, rounded as in `n_step_at`."""
    return round(config.value_at("epochs", step))


def past_rollouts_at(config: AgentConfig, step: int) -> int:
    """Return the earlier rollouts that are drawn for each of these epochs, rounded as in `n_step_at`."""
    return round(config.value_at("past_rollouts", step))


def minibatches_at(config: AgentConfig, step: int) -> int:
    """Return the minibatches that are learned from after a rollout that ends at an agent step, in all epochs.

    Early in a training there are fewer, as long as there are fewer earlier rollouts than `past_rollouts`.
    """
    return config.minibatches * epochs_at(config, step) * (1 + past_rollouts_at(config, step))


def has_scheduled_returns(config: AgentConfig) -> bool:
    """Return whether the discount or the steps of the returns change."""
    return callable(config.gamma) or callable(config.n_step)

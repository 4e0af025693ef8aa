"""N-step returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.config.at_step import gamma_at, has_scheduled_returns, longest_return, n_step_at


def n_step_return(
    reward: Tensor, terminated: Tensor, truncated: Tensor, gamma: float | Tensor, n_step: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return discounted sums of up to n rewards that stop at an episode's end (Sutton & Barto 2018, eq. 7.1).

    Column k of each argument belongs to the k-th step after the start. Let m be the number of steps up to the first
    end of an episode, or n if there is none. The target is `return + discount · value(observation after m steps)`.

    Args:
        reward: Rewards, float32 [B, n].
        terminated: Whether the step ended the episode, bool [B, n]; the discount is then 0.
        truncated: Whether the step cut the episode off, bool [B, n]; the sum then stops and bootstraps.
        gamma: Discount of one step, a number or float32 [].
        n_step: Number of steps, int64 [], if it is less than there are columns; the others are left out.

    Returns:
        The returns float32 [B], the discounts γᵐ·(1 − terminated) float32 [B], and m int64 [B].
    """
    n = reward.shape[1]
    if n == 1 and n_step is None:  # the same numbers in a fifth of the time
        steps = torch.ones_like(reward[:, 0], dtype=torch.int64)
        discount = (~terminated[:, 0]).to(reward.dtype) * gamma
        return reward[:, 0] + 0.0, discount, steps  # −0.0 becomes 0.0, as in a sum
    ended = (terminated | truncated).cumsum(1)  # [B, n]
    alive = torch.ones_like(reward)
    alive[:, 1:] = (ended[:, :-1] == 0).to(reward.dtype)  # the step belongs to the episode of the start
    if n_step is not None:
        alive *= torch.arange(n, device=reward.device) < n_step
    powers = gamma ** torch.arange(n + 1, device=reward.device, dtype=reward.dtype)
    steps = alive.sum(1).long()  # [B]
    stopped = (terminated & (alive > 0)).any(1)
    return (reward * alive * powers[:-1]).sum(1), powers[steps] * (~stopped), steps


@dataclass(frozen=True)
class Returns:
    """Settings of an n-step return."""

    n_step: int
    """Steps of the return; if they change, the most."""
    gamma: float | Tensor
    """Discount of one step, γ; if it or n changes, a tensor [] that is written in place."""
    reward_clip: float | None
    """Limit to which rewards are clipped on either side; None for raw rewards."""
    current_n: Tensor | None = None
    """Steps of the return now, int64 [], written in place, if they or γ change: a captured update reads both there."""

    def of(self, reward: Tensor, terminated: Tensor, truncated: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `n_step_return` does, from raw rewards [B, n]."""
        if self.reward_clip is not None:
            reward = reward.clamp(-self.reward_clip, self.reward_clip)
        return n_step_return(reward, terminated, truncated, self.gamma, self.current_n)

    def set(self, n_step: int, gamma: float) -> None:
        """Set n and γ of returns that change.

        Raises:
            ValueError: If these do not change, or n is greater than the most.
        """
        if self.current_n is None or not isinstance(self.gamma, Tensor) or n_step > self.n_step:
            raise ValueError(f"returns of {self.n_step} steps cannot be changed to {n_step} steps")
        self.current_n.fill_(n_step)
        self.gamma.fill_(gamma)


def returns_of(config: AgentConfig, device: torch.device) -> Returns:
    """Return the settings of the returns that a configuration describes; see `Returns.set` for those that change."""
    if not has_scheduled_returns(config):
        return Returns(n_step_at(config, 0), gamma_at(config, 0), config.reward_clip)
    n_step, gamma = torch.zeros((), dtype=torch.int64, device=device), torch.zeros((), device=device)
    returns = Returns(longest_return(config), gamma, config.reward_clip, n_step)
    returns.set(n_step_at(config, 0), gamma_at(config, 0))
    return returns


def lambda_returns(
    reward: Tensor, terminated: Tensor, truncated: Tensor, next_value: Tensor, gamma: float, td_lambda: float
) -> Tensor:
    """Return Peng's λ-returns [T, N] of N sequences of T rows, where λ = 0 is a one-step target (Peng & Williams 1996).

    G[t] = r[t] + γ ((1 − λ) v[t] + λ G[t + 1]), with the value v[t] of the observation after the step. After a
    truncation, and at the last row, v[t] stands for the bracket; after a termination, 0. So a truncated episode
    bootstraps from its last observation. The programs of PQN's authors (Gallici et al. 2025) and of CleanRL instead
    count a truncation as a termination.

    The row after an end, in which no step is taken, has no return that means anything, and none reads it.

    Args:
        reward: float [T, N].
        terminated: Whether the return ends with the step, bool [T, N].
        truncated: Whether the step cut the episode off, bool [T, N].
        next_value: Value of the observation after the step, [T, N].
        gamma: Discount of one step.
        td_lambda: λ.
    """
    returns = torch.empty_like(reward)
    later = next_value[-1]  # so that the last row bootstraps
    for t in range(len(reward) - 1, -1, -1):
        future = torch.where(truncated[t], next_value[t], torch.lerp(next_value[t], later, td_lambda))
        returns[t] = later = reward[t] + gamma * torch.where(terminated[t], 0.0, future)
    return returns

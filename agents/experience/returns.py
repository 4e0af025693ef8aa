"""N-step returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def n_step_return(reward: Tensor, terminated: Tensor, truncated: Tensor, gamma: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return discounted sums of up to n rewards that stop at an episode's end (Sutton & Barto 2018, eq. 7.1).

    Column k of each argument belongs to the k-th step after the start. Let m be the number of steps up to the first
    end of an episode, or n if there is none. The target is `return + discount · value(observation after m steps)`.

    Args:
        reward: Rewards, float32 [B, n].
        terminated: Whether the step ended the episode, bool [B, n]; the discount is then 0.
        truncated: Whether the step cut the episode off, bool [B, n]; the sum then stops and bootstraps.
        gamma: Discount of one step.

    Returns:
        The returns float32 [B], the discounts γᵐ·(1 − terminated) float32 [B], and m int64 [B].
    """
    n = reward.shape[1]
    ended = (terminated | truncated).cumsum(1)  # [B, n]
    alive = torch.ones_like(reward)
    alive[:, 1:] = (ended[:, :-1] == 0).to(reward.dtype)  # the step belongs to the episode of the start
    powers = gamma ** torch.arange(n + 1, device=reward.device, dtype=reward.dtype)
    steps = alive.sum(1).long()  # [B]
    stopped = (terminated & (alive > 0)).any(1)
    return (reward * alive * powers[:-1]).sum(1), powers[steps] * (~stopped), steps


@dataclass(frozen=True)
class Returns:
    """Settings of an n-step return."""

    n_step: int
    """Steps of the return."""
    gamma: float
    """Discount of one step, γ."""
    reward_clip: float | None
    """Limit to which rewards are clipped on either side; None for raw rewards."""

    def of(self, reward: Tensor, terminated: Tensor, truncated: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `n_step_return` does, from raw rewards [B, n]."""
        if self.reward_clip is not None:
            reward = reward.clamp(-self.reward_clip, self.reward_clip)
        return n_step_return(reward, terminated, truncated, self.gamma)


def lambda_returns(
    reward: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    is_step: Tensor,
    next_value: Tensor,
    gamma: float,
    td_lambda: float,
) -> Tensor:
    """Return Peng's λ-returns [T, N] of N sequences of T rows, where λ = 0 is a one-step target (Peng & Williams 1996).

    G[t] = r[t] + γ ((1 − λ) v[t] + λ G[t + 1]), with the value v[t] of the observation after the step. At the last row,
    and where the next row has no step, v[t] stands for the bracket; after a termination, 0. So a truncated episode
    bootstraps from its last observation. The programs of PQN's authors (Gallici et al. 2025) and of CleanRL instead
    count a truncation as a termination.

    Args:
        reward: float [T, N].
        terminated: Whether the return ends with the step, bool [T, N].
        truncated: Whether the step cut the episode off, bool [T, N].
        is_step: Whether a step was taken in the row, bool [T, N]; the returns of other rows mean nothing.
        next_value: Value of the observation after the step, [T, N].
        gamma: Discount of one step.
        td_lambda: λ.
    """
    returns = torch.empty_like(reward)
    goes_on = torch.zeros_like(truncated[0])  # whether the return of the row after is one of the same episode
    later = next_value[-1]
    for t in range(len(reward) - 1, -1, -1):
        value = next_value[t]
        future = torch.where(goes_on & ~truncated[t], torch.lerp(value, later, td_lambda), value)
        returns[t] = later = reward[t] + gamma * torch.where(terminated[t], 0.0, future)
        goes_on = is_step[t]
    return returns

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

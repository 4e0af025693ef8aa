"""Returns: pure functions from rewards to what an update learns from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def n_step_return(reward: Tensor, terminated: Tensor, truncated: Tensor, gamma: float) -> tuple[Tensor, Tensor, Tensor]:
    """Discounted sum of up to n rewards that stops at an episode's end (Sutton & Barto 2018, eq. 7.1).

    Column k of each argument belongs to the step k after the start. With m the number of steps taken, that is n or
    up to and with the first end, the target is ``return + discount · value(observation m steps on)``.

    Args:
        reward: float32 [B, n].
        terminated: bool [B, n], nothing follows: the discount is 0.
        truncated: bool [B, n], the episode was cut: the sum stops and bootstraps.
        gamma: discount of one step.

    Returns:
        return float32 [B], discount γᵐ·(1 − terminated) float32 [B], m int64 [B].
    """
    n = reward.shape[1]
    ended = (terminated | truncated).cumsum(1)  # [B, n]
    alive = torch.ones_like(reward)
    alive[:, 1:] = (ended[:, :-1] == 0).to(reward.dtype)  # the step is still in the start's episode
    powers = gamma ** torch.arange(n + 1, device=reward.device, dtype=reward.dtype)
    steps = alive.sum(1).long()  # [B]
    stopped = (terminated & (alive > 0)).any(1)
    return (reward * alive * powers[:-1]).sum(1), powers[steps] * (~stopped), steps


@dataclass(frozen=True)
class Returns:
    """How rewards are summed."""

    n_step: int
    """Steps of the return."""
    gamma: float
    """Discount of one step."""
    reward_clip: float | None
    """Rewards are clipped to ± this; None for raw."""

    def of(self, reward: Tensor, terminated: Tensor, truncated: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``n_step_return`` of raw rewards [B, n]."""
        if self.reward_clip is not None:
            reward = reward.clamp(-self.reward_clip, self.reward_clip)
        return n_step_return(reward, terminated, truncated, self.gamma)

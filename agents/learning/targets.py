"""Target rules: which policy is followed after the next observation, and what it adds to the reward."""

from __future__ import annotations

import torch
from torch import Tensor


def greedy_policy(q: Tensor) -> Tensor:
    """Return the one-hot policy [B, A] of the best action of q [B, A].

    Of the target network's q this is DQN's max (Mnih et al. 2015); of the online network's, Double DQN's selection
    (van Hasselt et al. 2016, eq. 4).
    """
    return torch.zeros_like(q).scatter_(1, q.argmax(1, keepdim=True), 1.0)


def soft_policy(q: Tensor, temperature: float) -> Tensor:
    """Return the softmax policy [B, A] of q [B, A], π = softmax(q / τ) (Vieillard et al. 2020, section 3)."""
    return (q / temperature).softmax(1)


def munchausen_reward(
    reward: Tensor,
    discount: Tensor,
    action: Tensor,
    q: Tensor,
    next_q: Tensor,
    *,
    alpha: float,
    temperature: float,
    clip: float,
    next_mask: Tensor | None = None,
) -> Tensor:
    """Return r + α [τ log π(a|s)] − γ Σ π(a'|s') τ log π(a'|s') over a', [B], the bracket clipped to [l₀, 0].

    With `soft_policy` as the next policy, this turns any head's target into that of Munchausen DQN (Vieillard et al.
    2020, eq. 2).

    With n > 1 the bonus is that of the first action alone, the entropy that of the last state, and `reward` the sum of
    n rewards, as Beyond The Rainbow combines them (Clark et al. 2025).

    Args:
        reward: [B], summed over n steps where n > 1.
        discount: [B], γⁿ·(1 − terminated).
        action: int64 [B], the first action.
        q: [B, A], values of the target network at the first state.
        next_q: [B, A], values of the target network n steps later.
        alpha: Scale of the bonus.
        temperature: Temperature τ of the policy.
        clip: l₀ ≤ 0, the least value of τ log π before scaling.
        next_mask: Whether each action is allowed n steps later, bool [B, A]; where it is not, `next_q` is −∞. None
            allows all.
    """
    log_policy = temperature * (q / temperature).log_softmax(1)  # τ log π
    bonus = alpha * log_policy.gather(1, action[:, None])[:, 0].clamp(clip, 0.0)
    next_log_policy = (next_q / temperature).log_softmax(1)
    if next_mask is not None:
        next_log_policy = next_log_policy.masked_fill(~next_mask, 0.0)  # of probability 0, and 0 · ∞ would be NaN
    entropy = -(next_log_policy.exp() * next_log_policy).sum(1)  # [B]
    return reward + bonus + discount * temperature * entropy

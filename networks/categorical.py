"""The categorical head, C51: a distribution over a fixed support."""

import torch
from torch import Tensor, nn

from pixelq.networks.heads import HeadLoss, Target, of_action
from pixelq.networks.streams import ActionStreams, Noise


def categorical_projection(probabilities: Tensor, target_support: Tensor, support: Tensor) -> Tensor:
    """Project a distribution onto another, evenly spaced support: [B, K'] to [B, K].

    Each probability is shared between the two atoms on either side of it, in proportion to its nearness to each.
    Probability beyond the ends of the support goes to the end atoms (Bellemare et al. 2017, equation 7).

    Args:
        probabilities: [B, K'].
        target_support: [B, K'] returns that the probabilities belong to.
        support: [K] atoms, evenly spaced and rising, K ≥ 2.
    """
    spacing = (support[-1] - support[0]) / (support.shape[0] - 1)
    inside = target_support.clamp(support[0], support[-1])
    nearness = 1 - (inside.unsqueeze(-2) - support.unsqueeze(-1)).abs() / spacing  # [B, K, K']
    return (nearness.clamp(min=0) * probabilities.unsqueeze(-2)).sum(-1)


class CategoricalHead(nn.Module):
    """A probability for each of K returns, for each action: features [B, D] to logits [B, A, K].

    Bellemare, Dabney & Munos (2017), "A Distributional Perspective on Reinforcement Learning", Algorithm 1.

    Args:
        streams: The dense layers, with K outputs for each action.
        v_min, v_max: Ends of the support, in units of the (clipped) return.

    Raises:
        ValueError: If there are fewer than two atoms, or `v_min` is not below `v_max`.
    """

    support: Tensor

    def __init__(self, streams: ActionStreams, v_min: float = -10.0, v_max: float = 10.0) -> None:
        super().__init__()
        if streams.outputs < 2:
            raise ValueError(f"streams must have at least 2 outputs, one for each atom, got {streams.outputs}")
        if not v_min < v_max:
            raise ValueError(f"v_min must be below v_max, got {v_min} and {v_max}")
        self.streams = streams
        self.register_buffer("support", torch.linspace(v_min, v_max, streams.outputs), persistent=False)

    def forward(self, features: Tensor, noise: Noise | None = None) -> Tensor:
        """Map features [B, D] to logits [B, A, K]."""
        logits: Tensor = self.streams(features, noise)
        return logits

    def q(self, value: Tensor) -> Tensor:
        """Return the means [B, A] of the distributions of logits [B, A, K]."""
        return (value.softmax(-1) * self.support).sum(-1)

    def loss(self, value: Tensor, target: Target, generator: torch.Generator | None = None) -> HeadLoss:
        """Return the cross-entropy [B] to the projected target distribution, which is the priority too.

        The target distribution mixes those of the next actions by `next_policy`. The priority is Rainbow's (Hessel et
        al. 2018); they write the Kullback-Leibler divergence, which differs by the target's entropy. See
        `ValueHead.loss`.
        """
        target.check_shapes(self.streams.num_actions)
        action, reward, discount, next_logits, next_policy, _ = target
        with torch.no_grad():
            next_probabilities = (next_policy.unsqueeze(-1) * next_logits.softmax(-1)).sum(-2)  # [B, K]
            target_support = reward.unsqueeze(-1) + discount.unsqueeze(-1) * self.support  # [B, K]
            target_probabilities = categorical_projection(next_probabilities, target_support, self.support)
        log_probabilities = of_action(value, action).log_softmax(-1)  # [B, K]
        loss = -(target_probabilities * log_probabilities).sum(-1)
        return HeadLoss(loss, loss.detach(), (log_probabilities.detach().exp() * self.support).sum(-1))

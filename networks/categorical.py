"""The categorical head, C51: a distribution over a fixed support."""

import torch
from torch import Tensor, nn

from pixelq.networks.heads import HeadLoss, check_shapes
from pixelq.networks.streams import ActionStreams, Noise


def categorical_projection(probabilities: Tensor, target_support: Tensor, support: Tensor) -> Tensor:
    """Project a distribution on one support onto another, evenly spaced one: [B, K'] to [B, K].

    Each probability is shared between the two atoms beside it, in proportion to its nearness to each; what lies
    beyond the ends goes to the ends (Bellemare et al. 2017, equation 7).

    Args:
        probabilities: [B, K'].
        target_support: [B, K'], where they lie.
        support: [K], evenly spaced and rising, K ≥ 2.
    """
    spacing = (support[-1] - support[0]) / (support.shape[0] - 1)
    inside = target_support.clamp(support[0], support[-1])
    nearness = 1 - (inside.unsqueeze(-2) - support.unsqueeze(-1)).abs() / spacing  # [B, K, K']
    return (nearness.clamp(min=0) * probabilities.unsqueeze(-2)).sum(-1)


class CategoricalHead(nn.Module):
    """A probability for each of K returns, for each action: features [B, D] to logits [B, A, K].

    Bellemare, Dabney & Munos (2017), "A Distributional Perspective on Reinforcement Learning", Algorithm 1.

    Args:
        streams: the dense layers, with K outputs for each action.
        v_min, v_max: ends of the support, in units of the (clipped) return.

    Raises:
        ValueError: fewer than two atoms, or v_min not below v_max.
    """

    support: Tensor

    def __init__(self, streams: ActionStreams, v_min: float = -10.0, v_max: float = 10.0) -> None:
        super().__init__()
        if streams.outputs < 2 or not v_min < v_max:
            raise ValueError(
                f"A support needs two atoms or more and v_min < v_max, but there are {streams.outputs} atoms on "
                f"[{v_min}, {v_max}]."
            )
        self.streams = streams
        self.register_buffer("support", torch.linspace(v_min, v_max, streams.outputs), persistent=False)

    def forward(self, features: Tensor, noise: Noise | None = None) -> Tensor:
        """Map features [B, D] to logits [B, A, K]."""
        logits: Tensor = self.streams(features, noise)
        return logits

    def q(self, value: Tensor) -> Tensor:
        """Return the means [B, A] of the distributions of logits [B, A, K]."""
        return (value.softmax(-1) * self.support).sum(-1)

    def loss(
        self,
        value: Tensor,
        action: Tensor,
        reward: Tensor,
        discount: Tensor,
        next_value: Tensor,
        next_policy: Tensor,
        generator: torch.Generator | None = None,
    ) -> HeadLoss:
        """Return the cross-entropy [B] to the projected target distribution; it is the priority too.

        The target mixes the next actions' distributions by `next_policy`. The priority is Rainbow's (Hessel et al.
        2018), who write the Kullback-Leibler divergence, which differs by the target's entropy; see `ValueHead.loss`.
        """
        check_shapes(value.shape[-2], action, reward, discount, next_policy)
        with torch.no_grad():
            next_probabilities = (next_policy.unsqueeze(-1) * next_value.softmax(-1)).sum(-2)  # [B, K]
            target_support = reward.unsqueeze(-1) + discount.unsqueeze(-1) * self.support  # [B, K]
            target = categorical_projection(next_probabilities, target_support, self.support)
        index = action[..., None, None].expand(*action.shape, 1, value.shape[-1])
        log_probabilities = value.gather(-2, index).squeeze(-2).log_softmax(-1)  # [B, K]
        loss = -(target * log_probabilities).sum(-1)
        return HeadLoss(loss, loss.detach(), (log_probabilities.detach().exp() * self.support).sum(-1))

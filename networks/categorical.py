"""The categorical head, C51: a distribution over a fixed support."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from pixelq.networks.heads import HeadLoss, Target, of_action
from pixelq.networks.streams import ActionStreams, Noise

CategoricalLoss = Literal["projection", "hl_gauss"]


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


def hl_gauss_target(target: Tensor, edges: Tensor, sigma: float) -> Tensor:
    """Return the probabilities [B, K] of K bins under normal distributions around targets [B].

    Each distribution is cut off at the outer edges, inside which the targets are clamped. This is HL-Gauss's target
    (Farebrother et al. 2024, "Stop Regressing", section 3.1).

    Args:
        target: [B].
        edges: [K + 1] of the bins, rising.
        sigma: Standard deviation of the distributions.
    """
    inside = target.clamp(edges[0], edges[-1])
    cumulative = torch.erf((edges - inside.unsqueeze(-1)) / (math.sqrt(2) * sigma))  # [B, K + 1], 2Φ − 1
    return cumulative.diff(dim=-1) / (cumulative[..., -1:] - cumulative[..., :1])


class CategoricalHead(nn.Module):
    """A probability for each of K returns, for each action: features [B, D] to logits [B, A, K].

    Bellemare, Dabney & Munos (2017), "A Distributional Perspective on Reinforcement Learning", Algorithm 1, whose
    target is a distribution; or HL-Gauss (Farebrother et al. 2024, "Stop Regressing"), whose target is a number that is
    smeared over the bins around it.

    Args:
        streams: The dense layers, with K outputs for each action.
        v_min, v_max: Ends of the support, in units of the (clipped) return.
        loss: "projection", with K atoms from `v_min` to `v_max`; or "hl_gauss", with K bins, whose centres are the
            support.
        sigma: Standard deviation that a target of "hl_gauss" is smeared with, in widths of a bin.

    Raises:
        ValueError: If there are fewer than two atoms, `v_min` is not below `v_max`, `loss` is unknown, or
            `sigma` is not positive.
    """

    support: Tensor
    edges: Tensor

    def __init__(
        self,
        streams: ActionStreams,
        v_min: float = -10.0,
        v_max: float = 10.0,
        *,
        loss: CategoricalLoss = "projection",
        sigma: float = 0.75,
    ) -> None:
        super().__init__()
        if loss not in get_args(CategoricalLoss):
            raise ValueError(f"loss must be one of {', '.join(get_args(CategoricalLoss))}, got {loss!r}")
        if streams.outputs < 2:
            raise ValueError(f"streams must have at least 2 outputs, one for each atom, got {streams.outputs}")
        if not v_min < v_max:
            raise ValueError(f"v_min must be below v_max, got {v_min} and {v_max}")
        if not 0 < sigma < math.inf:
            raise ValueError(f"sigma must be a positive number, got {sigma}")
        self.streams, self.loss_kind = streams, loss
        edges = torch.linspace(v_min, v_max, streams.outputs + 1)
        is_hl_gauss = loss == "hl_gauss"
        support = (edges[1:] + edges[:-1]) / 2 if is_hl_gauss else torch.linspace(v_min, v_max, streams.outputs)
        self.sigma = sigma * (v_max - v_min) / streams.outputs
        self.register_buffer("support", support, persistent=False)  # [K]
        self.register_buffer("edges", edges, persistent=False)  # [K + 1], of the bins of HL-Gauss

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
        al. 2018); they write the Kullback-Leibler divergence, which differs by the target's entropy. With HL-Gauss the
        target is that of the expected value of the next actions. See `ValueHead.loss`.
        """
        target.check_shapes(self.streams.num_actions)
        action, reward, discount, next_logits, next_policy, _ = target
        if self.loss_kind == "hl_gauss":
            with torch.no_grad():
                target_return = reward + discount * (next_policy * self.q(next_logits)).sum(-1)
            return self.loss_to(value, action, target_return)
        with torch.no_grad():
            next_probabilities = (next_policy.unsqueeze(-1) * next_logits.softmax(-1)).sum(-2)  # [B, K]
            target_support = reward.unsqueeze(-1) + discount.unsqueeze(-1) * self.support  # [B, K]
            target_probabilities = categorical_projection(next_probabilities, target_support, self.support)
        return self._cross_entropy(value, action, target_probabilities)

    def loss_to(self, value: Tensor, action: Tensor, target: Tensor) -> HeadLoss:
        """Return the cross-entropy [B] to a return [B]: smeared by HL-Gauss, else shared by the atoms on either side.

        See `ScalarTargetHead.loss_to`.
        """
        with torch.no_grad():
            if self.loss_kind == "hl_gauss":
                probabilities = hl_gauss_target(target, self.edges, self.sigma)
            else:
                certain = target.unsqueeze(-1)  # [B, 1], a single return of probability 1
                probabilities = categorical_projection(torch.ones_like(certain), certain, self.support)
        return self._cross_entropy(value, action, probabilities)

    def _cross_entropy(self, value: Tensor, action: Tensor, target_probabilities: Tensor) -> HeadLoss:
        log_probabilities = of_action(value, action).log_softmax(-1)  # [B, K]
        loss = -(target_probabilities * log_probabilities).sum(-1)
        return HeadLoss(loss, loss.detach(), (log_probabilities.detach().exp() * self.support).sum(-1))

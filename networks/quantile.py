"""The quantile head, QR-DQN, and the quantile loss that it shares with the implicit heads."""

import math

import torch
from torch import Tensor, nn

from pixelq.networks.heads import HeadLoss, Target, huber, of_action
from pixelq.networks.streams import ActionStreams, Noise


def midpoints(count: int, device: torch.device | None = None) -> Tensor:
    """Return τ̂ᵢ = (2i − 1) / 2N for i = 1 … N, [N] (Dabney et al. 2018a, lemma 2)."""
    return (torch.arange(count, device=device) + 0.5) / count


def quantile_huber_loss(quantiles: Tensor, tau: Tensor, target: Tensor, kappa: float = 1.0) -> Tensor:
    """Return Σᵢ 1/M Σⱼ |τᵢ − 1{uᵢⱼ < 0}| L_κ(uᵢⱼ) / κ with uᵢⱼ = targetⱼ − quantileᵢ, [B].

    Dabney et al. (2018a), equation 10, and (2018b), equation 3; κ = 0 is the plain quantile loss.

    Args:
        quantiles: [B, N], with the gradient.
        tau: [B, N] or [N] fractions of the quantiles.
        target: [B, M] samples of the target's distribution, all of the same weight; without gradient.
        kappa: Threshold of the Huber loss.
    """
    error = target.detach().unsqueeze(-2) - quantiles.unsqueeze(-1)  # [B, N, M]
    distance = error.abs() if kappa == 0 else huber(error, kappa) / kappa
    weight = (tau.unsqueeze(-1) - (error.detach() < 0).to(error.dtype)).abs()
    return (weight * distance).mean(-1).sum(-1)


def check_kappa(kappa: float) -> None:
    """Check that the threshold of a quantile Huber loss is one.

    Raises:
        ValueError: If it is negative or not finite.
    """
    if not 0 <= kappa < math.inf:
        raise ValueError(f"kappa must be a finite number of at least 0, got {kappa}")


def absolute_error(quantiles: Tensor, target: Tensor) -> Tensor:
    """Return Σᵢ 1/M Σⱼ |targetⱼ − quantileᵢ|, [B] without gradient, for quantiles [B, N] and a target [B, M]."""
    return (target.unsqueeze(-2) - quantiles.detach().unsqueeze(-1)).abs().mean(-1).sum(-1)


def target_quantiles(target: Target, next_quantiles: Tensor) -> Tensor:
    """Return r + γ Σ_a π(a|s') z'(s', a), quantile by quantile: [B, M] without gradient.

    For a one-hot policy this is the distribution of the chosen action; for a softmax it is the target of
    Munchausen-IQN (Vieillard et al. 2020, appendix B.1), which averages quantiles and not distributions.

    Args:
        target: Reward, discount and next policy; its `next_value` is not read.
        next_quantiles: [B, A, M] quantiles z' of the next state.
    """
    expected = (target.next_policy.unsqueeze(-1) * next_quantiles).sum(-2)  # [B, M]
    return (target.reward.unsqueeze(-1) + target.discount.unsqueeze(-1) * expected).detach()


class QuantileHead(nn.Module):
    """N quantiles of the return for each action, at fixed fractions: features [B, D] to [B, A, N].

    Dabney et al. (2018a), "Distributional Reinforcement Learning with Quantile Regression", Algorithm 1.

    Args:
        streams: The dense layers, with N outputs for each action; their fractions are the midpoints of N equal parts.
        kappa: Threshold of the quantile Huber loss; 0 for the plain quantile loss.

    Raises:
        ValueError: If `kappa` is negative or not finite.
    """

    tau: Tensor

    def __init__(self, streams: ActionStreams, kappa: float = 1.0) -> None:
        super().__init__()
        check_kappa(kappa)
        self.streams, self.kappa = streams, kappa
        self.register_buffer("tau", midpoints(streams.outputs), persistent=False)  # [N]

    def forward(self, features: Tensor, noise: Noise | None = None) -> Tensor:
        """Map features [B, D] to quantiles [B, A, N]."""
        quantiles: Tensor = self.streams(features, noise)
        return quantiles

    def q(self, value: Tensor) -> Tensor:
        """Return the means [B, A] of quantiles [B, A, N]."""
        return value.mean(-1)

    def loss(self, value: Tensor, target: Target, generator: torch.Generator | None = None) -> HeadLoss:
        """Return the quantile Huber loss [B], summed over N, which is the priority too; see `ValueHead.loss`."""
        target.check_shapes(self.streams.num_actions)
        quantiles = of_action(value, target.action)  # [B, N]
        loss = quantile_huber_loss(quantiles, self.tau, target_quantiles(target, target.next_value), self.kappa)
        return HeadLoss(loss, loss.detach(), quantiles.detach().mean(-1))

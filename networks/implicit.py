"""The implicit heads, IQN and FQF: the quantile function itself, asked at whatever fractions."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pixelq.networks.base import Init, initialize
from pixelq.networks.heads import HeadLoss, check_outputs, check_shapes
from pixelq.networks.quantile import absolute_error, midpoints, of_action, quantile_huber_loss, target_quantiles
from pixelq.networks.streams import ActionStreams, Noise


class CosineEmbedding(nn.Module):
    """φ(τ) = ReLU(linear(cos πiτ)) with i = 1 … C (Dabney et al. 2018b, equation 4).

    The paper counts from 0, whose cosine is constant as the bias is; Dopamine's program and others count from 1.

    Args:
        features: D, width of the features that the embedding multiplies.
        cosines: C.
        init: see `pixelq.networks.base.initialize`.

    Raises:
        ValueError: there is no cosine.
    """

    order: Tensor

    def __init__(self, features: int, cosines: int = 64, init: Init = "torch") -> None:
        super().__init__()
        if cosines < 1:
            raise ValueError(f"cosines must be at least 1, but it is {cosines}.")
        self.register_buffer("order", torch.pi * torch.arange(1, cosines + 1), persistent=False)  # [C]
        self.linear = nn.Linear(cosines, features)
        initialize(self, init)

    def forward(self, tau: Tensor) -> Tensor:
        """Map fractions [B, N] to their embeddings [B, N, D]."""
        return torch.relu(self.linear(torch.cos(tau.unsqueeze(-1) * self.order)))


class QuantileFunction(NamedTuple):
    """The return's quantile function at B states: what an implicit head makes of their features."""

    streams: ActionStreams
    embedding: CosineEmbedding
    features: Tensor  # [B, D]
    noise: Noise | None

    def at(self, tau: Tensor) -> Tensor:
        """Return the quantiles [B, A, N] at fractions [B, N], or [1, N], the same for all."""
        together = self.features.unsqueeze(-2) * self.embedding(tau)  # [B, N, D]
        quantiles: Tensor = self.streams(together, self.noise).squeeze(-1)  # [B, N, A]
        return quantiles.mT


class ImplicitHead(nn.Module):
    """Implicit quantile networks: a fraction τ goes in, the return's τ-quantile of each action comes out.

    Dabney et al. (2018b), "Implicit Quantile Networks for Distributional Reinforcement Learning". The greedy policy
    (below their equation 3) takes K midpoints in place of K draws: the same mean with less variance, and a policy that
    is a function of the observation.

    Args:
        streams: the dense layers, with one output for each action.
        samples: N, fractions drawn for the online network's quantiles in the loss.
        target_samples: N', fractions drawn for the target's.
        policy_samples: K, fractions of a q-value.
        cosines: width of the fraction's embedding.
        kappa: threshold of the quantile Huber loss; 0 for the plain quantile loss.

    Raises:
        ValueError: a number of fractions or cosines is not positive, or the streams have several outputs.
    """

    def __init__(
        self,
        streams: ActionStreams,
        *,
        samples: int = 64,
        target_samples: int = 64,
        policy_samples: int = 32,
        cosines: int = 64,
        kappa: float = 1.0,
    ) -> None:
        super().__init__()
        check_outputs(streams, 1)
        if min(samples, target_samples, policy_samples) < 1:
            raise ValueError(
                "samples, target_samples and policy_samples must be at least 1, but they are "
                f"{samples}, {target_samples} and {policy_samples}."
            )
        self.samples, self.target_samples, self.policy_samples = samples, target_samples, policy_samples
        self.kappa = kappa
        self.streams = streams
        self.embedding = CosineEmbedding(streams.in_features, cosines, streams.init)

    def forward(self, features: Tensor, noise: Noise | None = None) -> QuantileFunction:
        """Return the quantile function at features [B, D]; nothing is computed until it is asked."""
        return QuantileFunction(self.streams, self.embedding, features, noise)

    def q(self, value: QuantileFunction) -> Tensor:
        """Return the means [B, A] of the quantiles at K midpoints."""
        return value.at(midpoints(self.policy_samples, value.features.device).unsqueeze(0)).mean(-1)

    def loss(
        self,
        value: QuantileFunction,
        action: Tensor,
        reward: Tensor,
        discount: Tensor,
        next_value: QuantileFunction,
        next_policy: Tensor,
        generator: torch.Generator | None = None,
    ) -> HeadLoss:
        """Return the quantile Huber loss [B], summed over N and averaged over N', and |δ| likewise as priority.

        See `ValueHead.loss`; the fractions are drawn anew for each row from `generator`. The priority is that of Beyond
        The Rainbow (Clark et al. 2025).
        """
        check_shapes(self.streams.num_actions, action, reward, discount, next_policy)
        device = value.features.device
        tau = torch.rand(*action.shape, self.samples, device=device, generator=generator)
        next_tau = torch.rand(*action.shape, self.target_samples, device=device, generator=generator)
        with torch.no_grad():
            target = target_quantiles(reward, discount, next_value.at(next_tau), next_policy)  # [B, N']
        quantiles = of_action(value.at(tau), action)  # [B, N]
        loss = quantile_huber_loss(quantiles, tau, target, self.kappa)
        return HeadLoss(loss, absolute_error(quantiles, target), quantiles.detach().mean(-1))


class Fractions(NamedTuple):
    """Fractions that are proposed for B states."""

    tau: Tensor  # [B, N + 1], from 0 to 1
    middle: Tensor  # [B, N], τ̂ between each and the next
    entropy: Tensor  # [B], of the steps between them


class ProposedQuantileFunction(NamedTuple):
    """A quantile function and the fractions at which FQF asks it."""

    function: QuantileFunction
    fractions: Fractions


class FractionHead(nn.Module):
    """Fully parameterised quantile function: IQN's network, asked at fractions that are learned too.

    Yang et al. (2019), "Fully Parameterized Quantile Function for Distributional Reinforcement Learning", Algorithm 1.
    The fractions follow the gradient of the 1-Wasserstein distance (proposition 1) and not that of the quantile loss;
    their parameters are `proposal`'s, for an optimiser of their own.

    Args:
        streams: the dense layers, with one output for each action.
        fractions: N.
        entropy: coefficient of the fractions' entropy in their loss.
        cosines, kappa: see `ImplicitHead`.

    Raises:
        ValueError: a number of fractions or cosines is not positive, or the streams have several outputs.
    """

    def __init__(
        self,
        streams: ActionStreams,
        *,
        fractions: int = 32,
        entropy: float = 0.0,
        cosines: int = 64,
        kappa: float = 1.0,
    ) -> None:
        super().__init__()
        check_outputs(streams, 1)
        if fractions < 1:
            raise ValueError(f"fractions must be at least 1, but it is {fractions}.")
        self.entropy, self.kappa = entropy, kappa
        self.streams = streams
        self.embedding = CosineEmbedding(streams.in_features, cosines, streams.init)
        self.proposal = nn.Linear(streams.in_features, fractions)
        nn.init.xavier_uniform_(self.proposal.weight, gain=0.01)  # nearly even fractions at first
        nn.init.zeros_(self.proposal.bias)

    def forward(self, features: Tensor, noise: Noise | None = None) -> ProposedQuantileFunction:
        """Return the quantile function at features [B, D] and its fractions; the encoder learns nothing from these."""
        log_steps = self.proposal(features.detach()).float().log_softmax(-1)  # [B, N]
        steps = log_steps.exp()
        tau = torch.cat([torch.zeros_like(steps[..., :1]), steps.cumsum(-1)], -1)
        middle = (tau[..., :-1] + tau[..., 1:]) / 2
        fractions = Fractions(tau, middle, -(steps * log_steps).sum(-1))
        return ProposedQuantileFunction(QuantileFunction(self.streams, self.embedding, features, noise), fractions)

    def q(self, value: ProposedQuantileFunction) -> Tensor:
        """Return Σᵢ (τᵢ₊₁ − τᵢ) F⁻¹(τ̂ᵢ), [B, A] (Yang et al. 2019, equation 8); no gradient reaches the fractions."""
        tau, middle, _ = (part.detach() for part in value.fractions)
        return (value.function.at(middle) * tau.diff(dim=-1).unsqueeze(-2)).sum(-1)

    def loss(
        self,
        value: ProposedQuantileFunction,
        action: Tensor,
        reward: Tensor,
        discount: Tensor,
        next_value: ProposedQuantileFunction,
        next_policy: Tensor,
        generator: torch.Generator | None = None,
    ) -> HeadLoss:
        """Return the quantile Huber loss [B], with the fractions' gradient beside its own, and |δ| as priority.

        Online and target quantiles are taken at the same τ̂, those of the state (Algorithm 1). The fractions' loss has
        a gradient and the value 0, as no number measures it. See `ValueHead.loss`.
        """
        check_shapes(self.streams.num_actions, action, reward, discount, next_policy)
        tau, middle, entropy = value.fractions
        middle = middle.detach()
        quantiles = of_action(value.function.at(middle), action)  # [B, N]
        with torch.no_grad():
            target = target_quantiles(reward, discount, next_value.function.at(middle), next_policy)
            between = of_action(value.function.at(tau.detach()[..., 1:-1]), action)  # [B, N − 1], F⁻¹(τᵢ)
            gradient = 2 * between - quantiles[..., 1:] - quantiles[..., :-1]  # ∂W₁/∂τᵢ
        loss = quantile_huber_loss(quantiles, middle, target, self.kappa)
        fraction_loss = (gradient * tau[..., 1:-1]).sum(-1) - self.entropy * entropy
        q = (quantiles.detach() * tau.detach().diff(dim=-1)).sum(-1)
        return HeadLoss(loss + fraction_loss - fraction_loss.detach(), absolute_error(quantiles, target), q)

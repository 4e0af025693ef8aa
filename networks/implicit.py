"""The implicit heads, IQN and FQF: the quantile function itself, evaluated at any fractions."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pixelq.networks.activations import Activation, activation_of
from pixelq.networks.base import Init, initialize
from pixelq.networks.heads import HeadLoss, Target, check_outputs, of_action
from pixelq.networks.quantile import absolute_error, check_kappa, midpoints, quantile_huber_loss, target_quantiles
from pixelq.networks.streams import ActionStreams, Noise


class CosineEmbedding(nn.Module):
    """φ(τ) = activation(linear(cos πiτ)) with i = 1 … C (Dabney et al. 2018b, equation 4, where it is ReLU).

    The paper counts from 0, whose cosine is constant as the bias is; Dopamine's program and others count from 1.

    Args:
        features: D, width of the features that the embedding multiplies.
        cosines: C.
        init: See `pixelq.networks.base.initialize`.
        activation: See `ActionStreams`.

    Raises:
        ValueError: If `cosines` is below 1.
    """

    order: Tensor

    def __init__(self, features: int, cosines: int = 64, init: Init = "torch", activation: Activation = "relu") -> None:
        super().__init__()
        if cosines < 1:
            raise ValueError(f"cosines must be at least 1, got {cosines}")
        self.register_buffer("order", torch.pi * torch.arange(1, cosines + 1), persistent=False)  # [C]
        self.linear = nn.Linear(cosines, features)
        self.activation = activation_of(activation)
        initialize(self, init)

    def forward(self, tau: Tensor) -> Tensor:
        """Map fractions [B, N] to their embeddings [B, N, D]."""
        embedding: Tensor = self.activation(self.linear(torch.cos(tau.unsqueeze(-1) * self.order)))
        return embedding


class QuantileFunction(NamedTuple):
    """The return's quantile function at B states, which an implicit head makes of their features.

    Attributes:
        streams: The head's dense layers.
        embedding: The head's embedding of fractions.
        features: [B, D], those of the states.
        noise: Noise of the dense layers; None for none.
    """

    streams: ActionStreams
    embedding: CosineEmbedding
    features: Tensor
    noise: Noise | None

    def at(self, tau: Tensor) -> Tensor:
        """Return the quantiles [B, A, N] at fractions [B, N], or at [1, N], which all states share."""
        together = self.features.unsqueeze(-2) * self.embedding(tau)  # [B, N, D]
        quantiles: Tensor = self.streams(together, self.noise).squeeze(-1)  # [B, N, A]
        return quantiles.mT


class ImplicitHead(nn.Module):
    """Implicit quantile networks: map a fraction τ to the τ-quantile of each action's return.

    Dabney et al. (2018b), "Implicit Quantile Networks for Distributional Reinforcement Learning". The greedy policy
    (below their equation 3) takes K midpoints in place of K draws: the same mean with less variance, and a policy that
    is a function of the observation.

    Args:
        streams: The dense layers, with one output for each action.
        samples: N, number of fractions drawn for the online network's quantiles in the loss.
        target_samples: N', number of fractions drawn for the target's.
        policy_samples: K, number of fractions of a q-value.
        cosines: Number of cosines in the embedding of a fraction.
        kappa: Threshold of the quantile Huber loss; 0 for the plain quantile loss.

    Raises:
        ValueError: If a number of fractions or cosines is below 1, `kappa` is negative or not finite, or the streams do
            not have one output.
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
        check_kappa(kappa)
        if min(samples, target_samples, policy_samples) < 1:
            raise ValueError(
                "samples, target_samples and policy_samples must be at least 1, got "
                f"{samples}, {target_samples} and {policy_samples}"
            )
        self.samples, self.target_samples, self.policy_samples = samples, target_samples, policy_samples
        self.kappa = kappa
        self.streams = streams
        self.embedding = CosineEmbedding(streams.in_features, cosines, streams.init, streams.activation)

    def forward(self, features: Tensor, noise: Noise | None = None) -> QuantileFunction:
        """Return the quantile function at features [B, D]; nothing is computed before its `at` is called."""
        return QuantileFunction(self.streams, self.embedding, features, noise)

    def q(self, value: QuantileFunction) -> Tensor:
        """Return the means [B, A] of the quantiles at K midpoints."""
        return value.at(midpoints(self.policy_samples, value.features.device).unsqueeze(0)).mean(-1)

    def loss(self, value: QuantileFunction, target: Target, generator: torch.Generator | None = None) -> HeadLoss:
        """Return the quantile Huber loss [B], summed over N and averaged over N', and |δ| likewise as priority.

        Each row has its own fractions, drawn from `generator`. The priority is that of Beyond The Rainbow (Clark et
        al. 2025). See `ValueHead.loss`.
        """
        target.check_shapes(self.streams.num_actions)
        rows, device = target.action.shape, value.features.device
        tau = torch.rand(*rows, self.samples, device=device, generator=generator)
        next_tau = torch.rand(*rows, self.target_samples, device=device, generator=generator)
        with torch.no_grad():
            targets = target_quantiles(target, target.next_value.at(next_tau))  # [B, N']
        quantiles = of_action(value.at(tau), target.action)  # [B, N]
        loss = quantile_huber_loss(quantiles, tau, targets, self.kappa)
        return HeadLoss(loss, absolute_error(quantiles, targets), quantiles.detach().mean(-1))


class Fractions(NamedTuple):
    """Fractions proposed for B states."""

    tau: Tensor  # [B, N + 1], from 0 to 1
    middle: Tensor  # [B, N], τ̂ halfway between neighbours
    entropy: Tensor  # [B], of the steps between neighbours


class ProposedQuantileFunction(NamedTuple):
    """A quantile function and the fractions at which FQF evaluates it."""

    function: QuantileFunction
    fractions: Fractions


class FractionHead(nn.Module):
    """Fully parameterised quantile function: IQN's network, evaluated at fractions that are learned too.

    Yang et al. (2019), "Fully Parameterized Quantile Function for Distributional Reinforcement Learning", Algorithm 1.
    The fractions follow the gradient of the 1-Wasserstein distance (proposition 1) and not that of the quantile loss;
    their parameters are `proposal`'s, which need a separate optimiser.

    Args:
        streams: The dense layers, with one output for each action.
        fractions: N.
        entropy: Coefficient of the fractions' entropy in their loss.
        cosines, kappa: See `ImplicitHead`.

    Raises:
        ValueError: If the number of fractions or cosines is below 1, `kappa` is negative or not finite, or the streams
            do not have one output.
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
        check_kappa(kappa)
        if fractions < 1:
            raise ValueError(f"fractions must be at least 1, got {fractions}")
        self.entropy, self.kappa = entropy, kappa
        self.streams = streams
        self.embedding = CosineEmbedding(streams.in_features, cosines, streams.init, streams.activation)
        self.proposal = nn.Linear(streams.in_features, fractions)
        nn.init.xavier_uniform_(self.proposal.weight, gain=0.01)  # nearly even fractions at first
        nn.init.zeros_(self.proposal.bias)

    def forward(self, features: Tensor, noise: Noise | None = None) -> ProposedQuantileFunction:
        """Return the quantile function at features [B, D] and its fractions, which pass the encoder no gradient."""
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
        self, value: ProposedQuantileFunction, target: Target, generator: torch.Generator | None = None
    ) -> HeadLoss:
        """Return the quantile Huber loss [B], to which the fractions' gradient is added, and |δ| as priority.

        Online and target quantiles are taken at the same τ̂, those of the state (Algorithm 1). The fractions' loss
        contributes its gradient only: it is defined by that gradient, so it is shifted to have the value 0. See
        `ValueHead.loss`.
        """
        target.check_shapes(self.streams.num_actions)
        # Quantiles of the online and the target network
        tau, middle, entropy = value.fractions
        middle = middle.detach()
        quantiles = of_action(value.function.at(middle), target.action)  # [B, N]
        with torch.no_grad():
            targets = target_quantiles(target, target.next_value.function.at(middle))  # [B, N]
            between = of_action(value.function.at(tau.detach()[..., 1:-1]), target.action)  # [B, N − 1], F⁻¹(τᵢ)
            gradient = 2 * between - quantiles[..., 1:] - quantiles[..., :-1]  # ∂W₁/∂τᵢ
        # Losses of the quantiles and of the fractions
        loss = quantile_huber_loss(quantiles, middle, targets, self.kappa)
        fraction_loss = (gradient * tau[..., 1:-1]).sum(-1) - self.entropy * entropy
        q = (quantiles.detach() * tau.detach().diff(dim=-1)).sum(-1)
        return HeadLoss(loss + fraction_loss - fraction_loss.detach(), absolute_error(quantiles, targets), q)

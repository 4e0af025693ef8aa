"""The dense layers of every value head: a hidden layer and outputs, in one stream or dueling, noisy or not."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pixelq.networks.activations import Activation, activation_function
from pixelq.networks.base import Init, initialize, initialize_output
from pixelq.networks.noisy import LayerNoise, NoisyLinear
from pixelq.networks.norms import LayerNorm, check_layer_norm, vector_norm


class StreamNoise(NamedTuple):
    """Noise of one stream's layers.

    Attributes:
        hidden: Noise of the hidden layer; None without one.
        out: Noise of the layer of outputs.
    """

    hidden: LayerNoise | None
    out: LayerNoise


class Noise(NamedTuple):
    """Noise of one forward pass of a head.

    Attributes:
        advantage: Noise of the advantages' stream, or without dueling of the only one.
        state_value: Noise of the state value's stream; None without dueling.
    """

    advantage: StreamNoise
    state_value: StreamNoise | None


class Stream(nn.Module):
    """Layers linear → (norm) → activation → linear, [..., D] to [..., out]; only the last without a hidden layer."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden: int | None,
        noisy_sigma: float | None,
        layer_norm: LayerNorm,
        activation: Activation,
    ) -> None:
        super().__init__()
        self.hidden = _linear(in_features, hidden, noisy_sigma) if hidden else None
        norm = vector_norm(hidden, layer_norm) if hidden else []
        self.norm = norm[0] if norm else None
        self.activation = activation_function(activation)
        self.out = _linear(hidden or in_features, out_features, noisy_sigma)

    def forward(self, x: Tensor, noise: StreamNoise | None = None) -> Tensor:
        """Map features [B, ..., D] to [B, ..., out]."""
        if self.hidden is not None:
            x = _apply(self.hidden, x, noise and noise.hidden)
            x = self.activation(x if self.norm is None else self.norm(x))
        # bfloat16 has eight significant bits, and would round values by more than they differ between actions. This
        # layer is small.
        if torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return _apply(self.out, x.to(self.out.weight.dtype), noise and noise.out)
        return _apply(self.out, x.to(self.out.weight.dtype), noise and noise.out)

    def draw_noise(self, rows: int, generator: torch.Generator | None) -> StreamNoise | None:
        """Draw noise for `rows` rows, or return None if the layers are not noisy."""
        if not isinstance(self.out, NoisyLinear):
            return None
        hidden = self.hidden.draw_noise(rows, generator) if isinstance(self.hidden, NoisyLinear) else None
        return StreamNoise(hidden, self.out.draw_noise(rows, generator))


class ActionStreams(nn.Module):
    """Dense layers of a head, with `outputs` numbers for each action: features [..., D] to [..., A, outputs].

    Args:
        in_features: D.
        num_actions: A.
        outputs: Number of outputs for each action: 1 for a mean, the number of atoms or quantiles for a distribution.
        hidden: Width of the hidden layer; 0 or None leaves it out.
        dueling: Whether to split into two streams, each with its own hidden layer, V + A − mean over actions of A
            (Wang et al. 2016, equation 9; without their scaling of the gradient into the encoder). For a
            distribution each output is combined separately, before any softmax (Hessel et al. 2018, "Rainbow").
        noisy_sigma: σ₀ of noisy layers (Fortunato et al. 2018); None for plain layers.
        layer_norm: Whether to normalise before the hidden activation (Ba et al. 2016), and how; see `vector_norm`.
        activation: "relu", or "gelu" in the form with tanh.
        init: See `pixelq.networks.base.initialize`; noisy layers have their own initialisation.

    Raises:
        ValueError: If a width is too small, `noisy_sigma` is negative or not finite, or `layer_norm`, `activation` or
            `init` is unknown.
    """

    def __init__(
        self,
        in_features: int,
        num_actions: int,
        outputs: int = 1,
        *,
        hidden: int | None = 512,
        dueling: bool = False,
        noisy_sigma: float | None = None,
        layer_norm: LayerNorm = False,
        activation: Activation = "relu",
        init: Init = "torch",
    ) -> None:
        super().__init__()
        if min(in_features, num_actions, outputs) < 1 or (hidden or 0) < 0:
            raise ValueError(
                "in_features, num_actions and outputs must be at least 1 and hidden at least 0, got "
                f"{in_features}, {num_actions}, {outputs} and {hidden}"
            )
        if noisy_sigma is not None and not 0 <= noisy_sigma < math.inf:
            raise ValueError(f"noisy_sigma must be None or a finite number of at least 0, got {noisy_sigma}")
        check_layer_norm(layer_norm)
        self.in_features, self.num_actions, self.outputs = in_features, num_actions, outputs
        self.init, self.activation = init, activation  # for the layers that a head adds
        # Without dueling, the advantages are the values themselves.
        layers = (hidden, noisy_sigma, layer_norm, activation)
        self.advantage = Stream(in_features, num_actions * outputs, *layers)
        self.state_value = Stream(in_features, outputs, *layers) if dueling else None
        initialize(self, init)
        for stream in (self.advantage, self.state_value):
            if stream is not None:
                initialize_output(stream.out, init)

    def forward(self, features: Tensor, noise: Noise | None = None) -> Tensor:
        """Map features [B, ..., D] to [B, ..., A, outputs]; noise of B rows has one row for each row of the batch."""
        advantage = self.advantage(features, noise and noise.advantage)
        advantage = advantage.unflatten(-1, (self.num_actions, self.outputs))  # [..., A, K]
        if self.state_value is None:
            return advantage  # type: ignore[no-any-return]
        state_value = self.state_value(features, noise and noise.state_value).unsqueeze(-2)  # [..., 1, K]
        return state_value + advantage - advantage.mean(-2, keepdim=True)  # type: ignore[no-any-return]

    def draw_noise(self, rows: int, generator: torch.Generator | None = None) -> Noise | None:
        """Draw noise for one forward pass, or return None if the layers are not noisy.

        Args:
            rows: 1 for noise that the whole batch shares, or the batch size for different noise in each row.
            generator: Source of random numbers; None for PyTorch's global generator.
        """
        advantage = self.advantage.draw_noise(rows, generator)
        if advantage is None:
            return None
        return Noise(advantage, self.state_value.draw_noise(rows, generator) if self.state_value else None)


def _linear(in_features: int, out_features: int, noisy_sigma: float | None) -> nn.Linear | NoisyLinear:
    """Return a plain linear layer, or a noisy one if `noisy_sigma` is given."""
    if noisy_sigma is None:
        return nn.Linear(in_features, out_features)
    return NoisyLinear(in_features, out_features, noisy_sigma)


def _apply(layer: nn.Linear | NoisyLinear, x: Tensor, noise: LayerNoise | None) -> Tensor:
    """Apply a layer, with its noise if it is a noisy one."""
    out: Tensor = layer(x, noise) if isinstance(layer, NoisyLinear) else layer(x)
    return out

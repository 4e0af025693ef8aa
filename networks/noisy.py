"""Noisy linear layers (Fortunato et al. 2018). Their noise is an argument, so a forward pass has no hidden state."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNoise(NamedTuple):
    """Factorised noise of one layer; R is 1 if the whole batch shares it, or B for different noise in each row.

    Attributes:
        input: [R, in].
        output: [R, out].
    """

    input: Tensor
    output: Tensor


class NoisyLinear(nn.Module):
    """Linear layer y = (μ_w + σ_w ⊙ ε_w) x + μ_b + σ_b ⊙ ε_b with ε_w = ε_out ε_inᵀ, of rank one, and ε_b = ε_out.

    Fortunato et al. (2018), "Noisy Networks for Exploration", equations 9 to 11, and section 3.2 for the initial
    values: μ uniform in ±1/√in, σ = `sigma` / √in.

    Args:
        in_features, out_features: Widths.
        sigma: σ₀ of the paper, where it is 0.5.

    Raises:
        ValueError: If a width is below 1, or `sigma` is negative or not finite.
    """

    def __init__(self, in_features: int, out_features: int, sigma: float = 0.5) -> None:
        super().__init__()
        if min(in_features, out_features) < 1:
            raise ValueError(f"in_features and out_features must be at least 1, got {in_features} and {out_features}")
        if not 0 <= sigma < math.inf:
            raise ValueError(f"sigma must be a finite number of at least 0, got {sigma}")
        self.in_features, self.out_features = in_features, out_features
        bound = 1 / math.sqrt(in_features)
        self.weight = nn.Parameter(torch.empty(out_features, in_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out_features).uniform_(-bound, bound))
        self.weight_sigma = nn.Parameter(torch.full((out_features, in_features), sigma * bound))
        self.bias_sigma = nn.Parameter(torch.full((out_features,), sigma * bound))

    def forward(self, x: Tensor, noise: LayerNoise | None = None) -> Tensor:
        """Map [B, ..., in] to [B, ..., out]; without noise by the means μ alone, as the greedy policy does."""
        if noise is None:
            return F.linear(x, self.weight, self.bias)
        if len(noise.input) == 1:  # shared noise: one weight, and one product for all rows
            weight = torch.addcmul(self.weight, self.weight_sigma, noise.output.mT * noise.input)
            return F.linear(x, weight, torch.addcmul(self.bias, self.bias_sigma, noise.output[0]))
        # No matrix ε_out ε_inᵀ is needed for each row: (σ ⊙ ε_out ε_inᵀ) x = ε_out ⊙ σ (ε_in ⊙ x).
        between = (1,) * (x.dim() - 2)
        noise_in = noise.input.view(-1, *between, self.in_features)
        noise_out = noise.output.view(-1, *between, self.out_features)
        noisy = F.linear(x * noise_in, self.weight_sigma, self.bias_sigma) * noise_out
        return F.linear(x, self.weight, self.bias) + noisy

    def draw_noise(self, rows: int, generator: torch.Generator | None = None) -> LayerNoise:
        """Draw noise f(ε) with f(x) = sign(x) √|x| and standard normal ε: [rows, in] and [rows, out]."""
        drawn = torch.randn(rows, self.in_features + self.out_features, device=self.weight.device, generator=generator)
        scaled = drawn.sign() * drawn.abs().sqrt()
        return LayerNoise(scaled[:, : self.in_features], scaled[:, self.in_features :])

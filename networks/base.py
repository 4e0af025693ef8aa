"""What every encoder shares: its one attribute, pixel scaling and weight initialisation."""

from typing import Literal

import torch
from torch import Tensor, nn

Init = Literal["torch", "xavier"]


class Encoder(nn.Module):
    """Anything that maps observations [B, *shape] to features [B, out_features]; it holds no behaviour of its own."""

    out_features: int


def pixels_to_float(pixels: Tensor) -> Tensor:
    """Scale uint8 pixels to float32 in [0, 1]; values of any other type stay as they are, cast to float32."""
    # True division of uint8 yields float32 in one kernel; the type is static, so this branch does not break a graph.
    return pixels / 255 if pixels.dtype == torch.uint8 else pixels.float()


def initialize(module: nn.Module, init: Init) -> None:
    """Initialise the linear and convolutional layers of `module` in place.

    Args:
        module: the layers of any depth.
        init: "torch" keeps PyTorch's default, weights and biases uniform in ±1/√fan_in, which was Torch7's and so
            that of Mnih et al. (2015). "xavier" draws weights uniformly in ±√(6 / (fan_in + fan_out)) and sets
            biases to zero (Glorot & Bengio 2010, equation 16), as Dopamine does (Castro et al. 2018).

    Raises:
        ValueError: `init` is neither of the two.
    """
    if init not in ("torch", "xavier"):
        raise ValueError(f"Unknown init {init!r}: it is 'torch' or 'xavier'.")
    if init == "torch":
        return
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

"""Fully connected encoder for vector observations."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from pixelq.networks.base import Encoder, Init, initialize, pixels_to_float, vector_relu
from pixelq.networks.norms import LayerNorm


class MLP(Encoder):
    """Linear layers, each followed by layer normalisation, if asked for, and a ReLU.

    Input [B, *shape] of any type, flattened and cast to float32, uint8 divided by 255; output [B, out_features].

    Args:
        in_features: Number of values in one observation.
        hidden: Width of each layer; the last is `out_features`. With no layers the features are the flattened
            observation.
        init: See `pixelq.networks.base.initialize`.
        layer_norm: Whether to normalise before each ReLU (Ba et al. 2016).

    Raises:
        ValueError: If a width is below 1, or `init` or `layer_norm` is unknown.
    """

    def __init__(
        self, in_features: int, hidden: Sequence[int] = (512,), *, init: Init = "torch", layer_norm: LayerNorm = False
    ) -> None:
        super().__init__()
        widths = [in_features, *hidden]
        if min(widths) < 1:
            raise ValueError(f"in_features and hidden must be at least 1, got {in_features} and {widths[1:]}")
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), *vector_relu(fan_out, layer_norm)]
        self.layers = nn.Sequential(*layers)
        self.out_features = widths[-1]
        initialize(self, init)

    def forward(self, x: Tensor) -> Tensor:
        """Encode observations [B, *shape] as features [B, out_features]."""
        x = pixels_to_float(x)
        features: Tensor = self.layers(x.reshape(x.shape[0], -1))  # `len` would be a constant in an exported network
        return features

"""Fully connected encoder for vector observations."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from pixelq.networks.base import Encoder, Init, initialize, pixels_to_float, vector_relu


class MLP(Encoder):
    """Linear layers, each followed by a ReLU, with layer normalisation between the two if asked for.

    Input [B, *shape] of any type, flattened and cast to float32 (not scaled); output [B, out_features].

    Args:
        in_features: the number of values in one observation.
        hidden: the width of each layer; the last is `out_features`. Empty: the flattened observation itself.
        init: see `pixelq.networks.base.initialize`.
        layer_norm: normalise before each ReLU (Ba et al. 2016).

    Raises:
        ValueError: a width is not positive, or `init` is unknown.
    """

    def __init__(
        self, in_features: int, hidden: Sequence[int] = (512,), *, init: Init = "torch", layer_norm: bool = False
    ) -> None:
        super().__init__()
        widths = [in_features, *hidden]
        if min(widths) < 1:
            raise ValueError(f"Every width of an MLP must be at least 1, but they are {widths}.")
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), *vector_relu(fan_out, layer_norm)]
        self.layers = nn.Sequential(*layers)
        self.out_features = widths[-1]
        initialize(self, init)

    def forward(self, x: Tensor) -> Tensor:
        """Encode observations [B, *shape] as features [B, out_features]."""
        features: Tensor = self.layers(pixels_to_float(x).reshape(len(x), -1))
        return features

"""The Hadamax encoder: products of two convolutions, and max-pooling (Kooi et al. 2025)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pixelq.networks.activations import activation_of
from pixelq.networks.base import Encoder, initialize, pixels_to_float
from pixelq.networks.cnn import check_features, image_shape, same_padding
from pixelq.networks.norms import image_norm, vector_norm


class HadamaxBlock(NamedTuple):
    """Sizes of a block: its two convolutions, which have stride 1, and its max-pooling."""

    filters: int
    kernel: int
    pool: int
    pool_stride: int


SHALLOW = (HadamaxBlock(32, 8, 4, 4), HadamaxBlock(64, 4, 2, 2), HadamaxBlock(64, 3, 3, 1))
"""The blocks of the authors' encoder; all pad as JAX's SAME."""
DEEP = (
    HadamaxBlock(32, 3, 2, 2),
    HadamaxBlock(48, 3, 2, 2),
    HadamaxBlock(64, 3, 3, 1),
    HadamaxBlock(64, 3, 2, 2),
    HadamaxBlock(64, 3, 3, 1),
)
"""The blocks of the deeper variant; its convolutions have no bias, and its pooling does not pad."""


class _Hadamard(nn.Module):
    """Element-wise product of two convolutions, each normalised over its channels and passed through GELU."""

    def __init__(self, channels: int, block: HadamaxBlock, bias: bool) -> None:
        super().__init__()
        before, after = same_padding(block.kernel, block.kernel, 1)  # the same for images of any size
        self.pad = nn.ZeroPad2d((before, after, before, after))
        self.left, self.right = (
            nn.Sequential(
                nn.Conv2d(channels, block.filters, block.kernel, bias=bias),
                *image_norm(block.filters, "channels"),
                activation_of("gelu"),
            )
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, filters, H, W]."""
        x = self.pad(x)
        product: Tensor = self.left(x) * self.right(x)
        return product


class HadamaxCNN(Encoder):
    """The encoder of Kooi et al. (2025), "Hadamax Encoding", and a deeper variant.

    Each block multiplies two parallel convolutions, each normalised over its channels and passed through GELU, element
    by element, and max-pools the product. Convolutions are initialised Xavier-normal, the dense layer He-normal. Input
    [B, C, H, W], output [B, out_features]; 84×84 images flatten to 64·11·11 = 7,744 features, or 64·7·7 = 3,136 of the
    deeper variant.

    Args:
        input_shape: [C, H, W] of one observation.
        features: Width of the dense layer that ends the encoder; None leaves it out.
        deep: Whether to use the deeper variant's five blocks.

    Raises:
        ValueError: If `input_shape` is not an image's, or below 32×32 for the deeper variant.
    """

    def __init__(
        self, input_shape: Sequence[int] = (4, 84, 84), features: int | None = 512, *, deep: bool = False
    ) -> None:
        super().__init__()
        channels, height, width = image_shape(input_shape, "HadamaxCNN", smallest=32 if deep else 1)
        layers: list[nn.Module] = []
        for block in DEEP if deep else SHALLOW:
            layers.append(_Hadamard(channels, block, bias=not deep))
            pool, stride = block.pool, block.pool_stride
            if not deep:
                top_bottom, left_right = (same_padding(size, pool, stride) for size in (height, width))
                if any((*top_bottom, *left_right)):
                    layers.append(nn.ConstantPad2d((*left_right, *top_bottom), -torch.inf))  # no maximum
                height, width = height + sum(top_bottom), width + sum(left_right)
            layers.append(nn.MaxPool2d(pool, stride))
            channels, height, width = block.filters, (height - pool) // stride + 1, (width - pool) // stride + 1
        self.blocks = nn.Sequential(*layers)
        initialize(self.blocks, "xavier_normal")
        flat = channels * height * width
        self.dense, self.out_features = nn.Sequential(), flat
        if features is not None:
            check_features(features)
            self.dense = nn.Sequential(
                nn.Linear(flat, features), *vector_norm(features, "channels"), activation_of("gelu")
            )
            initialize(self.dense, "he")
            self.out_features = features

    def forward(self, x: Tensor) -> Tensor:
        """Encode images [B, C, H, W] as features [B, out_features]."""
        maps = self.blocks(pixels_to_float(x))  # [B, 64, H', W']
        features: Tensor = self.dense(maps.flatten(1))
        return features

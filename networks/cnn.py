"""Convolutional encoders: Nature DQN's, data-efficient Rainbow's, a compact one, IMPALA's and MinAtar's.

All take images [B, C, H, W], scale uint8 by 1/255 and cast other types to float32 without scaling. With
`features=None` the dense layer is left out and the features are the flattened convolution: a value head has its own
hidden layer, since dueling streams, noisy layers and IQN each need it there. With `layer_norm` layer normalisation
precedes every ReLU, including that of the dense layer; see `pixelq.networks.norms.image_norm`.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor, nn

from pixelq.networks.base import (
    Encoder,
    Init,
    image_relu,
    initialize,
    pixels_to_float,
    vector_relu,
    with_spectral_norm,
)
from pixelq.networks.norms import LayerNorm

Padding = Literal["valid", "same"]


def image_shape(shape: Sequence[int], network: str, smallest: int = 1) -> tuple[int, int, int]:
    """Return channels, height and width of an image shape, both sides of which must be at least `smallest`."""
    if len(shape) != 3:
        raise ValueError(f"input_shape of {network} must be [channels, height, width], got {list(shape)}")
    channels, height, width = (int(size) for size in shape)
    if min(channels, height, width) < 1:
        raise ValueError(f"input_shape of {network} must be at least 1 in every dimension, got {list(shape)}")
    if min(height, width) < smallest:
        raise ValueError(f"images for {network} must be at least {smallest}×{smallest}, got {height}×{width}")
    return channels, height, width


def check_features(features: int) -> None:
    """Check the width of a dense layer.

    Raises:
        ValueError: If it is below 1.
    """
    if features < 1:
        raise ValueError(f"features must be at least 1, got {features}; use None to leave the dense layer out")


def _dense(in_features: int, features: int | None, layer_norm: LayerNorm) -> tuple[nn.Sequential, int]:
    """Return the dense ReLU layer that ends an encoder, empty without `features`, and the width of its output."""
    if features is None:
        return nn.Sequential(), in_features
    check_features(features)
    return nn.Sequential(nn.Linear(in_features, features), *vector_relu(features, layer_norm)), features


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the number of zeros before and after one dimension under TensorFlow's and JAX's SAME padding.

    The output has ⌈size / stride⌉ entries; where the total is odd, the extra zero comes after.
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _convolutions(
    shape: tuple[int, int, int], table: Sequence[tuple[int, int, int]], *, padding: Padding, layer_norm: LayerNorm
) -> tuple[nn.Sequential, int]:
    """Return convolutions of (filters, kernel, stride), a ReLU after each, and the width of their flattened output."""
    channels, height, width = shape
    layers: list[nn.Module] = []
    for filters, kernel, stride in table:
        if padding == "same":
            # Conv2d pads both sides alike, but SAME may not: 21 → 11 at stride 2 takes 1 before and 2 after.
            top_bottom, left_right = (same_padding(size, kernel, stride) for size in (height, width))
            layers.append(nn.ZeroPad2d((*left_right, *top_bottom)))
            height, width = height + sum(top_bottom), width + sum(left_right)
        layers += [nn.Conv2d(channels, filters, kernel, stride), *image_relu(filters, layer_norm)]
        channels, height, width = filters, (height - kernel) // stride + 1, (width - kernel) // stride + 1
    return nn.Sequential(*layers), channels * height * width


class NatureCNN(Encoder):
    """The network of Mnih et al. (2015), "Human-level control through deep reinforcement learning", Methods.

    Convolutions 32×8×8 stride 4, 64×4×4 stride 2, 64×3×3 stride 1, then a dense layer; a ReLU after each.
    Input [B, C, H, W], output [B, out_features]; 84×84 images flatten to 3,136 features ("valid") or 7,744 ("same").

    Args:
        input_shape: [C, H, W] of one observation.
        features: Width of the dense layer; None leaves it out.
        padding: "valid" is the paper's; "same" is TensorFlow's and JAX's SAME, which Dopamine's network uses.
        init: "torch" is the paper's, "xavier" Dopamine's; see `pixelq.networks.base.initialize`.
        layer_norm: Whether to normalise before each ReLU, as PQN does (Gallici et al. 2025).

    Raises:
        ValueError: If `input_shape` is not an image's, or below 36×36 with padding "valid", or an option is unknown.
    """

    def __init__(
        self,
        input_shape: Sequence[int] = (4, 84, 84),
        features: int | None = 512,
        *,
        padding: Padding = "valid",
        init: Init = "torch",
        layer_norm: LayerNorm = False,
    ) -> None:
        super().__init__()
        if padding not in ("valid", "same"):
            raise ValueError(f"padding must be 'valid' or 'same', got {padding!r}")
        shape = image_shape(input_shape, "NatureCNN", smallest=36 if padding == "valid" else 1)
        table = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
        self.convolutions, flat = _convolutions(shape, table, padding=padding, layer_norm=layer_norm)
        self.dense, self.out_features = _dense(flat, features, layer_norm)
        initialize(self, init)

    def forward(self, x: Tensor) -> Tensor:
        """Encode images [B, C, H, W] as features [B, out_features]."""
        maps = self.convolutions(pixels_to_float(x))  # [B, 64, H', W']
        features: Tensor = self.dense(maps.flatten(1))
        return features


class _PlainCNN(Encoder):
    """Convolutions without padding, then a dense layer; a ReLU after each. A subclass has the sizes.

    Args:
        input_shape: [C, H, W] of one observation.
        features: Width of the dense layer; None leaves it out.
        layer_norm: Whether to normalise before each ReLU.

    Raises:
        ValueError: If `input_shape` is not an image's, or too small.
    """

    table: ClassVar[tuple[tuple[int, int, int], ...]]
    """Filters, kernel and stride of each convolution."""
    smallest: ClassVar[int]
    """Fewest pixels on a side of an image."""

    def __init__(
        self, input_shape: Sequence[int], features: int | None = 256, *, layer_norm: LayerNorm = False
    ) -> None:
        super().__init__()
        shape = image_shape(input_shape, type(self).__name__, smallest=self.smallest)
        self.convolutions, flat = _convolutions(shape, self.table, padding="valid", layer_norm=layer_norm)
        self.dense, self.out_features = _dense(flat, features, layer_norm)

    def forward(self, x: Tensor) -> Tensor:
        """Encode images [B, C, H, W] as features [B, out_features]."""
        maps = self.convolutions(pixels_to_float(x))  # [B, filters, H', W']
        features: Tensor = self.dense(maps.flatten(1))
        return features


class DataEfficientCNN(_PlainCNN):
    """The network of data-efficient Rainbow (van Hasselt et al. 2019, "When to use parametric models in RL?").

    Convolutions 32×5×5 stride 5 and 64×5×5 stride 5, then a dense layer; a ReLU after each. There is no padding, as in
    Kaixhin/Rainbow, the reimplementation that others build on.
    Input [B, C, H, W], output [B, out_features]; 84×84 images flatten to 576 features.

    Args:
        input_shape: [C, H, W] of one observation.
        features: Width of the dense layer; None leaves it out.
        layer_norm: Whether to normalise before each ReLU.

    Raises:
        ValueError: If `input_shape` is not an image's, or below 25×25.
    """

    table = ((32, 5, 5), (64, 5, 5))
    smallest = 25


class CompactCNN(_PlainCNN):
    """A small network for small images, such as Atari's frames at 42×42, for CPUs.

    Convolutions 16×6×6 stride 3 and 32×3×3 stride 2, then a dense layer; a ReLU after each. It is our own: at
    42×42 Nature DQN's convolutions leave a single pixel, and so lose all positions, while these leave 6×6.
    Input [B, C, H, W], output [B, out_features]; 42×42 images flatten to 1,152 features.

    Args:
        input_shape: [C, H, W] of one observation.
        features: Width of the dense layer; None leaves it out.
        layer_norm: Whether to normalise before each ReLU.

    Raises:
        ValueError: If `input_shape` is not an image's, or below 12×12.
    """

    table = ((16, 6, 3), (32, 3, 2))
    smallest = 12


class _ResidualBlock(nn.Module):
    """Residual block x + conv(relu(conv(relu(x)))), which keeps the number of channels and the size."""

    def __init__(self, channels: int, spectral: bool, layer_norm: LayerNorm) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            convolution = nn.Conv2d(channels, channels, 3, padding=1)
            layers += [*image_relu(channels, layer_norm), with_spectral_norm(convolution) if spectral else convolution]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C, H, W]."""
        out: Tensor = x + self.layers(x)
        return out


class ImpalaCNN(Encoder):
    """The large residual network of Espeholt et al. (2018), "IMPALA", figure 3 right, without its LSTM.

    Three stages of 16, 32 and 32 channels times `width`: convolution 3×3, max-pool 3×3 stride 2, two residual blocks;
    then a ReLU and a dense ReLU layer. Input [B, C, H, W], output [B, out_features]; 84×84 images flatten to
    3,872 × `width` features. Every layer pads by 1 on each side, which gives the sizes of the paper's SAME padding.

    `width`, `spectral_norm` and `adaptive_pool` are options of Beyond The Rainbow (Clark et al. 2025), whose network
    has width 2 and uses both others.

    Args:
        input_shape: [C, H, W] of one observation.
        width: Factor that multiplies the channels of every stage.
        features: Width of the dense layer; None leaves it out.
        spectral_norm: Whether to divide the weight of each convolution in a residual block by its largest singular
            value. The first convolution of each stage is not normalised, as in the code of the authors of Beyond The
            Rainbow. See `pixelq.networks.base.SpectralNorm`.
        adaptive_pool: Size p to which the last feature maps are max-pooled (6 in Beyond The Rainbow), which gives
            32 · `width` · p² features for observations of any size; where the maps are smaller than p×p, their pixels
            are repeated. None leaves it out.
        layer_norm: Whether to normalise before each ReLU: inside the residual branches, never on the sum that the next
            block adds to, and before the ReLU that ends the last stage.

    Raises:
        ValueError: If `input_shape` is not an image's, or below 8×8 (which three halvings reduce to one pixel), or
            `width` or `adaptive_pool` is below 1.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        width: int = 1,
        features: int | None = 256,
        *,
        spectral_norm: bool = False,
        adaptive_pool: int | None = None,
        layer_norm: LayerNorm = False,
    ) -> None:
        super().__init__()
        channels, image_height, image_width = image_shape(input_shape, "ImpalaCNN", smallest=8)
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        if adaptive_pool is not None and adaptive_pool < 1:
            raise ValueError(f"adaptive_pool must be at least 1, got {adaptive_pool}; use None to leave it out")
        layers: list[nn.Module] = []
        for filters in (16 * width, 32 * width, 32 * width):
            layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.MaxPool2d(3, stride=2, padding=1)]
            layers += [_ResidualBlock(filters, spectral_norm, layer_norm) for _ in range(2)]
            channels, image_height, image_width = filters, (image_height + 1) // 2, (image_width + 1) // 2
        layers += image_relu(channels, layer_norm)
        if adaptive_pool is not None:
            layers.append(nn.AdaptiveMaxPool2d(adaptive_pool))
            image_height = image_width = adaptive_pool
        self.convolutions = nn.Sequential(*layers)
        self.dense, self.out_features = _dense(channels * image_height * image_width, features, layer_norm)

    def forward(self, x: Tensor) -> Tensor:
        """Encode images [B, C, H, W] as features [B, out_features]."""
        maps = self.convolutions(pixels_to_float(x))  # [B, 32 · width, H/8, W/8], or p×p
        features: Tensor = self.dense(maps.flatten(1))
        return features


class MinAtarCNN(_PlainCNN):
    """The network of Young & Tian (2019), "MinAtar": one convolution of 16 3×3 filters and a dense layer, with ReLUs.

    For images too small for the Nature kernels. Input [B, C, H, W], output [B, out_features]; 10×10 images flatten
    to 1,024 features.

    Args:
        input_shape: [C, H, W] of one observation.
        features: Width of the dense layer; None leaves it out.
        layer_norm: Whether to normalise before each ReLU, as PQN does (Gallici et al. 2025).

    Raises:
        ValueError: If `input_shape` is not an image's, or below 3×3.
    """

    table = ((16, 3, 1),)
    smallest = 3

    def __init__(
        self, input_shape: Sequence[int], features: int | None = 128, *, layer_norm: LayerNorm = False
    ) -> None:
        super().__init__(input_shape, features, layer_norm=layer_norm)

"""Convolutional encoders: Nature DQN's, IMPALA's and MinAtar's.

All take images [B, C, H, W], scale uint8 by 1/255 themselves and take other types as they are (cast to float32).
With `features=None` the dense layer is left out and the features are the flattened convolution: a value head brings
its own hidden layer, since dueling streams, noisy layers and IQN each need it there.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from pixelq.networks.base import Encoder, Init, initialize, pixels_to_float

Padding = Literal["valid", "same"]


def _image_shape(shape: Sequence[int], network: str) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise ValueError(f"{network} needs images [channels, height, width], but the shape is {list(shape)}.")
    channels, height, width = (int(size) for size in shape)
    if min(channels, height, width) < 1:
        raise ValueError(f"{network} needs images of at least one pixel and channel, but the shape is {list(shape)}.")
    return channels, height, width


def _dense(in_features: int, features: int | None) -> tuple[nn.Sequential, int]:
    """Return the dense ReLU layer that ends an encoder, or nothing, and the width of its output."""
    if features is None:
        return nn.Sequential(), in_features
    if features < 1:
        raise ValueError(f"features must be at least 1, or None to leave the dense layer out, but it is {features}.")
    return nn.Sequential(nn.Linear(in_features, features), nn.ReLU()), features


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the zeros before and after one dimension under TensorFlow's and JAX's SAME padding.

    The output has ⌈size / stride⌉ entries; where the total is odd, the extra zero comes after.
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class NatureCNN(Encoder):
    """The network of Mnih et al. (2015), "Human-level control through deep reinforcement learning", Methods.

    Convolutions 32×8×8 stride 4, 64×4×4 stride 2, 64×3×3 stride 1, then a dense layer; a ReLU after each.
    Input [B, C, H, W], output [B, out_features]; 84×84 images flatten to 3,136 features ("valid") or 7,744 ("same").

    Args:
        input_shape: [C, H, W] of one observation.
        features: width of the dense layer; None leaves it out.
        padding: "valid" is the paper's; "same" is TensorFlow's and JAX's SAME, which Dopamine's network uses.
        init: "torch" is the paper's, "xavier" Dopamine's; see `pixelq.networks.base.initialize`.

    Raises:
        ValueError: not an image, an image below 36×36 with padding "valid", or an unknown option.
    """

    def __init__(
        self,
        input_shape: Sequence[int] = (4, 84, 84),
        features: int | None = 512,
        *,
        padding: Padding = "valid",
        init: Init = "torch",
    ) -> None:
        super().__init__()
        channels, height, width = _image_shape(input_shape, "NatureCNN")
        if padding not in ("valid", "same"):
            raise ValueError(f"Unknown padding {padding!r}: it is 'valid' or 'same'.")
        if padding == "valid" and min(height, width) < 36:
            raise ValueError(f"NatureCNN needs images of at least 36×36, but they are {height}×{width}.")
        layers: list[nn.Module] = []
        for filters, kernel, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
            if padding == "same":
                # Conv2d pads both sides alike, and SAME does not: 21 → 11 at stride 2 takes 1 before and 2 after.
                top_bottom, left_right = (same_padding(size, kernel, stride) for size in (height, width))
                layers.append(nn.ZeroPad2d((*left_right, *top_bottom)))
                height, width = height + sum(top_bottom), width + sum(left_right)
            layers += [nn.Conv2d(channels, filters, kernel, stride), nn.ReLU()]
            channels, height, width = filters, (height - kernel) // stride + 1, (width - kernel) // stride + 1
        self.convolutions = nn.Sequential(*layers)
        self.dense, self.out_features = _dense(channels * height * width, features)
        initialize(self, init)

    def forward(self, x: Tensor) -> Tensor:
        """Encode images [B, C, H, W] as features [B, out_features]."""
        maps = self.convolutions(pixels_to_float(x))  # [B, 64, H', W']
        features: Tensor = self.dense(maps.flatten(1))
        return features


class _ResidualBlock(nn.Module):
    """x + conv(relu(conv(relu(x)))), the channels and the size unchanged."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C, H, W]."""
        out: Tensor = x + self.layers(x)
        return out


class ImpalaCNN(Encoder):
    """The large residual network of Espeholt et al. (2018), "IMPALA", figure 3 right, without its LSTM.

    Three stages of 16, 32 and 32 channels times `width`: convolution 3×3, max-pool 3×3 stride 2, two residual blocks;
    then a ReLU and a dense ReLU layer. Input [B, C, H, W], output [B, out_features]; 84×84 images flatten to
    3,872 × `width` features. Every layer pads by 1 on each side, which gives the sizes of the paper's SAME padding.

    Args:
        input_shape: [C, H, W] of one observation.
        width: multiplies the channels of every stage.
        features: width of the dense layer; None leaves it out.

    Raises:
        ValueError: not an image, an image below 8×8 (three halvings leave one pixel), or a width below 1.
    """

    def __init__(self, input_shape: Sequence[int], width: int = 1, features: int | None = 256) -> None:
        super().__init__()
        channels, image_height, image_width = _image_shape(input_shape, "ImpalaCNN")
        if min(image_height, image_width) < 8:
            raise ValueError(f"ImpalaCNN needs images of at least 8×8, but they are {image_height}×{image_width}.")
        if width < 1:
            raise ValueError(f"ImpalaCNN's width must be at least 1, but it is {width}.")
        layers: list[nn.Module] = []
        for filters in (16 * width, 32 * width, 32 * width):
            layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.MaxPool2d(3, stride=2, padding=1)]
            layers += [_ResidualBlock(filters), _ResidualBlock(filters)]
            channels, image_height, image_width = filters, (image_height + 1) // 2, (image_width + 1) // 2
        self.convolutions = nn.Sequential(*layers, nn.ReLU())
        self.dense, self.out_features = _dense(channels * image_height * image_width, features)

    def forward(self, x: Tensor) -> Tensor:
        """Encode images [B, C, H, W] as features [B, out_features]."""
        maps = self.convolutions(pixels_to_float(x))  # [B, 32 · width, H/8, W/8]
        features: Tensor = self.dense(maps.flatten(1))
        return features


class MinAtarCNN(Encoder):
    """The network of Young & Tian (2019), "MinAtar": one convolution of 16 3×3 filters and a dense layer, with ReLUs.

    For images too small for the Nature kernels. Input [B, C, H, W], output [B, out_features]; 10×10 images flatten
    to 1,024 features.

    Args:
        input_shape: [C, H, W] of one observation.
        features: width of the dense layer; None leaves it out.

    Raises:
        ValueError: not an image, or an image below 3×3.
    """

    def __init__(self, input_shape: Sequence[int], features: int | None = 128) -> None:
        super().__init__()
        channels, height, width = _image_shape(input_shape, "MinAtarCNN")
        if min(height, width) < 3:
            raise ValueError(f"MinAtarCNN needs images of at least 3×3, but they are {height}×{width}.")
        self.convolutions = nn.Sequential(nn.Conv2d(channels, 16, 3), nn.ReLU())
        self.dense, self.out_features = _dense(16 * (height - 2) * (width - 2), features)

    def forward(self, x: Tensor) -> Tensor:
        """Encode images [B, C, H, W] as features [B, out_features]."""
        maps = self.convolutions(pixels_to_float(x))  # [B, 16, H - 2, W - 2]
        features: Tensor = self.dense(maps.flatten(1))
        return features

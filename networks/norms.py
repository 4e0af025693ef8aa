"""Normalisation over channels, as PQN has it, and of the contrast of images."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

LayerNorm = bool | Literal["channels"]
"""Layer normalisation before an activation: none, over channels and pixels together, or over channels only."""
CHANNEL_EPSILON = 1e-6
"""ε of the normalisation over channels, which is Flax's; PyTorch's default is 1e-5."""


CONTRAST_EPSILON = 1e-3
"""ε of the contrast's normalisation, for images almost without contrast: the square of 8 of 255 levels of grey."""


class ContrastNorm(nn.Module):
    """Global contrast normalisation of images [B, C, H, W] (Goodfellow et al. 2016, "Deep Learning", 12.2.1.1).

    y = (x − mean) / √(variance + ε), with the mean and the variance of each image over its channels and pixels. So a
    background of one grey becomes zero, and objects that are small or faint stand out. It has no weights.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, C, H, W] to images of the same shape, channels-last if they were."""
        last = x.movedim(1, -1)  # in the order of memory, if the images are channels-last
        return F.layer_norm(last, last.shape[1:], eps=CONTRAST_EPSILON).movedim(-1, 1)


class ChannelNorm(nn.Module):
    """Layer normalisation of images [B, C, H, W] over their channels: each pixel has its own mean and variance.

    y = (x − mean) / √(variance + ε) · scale + shift, with a scale and a shift for each channel. It is Flax's
    `LayerNorm` of channels-last images, which PQN's authors use (Gallici et al. 2025).

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, CHANNEL_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, C, H, W] to images of the same shape, channels-last if they were."""
        norm = self.norm
        last = F.layer_norm(x.movedim(1, -1), norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        return last.movedim(-1, 1)


def check_layer_norm(layer_norm: LayerNorm) -> None:
    """Check that there is a layer normalisation of a kind.

    Raises:
        ValueError: If there is not.
    """
    if layer_norm not in (False, True, "channels"):
        raise ValueError(f"layer_norm must be True, False or 'channels', got {layer_norm!r}")


def image_norm(channels: int, layer_norm: LayerNorm) -> list[nn.Module]:
    """Return the layer that normalises images [B, channels, H, W] (Ba et al. 2016), in a list; [] for none.

    `True` gives each image one mean and one variance, over channels and pixels together, and each channel its own
    scale and shift; "channels" is `ChannelNorm`.

    Raises:
        ValueError: If `layer_norm` is something else.
    """
    check_layer_norm(layer_norm)
    if layer_norm == "channels":
        return [ChannelNorm(channels)]
    return [nn.GroupNorm(1, channels)] if layer_norm else []


def vector_norm(features: int, layer_norm: LayerNorm) -> list[nn.Module]:
    """Return the layer that normalises vectors [..., features] (Ba et al. 2016), in a list; [] for none.

    Both kinds normalise over the features; only their ε differs.

    Raises:
        ValueError: If `layer_norm` is something else.
    """
    check_layer_norm(layer_norm)
    if layer_norm == "channels":
        return [nn.LayerNorm(features, CHANNEL_EPSILON)]
    return [nn.LayerNorm(features)] if layer_norm else []

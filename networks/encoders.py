"""Encoders by name, for whatever shape an environment gives."""

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from pixelq.networks.base import Encoder, Init
from pixelq.networks.cnn import DataEfficientCNN, ImpalaCNN, MinAtarCNN, NatureCNN
from pixelq.networks.mlp import MLP

ENCODERS = ("auto", "mlp", "nature", "dopamine", "impala", "minatar", "der")
Layout = Literal["CHW", "HWC", "HW"]


class _InLayout(Encoder):
    """Bring images [B, *layout] to [B, C, H, W] and hand them to `encoder`."""

    def __init__(self, encoder: Encoder, layout: Layout) -> None:
        super().__init__()
        self.encoder = encoder
        self.layout = layout
        self.out_features = encoder.out_features

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.encoder(x.unsqueeze(1) if self.layout == "HW" else x.permute(0, 3, 1, 2))
        return features


def image_layout(shape: Sequence[int]) -> Layout:
    """Say which dimension of an image shape holds the channels.

    Two dimensions are "HW". Three are channels-last, "HWC", where the last is smaller than both others, as in
    [210, 160, 3] and [10, 10, 7]; else channels-first, "CHW". This misreads only images with at least as many
    channels as pixels on a side, such as [10, 10, 10] channels-last: permute those before.

    Raises:
        ValueError: the shape has neither two nor three dimensions.
    """
    if len(shape) == 2:
        return "HW"
    if len(shape) != 3:
        raise ValueError(f"An image has two or three dimensions, but the shape is {list(shape)}.")
    return "HWC" if shape[2] < min(shape[0], shape[1]) else "CHW"


def make_encoder(
    name: str,
    shape: Sequence[int],
    *,
    hidden: int | Sequence[int] = 512,
    features: int | None = None,
    width: int = 1,
    spectral_norm: bool = False,
    adaptive_pool: int | None = None,
    layer_norm: bool = False,
    init: Init | None = None,
) -> Encoder:
    """Build an encoder for observations of `shape`; it maps [B, *shape] to [B, encoder.out_features].

    Args:
        name: "mlp"; "nature" (Mnih et al. 2015); "dopamine" (the same with SAME padding and Xavier initialisation,
            Castro et al. 2018); "impala" (Espeholt et al. 2018); "minatar" (Young & Tian 2019); "der", data-efficient
            Rainbow's (van Hasselt et al. 2019); or "auto": "nature" for images of at least 36×36, "minatar" for smaller
            ones, "mlp" for vectors and anything else.
        shape: of one observation, without the batch: a vector, [C, H, W], [H, W, C] or [H, W]; `image_layout` tells
            them apart.
        hidden: width of the MLP's layer, or of each of its layers; the others do not use it.
        features: width of the dense layer that ends a convolutional encoder; None ends it with the flattened
            convolution, as a value head brings its own hidden layer. The MLP does not use it.
        width, spectral_norm, adaptive_pool: of "impala" alone; see `ImpalaCNN`.
        layer_norm: normalise before each ReLU of the encoder, whichever it is.
        init: of "nature" and "dopamine", see `pixelq.networks.base.initialize`; None for "torch" and "xavier".

    Raises:
        ValueError: the name is unknown, a CNN is asked for what is no image, the image is too small for it, or an
            option of "impala" is given and the encoder is another.
    """
    if name not in ENCODERS:
        raise ValueError(f"Unknown encoder {name!r}: it is one of {', '.join(ENCODERS)}.")
    shape = tuple(int(size) for size in shape)
    if name == "auto":
        name = _automatic(shape)
    options = {"width": width != 1, "spectral_norm": spectral_norm, "adaptive_pool": adaptive_pool is not None}
    given = [option for option, is_given in options.items() if is_given]
    if given and name != "impala":
        raise ValueError(f"{given[0]} is for the encoder 'impala', but the encoder is {name!r}.")
    if name == "mlp":
        widths = (hidden,) if isinstance(hidden, int) else hidden
        return MLP(math.prod(shape), widths, layer_norm=layer_norm)
    if len(shape) not in (2, 3):
        raise ValueError(
            f"The encoder {name!r} needs images of two or three dimensions, but the shape is {list(shape)}."
        )
    layout = image_layout(shape)
    if layout == "HW":
        shape = (1, *shape)
    elif layout == "HWC":
        shape = (shape[2], shape[0], shape[1])
    if name == "impala":
        encoder: Encoder = ImpalaCNN(
            shape,
            width,
            features,
            spectral_norm=spectral_norm,
            adaptive_pool=adaptive_pool,
            layer_norm=layer_norm,
        )
    else:
        encoder = _make_cnn(name, shape, features, layer_norm, init)
    return encoder if layout == "CHW" else _InLayout(encoder, layout)


def _automatic(shape: tuple[int, ...]) -> str:
    """Name the encoder for a shape: a CNN where two or three dimensions are large enough for its kernels."""
    if len(shape) not in (2, 3):
        return "mlp"
    sides = {"HW": shape, "HWC": shape[:2], "CHW": shape[1:]}[image_layout(shape)]
    return "nature" if min(sides) >= 36 else "minatar" if min(sides) >= 3 else "mlp"


def _make_cnn(name: str, shape: Sequence[int], features: int | None, layer_norm: bool, init: Init | None) -> Encoder:
    if name == "nature":
        return NatureCNN(shape, features, layer_norm=layer_norm, init=init or "torch")
    if name == "dopamine":
        return NatureCNN(shape, features, padding="same", init=init or "xavier", layer_norm=layer_norm)
    if name == "der":
        return DataEfficientCNN(shape, features, layer_norm=layer_norm)
    return MinAtarCNN(shape, features, layer_norm=layer_norm)

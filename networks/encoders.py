"""Encoders by name, for observations of any shape."""

import math
from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from pixelq.networks.activations import Activation, replace_relu
from pixelq.networks.base import Encoder, Init, initialize, pixels_to_float
from pixelq.networks.cnn import CompactCNN, DataEfficientCNN, ImpalaCNN, MinAtarCNN, NatureCNN
from pixelq.networks.hadamax import HadamaxCNN
from pixelq.networks.mlp import MLP
from pixelq.networks.norms import ContrastNorm, LayerNorm

ENCODERS = ("auto", "mlp", "nature", "dopamine", "impala", "minatar", "der", "compact", "hadamax", "hadamax_deep")
OWN_INIT: dict[str, Init] = {"dopamine": "xavier", "hadamax": "xavier_normal", "hadamax_deep": "xavier_normal"}
"""How encoders are initialised if nothing else is asked for; all others as PyTorch does."""
TAKE_INIT = ("nature", "dopamine")
"""Encoders that are handed their initialisation."""
Layout = Literal["CHW", "HWC", "HW"]


class _Normalized(Encoder):
    """Encoder of images whose contrast is normalised first; see `pixelq.networks.norms.ContrastNorm`."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.contrast = ContrastNorm()
        self.encoder = encoder
        self.out_features = encoder.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Encode images [B, C, H, W] as features [B, out_features]."""
        features: Tensor = self.encoder(self.contrast(pixels_to_float(x)))
        return features


class _WithLayers(Encoder):
    """Encoder followed by dense layers."""

    def __init__(self, encoder: Encoder, layers: MLP) -> None:
        super().__init__()
        self.encoder, self.layers = encoder, layers
        self.out_features = layers.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Encode observations [B, *shape] as features [B, out_features]."""
        features: Tensor = self.layers(self.encoder(x))
        return features


class _InLayout(Encoder):
    """Encoder of images in another layout, or of stacks of images, rearranged to [B, C, H, W] for `encoder`."""

    def __init__(self, encoder: Encoder, layout: Layout) -> None:
        super().__init__()
        self.encoder = encoder
        self.layout = layout
        self.out_features = encoder.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Encode images [B, *layout] as features [B, out_features]."""
        if self.layout == "HW":
            x = x.unsqueeze(1)
        elif self.layout == "HWC":
            x = x.movedim(-1, -3)
        features: Tensor = self.encoder(x.flatten(1, -3))
        return features


def image_layout(shape: Sequence[int]) -> Layout:
    """Return the layout of an image shape: which of its dimensions, if any, holds the channels.

    Two dimensions are "HW". Three are channels-last, "HWC", where the last is smaller than both others, as in
    [210, 160, 3] and [10, 10, 7]; otherwise channels-first, "CHW". This is wrong only for images with at least as many
    channels as pixels on a side, such as [10, 10, 10] channels-last: permute those first.

    Raises:
        ValueError: If the shape has neither two nor three dimensions.
    """
    if len(shape) == 2:
        return "HW"
    if len(shape) != 3:
        raise ValueError(f"an image must have two or three dimensions, got shape {list(shape)}")
    return "HWC" if shape[2] < min(shape[0], shape[1]) else "CHW"


def _channels_first(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the shape [C, H, W] in which an encoder sees an image of any layout, or a stack of images."""
    if len(shape) == 4:
        channels, height, width = _channels_first(shape[1:])
        return shape[0] * channels, height, width
    layout = image_layout(shape)
    if layout == "HW":
        return 1, shape[0], shape[1]
    return (shape[2], shape[0], shape[1]) if layout == "HWC" else (shape[0], shape[1], shape[2])


def make_encoder(
    name: str,
    shape: Sequence[int],
    *,
    hidden: int | Sequence[int] = 512,
    features: int | None = None,
    layers: Sequence[int] = (),
    width: int = 1,
    spectral_norm: bool = False,
    adaptive_pool: int | None = None,
    layer_norm: LayerNorm = False,
    contrast_norm: bool = False,
    activation: Activation = "relu",
    init: Init | None = None,
) -> Encoder:
    """Return an encoder for observations of `shape`, which maps [B, *shape] to [B, encoder.out_features].

    Args:
        name: "mlp"; "nature" (Mnih et al. 2015); "dopamine" (the same with SAME padding and Xavier initialisation,
            Castro et al. 2018); "impala" (Espeholt et al. 2018); "minatar" (Young & Tian 2019); "der", data-efficient
            Rainbow's (van Hasselt et al. 2019); "compact", for frames of about 42×42; "hadamax" (Kooi et al. 2025) and
            its deeper variant "hadamax_deep"; or "auto": "nature" for images of at least 36×36, "minatar" for smaller
            ones (not of stacks), "mlp" for vectors and anything else. What is no image of at least 12×12 is too small
            for "compact" and has the encoder of "auto".
        shape: Shape of one observation, without the batch: a vector, [C, H, W], [H, W, C] or [H, W], or a stack of
            images, [S, C, H, W] or [S, H, W, C], which counts as one image of S · C channels; `image_layout` tells
            the images apart.
        hidden: Width of the MLP's layer, or the widths of its layers; other encoders ignore it.
        features: Width of the dense layer that ends a convolutional encoder; None ends it with the flattened
            convolution, as a value head has its own hidden layer. The MLP ignores it.
        layers: Widths of further dense layers at the end of any encoder.
        width, spectral_norm, adaptive_pool: Options of "impala" only; see `ImpalaCNN`.
        layer_norm: Whether to normalise before each activation of the encoder, and how; see `image_norm`. Both
            "hadamax" have their own normalisation and activation, and ignore this and the next.
        contrast_norm: Whether to normalise the contrast of each image first; see `ContrastNorm`. The MLP ignores it.
        activation: "relu", or "gelu" in the form with tanh.
        init: Initialisation, see `pixelq.networks.base.initialize`; None for the encoder's own: "xavier" of "dopamine",
            "xavier_normal" of both "hadamax", "torch" of all others.

    Raises:
        ValueError: If the name is unknown, a CNN is asked for observations that are not images or are too small for
            it, an option of "impala" is given for another encoder, or both `spectral_norm` and `init` are given.
    """
    if name not in ENCODERS:
        raise ValueError(f"encoder must be one of {', '.join(ENCODERS)}, got {name!r}")
    shape = tuple(int(size) for size in shape)
    if name == "auto" or (name == "compact" and not _is_image(shape, CompactCNN.smallest)):
        name = _automatic(shape)
    impala = {"width": width, "spectral_norm": spectral_norm, "adaptive_pool": adaptive_pool}
    _check_options(name, impala, init)
    if name == "mlp":
        widths = (hidden,) if isinstance(hidden, int) else hidden
        encoder: Encoder = MLP(math.prod(shape), widths, layer_norm=layer_norm)
    else:
        encoder = _for_images(name, shape, features, layer_norm, contrast_norm, init, impala)
    if layers:
        added = MLP(encoder.out_features, layers, layer_norm=layer_norm)
        if init is None or name in TAKE_INIT:
            initialize(added, init or OWN_INIT.get(name, "torch"))
        encoder = _WithLayers(encoder, added)
    if not name.startswith("hadamax"):
        replace_relu(encoder, activation)
    if init is not None and name not in TAKE_INIT:
        initialize(encoder, init)
    return encoder


def _check_options(name: str, impala: dict[str, Any], init: Init | None) -> None:
    """Check that the options of "impala" are given to no other encoder, and spectral normalisation not with `init`."""
    plain = {"width": 1, "spectral_norm": False, "adaptive_pool": None}
    given = [option for option, value in impala.items() if value != plain[option]]
    if given and name != "impala":
        raise ValueError(f"encoder must be 'impala' to use {given[0]}, got {name!r}")
    if impala["spectral_norm"] and init is not None:
        raise ValueError(f"init must be None with spectral_norm, which divides the weights by their norm, got {init!r}")


def _for_images(
    name: str,
    shape: tuple[int, ...],
    features: int | None,
    layer_norm: LayerNorm,
    contrast_norm: bool,
    init: Init | None,
    impala: dict[str, Any],
) -> Encoder:
    """Return the convolutional encoder of that name for observations of `shape`; see `make_encoder`."""
    if len(shape) not in (2, 3, 4):
        raise ValueError(f"encoder {name!r} needs images of 2 to 4 dimensions, got shape {list(shape)}; use 'mlp'")
    layout = image_layout(shape[-3:])
    is_plain = layout == "CHW" and len(shape) == 3
    shape = _channels_first(shape)
    if name == "impala":
        encoder: Encoder = ImpalaCNN(shape, features=features, layer_norm=layer_norm, **impala)
    elif name.startswith("hadamax"):
        encoder = HadamaxCNN(shape, features, deep=name == "hadamax_deep")
    else:
        encoder = _make_cnn(name, shape, features, layer_norm, init)
    if contrast_norm:
        encoder = _Normalized(encoder)
    return encoder if is_plain else _InLayout(encoder, layout)


def _is_image(shape: tuple[int, ...], smallest: int) -> bool:
    """Return whether a shape is that of an image, or a stack of images, of at least `smallest` pixels on each side."""
    return len(shape) in (2, 3, 4) and min(_channels_first(shape)[1:]) >= smallest


def _automatic(shape: tuple[int, ...]) -> str:
    """Return the name of the encoder for a shape: a CNN if it is an image large enough for the kernels, else "mlp"."""
    if _is_image(shape, 36):
        return "nature"
    return "minatar" if _is_image(shape, 3) and len(shape) < 4 else "mlp"


def _make_cnn(
    name: str, shape: Sequence[int], features: int | None, layer_norm: LayerNorm, init: Init | None
) -> Encoder:
    """Return the convolutional encoder of that name, other than "impala" and "hadamax", for images [C, H, W]."""
    if name == "nature":
        return NatureCNN(shape, features, layer_norm=layer_norm, init=init or "torch")
    if name == "dopamine":
        return NatureCNN(shape, features, padding="same", init=init or OWN_INIT[name], layer_norm=layer_norm)
    if name == "der":
        return DataEfficientCNN(shape, features, layer_norm=layer_norm)
    if name == "compact":
        return CompactCNN(shape, features, layer_norm=layer_norm)
    return MinAtarCNN(shape, features, layer_norm=layer_norm)

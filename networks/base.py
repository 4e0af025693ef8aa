"""Parts that encoders share: their base class, pixel scaling, normalisation and weight initialisation."""

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization
from torch.overrides import TorchFunctionMode

from pixelq.networks.norms import LayerNorm, image_norm, vector_norm

Init = Literal["torch", "xavier", "fan_in", "he", "xavier_normal", "orthogonal"]


CUT_OFF_STD = 0.87962566103423978
"""Standard deviation of a standard normal variable that is cut off at ±2."""


FEW_CHANNELS, MANY_PIXELS = 8, 1_000
"""Channels up to which, and pixels of an image from which, bytes are reordered one channel after the other.

PyTorch's own copy goes from pixel to pixel, in loops of as many bytes as there are channels.
"""


class Encoder(nn.Module):
    """Base class of encoders, modules that map observations [B, *shape] to features [B, out_features]."""

    out_features: int


def pixels_to_float(pixels: Tensor) -> Tensor:
    """Scale uint8 pixels to [0, 1]; any other type is cast to float32 and not scaled.

    The result is float32, or autocast's type where uint8 is scaled under autocast. Images [B, C, H, W] are returned
    channels-last, the order in which convolutions are fastest.
    """
    if pixels.dim() == 4:  # reordered while a pixel is still one byte
        _, channels, height, width = pixels.shape
        is_ordered = pixels.is_contiguous(memory_format=torch.channels_last)
        is_by_channel = pixels.dtype == torch.uint8 and channels <= FEW_CHANNELS and height * width >= MANY_PIXELS
        # An exported network has a single operation that other programs know.
        if is_by_channel and not is_ordered and pixels.device.type == "cpu" and not torch.compiler.is_compiling():
            pixels = torch.stack(pixels.unbind(1), -1).movedim(-1, 1)
        else:
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        if channels == 1:
            # With one channel both orders differ only in a stride, from which PyTorch infers the order. It would infer
            # the slow one here, for all convolutions that follow.
            pixels = pixels.as_strided(pixels.shape, (height * width, 1, width, 1))
    if pixels.dtype != torch.uint8:  # a type is static, so these branches do not break a graph
        return pixels.float()
    kind = pixels.device.type
    # Cast straight to autocast's type and divided in place, so that no array is made besides the result.
    return pixels.to(torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32).div_(255)


def initialize(module: nn.Module, init: Init) -> None:
    """Initialise the linear and convolutional layers of `module` in place.

    Args:
        module: A module with such layers at any depth.
        init: How weights are drawn. All but "torch" set biases to zero:

            - "torch": PyTorch's default, weights and biases uniform in ±1/√fan_in, which was also the default of
              Torch7 and so that of Mnih et al. (2015);
            - "xavier": uniform in ±√(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, equation 16), as in Dopamine's DQN;
            - "fan_in": uniform in ±√(√3 / fan_in), as in Dopamine's distributional agents (Castro et al. 2018);
            - "he": normal with variance 2 / fan_in (He et al. 2015), cut off at two standard deviations, as in JAX;
            - "xavier_normal": the same with variance 2 / (fan_in + fan_out);
            - "orthogonal": orthogonal with gain √2 (Saxe et al. 2014).

    Raises:
        ValueError: If `init` is unknown.
    """
    if init not in get_args(Init):
        raise ValueError(f"init must be one of {', '.join(get_args(Init))}, got {init!r}")
    if init == "torch":
        return
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            _draw(layer.weight, init)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def initialize_output(layer: nn.Module, init: Init) -> None:
    """Initialise a layer without an activation after it, in place: "he" then has the variance 1 / fan_in, as in PQN.

    For all others, and for layers with an initialisation of their own, it stays as `initialize` has left it.
    """
    if init == "he" and isinstance(layer, nn.Linear):
        _truncated_normal(layer.weight, 1 / layer.in_features)


def _draw(weight: Tensor, init: Init) -> None:
    """Draw the weights [out, in, ...] of a layer in place."""
    fan_in, fan_out = weight[0].numel(), weight[:, 0].numel()
    match init:
        case "xavier":
            nn.init.xavier_uniform_(weight)
        case "fan_in":
            bound = math.sqrt(math.sqrt(3) / fan_in)
            nn.init.uniform_(weight, -bound, bound)
        case "he":
            _truncated_normal(weight, 2 / fan_in)
        case "xavier_normal":
            _truncated_normal(weight, 2 / (fan_in + fan_out))
        case "orthogonal":
            nn.init.orthogonal_(weight, math.sqrt(2))


def _truncated_normal(weight: Tensor, variance: float) -> None:
    """Draw normal weights within two standard deviations, which are widened so that the variance is as given."""
    std = math.sqrt(variance) / CUT_OFF_STD
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


class DrawnFrom(TorchFunctionMode):
    """Context in which this thread's initialisers draw from a generator, and not from PyTorch's global one.

    The numbers are those that the global generator would give with the same seed. No other thread draws from it
    meanwhile, nor are the global generator's own draws disturbed.

    Args:
        generator: The generator.
    """

    _INITIALISERS = frozenset(
        {"uniform_", "normal_", "kaiming_uniform_", "kaiming_normal_"}
        # What encoders and heads from elsewhere draw with
        | {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial"}
        | {"bernoulli_", "cauchy_", "exponential_", "geometric_", "log_normal_", "random_"}
    )

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function of PyTorch, an initialiser with the generator."""
        kwargs = kwargs or {}
        draws = getattr(func, "__name__", "") in self._INITIALISERS and kwargs.get("generator") is None
        if draws and torch.device(kwargs.get("device") or "cpu").type == "cpu":
            kwargs = kwargs | {"generator": self.generator}
        return func(*args, **kwargs)


class SpectralNorm(nn.Module):
    """Parametrization W / σ, where σ is the largest singular value of W, reshaped to [out, in · kernel].

    Miyato et al. (2018), "Spectral Normalization for Generative Adversarial Networks", section 2.1 and algorithm 1:
    σ ≈ ‖W v‖, and one power iteration v ← Wᵀ W v / ‖Wᵀ W v‖ for each update lets v follow the changing W. The gradient
    goes through σ, and treats v as a constant.

    Power iteration runs only where a gradient is taken: in training mode, with gradients enabled, for a weight that
    requires them. So acting, evaluation and the target network change nothing, and their passes are repeatable;
    `torch.nn.utils.parametrizations.spectral_norm` iterates at every pass in training mode. v starts from a singular
    value decomposition, not from random numbers, so a seed gives the same weights with and without normalisation.

    Args:
        weight: The initial weight [out, ...], from which v is computed.
    """

    v: Tensor  # [in · kernel], estimate of the first right singular vector

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("v", torch.linalg.svd(weight.detach().flatten(1), full_matrices=False).Vh[0].clone())

    def forward(self, weight: Tensor) -> Tensor:
        """Return the normalised weight [out, ...], computed in float32 under autocast too."""
        with torch.autocast("cpu" if weight.is_meta else weight.device.type, enabled=False):
            matrix = weight.flatten(1)  # [out, in · kernel]
            if self.training and torch.is_grad_enabled() and weight.requires_grad:
                with torch.no_grad():
                    self.v.copy_(F.normalize(matrix.mT @ (matrix @ self.v), dim=0))
            # The copy lets a second forward pass update v before the backward pass of the first has read it.
            sigma: Tensor = (matrix @ self.v.clone()).norm()
            return weight / sigma


def with_spectral_norm(layer: nn.Conv2d) -> nn.Conv2d:
    """Normalise the weight of `layer` in place by `SpectralNorm` and return the layer; its bias stays as it is."""
    register_parametrization(layer, "weight", SpectralNorm(layer.weight))
    return layer


def image_relu(channels: int, layer_norm: LayerNorm) -> list[nn.Module]:
    """Return a ReLU for images [B, channels, H, W], preceded by `image_norm`."""
    return [*image_norm(channels, layer_norm), nn.ReLU()]


def vector_relu(features: int, layer_norm: LayerNorm) -> list[nn.Module]:
    """Return a ReLU for vectors [B, features], preceded by `vector_norm`."""
    return [*vector_norm(features, layer_norm), nn.ReLU()]

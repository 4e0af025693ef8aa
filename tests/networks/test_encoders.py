"""Encoders against plain float64 numpy, hand arithmetic and the papers' sizes."""

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from pixelq.networks import (
    MLP,
    ActionStreams,
    CompactCNN,
    ImpalaCNN,
    ImplicitHead,
    MinAtarCNN,
    NatureCNN,
    QNetwork,
    ScalarHead,
    make_encoder,
)
from pixelq.networks.base import FEW_CHANNELS, pixels_to_float
from pixelq.networks.cnn import same_padding
from pixelq.networks.encoders import ENCODERS, image_layout
from pixelq.scripts.benchmarks.operations import Operations

Array = npt.NDArray[np.float64]


@pytest.fixture(autouse=True)
def _seed_and_one_thread() -> Iterator[None]:
    """Small networks gain nothing from a second thread, and lose much where another process wants that core."""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def weights(layer: nn.Module) -> tuple[Array, Array]:
    return layer.weight.detach().numpy().astype(np.float64), layer.bias.detach().numpy().astype(np.float64)


def numpy_conv(x: Array, layer: nn.Conv2d, stride: int, pad: tuple[int, int] = (0, 0)) -> Array:
    """x [B, C, H, W], zeros before and after each side, to [B, filters, H', W']."""
    weight, bias = weights(layer)
    x = np.pad(x, ((0, 0), (0, 0), pad, pad))
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
    return np.einsum("bchwij,fcij->bfhw", windows, weight, optimize=True) + bias[:, None, None]


def numpy_nature(network: NatureCNN, images: npt.NDArray[np.uint8], pads: list[tuple[int, int]]) -> Array:
    x = images.astype(np.float64) / 255
    convolutions = [layer for layer in network.convolutions if isinstance(layer, nn.Conv2d)]
    for layer, stride, pad in zip(convolutions, (4, 2, 1), pads, strict=True):
        x = np.maximum(numpy_conv(x, layer, stride, pad), 0)
    x = x.reshape(len(x), -1)
    for layer in network.dense:
        if isinstance(layer, nn.Linear):
            weight, bias = weights(layer)
            x = np.maximum(x @ weight.T + bias, 0)
    return x


def images(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


# 84 → 21 needs 20·4 + 8 − 84 = 4 zeros, 21 → 11 needs 10·2 + 4 − 21 = 3, 11 → 11 needs 10 + 3 − 11 = 2.
SAME_PADS = [(2, 2), (1, 2), (1, 1)]


@pytest.mark.parametrize("features", [512, None])
@pytest.mark.parametrize(("padding", "pads", "flat"), [("valid", [(0, 0)] * 3, 3136), ("same", SAME_PADS, 7744)])
def test_nature_cnn_equals_numpy(padding: str, pads: list[tuple[int, int]], flat: int, features: int | None) -> None:
    network = NatureCNN((4, 84, 84), features, padding=padding)  # type: ignore[arg-type]
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=2 / math.sqrt(parameter[0].numel() + 1))  # large enough that errors would show
    x = images(2, 4, 84, 84)
    out = network(x).detach().numpy()
    expected = numpy_nature(network, x.numpy(), pads)
    assert out.shape == (2, features or flat) == (2, network.out_features)
    assert expected.std() > 0.1
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


def test_nature_cnn_parameter_count() -> None:
    convolutions = (4 * 8 * 8 * 32 + 32) + (32 * 4 * 4 * 64 + 64) + (64 * 3 * 3 * 64 + 64)
    dense = 7 * 7 * 64 * 512 + 512
    assert num_parameters(NatureCNN()) == convolutions + dense == 1_684_128
    assert num_parameters(NatureCNN(features=None)) == convolutions == 77_984
    assert num_parameters(NatureCNN(padding="same")) == convolutions + 11 * 11 * 64 * 512 + 512


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [(84, 8, 4, (2, 2)), (21, 4, 2, (1, 2)), (11, 3, 1, (1, 1)), (10, 3, 2, (0, 1)), (5, 1, 3, (0, 0))],
)
def test_same_padding(size: int, kernel: int, stride: int, expected: tuple[int, int]) -> None:
    assert same_padding(size, kernel, stride) == expected
    assert (size + sum(expected) - kernel) // stride + 1 == math.ceil(size / stride)


def test_same_padding_of_images_that_are_not_square() -> None:
    network = NatureCNN((1, 40, 61), None, padding="same")
    assert network.out_features == network(images(2, 1, 40, 61)).shape[1] == 64 * 5 * 8  # 40→10→5, 61→16→8


def test_torch_init_is_uniform_in_one_over_root_fan_in() -> None:
    network = NatureCNN()
    for layer, fan_in in zip(
        (m for m in network.modules() if hasattr(m, "weight")), (256, 512, 576, 3136), strict=True
    ):
        for parameter in (layer.weight, layer.bias):
            largest = parameter.abs().max().item()
            assert 0.85 / math.sqrt(fan_in) < largest <= 1 / math.sqrt(fan_in) * (1 + 1e-6)  # 32 biases at the least


@pytest.mark.parametrize("init", ["xavier", "fan_in"])
def test_dopamines_inits(init: Literal["xavier", "fan_in"]) -> None:
    head = ImplicitHead(ActionStreams(512, 18, hidden=0, init=init), cosines=64)
    network = QNetwork(NatureCNN(padding="same", init=init), head)
    fans = [(4 * 64, 32 * 64), (32 * 16, 64 * 16), (64 * 9, 64 * 9), (7744, 512), (512, 18), (64, 512)]
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for layer, (fan_in, fan_out) in zip(layers, fans, strict=True):
        # Variance scaling by 1/√3: a variance of 1 / (√3 fan_in), which is a third of the bound's square.
        bound = math.sqrt(6 / (fan_in + fan_out)) if init == "xavier" else math.sqrt(3 / (math.sqrt(3) * fan_in))
        assert 0.99 * bound < layer.weight.abs().max().item() <= bound * (1 + 1e-6)
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)
        assert layer.bias.abs().max().item() == 0


def test_impala_sizes_and_parameter_count() -> None:
    def convolution(fan_in: int, filters: int) -> int:
        return fan_in * 9 * filters + filters

    for width in (1, 2):
        count, channels = 0, 4
        for filters in (16 * width, 32 * width, 32 * width):
            count += convolution(channels, filters) + 4 * convolution(filters, filters)
            channels = filters
        flat = 32 * width * 11 * 11  # 84 → 42 → 21 → 11
        network = ImpalaCNN((4, 84, 84), width)
        assert num_parameters(network) == count + flat * 256 + 256
        assert network(images(3, 4, 84, 84)).shape == (3, network.out_features) == (3, 256)
        assert ImpalaCNN((4, 84, 84), width, features=None).out_features == flat
    assert num_parameters(ImpalaCNN((4, 84, 84))) == 97_744 + 991_488
    odd = ImpalaCNN((1, 9, 17), features=None)  # 9 → 5 → 3 → 2 and 17 → 9 → 5 → 3
    assert odd(images(1, 1, 9, 17)).shape == (1, 32 * 2 * 3) == (1, odd.out_features)


def test_impala_equals_numpy() -> None:
    network = ImpalaCNN((2, 12, 8), features=None)
    x = images(2, 2, 12, 8)
    convolutions = iter([m for m in network.modules() if isinstance(m, nn.Conv2d)])

    def relu(x: Array) -> Array:
        return np.maximum(x, 0)

    h = x.numpy().astype(np.float64) / 255
    for _ in range(3):
        h = numpy_conv(h, next(convolutions), 1, (1, 1))
        padded = np.pad(h, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
        h = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2].max((-1, -2))
        for _ in range(2):
            inner = numpy_conv(relu(h), next(convolutions), 1, (1, 1))
            h = h + numpy_conv(relu(inner), next(convolutions), 1, (1, 1))
    np.testing.assert_allclose(network(x).detach().numpy(), relu(h).reshape(2, -1), rtol=1e-4, atol=1e-5)


def test_compact_cnn_equals_numpy() -> None:
    network = CompactCNN((4, 42, 42))
    x = images(3, 4, 42, 42)
    h = np.maximum(numpy_conv(x.numpy() / 255, network.convolutions[0], 3), 0)  # type: ignore[arg-type]
    assert h.shape == (3, 16, 13, 13)
    h = np.maximum(numpy_conv(h, network.convolutions[2], 2), 0)  # type: ignore[arg-type]
    assert h.shape == (3, 32, 6, 6)
    weight, bias = weights(network.dense[0])
    expected = np.maximum(h.reshape(3, -1) @ weight.T + bias, 0)
    np.testing.assert_allclose(network(x).detach().numpy(), expected, atol=1e-5)
    assert num_parameters(network) == (4 * 36 * 16 + 16) + (16 * 9 * 32 + 32) + (1_152 * 256 + 256)
    assert CompactCNN((1, 12, 12), None).out_features == 32
    with pytest.raises(ValueError, match="images for CompactCNN must be at least 12×12, got 11×42"):
        CompactCNN((4, 11, 42))


@pytest.mark.parametrize(
    ("shape", "expected"), [((4, 12, 12), CompactCNN), ((4, 11, 42), MinAtarCNN), ((8,), MLP), ((2, 3, 2, 2), MLP)]
)
def test_what_is_too_small_for_the_compact_encoder_has_that_of_auto(
    shape: tuple[int, ...], expected: type[nn.Module]
) -> None:
    assert isinstance(make_encoder("compact", shape), expected)


def test_minatar_cnn_equals_numpy() -> None:
    network = MinAtarCNN((4, 10, 10))
    x = images(3, 4, 10, 10)
    h = np.maximum(numpy_conv(x.numpy() / 255, network.convolutions[0], 1), 0).reshape(3, -1)  # type: ignore[arg-type]
    weight, bias = weights(network.dense[0])
    np.testing.assert_allclose(network(x).detach().numpy(), np.maximum(h @ weight.T + bias, 0), atol=1e-5)
    assert num_parameters(network) == (4 * 9 * 16 + 16) + (8 * 8 * 16 * 128 + 128)


def test_mlp_equals_numpy() -> None:
    network = MLP(6, (5, 3))
    x = torch.randint(-3, 4, (7, 2, 3))
    h = x.numpy().reshape(7, 6).astype(np.float64)
    for layer in (network.layers[0], network.layers[2]):
        weight, bias = weights(layer)
        h = np.maximum(h @ weight.T + bias, 0)
    np.testing.assert_allclose(network(x).detach().numpy(), h, atol=1e-5)
    assert network.out_features == 3
    assert len(network.layers) == 4


@pytest.mark.parametrize("name", ["nature", "dopamine", "impala", "minatar", "der", "compact", "mlp"])
def test_uint8_is_scaled_once_and_float_not(name: str) -> None:
    network = make_encoder(name, (2, 40, 40), hidden=16, features=16)
    x = images(3, 2, 40, 40)
    from_bytes = network(x)
    torch.testing.assert_close(from_bytes, network(x.float() / 255), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(from_bytes, network(x.double() / 255), rtol=1e-6, atol=1e-7)
    assert not torch.allclose(from_bytes, network(x.float()), atol=0.1)


def test_vectors_of_bytes_are_scaled_and_others_cast() -> None:
    network = make_encoder("auto", (4,), hidden=(8, 6))
    x = torch.tensor([[3, 200, 0, 1]], dtype=torch.uint8)
    torch.testing.assert_close(network(x), network(x.float() / 255))
    torch.testing.assert_close(network(x.long()), network(x.float()))
    assert network.out_features == 6


@pytest.mark.parametrize("shape", [(), (2, 10), (1, 4), (2, 2, 3), (2, 3, 4, 5)])
def test_auto_takes_anything(shape: tuple[int, ...]) -> None:
    network = make_encoder("auto", shape, hidden=7)
    assert network(torch.zeros(3, *shape)).shape == (3, 7)


@pytest.mark.parametrize("shape", [(4, 84, 84, 3), (4, 3, 84, 84)])
def test_a_stack_of_colour_images_counts_as_one_image_of_all_their_channels(shape: tuple[int, ...]) -> None:
    network = make_encoder("auto", shape)
    assert sum(weight.numel() for weight in network.parameters()) == 94_368
    x = torch.randint(0, 256, (2, *shape), dtype=torch.uint8)
    together = (x.movedim(-1, 2) if shape[-1] == 3 else x).reshape(2, 12, 84, 84)
    assert torch.equal(network(x), network.encoder(together))  # type: ignore[operator]
    for name in ("dopamine", "impala", "minatar", "der"):
        assert make_encoder(name, shape, features=5)(x).shape == (2, 5)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((4, 84, 84), "CHW"),
        ((1, 84, 84), "CHW"),
        ((84, 84, 4), "HWC"),
        ((210, 160, 3), "HWC"),
        ((4, 210, 160), "CHW"),
        ((10, 10, 7), "HWC"),
        ((12, 10, 10), "CHW"),
        ((3, 3, 3), "CHW"),
        ((84, 84), "HW"),
    ],
)
def test_image_layout(shape: tuple[int, ...], layout: str) -> None:
    assert image_layout(shape) == layout


@pytest.mark.parametrize("name", ["auto", "nature", "dopamine", "impala", "minatar", "der", "compact"])
def test_channels_last_and_grey_images_give_the_features_of_channels_first(name: str) -> None:
    first = make_encoder(name, (3, 40, 44))
    last = make_encoder(name, (40, 44, 3))
    last.load_state_dict({f"encoder.{key}": value for key, value in first.state_dict().items()})
    x = images(2, 3, 40, 44)
    torch.testing.assert_close(last(x.permute(0, 2, 3, 1)), first(x), rtol=1e-5, atol=1e-6)

    grey, one_channel = make_encoder(name, (40, 44)), make_encoder(name, (1, 40, 44))
    grey.load_state_dict({f"encoder.{key}": value for key, value in one_channel.state_dict().items()})
    torch.testing.assert_close(grey(x[:, 0]), one_channel(x[:, :1]), rtol=1e-5, atol=1e-6)
    assert last.out_features == first.out_features


def test_make_encoder_names() -> None:
    assert isinstance(make_encoder("auto", (8,)), MLP)
    assert isinstance(make_encoder("auto", (4, 36, 36)), NatureCNN)
    assert isinstance(make_encoder("auto", (4, 35, 84)), MinAtarCNN)
    assert isinstance(make_encoder("impala", (4, 84, 84)), ImpalaCNN)
    assert make_encoder("nature", (4, 84, 84)).out_features == 3136
    dopamine = make_encoder("dopamine", (4, 84, 84))
    assert dopamine.out_features == 7744
    biases = [value for key, value in dopamine.state_dict().items() if key.endswith("bias")]
    assert len(biases) == 3
    assert all(not bias.any() for bias in biases)
    assert make_encoder("nature", (4, 84, 84), features=512).out_features == 512


def test_errors_say_what_is_wrong() -> None:
    with pytest.raises(
        ValueError,
        match=r"auto, mlp, nature, dopamine, impala, minatar, der, compact, hadamax, hadamax_deep, got 'resnet'",
    ):
        make_encoder("resnet", (4, 84, 84))
    for name in set(ENCODERS) - {"auto", "compact", "mlp"}:
        with pytest.raises(ValueError, match=rf"'{name}' needs images .* \[4\]"):
            make_encoder(name, (4,))
    with pytest.raises(ValueError, match="at least 36×36, got 35×84"):
        make_encoder("nature", (4, 35, 84))
    with pytest.raises(ValueError, match="at least 8×8"):
        ImpalaCNN((4, 7, 84))
    with pytest.raises(ValueError, match="at least 3×3"):
        MinAtarCNN((4, 10, 2))
    for network in (NatureCNN, ImpalaCNN, MinAtarCNN):
        with pytest.raises(ValueError, match=rf"{network.__name__} must be \[channels, height, width\]"):
            network((84, 84))
        with pytest.raises(ValueError, match="features must be at least 1"):
            network((4, 84, 84), features=0)
    with pytest.raises(ValueError, match="padding must be 'valid' or 'same', got 'full'"):
        NatureCNN(padding="full")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"init must be one of torch, .*, orthogonal, got 'zeros'"):
        MLP(3, init="zeros")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"in_features and hidden must be at least 1, got 3 and \[0\]"):
        MLP(3, (0,))


@pytest.mark.slow
def test_no_operation_of_forward_breaks_a_compiled_graph() -> None:
    for name in ("nature", "dopamine", "impala"):
        encoder = make_encoder(name, (36, 36, 3))
        network = QNetwork(encoder, ScalarHead(ActionStreams(encoder.out_features, 3, hidden=8, dueling=True)))
        x = images(2, 36, 36, 3)
        compiled = torch.compile(network, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(x), network(x))


@pytest.mark.parametrize("pixels", [torch.randint(256, (3, 1, 40, 36), dtype=torch.uint8), torch.rand(1, 1, 40, 36)])
@pytest.mark.parametrize("autocast", [False, True])
def test_one_channel_lies_channels_last_too(pixels: torch.Tensor, autocast: bool) -> None:
    """Which only its stride tells; a first convolution takes five times as long for its gradient in the other order."""
    shown = pixels[:, :, ::2].expand(-1, 1, -1, -1)  # of any strides
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        scaled = pixels_to_float(shown)
        maps = torch.nn.Conv2d(1, 2, 3)(scaled)
    assert scaled.stride() == (20 * 36, 1, 36, 1)
    assert maps.is_contiguous(memory_format=torch.channels_last)
    expected = shown.float() / (255 if pixels.dtype == torch.uint8 else 1)
    torch.testing.assert_close(scaled.float(), expected, rtol=0, atol=4e-3 if autocast else 0)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, FEW_CHANNELS + 1), st.integers(25, 45), st.integers(20, 45)),
    cut=st.sampled_from([(slice(None),), (slice(None), slice(None), slice(1, None)), (slice(1, None),)]),
    is_transposed=st.booleans(),
)
@example(shape=(2, 4, 84, 84), cut=(slice(None),), is_transposed=False)
@example(shape=(2, FEW_CHANNELS, 25, 40), cut=(slice(None),), is_transposed=False)
def test_bytes_reordered_channel_by_channel_are_those_of_pytorch_s_copy(
    shape: tuple[int, int, int, int], cut: tuple[slice, ...], is_transposed: bool
) -> None:
    """Also their strides, on which it depends which convolution PyTorch chooses."""
    pixels = torch.randint(256, shape, dtype=torch.uint8)
    pixels = (pixels.transpose(2, 3) if is_transposed else pixels)[cut]
    plain = pixels.contiguous(memory_format=torch.channels_last)
    fast, expected = pixels_to_float(pixels), pixels_to_float(plain)  # which is in order already
    assert fast.stride() == expected.stride()
    assert torch.equal(fast, expected)
    assert torch.equal(fast, plain.to(torch.float32).div_(255))


@pytest.mark.parametrize(
    ("shape", "dtype", "compiles", "is_by_channel"),
    [
        ((2, 4, 84, 84), torch.uint8, False, True),
        ((2, 4, 84, 84), torch.uint8, True, False),  # an exported file keeps the plain copy
        ((2, 4, 84, 84), torch.float32, False, False),
        ((2, 4, 10, 10), torch.uint8, False, False),
        ((2, FEW_CHANNELS + 1, 84, 84), torch.uint8, False, False),
    ],
)
def test_only_large_images_of_bytes_are_reordered_channel_by_channel(
    shape: tuple[int, ...], dtype: torch.dtype, compiles: bool, is_by_channel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiles)
    with Operations() as operations:
        pixels_to_float(torch.zeros(shape, dtype=dtype))
    assert operations.computing["cat"] + operations.computing["stack"] == is_by_channel
    assert operations.computing["clone"] == (not is_by_channel)


def test_pixels_are_scaled_exactly_and_lie_channels_last() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 4, 8, 8)
    scaled = pixels_to_float(pixels)
    assert torch.equal(scaled, pixels.float() / 255)
    assert scaled.is_contiguous(memory_format=torch.channels_last)
    floats = torch.rand(2, 3, 5, 5)
    kept = floats.clone()
    assert torch.equal(pixels_to_float(floats), kept)
    assert torch.equal(floats, kept)  # what is handed in stays as it is
    vectors = torch.tensor([[0, 51, 255]], dtype=torch.uint8)
    assert pixels_to_float(vectors).tolist() == [[0.0, pytest.approx(0.2), 1.0]]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(pixels_to_float(pixels), (pixels.float() / 255).bfloat16())

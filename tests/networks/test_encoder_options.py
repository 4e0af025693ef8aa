"""The encoders' options: width, adaptive pooling and layer normalisation; and data-efficient Rainbow's encoder."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pixelq.networks import MLP, ActionStreams, ImpalaCNN, MinAtarCNN, NatureCNN, QNetwork, ScalarHead, make_encoder
from pixelq.networks.cnn import DataEfficientCNN
from pixelq.networks.encoders import ENCODERS
from tests.support.cases import representative


@pytest.fixture(autouse=True)
def _seed_and_one_thread() -> Iterator[None]:
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def images(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# ---- the defaults are the networks that they were -------------------------------------------------------------------


def plain_impala() -> nn.Module:
    class Block(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            first, second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
            self.layers = nn.Sequential(nn.ReLU(), first, nn.ReLU(), second)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.layers(x)  # type: ignore[no-any-return]

    layers: list[nn.Module] = []
    for fan_in, filters in itertools.pairwise((4, 16, 32, 32)):
        layers += [nn.Conv2d(fan_in, filters, 3, padding=1), nn.MaxPool2d(3, stride=2, padding=1)]
        layers += [Block(filters), Block(filters)]
    return nn.ModuleDict({"convolutions": nn.Sequential(*layers, nn.ReLU())})


def plain_nature() -> nn.Module:
    convolutions = [nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Conv2d(64, 64, 3)]
    dense = nn.Sequential(nn.Linear(64 * 2 * 3, 32), nn.ReLU())
    return nn.ModuleDict({"convolutions": nn.Sequential(*convolutions, nn.ReLU()), "dense": dense})


PLAIN = {
    "nature": (plain_nature, lambda: NatureCNN((4, 44, 52), 32)),
    "impala": (plain_impala, lambda: ImpalaCNN((4, 44, 52), features=None)),
    "minatar": (
        lambda: nn.ModuleDict({"convolutions": nn.Sequential(nn.Conv2d(4, 16, 3), nn.ReLU())}),
        lambda: MinAtarCNN((4, 44, 52), None),
    ),
    "mlp": (
        lambda: nn.ModuleDict({"layers": nn.Sequential(nn.Linear(9152, 8), nn.ReLU(), nn.Linear(8, 3), nn.ReLU())}),
        lambda: MLP(9152, (8, 3)),
    ),
}


@pytest.mark.parametrize("name", PLAIN)
def test_defaults_have_the_names_and_seeded_weights_of_plain_modules(name: str) -> None:
    make_plain, make = PLAIN[name]
    torch.manual_seed(7)
    plain = make_plain()
    torch.manual_seed(7)
    network = make()
    assert list(plain.state_dict()) == list(network.state_dict())
    for key, value in plain.state_dict().items():
        assert torch.equal(value, network.state_dict()[key]), key
    x = images(2, 4, 44, 52)
    # In the order in memory that the encoders take, so that sums are added up in the same one.
    ordered = (x / 255).contiguous(memory_format=torch.channels_last)
    expected = ordered if name != "mlp" else (x / 255).flatten(1)
    for part in plain.children():
        expected = part(expected if part is not plain._modules.get("dense") else expected.flatten(1))
    assert torch.equal(network(x), expected.flatten(1))


# ---- width and adaptive pooling -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "maps"),
    representative(  # halved three times, rounded up
        [((84, 84), (11, 11)), ((61, 40), (8, 5)), ((9, 17), (2, 3)), ((8, 8), (1, 1))],
        keep=[((61, 40), (8, 5)), ((8, 8), (1, 1))],
    ),
)
@pytest.mark.parametrize(("width", "pool"), representative([(1, 6), (2, 6), (1, 8), (1, 1)], keep=[(2, 6), (1, 1)]))
def test_adaptive_pool(size: tuple[int, int], maps: tuple[int, int], width: int, pool: int) -> None:
    network = ImpalaCNN((1, *size), width, None, adaptive_pool=pool)
    unpooled = ImpalaCNN((1, *size), width, None)
    unpooled.load_state_dict(network.state_dict())
    x = images(2, 1, *size)
    channels = 32 * width
    assert network.out_features == channels * pool**2
    before = unpooled(x).detach().numpy().reshape(2, channels, *maps)
    expected = np.empty((2, channels, pool, pool), np.float32)
    windows = [[slice(i * n // pool, -(-(i + 1) * n // pool)) for i in range(pool)] for n in maps]
    for (i, rows), (j, columns) in itertools.product(enumerate(windows[0]), enumerate(windows[1])):
        expected[:, :, i, j] = before[:, :, rows, columns].max((-1, -2))
    np.testing.assert_array_equal(network(x).detach().numpy(), expected.reshape(2, -1))


def test_parameter_counts() -> None:
    def convolutions(width: int) -> int:
        filters = [4, 16 * width, 32 * width, 32 * width]
        opening = sum(i * 9 * o + o for i, o in itertools.pairwise(filters))
        return opening + sum(4 * (f * 9 * f + f) for f in filters[1:])

    btr = ImpalaCNN((4, 84, 84), 2, None, spectral_norm=True, adaptive_pool=6)
    assert btr.out_features == 2304
    assert num_parameters(btr) == convolutions(2) == 389_024
    normed = ImpalaCNN((4, 84, 84), 1, 256, adaptive_pool=6, layer_norm=True)
    norms = 2 * (4 * (16 + 32 + 32) + 32 + 256)  # scale and shift: 4 in each stage, the last images, the dense layer
    assert num_parameters(normed) == convolutions(1) + (32 * 36 * 256 + 256) + norms
    nature = NatureCNN(features=512, layer_norm=True)
    assert num_parameters(nature) - num_parameters(NatureCNN(features=512)) == 2 * (32 + 64 + 64 + 512)
    assert num_parameters(MLP(3, (5, 7), layer_norm=True)) == (3 * 5 + 5) + (5 * 7 + 7) + 2 * (5 + 7)


# ---- layer normalisation --------------------------------------------------------------------------------------------


# ReLUs: Nature's and Dopamine's convolutions, IMPALA's 2 in each of 6 blocks and its last; then the dense layer's.
@pytest.mark.parametrize(
    ("name", "count"),
    [("nature", 4), ("dopamine", 4), ("impala", 14), ("minatar", 2), ("der", 3), ("compact", 3), ("mlp", 2)],
)
def test_layer_norm_gives_each_relu_mean_zero_and_variance_one(name: str, count: int) -> None:
    network = make_encoder(name, (2, 40, 44), hidden=(64, 32), features=64, layer_norm=True)
    norms = [module for module in network.modules() if isinstance(module, nn.GroupNorm | nn.LayerNorm)]
    for norm in norms:
        norm.eps = 0  # so that the variance is 1 and not s / (s + ε)
    seen: list[Tensor] = []
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().flatten(1)))
    network(images(3, 2, 40, 44))
    assert len(seen) == len(norms) == count
    for x in seen:
        torch.testing.assert_close(x.mean(1), torch.zeros(3), atol=1e-5, rtol=0)
        torch.testing.assert_close(x.var(1, unbiased=False), torch.ones(3), atol=1e-4, rtol=0)


def test_layer_norm_scales_and_shifts_each_channel() -> None:
    network = MinAtarCNN((2, 10, 10), None, layer_norm=True)
    convolution, norm, _ = network.convolutions
    assert isinstance(norm, nn.GroupNorm)
    scale, shift = nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    x = images(3, 2, 10, 10)
    maps = convolution(x / 255).detach().double().numpy()
    mean, variance = maps.mean((1, 2, 3), keepdims=True), maps.var((1, 2, 3), keepdims=True)
    scale, shift = (values.detach().numpy()[:, None, None] for values in (scale, shift))
    expected = np.maximum((maps - mean) / np.sqrt(variance + 1e-5) * scale + shift, 0).reshape(3, -1)
    np.testing.assert_allclose(network(x).detach().numpy(), expected, atol=1e-5)


def test_layer_norm_leaves_the_residual_sum_alone() -> None:
    network = make_encoder("impala", (2, 24, 24), layer_norm=True)
    block = network.convolutions[2]
    last = block.layers[-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    x = torch.randn(2, 16, 12, 12)
    assert torch.equal(block(x), x)


# ---- all of them together -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("name", sorted(set(ENCODERS) - {"auto"}))
def test_every_parameter_gets_a_gradient(name: str, layer_norm: bool) -> None:
    options = {"width": 2, "spectral_norm": True, "adaptive_pool": 2} if name == "impala" else {}
    network = make_encoder(name, (2, 40, 40), hidden=(32, 16), features=32, layer_norm=layer_norm, **options)  # type: ignore[arg-type]
    out = network(images(8, 2, 40, 40))
    (out * torch.randn_like(out)).sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().max() > 1e-6, key


@pytest.mark.slow
def test_options_do_not_break_a_compiled_graph() -> None:
    encoder = make_encoder("impala", (2, 24, 24), spectral_norm=True, adaptive_pool=2, layer_norm=True)
    network = QNetwork(encoder, ScalarHead(ActionStreams(encoder.out_features, 3, hidden=8)))
    x = images(2, 2, 24, 24)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), network(x))


def test_data_efficient_cnn() -> None:
    network = DataEfficientCNN((4, 84, 84), None)
    count = (4 * 25 * 32 + 32) + (32 * 25 * 64 + 64)
    assert num_parameters(network) == count == 54_496
    assert num_parameters(DataEfficientCNN((4, 84, 84))) == count + 576 * 256 + 256
    x = images(2, 4, 84, 84)
    h = x.double().numpy() / 255
    for layer, size in ((network.convolutions[0], 16), (network.convolutions[2], 3)):  # 84 → 16 → 3
        # Kernel and stride are alike, so a convolution is a matrix product for each patch.
        patches = h[:, :, : size * 5, : size * 5].reshape(2, -1, size, 5, size, 5)
        weight, bias = (p.detach().double().numpy() for p in (layer.weight, layer.bias))
        h = np.maximum(np.einsum("bcyixj,fcij->bfyx", patches, weight) + bias[:, None, None], 0)
    assert network.out_features == h[0].size == 576
    np.testing.assert_allclose(network(x).detach().numpy(), h.reshape(2, -1), atol=1e-5)
    assert isinstance(make_encoder("der", (4, 84, 84)), DataEfficientCNN)
    assert make_encoder("der", (4, 26, 74)).out_features == 64 * 1 * 2  # 26 → 5 → 1 and 74 → 14 → 2
    assert make_encoder("der", (4, 25, 25), features=9)(images(1, 4, 25, 25)).shape == (1, 9)


def test_errors_say_what_is_wrong() -> None:
    options = ({"width": 2}, {"spectral_norm": True}, {"adaptive_pool": 6})
    for name, kwargs in itertools.product(set(ENCODERS) - {"auto", "impala"}, options):
        (option,) = kwargs
        with pytest.raises(ValueError, match=rf"^encoder must be 'impala' to use {option}, got '{name}'$"):
            make_encoder(name, (4, 84, 84), **kwargs)  # type: ignore[arg-type]
    for shape, name in (((4, 84, 84), "nature"), ((4, 10, 10), "minatar"), ((4,), "mlp")):  # what "auto" comes to
        with pytest.raises(ValueError, match=f"'impala' to use spectral_norm, got '{name}'"):
            make_encoder("auto", shape, spectral_norm=True)
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        make_encoder("impala", (4, 84, 84), width=0)
    for pool in (0, -1):
        with pytest.raises(ValueError, match=f"adaptive_pool must be at least 1, got {pool}; use None"):
            make_encoder("impala", (4, 84, 84), adaptive_pool=pool)
    with pytest.raises(ValueError, match="images for DataEfficientCNN must be at least 25×25, got 24×84"):
        make_encoder("der", (4, 24, 84))
    with pytest.raises(ValueError, match=r"DataEfficientCNN must be \[channels, height, width\], got \[84, 84\]"):
        DataEfficientCNN((84, 84))
    assert make_encoder("impala", (4, 24, 24), width=3, adaptive_pool=1).out_features == 32 * 3
    assert math.prod(make_encoder("mlp", (4, 4), hidden=5, layer_norm=True)(images(2, 4, 4)).shape) == 10


@pytest.mark.parametrize(
    ("name", "init", "variance"),
    [
        ("nature", "he", lambda fan_in, fan_out: 2 / fan_in),
        ("nature", None, lambda fan_in, fan_out: 1 / (3 * fan_in)),
        ("dopamine", None, lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
        ("dopamine", "he", lambda fan_in, fan_out: 2 / fan_in),
        ("der", "he", lambda fan_in, fan_out: 2 / fan_in),
        ("hadamax", None, lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
        ("hadamax", "he", lambda fan_in, fan_out: 2 / fan_in),
    ],
)
def test_added_layers_are_initialised_as_the_encoder_is(
    name: str, init: Any, variance: Callable[[int, int], float]
) -> None:
    torch.manual_seed(0)
    encoder = make_encoder(name, (4, 84, 84), layers=(200,), init=init)
    (layer,) = (each for each in encoder.modules() if isinstance(each, nn.Linear))
    fan_out, fan_in = layer.weight.shape
    assert layer.weight.std().item() == pytest.approx(variance(fan_in, fan_out) ** 0.5, rel=0.02)
    assert (layer.bias.abs().max() == 0) == ((name, init) != ("nature", None))


def test_weights_that_are_divided_by_their_norm_have_the_encoders_own_initialisation() -> None:
    with pytest.raises(ValueError, match=r"init must be None with spectral_norm, .*, got 'he'"):
        make_encoder("impala", (4, 84, 84), spectral_norm=True, init="he")

"""Spectral normalisation against exact singular values, and what it leaves alone."""

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pixelq.networks import ImpalaCNN, make_encoder
from pixelq.networks.base import Encoder, SpectralNorm, with_spectral_norm


@pytest.fixture(autouse=True)
def _seed_and_one_thread() -> Iterator[None]:
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def images(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def btr_encoder(layer_norm: bool = False) -> Encoder:
    return make_encoder("impala", (2, 24, 24), spectral_norm=True, adaptive_pool=2, layer_norm=layer_norm)


def normalised(network: nn.Module) -> dict[str, nn.Conv2d]:
    """The convolutions under spectral normalisation, by name."""
    modules = network.named_modules()
    return {k: m for k, m in modules if isinstance(m, nn.Conv2d) and hasattr(m, "parametrizations")}


def singular_value(weight: Tensor) -> float:
    """The largest one of a weight [out, in, k, k] as a matrix [out, in · k · k], exactly."""
    return float(np.linalg.svd(weight.detach().double().numpy().reshape(len(weight), -1), compute_uv=False)[0])


@torch.no_grad()  # with gradients, reading the weight would iterate
def effective(layer: nn.Conv2d) -> Tensor:
    return layer.weight


def raw(layer: nn.Conv2d) -> Tensor:
    return layer.get_parameter("parametrizations.weight.original").detach()


def same_state(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def train(network: nn.Module, steps: int, learning_rate: float = 1e-3) -> None:
    optimizer = torch.optim.Adam(network.parameters(), learning_rate)
    for _ in range(steps):
        optimizer.zero_grad()
        (network(images(4, 2, 24, 24)).mean() - 1).square().backward()
        optimizer.step()


def test_spectral_norm_is_on_the_residual_convolutions_and_leaves_their_seeded_weights() -> None:
    network = btr_encoder()
    blocks = (2, 3, 6, 7, 10, 11)  # after the convolution and the pooling of each stage
    assert list(normalised(network)) == [f"convolutions.{block}.layers.{layer}" for block in blocks for layer in (1, 3)]
    torch.manual_seed(5)
    plain = ImpalaCNN((2, 24, 24), features=None).state_dict()
    torch.manual_seed(5)
    spectral = btr_encoder().state_dict()
    for name, weight in plain.items():
        raw = name.replace(".weight", ".parametrizations.weight.original") if ".layers." in name else name
        assert torch.equal(weight, spectral[raw])


@pytest.mark.slow
def test_the_largest_singular_value_is_one() -> None:
    network = btr_encoder()
    layers = normalised(network).values()
    before = [raw(layer).clone() for layer in layers]
    for layer, weight in zip(layers, before, strict=True):
        sigma = singular_value(weight)
        assert abs(sigma - 1) > 0.05  # there is something to normalise
        assert singular_value(effective(layer)) == pytest.approx(1, abs=1e-5)
        torch.testing.assert_close(effective(layer), weight / sigma)
    train(network, 100, learning_rate=3e-3)
    for layer, weight in zip(layers, before, strict=True):
        assert (raw(layer) - weight).norm() > 0.1 * weight.norm()
        assert singular_value(effective(layer)) == pytest.approx(1, abs=0.01)  # one iteration an update keeps up


def test_power_iteration_finds_the_singular_vector_from_anywhere() -> None:
    layer = with_spectral_norm(nn.Conv2d(8, 16, 3))
    v = layer.get_buffer("parametrizations.weight.0.v")
    v.copy_(nn.functional.normalize(torch.randn(8 * 3 * 3), dim=0))
    assert singular_value(effective(layer)) > 1.1
    for _ in range(300):
        layer(torch.zeros(1, 8, 3, 3))
    assert singular_value(effective(layer)) == pytest.approx(1, abs=1e-4)
    assert v.norm().item() == pytest.approx(1, abs=1e-5)


def test_gradient_of_spectral_norm_is_that_through_the_exact_norm() -> None:
    weight = torch.randn(6, 4, 3, 3, dtype=torch.float64)
    coefficients = torch.randn_like(weight)
    approximate, exact = (weight.clone().requires_grad_() for _ in range(2))
    norm = SpectralNorm(weight)
    first = norm(approximate)
    norm(approximate)  # a second pass before the first one's backward must not spoil it
    (first * coefficients).sum().backward()
    (exact / torch.linalg.matrix_norm(exact.flatten(1), 2) * coefficients).sum().backward()
    assert approximate.grad is not None
    torch.testing.assert_close(approximate.grad, exact.grad)


def test_passes_without_gradient_repeat_and_change_nothing() -> None:
    network = btr_encoder()
    train(network, 2, learning_rate=0.1)  # now the vectors lag behind the weights
    x = images(3, 2, 24, 24)
    state = copy.deepcopy(network.state_dict())
    with torch.no_grad():
        acting = network(x)
        assert torch.equal(acting, network(x))
    with torch.inference_mode():
        assert torch.equal(acting, network(x))
    target = copy.deepcopy(network).requires_grad_(False)
    assert torch.equal(acting, target(x))
    assert torch.equal(acting, target(x))
    network.eval()
    assert torch.equal(acting, network(x))
    assert same_state(state, network.state_dict())
    assert same_state(state, target.state_dict())

    network.train()(x)
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, state[name])}
    assert moved == {f"{name}.parametrizations.weight.0.v" for name in normalised(network)}
    assert not torch.equal(acting, network(x))


def test_target_network_is_copied_and_synchronised() -> None:
    network = btr_encoder(layer_norm=True)
    target = copy.deepcopy(network).requires_grad_(False)
    x = images(2, 2, 24, 24)
    state = copy.deepcopy(target.state_dict())
    train(network, 3, learning_rate=0.01)
    assert same_state(state, target.state_dict())  # nothing is shared
    with torch.no_grad():
        assert not torch.allclose(target(x), network(x))
        target.load_state_dict(network.state_dict())
        assert torch.equal(target(x), network(x))
    fresh = btr_encoder(layer_norm=True)
    fresh.load_state_dict(network.state_dict())
    assert same_state(fresh.state_dict(), network.state_dict())
    train(network, 1)
    assert same_state(fresh.state_dict(), target.state_dict())


def test_spectral_norm_stays_float32_under_autocast() -> None:
    layer = with_spectral_norm(nn.Conv2d(8, 16, 3))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.ones(1, 8, 3, 3)).dtype == torch.bfloat16
        weight = effective(layer)
    assert weight.dtype == torch.float32
    assert singular_value(weight) == pytest.approx(1, abs=1e-5)

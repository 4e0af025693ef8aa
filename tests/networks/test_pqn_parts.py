"""Channel norm, GELU, initialisations, Hadamax and HL-Gauss against formulas written separately in NumPy."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import integrate, stats
from torch import nn

from pixelq.agents import AgentConfig
from pixelq.agents.acting.network import make_network
from pixelq.networks import ActionStreams, CategoricalHead, ChannelNorm, DrawnFrom, HadamaxCNN, Target, make_encoder
from pixelq.networks.activations import activation_of
from pixelq.networks.base import initialize
from pixelq.networks.categorical import hl_gauss_target
from tests.support.cases import examples

Array = NDArray[np.float64]


def channel_norm(x: Array, scale: Array, shift: Array) -> Array:
    """Flax's LayerNorm of images [B, H, W, C]: its fast variance E[x²] − E[x]², ε 1e-6."""
    mean = x.mean(-1, keepdims=True)
    variance = (x**2).mean(-1, keepdims=True) - mean**2
    return (x - mean) / np.sqrt(variance + 1e-6) * scale + shift


def gelu(x: Array) -> Array:
    """jax.nn.gelu with its default, approximate=True."""
    return x * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def test_channel_norm_is_flax_layer_norm_of_channels_last_images() -> None:
    rng = np.random.default_rng(0)
    x, scale, shift = rng.normal(3, 2, (2, 5, 4, 6)), rng.normal(size=6), rng.normal(size=6)
    x[0, 0, 0] = 1.0 + 1e-3 * rng.normal(size=6)  # where ε counts
    norm = ChannelNorm(6).double()
    with torch.no_grad():
        norm.norm.weight.copy_(torch.from_numpy(scale))
        norm.norm.bias.copy_(torch.from_numpy(shift))
        images = torch.from_numpy(x).permute(0, 3, 1, 2)  # channels-last in memory
        out = norm(images)
    np.testing.assert_allclose(out.permute(0, 2, 3, 1).numpy(), channel_norm(x, scale, shift), rtol=1e-9)
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_gelu_is_the_form_with_tanh() -> None:
    x = np.linspace(-5, 5, 101)
    np.testing.assert_allclose(activation_of("gelu")(torch.from_numpy(x)).numpy(), gelu(x), atol=1e-12)


@pytest.mark.parametrize("head", ["implicit", "fqf"])
def test_fractions_are_embedded_with_the_activation(head: Any) -> None:
    config = AgentConfig(encoder="mlp", hidden=8, head=head, activation="gelu")
    embedding: Any = make_network((4,), 3, config, seed=0).get_submodule("head.embedding")
    tau = torch.rand(2, 5)
    linear = embedding.linear(torch.cos(tau[..., None] * embedding.order)).double()
    expected = gelu(linear.detach().numpy())
    np.testing.assert_allclose(embedding(tau).detach().numpy(), expected, atol=1e-6)
    assert expected.min() < -0.1


@pytest.mark.parametrize(("channel_norm", "groups"), [(False, 1), (True, 0)])
def test_each_kind_of_norm_is_before_each_activation(channel_norm: bool, groups: int) -> None:
    config = AgentConfig(channel_norm=channel_norm, layer_norm=not channel_norm, hidden=16, activation="gelu")
    network = make_network((4, 84, 84), 3, config, seed=0)
    kinds = [type(module) for module in network.modules()]
    assert kinds.count(nn.GroupNorm) == 3 * groups
    assert kinds.count(ChannelNorm) == 3 * (1 - groups)
    assert kinds.count(nn.GELU) == 3  # the head's is a function
    assert nn.ReLU not in kinds
    norms = [module for module in network.modules() if isinstance(module, nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {1e-6 if channel_norm else 1e-5}


@pytest.mark.parametrize(
    ("init", "variance"), [("he", 2 / 512), ("xavier_normal", 2 / (512 + 6400)), ("fan_in", 3**0.5 / 512 / 3)]
)
def test_initial_weights_have_their_variance(init: Any, variance: float) -> None:
    layer = nn.Conv2d(8, 100, 8)
    with DrawnFrom(torch.Generator().manual_seed(0)):
        initialize(layer, init)
    assert layer.weight.var().item() == pytest.approx(variance, rel=0.02)
    assert layer.bias is not None
    assert not layer.bias.any()
    if init != "fan_in":
        assert layer.weight.abs().max().item() <= 2 * variance**0.5 / 0.8796 * (1 + 1e-5)


def test_the_output_layer_of_he_has_half_the_variance() -> None:
    streams = ActionStreams(400, 50, hidden=400, init="he")
    hidden = streams.advantage.hidden
    assert isinstance(hidden, nn.Linear)
    assert hidden.weight.var().item() == pytest.approx(2 / 400, rel=0.03)
    assert streams.advantage.out.weight.var().item() == pytest.approx(1 / 400, rel=0.03)


def test_orthogonal_weights_are_orthogonal_with_gain_root_two() -> None:
    network = make_network((5,), 3, AgentConfig(encoder="mlp", hidden=8, initialization="orthogonal"), seed=0)
    weight = network.encoder.layers[0].weight.detach()  # type: ignore[union-attr, index]
    torch.testing.assert_close(weight.mT @ weight, 2 * torch.eye(5))


@pytest.mark.parametrize("fields", [{"initialization": "he"}, {"initialization": "orthogonal"}, {"encoder": "hadamax"}])
def test_a_seed_gives_the_weights_and_disturbs_nothing(fields: dict[str, Any]) -> None:
    config = AgentConfig(hidden=8, **fields)
    state = torch.get_rng_state()
    one, two = (list(make_network((1, 36, 36), 2, config, seed=3).parameters()) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert torch.equal(state, torch.get_rng_state())


# ---- Hadamax --------------------------------------------------------------------------------------------------------


def test_hadamax_has_the_sizes_of_its_authors() -> None:
    encoder = make_encoder("hadamax", (4, 84, 84))
    assert isinstance(encoder, HadamaxCNN)
    x, sizes = torch.zeros(1, 4, 84, 84), []
    for layer in encoder.blocks:
        x = layer(x)
        sizes += [list(x.shape[1:])] if isinstance(layer, nn.MaxPool2d) else []
    assert sizes == [[32, 21, 21], [64, 11, 11], [64, 11, 11]]
    assert encoder.out_features == 7744
    kernels = [tuple(m.weight.shape) for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    assert kernels == [(32, 4, 8, 8)] * 2 + [(64, 32, 4, 4)] * 2 + [(64, 64, 3, 3)] * 2


def test_the_deeper_hadamax_has_its_sizes() -> None:
    encoder = make_encoder("hadamax_deep", (4, 84, 84))
    assert isinstance(encoder, HadamaxCNN)
    convolutions = [m for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions[::2]] == [32, 48, 64, 64, 64]
    assert all(m.bias is None and m.kernel_size == (3, 3) for m in convolutions)
    assert encoder(torch.zeros(2, 4, 84, 84, dtype=torch.uint8)).shape == (2, 64 * 7 * 7) == (2, encoder.out_features)
    with pytest.raises(ValueError, match="at least 32×32, got 31×40"):
        make_encoder("hadamax_deep", (4, 31, 40))


def convolve(x: Array, kernel: Array, bias: Array) -> Array:
    """Stride 1, SAME: of the k − 1 zeros ⌊(k − 1) / 2⌋ come before. x [H, W, C], kernel [F, C, k, k]."""
    size = kernel.shape[-1]
    before, after = (size - 1) // 2, size // 2
    padded = np.pad(x, ((before, after), (before, after), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (0, 1))  # [H, W, C, k, k]
    return np.einsum("hwckl,fckl->hwf", windows, kernel) + bias


def pool(x: Array, size: int, stride: int) -> Array:
    """SAME max-pooling of [H, W, C]: what is missing is added after, or half of it before."""
    out = [-(-side // stride) for side in x.shape[:2]]
    missing = [max((n - 1) * stride + size - side, 0) for n, side in zip(out, x.shape[:2], strict=True)]
    padded = np.pad(x, [*((m // 2, m - m // 2) for m in missing), (0, 0)], constant_values=-np.inf)
    rows, columns = (range(0, n * stride, stride) for n in out)
    return np.array([[padded[i : i + size, j : j + size].max((0, 1)) for j in columns] for i in rows])


def test_hadamax_computes_products_and_maxima() -> None:
    encoder = HadamaxCNN((2, 13, 10), 7).double()
    x = np.random.default_rng(0).normal(size=(13, 10, 2))
    weights = {name: tensor.detach().numpy() for name, tensor in encoder.state_dict().items()}
    names = sorted({name.split(".")[1] for name in weights if name.startswith("blocks")}, key=int)
    y = x
    for name, (size, stride) in zip(names, ((4, 4), (2, 2), (3, 1)), strict=True):
        sides = []
        for side in ("left", "right"):
            at = f"blocks.{name}.{side}"
            maps = convolve(y, weights[f"{at}.0.weight"], weights[f"{at}.0.bias"])
            sides.append(gelu(channel_norm(maps, weights[f"{at}.1.norm.weight"], weights[f"{at}.1.norm.bias"])))
        y = pool(sides[0] * sides[1], size, stride)
    flat = y.transpose(2, 0, 1).reshape(-1)
    dense = weights["dense.0.weight"] @ flat + weights["dense.0.bias"]
    expected = gelu(channel_norm(dense, weights["dense.1.weight"], weights["dense.1.bias"]))
    images = torch.from_numpy(x).permute(2, 0, 1)[None]
    encoder.blocks.double()
    maps = encoder.blocks(images).flatten(1)
    np.testing.assert_allclose(maps[0].detach().numpy(), flat, atol=1e-9)
    np.testing.assert_allclose(encoder.dense(maps)[0].detach().numpy(), expected, atol=1e-9)


# ---- HL-Gauss -------------------------------------------------------------------------------------------------------


@settings(max_examples=examples(40), deadline=None)
@given(st.floats(-15, 15), st.integers(2, 60), st.floats(0.2, 3))
def test_smeared_targets_are_integrals_of_the_normal_density(target: float, bins: int, ratio: float) -> None:
    edges = np.linspace(-10, 10, bins + 1)
    sigma = ratio * 20 / bins
    found = hl_gauss_target(torch.tensor([target], dtype=torch.float64), torch.from_numpy(edges), sigma)[0].numpy()
    centre = np.clip(target, -10, 10)
    density = stats.norm(centre, sigma).pdf
    mass = [integrate.quad(density, low, high, epsabs=1e-12)[0] for low, high in pairwise(edges)]
    np.testing.assert_allclose(found, np.array(mass) / sum(mass), atol=1e-8)
    if abs(target) < 10 - 6 * sigma:
        centres = (edges[1:] + edges[:-1]) / 2
        assert found @ centres == pytest.approx(target, abs=2e-2 * 20 / bins if ratio > 0.5 else 20 / bins)


def test_the_mean_of_a_smeared_target_is_the_target() -> None:
    """51 bins on ±10, σ of 0.75 bins: 0.294 (Farebrother et al. 2024)."""
    head = CategoricalHead(ActionStreams(3, 2, 51), loss="hl_gauss")
    assert head.sigma == pytest.approx(0.294, abs=2e-4)
    assert head.support[0].item() == pytest.approx(-10 + 10 / 51)
    target = torch.linspace(-8, 8, 101)
    means = (hl_gauss_target(target, head.edges, head.sigma) * head.support).sum(-1)
    torch.testing.assert_close(means, target, atol=2e-4, rtol=0)


@pytest.mark.parametrize("loss", ["projection", "hl_gauss"])
def test_a_distribution_that_is_certain_is_a_number(loss: Any) -> None:
    """Where nothing follows, the loss to a distribution is the loss to a return."""
    head = CategoricalHead(ActionStreams(3, 2, 11), loss=loss)
    value, action, target = torch.randn(4, 2, 11), torch.tensor([0, 1, 1, 0]), torch.tensor([-20.0, 0.3, 2.0, 9.9])
    policy = torch.tensor([[1.0, 0.0]]).expand(4, 2)
    whole = head.loss(value, Target(action, target, torch.zeros(4), torch.randn(4, 2, 11), policy))
    for one, two in zip(whole, head.loss_to(value, action, target), strict=True):
        torch.testing.assert_close(one, two)


def test_hl_gauss_learns_the_expected_value_of_what_follows() -> None:
    head = CategoricalHead(ActionStreams(3, 2, 21), -5.0, 5.0, loss="hl_gauss")
    value, following = torch.randn(2, 3, 2, 21)
    action, reward = torch.tensor([0, 1, 1]), torch.tensor([0.5, -1.0, 0.0])
    discount, policy = torch.tensor([0.9, 0.0, 0.5]), torch.tensor([[0.3, 0.7], [1.0, 0.0], [0.0, 1.0]])
    found = head.loss(value, Target(action, reward, discount, following, policy))
    centres = -5 + 10 / 21 * (np.arange(21) + 0.5)
    chances = np.exp(following.double().numpy())
    q = (chances / chances.sum(-1, keepdims=True)) @ centres  # [B, A]
    target = reward.numpy() + discount.numpy() * (policy.numpy() * q).sum(-1)
    edges, sigma = np.linspace(-5, 5, 22), 0.75 * 10 / 21
    mass = np.diff(stats.norm.cdf(edges, target[:, None], sigma))
    mass /= mass.sum(-1, keepdims=True)
    logits = value.double().numpy()[np.arange(3), action.numpy()]
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    np.testing.assert_allclose(found.loss.numpy(), -(mass * logs).sum(-1), rtol=1e-5)
    np.testing.assert_allclose(found.q.numpy(), np.exp(logs) @ centres, atol=1e-5)

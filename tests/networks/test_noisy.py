"""Noisy layers: the noise's rank, distribution and independence, and the layer against float64 numpy."""

import math

import numpy as np
import pytest
import torch

from pixelq.networks import (
    ActionStreams,
    CategoricalHead,
    ImplicitHead,
    NoisyLinear,
    QuantileHead,
    ScalarHead,
)
from pixelq.networks.noisy import LayerNoise
from tests.support import reference as ref


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weights_under(layer: NoisyLinear, noise: LayerNoise) -> torch.Tensor:
    """The weight matrix [R, out, in] that each row of noise makes, read off the layer's outputs alone."""
    rows, basis = len(noise.input), torch.eye(layer.in_features, dtype=layer.weight.dtype)
    columns = [layer(basis[i].expand(rows, -1), noise) for i in range(layer.in_features)]
    at_zero = layer(torch.zeros(rows, layer.in_features, dtype=layer.weight.dtype), noise)
    return torch.stack(columns, -1) - at_zero.unsqueeze(-1)


@pytest.mark.parametrize("rows", [1, 4])
def test_the_layer_equals_its_equation_in_numpy(rows: int) -> None:
    layer = NoisyLinear(6, 5).double()
    with torch.no_grad():  # sigmas that differ from entry to entry
        layer.weight_sigma.uniform_(-1, 1)
        layer.bias_sigma.uniform_(-1, 1)
    noise = LayerNoise(*(part.double() for part in layer.draw_noise(rows, generator())))
    x = torch.randn(4, 6, dtype=torch.float64)
    mu, sigma, bias, bias_sigma = (
        p.detach().numpy() for p in (layer.weight, layer.weight_sigma, layer.bias, layer.bias_sigma)
    )
    expected = []
    for b in range(4):
        drawn = (part[b % rows].numpy() * np.abs(part[b % rows].numpy()) for part in noise)  # f is the signed root
        expected.append(ref.noisy_linear(x[b : b + 1].numpy(), mu, sigma, bias, bias_sigma, *drawn)[0])
    np.testing.assert_allclose(layer(x, noise).detach().numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(layer(x).detach().numpy(), x.numpy() @ mu.T + bias, atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 6), (4, 3, 6)])
def test_a_row_of_noise_each_equals_one_noise_at_a_time(shape: tuple[int, ...]) -> None:
    layer, x = NoisyLinear(6, 5), torch.randn(shape)
    noise = layer.draw_noise(4, generator())
    together = layer(x, noise)
    for b in range(4):
        alone = layer(x[b : b + 1], LayerNoise(noise.input[b : b + 1], noise.output[b : b + 1]))
        torch.testing.assert_close(together[b : b + 1], alone, rtol=0, atol=1e-6)


def test_the_noise_has_rank_one_in_each_layer_and_differs_between_environments() -> None:
    layer = NoisyLinear(8, 7).double()
    noise = LayerNoise(*(part.double() for part in layer.draw_noise(5, generator())))
    shift = (weights_under(layer, noise) - layer.weight).detach() / layer.weight_sigma.detach()  # ε_w, [5, 7, 8]
    assert torch.linalg.matrix_rank(shift, atol=1e-9).tolist() == [1] * 5
    for one in range(5):
        for other in range(one):
            assert (shift[one] - shift[other]).abs().max() > 0.1


def test_the_noise_is_the_signed_root_of_a_standard_normal() -> None:
    noise = NoisyLinear(300, 200).draw_noise(400, generator())
    for part, width in zip(noise, (300, 200), strict=True):
        assert part.shape == (400, width)
        normal = part.sign() * part.square()  # f⁻¹
        count = normal.numel()
        assert abs(normal.mean()) < 5 / math.sqrt(count)
        assert normal.var().item() == pytest.approx(1, abs=10 / math.sqrt(count))
        assert normal.pow(4).mean().item() == pytest.approx(3, abs=50 / math.sqrt(count))
    assert abs((noise.input[:, :200] * noise.output).mean()) < 5 / math.sqrt(400 * 200)  # inputs and outputs apart


def test_initial_values_are_the_papers() -> None:
    layer = NoisyLinear(400, 300, sigma=0.5)
    assert layer.weight.abs().max().item() == pytest.approx(1 / 20, rel=1e-3)
    assert layer.weight.std().item() == pytest.approx(1 / 20 / math.sqrt(3), rel=0.01)
    assert layer.bias.abs().max().item() <= 1 / 20
    torch.testing.assert_close(layer.weight_sigma.detach(), torch.full((300, 400), 0.025))
    torch.testing.assert_close(layer.bias_sigma.detach(), torch.full((300,), 0.025))


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("make", [ScalarHead, CategoricalHead, QuantileHead, ImplicitHead])
def test_every_layer_of_every_head_is_noisy_and_greedy_without_noise(make: type, dueling: bool) -> None:
    outputs = 1 if make in (ScalarHead, ImplicitHead) else 6
    head = make(ActionStreams(9, 3, outputs, hidden=8, dueling=dueling, noisy_sigma=0.5))
    features = torch.randn(4, 9)
    noise = head.streams.draw_noise(1, generator())
    assert noise is not None
    layers = [part for stream in noise if stream is not None for part in stream]
    assert len(layers) == (4 if dueling else 2)
    greedy = head.q(head(features))
    assert torch.equal(greedy, head.q(head(features)))
    noisy = head.q(head(features, noise))
    assert torch.equal(noisy, head.q(head(features, noise)))  # the noise is an argument: nothing else is drawn
    assert (noisy - greedy).abs().min() > 1e-6
    for at in range(len(layers)):  # each layer's noise matters
        silent = iter(LayerNoise(*(part * (i != at) for part in layer)) for i, layer in enumerate(layers))
        changed = type(noise)(
            *(None if stream is None else type(stream)(*(next(silent) for _ in stream)) for stream in noise)
        )
        assert not torch.allclose(head.q(head(features, changed)), noisy, atol=1e-7)


def test_plain_streams_have_no_noise() -> None:
    assert ActionStreams(4, 2).draw_noise(3) is None


def test_the_noise_comes_from_the_generator_alone() -> None:
    layer = NoisyLinear(4, 3)
    state = torch.random.get_rng_state()
    one, two = layer.draw_noise(2, generator(1)), layer.draw_noise(2, generator(1))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one.input, layer.draw_noise(2, generator(2)).input)
    assert torch.equal(state, torch.random.get_rng_state())

"""Global contrast normalisation of images, against its formula in double precision."""

import numpy as np
import pytest
import torch

from pixelq.agents import AgentConfig
from pixelq.agents.acting.network import make_network
from pixelq.networks import make_encoder
from pixelq.networks.norms import ContrastNorm


def test_each_image_has_mean_zero_and_variance_one_over_channels_and_pixels() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4, 5, 6)) * np.array([0.01, 1.0, 20.0]).reshape(3, 1, 1, 1) + 7.0
    over = (1, 2, 3)
    expected = (x - x.mean(over, keepdims=True)) / np.sqrt(x.var(over, keepdims=True) + 1e-3)
    images = torch.from_numpy(x).contiguous(memory_format=torch.channels_last)
    out = ContrastNorm()(images)
    np.testing.assert_allclose(out.numpy(), expected, rtol=1e-9, atol=1e-9)
    assert out.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(out.numpy().std(over), [0.3, 1.0, 1.0], atol=0.02)  # 0.01 / √(0.01² + 0.001) = 0.3


def test_an_image_of_one_grey_becomes_zero() -> None:
    assert not ContrastNorm()(torch.full((2, 1, 8, 8), 0.7)).any()


@pytest.mark.parametrize("name", ["nature", "impala", "compact", "hadamax"])
@pytest.mark.parametrize("shape", [(4, 40, 44), (40, 44, 4)], ids=["CHW", "HWC"])
def test_an_encoder_reads_normalised_pixels(name: str, shape: tuple[int, ...]) -> None:
    """Brightness and contrast change nothing but the share of ε; without the normalisation they change everything."""
    rng = np.random.default_rng(1)
    dark = torch.from_numpy(rng.integers(0, 100, (2, *shape), dtype=np.uint8))
    bright = dark * 2 + 50
    for normalised in (True, False):
        torch.manual_seed(0)
        encoder = make_encoder(name, shape, features=32, contrast_norm=normalised)
        with torch.no_grad():
            apart = float((encoder(dark) - encoder(bright)).abs().max() / encoder(dark).abs().max())
        assert (apart < 0.05) == normalised


def test_the_first_layer_sees_the_formula() -> None:
    torch.manual_seed(0)
    config = AgentConfig(encoder="minatar", hidden=8, contrast_norm=True)
    encoder = make_network((2, 10, 10), 3, config, seed=0).encoder
    images = torch.randint(0, 256, (5, 2, 10, 10), dtype=torch.uint8)
    scaled = images.double().numpy() / 255
    centred = scaled - scaled.mean((1, 2, 3), keepdims=True)
    expected = centred / np.sqrt(scaled.var((1, 2, 3), keepdims=True) + 1e-3)
    seen = []
    convolution = next(layer for layer in encoder.modules() if isinstance(layer, torch.nn.Conv2d))
    convolution.register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0]))
    encoder(images)
    np.testing.assert_allclose(seen[0].numpy(), expected, atol=1e-5)


def test_vectors_are_left_alone() -> None:
    vectors = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    encoders = []
    for normalised in (True, False):
        torch.manual_seed(0)
        encoders.append(make_encoder("auto", (4,), hidden=8, contrast_norm=normalised))
    torch.testing.assert_close(encoders[0](vectors), encoders[1](vectors), rtol=0, atol=0)

"""The initial weights of a seed: the same as ever, in whichever thread, and nobody else's draws are disturbed."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from pixelq.agents import PRESETS, preset
from pixelq.agents.acting.network import make_network
from tests.support.small_agents import filled, small

SHAPE = (4, 44, 44)


def weights(name: str, seed: int | None) -> dict[str, Tensor]:
    return dict(make_network(SHAPE, 3, small(preset(name)), seed).state_dict())


def from_the_global_generator(name: str, seed: int) -> dict[str, Tensor]:
    """The weights as the first version drew them."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return weights(name, None)


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize("name", PRESETS)
def test_a_seed_gives_the_weights_that_it_always_gave(name: str) -> None:
    before = torch.get_rng_state()
    ours = weights(name, 5)
    assert torch.equal(torch.get_rng_state(), before)
    assert_equal(ours, from_the_global_generator(name, 5))


def test_threads_do_not_mix_their_draws() -> None:
    alone = [weights("rainbow", seed) for seed in range(4)]
    torch.manual_seed(3)
    expected = torch.rand(2_000)
    torch.manual_seed(3)
    with ThreadPoolExecutor(8) as pool:
        made = [pool.submit(weights, "rainbow", i % 4) for i in range(48)]
        drawn = torch.stack([torch.rand(()) for _ in range(2_000)])
    for i, each in enumerate(made):
        assert_equal(each.result(), alone[i % 4])
    assert torch.equal(drawn, expected)


def test_a_reset_draws_from_its_own_seed() -> None:
    config = small(preset("classic"), reset_every=1)
    one, two = filled(config), filled(config)
    torch.manual_seed(1)
    one.reset_network()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        others = [pool.submit(weights, "rainbow", 1) for _ in range(8)]
        two.reset_network()
        for other in others:
            other.result()
    assert torch.equal(torch.get_rng_state(), before)
    assert_equal(dict(one.network.state_dict()), dict(two.network.state_dict()))

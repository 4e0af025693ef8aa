"""Which frames flicker: coins that seed and step decide, and places that move through the stack."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pixelq.envs.flicker import Flicker, uniform

MASK = 2**64 - 1


def splitmix64(place):
    """Output number `place` of the generator that starts at 0, in plain integers."""
    z = (place + 1) * 0x9E3779B97F4A7C15 & MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def test_the_generator_is_splitmix64():
    assert splitmix64(0) == 0xE220A8397B1DCDAF  # the first outputs from seed 0, as published with the algorithm
    assert splitmix64(1) == 0x6E789E6AA1B965F4


@given(st.lists(st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**32 - 1)), min_size=1, max_size=9))
def test_coins_are_a_function_of_seed_and_step(pairs):
    seeds, steps = np.array(pairs, np.int64).T
    expected = [(splitmix64((seed << 32) + step) >> 11) / 2**53 for seed, step in pairs]
    assert uniform(seeds, steps).tolist() == expected
    assert max(expected) < 1


def test_coins_of_neighbours_are_independent():
    seeds, steps = np.meshgrid(np.arange(40), np.arange(5000), indexing="ij")
    coins = uniform(seeds.ravel(), steps.ravel()).reshape(40, 5000)
    assert abs(coins.mean() - 0.5) < 4 * np.sqrt(1 / 12 / coins.size)
    assert abs((coins < 0.2).mean() - 0.2) < 4 * np.sqrt(0.16 / coins.size)
    for one, other in ((coins[:-1], coins[1:]), (coins[:, :-1], coins[:, 1:])):  # neighbouring seeds, and steps
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 4 / np.sqrt(one.size)


EVENTS = st.lists(
    st.tuples(
        *[st.sampled_from(["stay", "step", "anchor"])] * 2,
        st.integers(0, 2**31 - 1),
    ),
    max_size=40,
)


@given(EVENTS, st.integers(1, 6), st.floats(0, 1, exclude_max=True))
def test_blank_places_equal_lists(events, depth, probability):
    flicker = Flicker(probability, 2, depth)
    seeds, steps, stacks = [0, 0], [0, 0], [[False] * depth for _ in range(2)]
    for *kinds, seed in events:
        for k, kind in enumerate(kinds):
            if kind == "stay":
                continue
            steps[k] += 1
            if kind == "anchor":
                seeds[k], steps[k] = seed, 0
            stacks[k] = [*stacks[k][1:], uniform(np.array([seeds[k]]), np.array([steps[k]]))[0] < probability]
        observations = np.ones((2, depth, 2, 3), np.uint8)
        told = np.array([seed if kind == "anchor" else -1 for kind in kinds])
        moved = np.array([kind != "stay" for kind in kinds])
        flicker.advance(observations, told, moved)
        np.testing.assert_array_equal(
            observations, np.broadcast_to(~np.array(stacks)[:, :, None, None], (2, depth, 2, 3))
        )
        again = np.ones_like(observations)
        flicker.hide(again)
        np.testing.assert_array_equal(again, observations)

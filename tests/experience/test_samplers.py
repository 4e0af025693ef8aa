"""Priorities: the sum tree against plain sums, frequencies and weights against the formulas, and the life of a row."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelq.agents.experience.samplers import PrioritizedSampler, UniformSampler
from pixelq.agents.experience.sum_tree import SumTree
from tests.support import reference as ref
from tests.support.cases import examples, representative


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sampler_of(count: int = 50, **options: float) -> PrioritizedSampler:
    sampler = PrioritizedSampler(64, generator(), **options)
    sampler.extend(torch.arange(count))
    return sampler


# Sum tree


@settings(deadline=None, max_examples=examples(150))
@given(st.integers(1, 3_000), st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_tree_equals_plain_sums(capacity: int, seed: int, writes: int) -> None:
    rng = np.random.default_rng(seed)
    tree, plain = SumTree(capacity), np.zeros(capacity)
    for _ in range(writes):
        index = rng.integers(capacity, size=rng.integers(1, 10))
        value = rng.choice([0.0, 1e-3, 1.0, 50.0], index.size) * rng.random(index.size)
        _, first = np.unique(index, return_index=True)  # which of equal indices wins is open: none here
        index, value = index[first], value[first]
        tree.set(torch.from_numpy(index), torch.from_numpy(value))
        plain[index] = value
    np.testing.assert_array_equal(tree.leaves[:capacity].numpy(), plain)
    assert not tree.leaves[capacity:].any()
    for level, below in zip(tree.levels, tree.levels[1:], strict=False):
        assert torch.equal(level.view(-1)[: len(below)], below.sum(1))
        assert not level.view(-1)[len(below) :].any()
    if plain.sum() == 0:
        return
    assert tree.total.item() == pytest.approx(plain.sum())
    sums = plain.cumsum()
    prefix = rng.random(40) * sums[-1]
    found = tree.find(torch.from_numpy(prefix)).numpy()
    assert (plain[found] > 0).all()
    tolerance = 1e-9 * sums[-1]
    assert (sums[found] + tolerance > prefix).all()
    assert (sums[found] - plain[found] - tolerance <= prefix).all()


def test_tree_by_hand() -> None:
    tree = SumTree(100)
    tree.set(torch.tensor([3, 40, 99]), torch.tensor([1.0, 2.0, 4.0]))
    assert tree.total == 7
    prefix = torch.tensor([0.0, 0.99, 1.0, 2.99, 3.0, 6.99, 7.0, 8.0])  # the last two are past the end
    assert tree.find(prefix).tolist() == [3, 3, 40, 40, 99, 99, 99, 99]
    tree.set(torch.tensor([40]), torch.tensor(0.0))
    assert tree.find(torch.tensor([0.5, 1.0, 4.99])).tolist() == [3, 99, 99]


def test_equal_indices_are_safe() -> None:
    tree = SumTree(100)
    tree.set(torch.tensor([7, 7, 7, 8]), torch.tensor([1.0, 2.0, 3.0, 1.0]))
    assert tree.leaves[7] in (1, 2, 3)
    assert tree.total == tree.leaves[7] + 1


@settings(deadline=None, max_examples=examples(200))
@given(st.integers(0, 2**32 - 1), st.sampled_from([33, 1_025, 40_000]), st.integers(1, 6))
def test_a_zero_is_never_found_however_far_apart_the_numbers_are(seed: int, capacity: int, alive: int) -> None:
    rng = np.random.default_rng(seed)
    tree = SumTree(capacity)
    index = rng.choice(capacity, alive, replace=False)
    tree.set(torch.from_numpy(index), torch.from_numpy(10.0 ** rng.uniform(-30, 30, alive)))
    total = tree.total
    below = torch.from_numpy(rng.random(50)) * total
    edges = torch.stack([torch.zeros_like(total), total, total.nextafter(total * 0), total * 2])
    sums = torch.from_numpy(np.cumsum(tree.leaves.numpy()[np.sort(index)]))
    for prefix in (below, edges, sums, sums.nextafter(sums * 0)):
        assert set(tree.find(prefix).tolist()) <= set(index.tolist())


# Frequencies and weights


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize(
    ("alpha", "uniform"), representative([(0.5, 0.0), (0.6, 0.25), (0.7, 1.0)], keep=[(0.6, 0.25)])
)
def test_frequencies_are_the_formulas(alpha: float, uniform: float) -> None:
    sampler = sampler_of(alpha=alpha, uniform=uniform, epsilon=0.0)
    priority = np.random.default_rng(1).gamma(1.0, 2.0, 50)
    sampler.update(torch.arange(50), torch.from_numpy(priority))
    draws = 4_000
    rows = np.concatenate([sampler.sample(1)[0].numpy() for _ in range(draws)])  # a stratum each: independent draws
    expected = ref.priority_probabilities(priority, alpha, uniform) * draws
    statistic = chi_square(np.bincount(rows, minlength=50), expected)
    assert abs(statistic - 49) < 5 * (2 * 49) ** 0.5


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.7, 1.0])
def test_strata_leave_no_room_for_another_exponent(alpha: float) -> None:
    sampler = sampler_of(alpha=alpha, epsilon=0.0)
    priority = np.random.default_rng(1).gamma(1.0, 2.0, 50)
    sampler.update(torch.arange(50), torch.from_numpy(priority))
    counts = np.bincount(sampler.sample(20_000)[0].numpy(), minlength=50)
    # A row's share of 20,000 strata is met but for the two at its ends; α + 5% is wrong by 50 and more.
    np.testing.assert_allclose(counts, 20_000 * ref.priority_probabilities(priority, alpha), atol=2)


def test_draws_are_stratified() -> None:
    sampler = sampler_of(50, alpha=0.0)  # all alike: each of fifty strata is one row
    for _ in range(20):
        assert sampler.sample(50)[0].tolist() == list(range(50))


@pytest.mark.parametrize("uniform", [0.0, 0.001, 0.5])
@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_weights_are_the_formula(beta: float, uniform: float) -> None:
    sampler = sampler_of(alpha=0.6, beta=beta, uniform=uniform, epsilon=0.01)
    priority = np.random.default_rng(2).gamma(1.0, 2.0, 50)
    sampler.update(torch.arange(50), torch.from_numpy(priority))
    probabilities = ref.priority_probabilities(priority + 0.01, 0.6, uniform)
    for _ in range(5):
        rows, weight = sampler.sample(32)
        assert weight.dtype == torch.float32
        expected = ref.importance_weights(probabilities[rows.numpy()], 50, beta)
        np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-5)
        assert weight.max() == 1


# The life of a row


def test_a_new_row_has_the_greatest_priority_ever_given() -> None:
    sampler = sampler_of(3, alpha=0.5, epsilon=0.0)
    assert sampler.tree.leaves[:4].tolist() == [1, 1, 1, 0]
    sampler.update(torch.tensor([0, 1]), torch.tensor([9.0, 0.25]))
    sampler.update(torch.tensor([0]), torch.tensor([0.04]))
    sampler.extend(torch.tensor([10, 11]))
    np.testing.assert_allclose(sampler.tree.leaves[[0, 1, 2, 10, 11]].numpy(), [0.2, 0.5, 1, 3, 3], rtol=1e-6)


def test_a_dropped_row_is_not_revived() -> None:
    sampler = sampler_of(20)
    rows = torch.arange(20)
    sampler.drop(15)
    sampler.update(rows, torch.full((20,), 5.0))
    assert sampler.tree.leaves.nonzero()[:, 0].tolist() == [15, 16, 17, 18, 19]
    assert len(sampler) == 5
    assert set(torch.cat([sampler.sample(8)[0] for _ in range(50)]).tolist()) == {15, 16, 17, 18, 19}


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_rows_without_priority_are_alike_and_stay(alpha: float) -> None:
    sampler = sampler_of(20, alpha=alpha, epsilon=0.0)
    sampler.update(torch.arange(20), torch.zeros(20))
    rows, weight = sampler.sample(400)
    assert set(rows.tolist()) == set(range(20))
    assert torch.equal(weight, torch.ones(400))
    sampler.update(torch.tensor([4]), torch.tensor([1.0]))
    if alpha:
        assert set(sampler.sample(100)[0].tolist()) == {4}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_priority_that_is_no_number_poisons_nothing(bad: float) -> None:
    sampler = sampler_of(20)
    sampler.update(torch.tensor([1, 2]), torch.tensor([bad, 3.0]))
    assert sampler.tree.total.isfinite()
    assert sampler.max_priority == 3
    rows, weight = sampler.sample(32)
    assert weight.isfinite().all()
    assert (rows < 20).all()


@pytest.mark.parametrize("make", [UniformSampler, PrioritizedSampler])
def test_rows_are_dropped_in_the_order_of_writing_around_the_ring(make: type) -> None:
    sampler = make(10, generator())
    written = 0
    for count in (4, 3, 0, 2, 5, 1, 4, 3, 6):
        sampler.extend(torch.arange(written, written + count) % 10)
        written += count
        sampler.drop(max(len(sampler) - 3, 0))
        alive = {row % 10 for row in range(max(written - 3, 0), written)}
        assert len(sampler) == len(alive)
        assert set(torch.cat([sampler.sample(5)[0] for _ in range(40)]).tolist()) == alive


def test_samples_come_from_the_generator_alone() -> None:
    state = torch.random.get_rng_state()
    one, two = (sampler_of(uniform=0.5).sample(16) for _ in range(2))
    assert torch.equal(one[0], two[0])
    assert torch.equal(torch.random.get_rng_state(), state)

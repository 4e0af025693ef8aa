"""When to act at random, and who tosses the coin."""

import numpy as np
import pytest

from pixelq.agents import AgentConfig
from pixelq.agents.acting.exploration import epsilon_greedy
from pixelq.agents.config.at_step import epsilon_at


@pytest.mark.parametrize(
    ("step", "epsilon"),
    [
        (0, 1.0),
        (10_000, 1.0),
        (20_000, 1.0),
        (20_001, 1 - 0.99 / 250_000),
        (145_000, 0.505),
        (220_000, 0.208),
        (270_000, 0.01),
        (270_001, 0.01),
        (50_000_000, 0.01),
    ],
)
def test_epsilon_by_hand(step: int, epsilon: float) -> None:
    config = AgentConfig(learning_starts=20_000, epsilon_start=1.0, epsilon_end=0.01, epsilon_steps=250_000)
    assert epsilon_at(config, step) == pytest.approx(epsilon, abs=1e-12)


def test_epsilon_starts_where_it_is_told() -> None:
    config = AgentConfig(learning_starts=100, epsilon_start=0.6, epsilon_end=0.2, epsilon_steps=1)
    assert [epsilon_at(config, step) for step in (0, 100, 101, 102)] == pytest.approx([0.6, 0.6, 0.2, 0.2])
    constant = AgentConfig(epsilon_start=0.3, epsilon_end=0.3)
    assert {epsilon_at(constant, step) for step in (0, 60_000, 10**8)} == {0.3}


def explored(epsilon: float, num_envs: int, steps: int) -> np.ndarray:
    """Which environment explored when, bool [steps, N]; among a million actions a random one is hardly greedy."""
    rng = np.random.default_rng(0)
    greedy = np.zeros(num_envs, np.int64)
    return np.stack([epsilon_greedy(greedy, 1_000_000, epsilon, rng) for _ in range(steps)]) != 0


def test_each_environment_tosses_its_own_coin() -> None:
    counts = explored(0.5, num_envs=8, steps=4000).sum(1)
    assert counts.mean() == pytest.approx(4, abs=0.1)
    assert counts.var() == pytest.approx(2, abs=0.3)  # eight coins; one for all has 16
    correlations = np.corrcoef(explored(0.3, num_envs=6, steps=4000).T)
    assert np.abs(correlations - np.eye(6)).max() < 0.08  # five standard errors


def test_each_environment_draws_its_own_action() -> None:
    rng = np.random.default_rng(1)
    actions = np.stack([epsilon_greedy(np.zeros(2, np.int64), 4, 1.0, rng) for _ in range(4000)])
    assert (actions[:, 0] == actions[:, 1]).mean() == pytest.approx(0.25, abs=0.035)


def test_frequencies_of_the_actions() -> None:
    rng = np.random.default_rng(2)
    actions = np.concatenate([epsilon_greedy(np.full(10, 2), 4, 0.4, rng) for _ in range(5000)])
    frequencies = np.bincount(actions, minlength=4) / actions.size
    np.testing.assert_allclose(frequencies, [0.1, 0.1, 0.7, 0.1], atol=0.008)  # greedy too is one of the random four


def test_extremes_and_seeds() -> None:
    greedy = np.arange(6)
    np.testing.assert_array_equal(epsilon_greedy(greedy, 6, 0.0, np.random.default_rng(0)), greedy)
    actions = [epsilon_greedy(greedy, 6, 1.0, np.random.default_rng(seed)) for seed in (3, 3, 4)]
    assert all(action.dtype == np.int64 and action.shape == (6,) for action in actions)
    np.testing.assert_array_equal(actions[0], actions[1])
    assert (actions[0] != actions[2]).any()
    everything = epsilon_greedy(np.zeros(5000, np.int64), 5, 1.0, np.random.default_rng(5))
    np.testing.assert_allclose(np.bincount(everything) / 5000, 0.2, atol=0.03)

"""Schedules by hand."""

import pytest

from pixelq.agents import AgentConfig
from pixelq.agents.config.at_step import epsilon_at, learning_rate_at, linear, priority_beta_at


@pytest.mark.parametrize(
    ("step", "value"), [(0, 2.0), (100, 2.0), (101, 1.99), (150, 1.5), (199, 1.01), (200, 1.0), (10**9, 1.0)]
)
def test_linear_by_hand(step: int, value: float) -> None:
    assert linear(step, 100, 100, 2.0, 1.0) == pytest.approx(value, abs=1e-12)


def test_epsilon_goes_off_at_its_step() -> None:
    config = AgentConfig(learning_starts=10, epsilon_start=1.0, epsilon_end=0.5, epsilon_steps=100, epsilon_off=200)
    assert [epsilon_at(config, step) for step in (10, 60, 110, 199, 200, 201)] == pytest.approx(
        [1, 0.75, 0.5, 0.5, 0, 0]
    )
    early = AgentConfig(learning_starts=10, epsilon_start=1.0, epsilon_steps=100, epsilon_off=5)
    assert [epsilon_at(early, step) for step in (4, 5, 50)] == [1.0, 0.0, 0.0]


def test_learning_rate_decays_from_learning_starts_on() -> None:
    config = AgentConfig(learning_rate=4e-4, learning_rate_end=1e-4, learning_rate_steps=300, learning_starts=100)
    rates = [learning_rate_at(config, step) for step in (0, 100, 200, 400, 1_000)]
    assert rates == pytest.approx([4e-4, 4e-4, 3e-4, 1e-4, 1e-4])
    constant = AgentConfig(learning_rate=4e-4, learning_rate_end=1e-4)
    assert {learning_rate_at(constant, step) for step in (0, 10**5, 10**8)} == {4e-4}


def test_priority_beta_grows_from_learning_starts_on() -> None:
    config = AgentConfig(priority_beta=0.4, priority_beta_end=1.0, priority_beta_steps=600, learning_starts=100)
    assert [priority_beta_at(config, step) for step in (0, 100, 400, 700, 9_999)] == pytest.approx(
        [0.4, 0.4, 0.7, 1, 1]
    )
    assert {priority_beta_at(AgentConfig(priority_beta=0.5), step) for step in (0, 10**8)} == {0.5}

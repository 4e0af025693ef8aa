"""Schedules by hand, and their ways into files and command lines and back."""

import json
import math
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pixelq.agents import AgentConfig, Constant, Cosine, Exponential, InvalidConfig, Linear, Piecewise
from pixelq.agents.config.at_step import (
    epochs_at,
    epsilon_at,
    gamma_at,
    learning_rate_at,
    linear,
    longest_return,
    n_step_at,
    priority_beta_at,
)
from pixelq.agents.config.schedule_texts import parse_schedule
from pixelq.agents.config.schedules import from_json, shown_setting, to_json


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


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Constant(0.3), {0: 0.3, 10**9: 0.3}),
        (Linear(1.0, 0.5, 10), {-3: 1.0, 0: 1.0, 1: 0.95, 5: 0.75, 10: 0.5, 99: 0.5}),
        (Cosine(1.0, 0.0, 12), {0: 1.0, 2: (1 + math.sqrt(0.75)) / 2, 4: 0.75, 6: 0.5, 8: 0.25, 12: 0.0, 13: 0.0}),
        (Exponential(8.0, 1.0, 3), {0: 8.0, 1: 4.0, 2: 2.0, 3: 1.0, 4: 1.0}),
        (Exponential(0.0, 0.75, 2, limit=1.0), {0: 0.0, 1: 0.5, 2: 0.75, 9: 0.75}),
        (Piecewise((0, 3.0), (5, Linear(2.0, 1.0, 4)), (20, 0.5)), {-1: 3, 4: 3, 5: 2, 7: 1.5, 9: 1, 19: 1, 20: 0.5}),
    ],
)
def test_named_schedules_by_hand(schedule: Any, values: dict[int, float]) -> None:
    assert [schedule(step) for step in values] == pytest.approx(list(values.values()), abs=1e-12)


def test_the_settings_of_bbf_are_those_of_its_program() -> None:
    """Interpolation of log n, and of log (1 − γ), over 10,000 steps after each reset (Schwarzer et al. 2023)."""

    def decay(step: int, first: float, last: float) -> float:
        left = min(max((10_000 - step) / 10_000, 0.0), 1.0)
        return math.exp(left * (math.log(first) - math.log(last)) + math.log(last))

    resets = (0, 20_000, 40_000)
    config = AgentConfig(
        learning_starts=2_000,
        n_step=Piecewise(*((reset, Exponential(10, 3, 10_000)) for reset in resets)),
        gamma=Piecewise(*((reset, Exponential(0.97, 0.997, 10_000, limit=1.0)) for reset in resets)),
    )
    for step in (0, 2_000, 2_001, 5_000, 11_999, 12_000, 21_999, 22_000, 26_000, 90_000):
        since = max(reset for reset in resets if reset <= max(step - 2_000, 0))
        steps = max(step - 2_000, 0) - since
        assert n_step_at(config, step) == round(decay(steps, 10, 3))
        assert gamma_at(config, step) == pytest.approx(1 - decay(steps, 0.03, 0.003), abs=1e-12)
    assert longest_return(config) == 10


def test_epsilon_replaces_the_decay_and_goes_off() -> None:
    config = AgentConfig(learning_starts=10, epsilon=Linear(0.5, 0.1, 4), epsilon_off=16)
    assert [epsilon_at(config, step) for step in (0, 10, 12, 14, 15, 16)] == pytest.approx([0.5, 0.5, 0.3, 0.1, 0.1, 0])
    assert epsilon_at(AgentConfig(epsilon=0.25), 10**9) == 0.25
    waves = AgentConfig(learning_starts=10, epsilon=lambda steps: steps / 100)
    assert [epsilon_at(waves, step) for step in (0, 10, 12)] == [0.0, 0.0, 0.02]


NUMBERS = st.one_of(st.integers(-1000, 1000), st.floats(-1e30, 1e30))
COUNTS = st.integers(1, 10**6)
SIMPLE = st.one_of(
    st.builds(Constant, NUMBERS),
    st.builds(Linear, NUMBERS, NUMBERS, COUNTS),
    st.builds(Cosine, NUMBERS, NUMBERS, COUNTS),
    st.builds(Exponential, st.floats(1.5, 1e9), st.floats(1.5, 1e9), COUNTS, limit=st.floats(-10, 1)),
)
PIECES = st.lists(st.tuples(st.integers(1, 10**6), st.one_of(NUMBERS, SIMPLE)), unique_by=lambda piece: piece[0])
PIECEWISE = st.tuples(NUMBERS, PIECES).map(lambda of: Piecewise((0, of[0]), *sorted(of[1], key=lambda piece: piece[0])))


@given(st.one_of(SIMPLE, PIECEWISE), st.integers(-5, 3 * 10**6))
def test_a_schedule_goes_through_files_and_command_lines(schedule: Any, step: int) -> None:
    assert from_json(json.loads(json.dumps(to_json(schedule)))) == schedule
    assert parse_schedule(str(schedule)) == schedule
    assert eval(repr(schedule)) == schedule
    assert hash(parse_schedule(str(schedule))) == hash(schedule)
    assert shown_setting(to_json(schedule)) == str(schedule)
    least, most = schedule.extremes()
    assert least <= schedule(step) <= most


def test_text_is_read_as_python_reads_calls() -> None:
    same = Linear(1e-3, 1e-5, 100_000)
    for text in (
        "linear(1e-3, 1e-5, 100000)",
        "Linear(start=1e-3, end=1e-5, steps=1e5)",
        " linear(1e-3,1e-5,1_00000)",
    ):
        assert parse_schedule(text) == same
    assert parse_schedule("piecewise((0, 1), (10, cosine(1, -2, 5)))") == Piecewise((0, 1), (10, Cosine(1, -2, 5)))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("lineer(1, 2, 3)", "got 'lineer'; did you mean linear?"),
        ("linear(1, 2)", "the schedule is linear(start, end, steps), which got other arguments"),
        ("linear(1, 2, step=3)", "the schedule is linear(start, end, steps), which got other arguments"),
        ("linear(1, 2, 0)", "steps must be at least 1, got 0"),
        ("linear(1, 2, 1.5)", "steps must be an integer, got 1.5"),
        ("linear(1, True, 3)", "must be a number or a schedule such as linear(1e-3,1e-5,100000), got 'True'"),
        ("linear(1, 1e99, 3)", "end of a schedule must be a number within ±1e+38, got 1e+99"),
        ("linear(1, 2, 3", "got 'linear(1, 2, 3'"),
        ("__import__('os').abort()", "got \"__import__('os').abort()\""),
        ("linear(1, abs(2), 3)", "got 'abs'; there are constant, linear, cosine, exponential, piecewise"),
        ("exponential(1, 0, 3)", "must both be above or both below its limit 0.0, got 1 and 0"),
        ("piecewise((5, 1))", "the steps of the pieces must increase from 0, got [5]"),
        ("piecewise((0, 1), (0, 2))", "the steps of the pieces must increase from 0, got [0, 0]"),
        ("piecewise(1, 2)", "a piece must be a pair of a step and a value, got 1"),
        ("piecewise((0, piecewise((0, 1))))", "must be a number or a simple schedule, got Piecewise((0, 1))"),
        ("(" * 300 + "linear(1,2,3)", "must be a number or a schedule"),
    ],
)
def test_a_mistyped_schedule_gets_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InvalidConfig) as error:
        parse_schedule(text)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"gamma": Linear(0.9, 1.5, 9)}, "gamma must be in [0, 1] at every step, got linear(0.9, 1.5, 9)"),
        (
            {"gamma": Piecewise((0, 0.5), (9, Cosine(0.5, -1, 9)))},
            "gamma must be in [0, 1] at every step, got",
        ),
        ({"n_step": Linear(3, 0.4, 9)}, "n_step must be at least 1 at every step, got linear(3, 0.4, 9)"),
        ({"n_step": Linear(3, 1e30, 9)}, "n_step must be at most 1,000,000,000,000 at every step"),
        (
            {"n_step": abs},
            "n_step must be an integer or a named schedule, whose greatest value is",
        ),
        ({"learning_rate": Linear(1, -1, 9)}, "learning_rate must be at least 0 at every step, got linear(1, -1, 9)"),
        (
            {"learning_rate": Linear(0, 0, 9)},
            "learning_rate must be greater than 0 at some step, got linear(0, 0, 9)",
        ),
        ({"batch_size": Linear(1, 2, 9)}, "batch_size must be an integer, got linear(1, 2, 9)"),
        (
            {"learning_rate": Linear(1, 0, 9), "learning_rate_steps": 5},
            "learning_rate_steps must be None with a schedule as learning_rate, which says it all, got 5",
        ),
        (
            {"priority_beta": Constant(1), "priority_beta_steps": 5},
            "priority_beta_steps must be None with a schedule as priority_beta, which says it all, got 5",
        ),
        ({"epsilon": 0.1, "epsilon_ladder": True}, "epsilon must be None with epsilon_ladder, which gives each"),
        ({"epsilon": lambda steps: 2}, "epsilon must be in [0, 1], but "),
        ({"epsilon": lambda steps: "a"}, "returned 'a'"),
        ({"epsilon": lambda steps: 1 / steps}, "(0) raised ZeroDivisionError: division by zero"),
    ],
)
def test_what_a_field_cannot_be(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidConfig) as error:
        AgentConfig(**fields)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    "values",
    [
        {"schedule": "linear"},
        {"schedule": "linear", "start": 1, "end": 2, "steps": "3"},
        {"schedule": "linear", "start": 1, "end": {}, "steps": 3},
        {"schedule": ["linear"]},
        {"schedule": "function"},
        {"schedule": "function", "name": 3},
        {"schedule": "piecewise"},
        {"schedule": "piecewise", "pieces": [[0]]},
        {"schedule": "piecewise", "pieces": [[0, {"schedule": "function", "name": None}]]},
        {"schedule": "piecewise", "pieces": {"0": 1}},
        {"start": 1},
    ],
)
def test_a_damaged_schedule_in_a_file_is_refused(values: Any) -> None:
    with pytest.raises(InvalidConfig):
        AgentConfig.from_dict({"gamma": values})


def test_a_rate_may_end_at_zero_but_not_be_zero() -> None:
    assert learning_rate_at(AgentConfig(learning_rate=Linear(1e-3, 0, 10), learning_starts=5), 15) == 0
    with pytest.raises(InvalidConfig, match="learning_rate must be greater than 0, got 0"):
        AgentConfig(learning_rate=0)
    with pytest.raises(InvalidConfig, match=r"learning_rate must be greater than 0 at some step, got linear"):
        AgentConfig(learning_rate=Linear(0, 0, 10))
    AgentConfig(learning_rate=Linear(0, 1e-3, 10))


def test_counts_that_follow_a_schedule_are_rounded() -> None:
    config = AgentConfig(algorithm="pqn", learning_starts=1, epochs=Linear(1, 3, 100))
    assert [epochs_at(config, 1 + step) for step in (0, 20, 30, 70, 80, 100)] == [1, 1, 2, 2, 3, 3]

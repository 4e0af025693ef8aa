"""Environments that raise what they should not, give no numbers, or are made by a class: named, and no one else."""

import signal
import threading
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from pixelq.envs import EnvironmentFailed, GymnasiumVec, InvalidEnv, make_vec
from pixelq.envs.checks import check_finite
from pixelq.envs.errors import NotFinite, printable, quoted


class Faulty(gymnasium.Env[Any, Any]):
    """Does what `fault` says, where it says so."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float32)
    action_space: Discrete = Discrete(2)
    where: str = "nowhere"
    fault: Callable[[], Any] = lambda: None
    reward: Any = 1.0
    observation: Any = 0.0

    def __init__(self) -> None:
        self._meet("__init__")

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._meet("reset")
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self._meet("step")
        return np.array([0.0, self.observation], np.float32), self.reward, False, False, {}

    def close(self) -> None:
        self._meet("close")

    def _meet(self, where: str) -> None:
        if self.where == where:
            type(self).fault()


def faulty(**attributes: Any) -> type[Faulty]:
    return type("Faulty", (Faulty,), attributes)


def raising(error: BaseException) -> Callable[[], Any]:
    def fault() -> Any:
        raise error

    return staticmethod(fault)  # type: ignore[return-value]


def play(env: type[Faulty]) -> Any:
    envs = make_vec(env, 2)
    envs.reset()
    return envs.step(np.array([0, 1]))


ERRORS = [KeyboardInterrupt(), SystemExit(3), StopIteration(), MemoryError(), RuntimeError("\x1b[31m" + "x" * 9999)]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", ["__init__", "reset", "step"])
def test_whatever_an_environment_raises_is_its_failure(where: str, error: BaseException) -> None:
    expected = InvalidEnv if where == "__init__" else EnvironmentFailed
    with pytest.raises(expected) as caught:
        play(faulty(where=where, fault=raising(error)))
    said = str(caught.value)
    assert said.startswith("'Faulty' cannot be made: " if where == "__init__" else "'Faulty' failed: ")
    assert caught.value.__cause__ is error
    assert type(error).__name__ in said or "x...x" in said
    assert said.isprintable()
    assert len(said) <= 400


def test_exit_called_inside_an_environment_is_its_failure() -> None:
    with pytest.raises(EnvironmentFailed, match=r"^'Faulty' failed: SystemExit$"):
        play(faulty(where="step", fault=staticmethod(lambda: __import__("sys").exit(1))))


@pytest.mark.linux
def test_a_signal_that_arrives_while_an_environment_plays_is_the_users() -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        play(faulty(where="step", fault=staticmethod(lambda: signal.raise_signal(signal.SIGINT))))

    def stop(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGUSR1):
        before = signal.signal(number, stop)
        try:
            with pytest.raises(SystemExit) as caught:
                play(faulty(where="step", fault=staticmethod(lambda number=number: signal.raise_signal(number))))
        finally:
            signal.signal(number, before)
        assert caught.value.code == 128 + number


def test_an_interrupt_outside_the_main_thread_is_the_environments() -> None:
    caught: list[BaseException] = []

    def run() -> None:
        try:
            play(faulty(where="step", fault=raising(KeyboardInterrupt())))
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert [type(error) for error in caught] == [EnvironmentFailed]


@pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(1)])
def test_an_error_in_closing_loses_nothing(error: BaseException) -> None:
    envs = make_vec(faulty(where="close", fault=raising(error)), 2)
    envs.reset()
    envs.close()
    assert envs.closed


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        ({"reward": np.nan}, "environment 0 gave the reward nan"),
        ({"reward": np.ones(1)}, "TypeError: the reward must be a number, got an array of shape [1]"),
        ({"reward": None}, "environment 0 gave the reward nan"),
        ({"reward": -np.inf}, "environment 0 gave the reward -inf"),
        ({"observation": np.nan}, "environment 0 gave the observation nan at [1]"),
        ({"observation": np.inf}, "environment 0 gave the observation inf at [1]"),
        ({"reward": 1e39}, "environment 0 gave the reward 1e+39, too large for float32"),
    ],
)
def test_what_is_no_number_is_the_environments_failure(attributes: dict[str, Any], why: str) -> None:
    with pytest.raises(EnvironmentFailed) as caught:
        play(faulty(**attributes))
    assert str(caught.value) == f"'Faulty' failed: {why}"


def test_an_observation_that_float32_cannot_hold_is_named() -> None:
    check_finite("own", np.array([[1e38], [-1e38]]))
    with pytest.raises(
        NotFinite, match=r"^'own' failed: environment 1 gave the observation -1e\+39, too large for .* \[0\]$"
    ):
        check_finite("own", np.array([[1e38], [-1e39]]))


@pytest.mark.parametrize(("shape", "number"), [((3,), 0), ((1, 2), 0), ((), 0), ((3,), 1)])
def test_an_observation_of_another_shape_is_named(shape: tuple[int, ...], number: int) -> None:
    class Misshapen(faulty()):  # type: ignore[misc]
        def step(self, action: Any) -> Any:
            return np.zeros(shape if action == number else 2, np.float32), 0.0, False, False, {}

    with pytest.raises(EnvironmentFailed) as caught:
        play(Misshapen)
    said = f"environment {number} gave an observation of shape {[*shape]}, not [2]"
    assert str(caught.value) == f"'Misshapen' failed: {said}"


def test_an_error_of_the_environment_itself_is_not_taken_for_a_wrong_shape() -> None:
    with pytest.raises(EnvironmentFailed, match=r"^'Faulty' failed: ValueError: no$"):
        play(faulty(where="step", fault=raising(ValueError("no"))))


def test_a_class_or_a_function_makes_environments() -> None:
    for make, name in ((Faulty, f"{__name__}:Faulty"), (lambda: Faulty(), None)):
        envs = make_vec(make, 3, seed=1)
        assert isinstance(envs, GymnasiumVec)
        assert envs.env_id == name
        assert envs.reset()[0].shape == (3, 2)
        assert envs.step(np.array([0, 1, 0]))[1].tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(InvalidEnv, match=r"^'.*<lambda>' cannot be made: "):
        make_vec(lambda: 5)  # type: ignore[arg-type,return-value]
    with pytest.raises(InvalidEnv, match=r"must be an id, or a class or function that makes it, got <.*Faulty"):
        make_vec(Faulty())  # type: ignore[arg-type]


def test_states_of_environments_made_by_a_class_are_restored() -> None:
    envs, other = make_vec(Faulty, 2, seed=1), make_vec(Faulty, 2, seed=2)
    envs.reset()
    envs.step(np.array([0, 1]))
    np.testing.assert_array_equal(other.set_state(envs.get_state()), np.zeros((2, 2)))


def test_actions_have_the_type_of_the_environments_own() -> None:
    small = faulty(action_space=Discrete(2, dtype=np.int32), reward=2.0)
    assert play(small)[1].tolist() == [2.0, 2.0]


def test_foreign_text_becomes_one_short_printable_line() -> None:
    assert printable("plain · γ") == "plain · γ"
    assert printable("a\n\tb\x1b[31m\udc80\0") == r"a b\x1b[31m\udc80\x00"
    assert printable("0123456789" * 100, 20) == "012345678901...56789"
    assert len(printable("\x1b" * 10**6, 100)) == 100
    assert len(quoted("x" * 10**7)) <= 100
    assert len(quoted([["x" * 10**6] * 1000] * 1000)) <= 200

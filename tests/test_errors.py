"""All errors of this package pass from one process to another."""

import inspect
import pickle
import re
from pathlib import Path

import pytest

from pixelq import agents, envs
from pixelq.agents import errors
from pixelq.envs import errors as env_errors

ALL = [
    kind
    for module in (errors, env_errors)
    for _, kind in inspect.getmembers(module, inspect.isclass)
    if issubclass(kind, Exception) and kind.__module__ == module.__name__
]


def test_errors_that_learning_and_loading_name_are_public() -> None:
    public = {*agents.__all__, *envs.__all__}
    for function in (agents.DQN.learn, agents.DQN.load, agents.load, agents.Tracker, agents.PQN.replace):
        named = re.findall(r"\b[A-Z][a-z]+[A-Z]\w+(?=[:,])", str(inspect.getdoc(function)).split("Raises:")[1])
        assert named
        assert set(named) <= public


def example(kind: type[Exception]) -> Exception:
    if kind is errors.RunUnwritable:
        return errors.RunUnwritable(Path("run"), OSError(28, "No space left", "run/x"), "at step 3", "; and so on")
    return kind("what is wrong; what would be right")


@pytest.mark.parametrize("kind", ALL)
def test_errors_can_be_pickled(kind: type[Exception]) -> None:
    error = example(kind)
    error.add_note("a note")
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is kind
    assert (str(found), found.__notes__) == (str(error), ["a note"])
    assert vars(found).keys() == vars(error).keys()


def test_the_sentence_of_a_run_that_cannot_be_written() -> None:
    said = str(example(errors.RunUnwritable))
    assert said == (
        "run can no longer be written (No space left), at step 3; `resume=True` continues when it can; and so on"
    )
    assert "(quota)" in str(errors.RunUnwritable(Path("run"), OSError("quota"), "at step 3"))

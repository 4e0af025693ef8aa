"""The files and functions of ours that an observation passes through in one iteration of the training loop.

`python -m pixelq.scripts.benchmarks.call_path` lists and counts them for Pong: one step of all environments, which is
stored, and one update.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple
from unittest.mock import patch

from pixelq import agents
from pixelq.agents import DQN, preset
from pixelq.agents.training.loop import open_run, run
from pixelq.agents.training.options import LearnOptions
from pixelq.envs import make_vec

ROOT = Path(agents.__file__).parents[1]
PACKAGES = ("agents", "envs", "networks")
SCREEN = (84, 84)
"""Last two axes by which an array is known to hold observations."""
NUM_ENVS = 4
ITERATION = 30
"""Iteration of the loop that is traced, when updates are under way."""


class Function(NamedTuple):
    """A function of ours."""

    file: str
    """Path of its file, from the folder that holds the packages."""
    name: str
    """Qualified name, such as `Replay.sample`. A lambda and a comprehension belong to the function around them."""


@dataclasses.dataclass
class Call:
    """A call of a function of ours.

    Attributes:
        function: The function.
        is_counted: Whether an observation is among its arguments, its local variables or what it returns.
        calls: Calls of our functions that it made.
    """

    function: Function
    is_counted: bool = False
    calls: list[Call] = dataclasses.field(default_factory=list)


class Tracer:
    """Records the calls of our functions in this thread; a function for `sys.setprofile`.

    Attributes:
        root: Stands for the caller of the outermost calls.
    """

    def __init__(self) -> None:
        self.root = Call(Function("", ""))
        self._running = [self.root]

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        """Record the beginning or the end of a call."""
        if event not in ("call", "return"):
            return
        function = _function_of(frame)
        if function is None:
            return
        if event == "call":
            self._running[-1].calls.append(Call(function))
            self._running.append(self._running[-1].calls[-1])
        call = self._running[-1]
        call.is_counted |= _holds_observations((*frame.f_locals.values(), arg))
        if event == "return":
            self._running.pop()

    def path(self) -> set[Function]:
        """Return the functions that observations passed through, and those called between two of them."""
        found: set[Function] = set()
        _collect(self.root, False, found)
        return found


def _function_of(frame: FrameType) -> Function | None:
    """Return the function that a frame runs; None if it is not one of ours."""
    path = Path(frame.f_code.co_filename)
    if not path.is_relative_to(ROOT) or path.relative_to(ROOT).parts[0] not in PACKAGES:
        return None
    name = frame.f_code.co_qualname.partition(".<locals>.<")[0]
    return Function(path.relative_to(ROOT).as_posix(), name)


def _holds_observations(value: Any, depth: int = 0) -> bool:
    """Return whether a value is an array of screens, or a tuple that contains one, up to three tuples deep."""
    if isinstance(value, tuple):
        return depth <= 3 and any(_holds_observations(each, depth + 1) for each in value)
    shape = getattr(value, "shape", None)
    return isinstance(shape, tuple) and len(shape) >= 3 and tuple(shape[-2:]) == SCREEN


def _collect(call: Call, is_below: bool, found: set[Function]) -> bool:
    """Add the counted functions at and below a call; return whether there are any.

    Args:
        call: The call.
        is_below: Whether one of its callers is counted.
        found: Set to which the functions are added.
    """
    is_above = False
    for each in call.calls:
        is_above |= _collect(each, is_below or call.is_counted, found)
    if call.is_counted or (is_below and is_above):
        found.add(call.function)
    return call.is_counted or is_above


def observation_path() -> list[Function]:
    """Train on Pong, and return the functions of one iteration that observations pass through, sorted."""
    with closing(make_vec("ALE/Pong-v5", NUM_ENVS, seed=0)) as envs:
        config = dataclasses.replace(preset("quick_dqn"), replay_capacity=400, learning_starts=40, train_every=NUM_ENVS)
        agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")
        signals: list[int] = []
        parts = open_run(agent, envs, LearnOptions(), 10 * ITERATION * NUM_ENVS, signals)
        record, tracer, updates = parts.recorder.record, Tracer(), [0]

        def traced_record(*arguments: Any) -> None:
            sys.setprofile(None)
            updates.append(agent.updates)
            record(*arguments)
            if len(updates) == ITERATION:
                sys.setprofile(tracer)
            elif len(updates) > ITERATION:
                signals.append(0)  # ends the loop

        with patch.object(parts.recorder, "record", traced_record):
            try:
                run(parts, signals)
            finally:
                sys.setprofile(None)
                parts.recorder.close()
    assert updates[ITERATION] - updates[ITERATION - 1] == 1
    return sorted(tracer.path())


def count(functions: Sequence[Function]) -> str:
    """Return the number of files and functions as text."""
    return f"{len({function.file for function in functions})} files, {len(functions)} functions"


def main() -> None:
    """Print the functions by file, and how many there are."""
    found = observation_path()
    file = ""
    for function in found:
        if function.file != file:
            file = function.file
            print(file)
        print(f"  {function.name}")
    print(f"\n{count(found)}")
    print(f"{count([function for function in found if not function.file.startswith('envs/')])} without envs/")


if __name__ == "__main__":
    main()

"""The call path of an observation: how it is counted, and that it stays short."""

import sys
from pathlib import Path

import numpy as np
import pytest

from pixelq.scripts.benchmarks import call_path
from pixelq.scripts.benchmarks.call_path import Function, Tracer, observation_path

SOURCE = """
def outer(wanted):
    made = start(wanted)
    end(made)
    bystander()

def start(wanted):
    screens = zeros((2, 84, 84)) if wanted else None
    return [each for each in (screens,)]

def end(made):
    middle()

def middle():
    if screens is not None:
        keep((1, (2, (3, screens))))

def keep(nested):
    pass

def bystander():
    unused = zeros((84, 84))
"""


@pytest.fixture
def traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tracer:
    """A trace of `outer`, whose call of `keep` alone is handed screens that it shares with nobody."""
    monkeypatch.setattr(call_path, "ROOT", tmp_path)
    values = {"zeros": np.zeros, "screens": np.zeros((1, 84, 84))}
    source = tmp_path / "agents" / "room.py"
    exec(compile(SOURCE, source, "exec"), values)
    tracer = Tracer()
    sys.setprofile(tracer)
    try:
        values["outer"](True)
    finally:
        sys.setprofile(None)
    return tracer


def test_functions_that_hold_or_hand_on_screens_are_counted(traced: Tracer) -> None:
    """`start` has them as a local variable, `keep` in nested tuples; the others have none, or lists, or no batch."""
    assert traced.path() == {Function("agents/room.py", name) for name in ("start", "keep")}


def test_functions_between_two_that_are_counted_are_counted(traced: Tracer) -> None:
    outer, *_ = traced.root.calls
    outer.is_counted = True
    assert traced.path() == {Function("agents/room.py", name) for name in ("outer", "start", "end", "middle", "keep")}


def test_an_observation_passes_through_few_files_and_functions() -> None:
    found = observation_path()
    assert Function("agents/experience/replay.py", "Replay.observe") in found
    assert Function("agents/learning/learner.py", "Learner.update") in found
    assert Function("envs/atari.py", "AtariVec.recv") in found
    own = [function for function in found if not function.file.startswith("envs/")]
    assert len({function.file for function in own}) <= 11, own
    assert len(own) <= 21, own

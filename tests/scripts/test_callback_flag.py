"""`pixelq train --callback`: callbacks by name, and none from a run's folder."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs import TINY, run_here, words

MODULE = """
import pathlib
from pixelq.agents import Callback

pathlib.Path("imported").write_text("")

class Short(Callback):
    def __init__(self, at=10):
        self.at = at

    def on_step(self, training):
        return training.step < self.at

class Broken(Callback):
    def on_training_start(self, training):
        raise ValueError("not today")

class Thing:
    pass

def made(at=10):
    pathlib.Path("called").write_text("")
    return Short(at)
"""
FEW = TINY | {"--steps": "60", "--evaluation-episodes": "1", "--final-episodes": "1"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a module, which is new to this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "hooked.py").write_text(MODULE)
    yield tmp_path
    sys.modules.pop("hooked", None)


def train(*callbacks: str, **changes: Any) -> Any:
    flags = [word for text in callbacks for word in ("--callback", text)]
    return run_here(["train", *words(FEW, out="run", **changes), *flags])


def config() -> Any:
    return json.loads(Path("run/config.json").read_text())


def test_callbacks_of_the_command_line_stop_a_run_that_can_go_on() -> None:
    ended = train("hooked:Short(at=30), StopAtScore(score=2)", "StopAfter(hours=1.5)")
    assert ended.code == 0, ended.err
    assert "stopped at step 30 by the callback Short: on_step returned False" in ended.err
    assert "checkpoint (step 30)" in ended.out  # it is evaluated
    assert "  stopped   at step 30 of 60 by the callback Short: on_step returned False\n" in ended.out
    assert (
        "  continue  pixelq train --resume --out run --steps 60 --callback 'hooked:Short(at=30)' "
        "--callback 'pixelq.agents:StopAtScore(score=2)' --callback 'pixelq.agents:StopAfter(hours=1.5)'\n"
    ) in ended.out
    line = run_here(["status", "run"]).out.splitlines()[1]
    assert line.split()[1:7] == ["stopped", "by", "Short", "30", "60", "50%"]
    agents = "pixelq.agents"
    assert config()["callbacks"] == [
        "hooked:Short(at=30)",
        f"{agents}:StopAtScore(score=2)",
        f"{agents}:StopAfter(hours=1.5)",
    ]
    assert config()["stopped"]["step"] == 30
    # Resumed, a run alone imports and runs nothing.
    sys.modules.pop("hooked")
    Path("imported").unlink()
    resume = ["train", "--resume", "--out", "run", "--device", "cpu"]
    assert run_here([*resume, "--callback", "hooked:Short(at=44)"]).code == 0
    assert config()["stopped"]["step"] == 44
    sys.modules.pop("hooked")
    Path("imported").unlink()
    ended = run_here(resume)
    assert ended.code == 0, ended.err
    assert "but not exactly (callbacks: hooked:Short(at=44) before, none now)" in ended.err
    assert not Path("imported").exists()
    assert "hooked" not in sys.modules
    assert "callbacks" not in config()
    assert "stopped" not in config()
    assert [(entry["step"], entry["exact"]) for entry in config()["resumed"]] == [(30, False), (44, False)]


def test_a_callback_that_only_watches_is_no_part_of_the_run() -> None:
    Path("hooked.py").write_text(f"{MODULE}\nclass Watching(Callback):\n    watches_only = True\n")
    assert train("hooked:Watching, StopAfter(hours=9)").code == 0
    assert config()["callbacks"] == ["pixelq.agents:StopAfter(hours=9)"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nowhere:Short", "the module 'nowhere' cannot be imported: No module named 'nowhere'"),
        ("hooked:Long", "the module 'hooked' has no class or function 'Long'"),
        ("hooked:Thing", "--callback must name a subclass of pixelq.agents.Callback, got hooked:Thing"),
        ("hooked:Callback", "--callback must name a subclass of pixelq.agents.Callback, got hooked:Callback"),
        ("hooked:made(at=3)", "--callback must name a subclass of pixelq.agents.Callback, got hooked:made(at=3)"),
        ("hooked:Short(to=3)", "the callback hooked:Short(to=3) cannot be made: TypeError: Short.__init__() got an"),
        ("hooked:Short(3)", "the arguments of the callback must be key=value with Python literals as values, got"),
        ("hooked:Short(at=f())", "the arguments of the callback must be key=value with Python literals as values, got"),
        ("Short", "--callback must be MODULE:NAME, MODULE:NAME(key=value) or one of StopAfter, StopAtScore, StopWi"),
        ("StopAtScore", "the callback pixelq.agents:StopAtScore cannot be made: TypeError: StopAtScore.__init__() mis"),
        ("StopAfter(hours=0)", "the time must be positive; give hours, minutes or seconds"),
    ],
)
def test_a_wrong_callback_gets_a_sentence_and_no_folder(text: str, sentence: str) -> None:
    ended = train(text)
    assert (ended.code, ended.out, Path("run").exists(), Path("called").exists()) == (2, "", False, False)
    assert ended.err.startswith(f"pixelq train: {sentence}")
    assert ended.err.count("\n") == 1


def test_a_callback_that_cannot_start_ends_the_run_without_a_folder() -> None:
    ended = train("hooked:Broken")
    assert (ended.code, Path("run").exists()) == (1, False)
    assert "the callback Broken failed in on_training_start at step 0: ValueError: not today" in ended.err
    assert "Traceback" not in ended.err


def test_a_folder_that_names_callbacks_runs_none() -> None:
    """Nor does it stop a run that its list is no list of names."""
    assert train("StopWithoutProgress(evaluations=50)").code == 0
    for names in (["hooked:Broken", 3], {"hooked:Broken": 1}):
        values = config() | {"callbacks": names, "steps": config()["steps"] + 10}
        Path("run/config.json").write_text(json.dumps(values))
        ended = run_here(["train", "--resume", "--out", "run", "--device", "cpu"])
        assert ended.code == 0, ended.err
    assert not Path("imported").exists()

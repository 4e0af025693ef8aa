"""The progress line, on a terminal and without one."""

import io
import sys
import types
from typing import Any

import pytest

from pixelq.agents import DQN, AgentConfig, InvalidConfig
from pixelq.agents.evaluation.evaluate import Evaluation
from pixelq.agents.runs.progress import EVALUATING, FINISHED, TRAINING, Progress, ProgressFile, duration_text
from pixelq.agents.training import progress_line
from pixelq.agents.training.interval import Episodes
from pixelq.agents.training.options import LearnOptions
from pixelq.agents.training.progress import ProgressReporter, Stopwatch
from pixelq.agents.training.progress_line import EVERY, FIRST, ProgressLine
from tests.support.small_agents import ACTIONS, PIXELS, small

NOW = Progress(
    phase=TRAINING,
    written=0.0,
    step=25_000,
    steps=100_000,
    frames=100_000,
    episodes=12,
    updates=7,
    epsilon=0.5,
    steps_per_second=1234.4,
    seconds_left=7500.0,
    wall_seconds=20.0,
    returns=(),
    lengths=(),
)
ROW = {
    "step": 25_000,
    "frames": 100_000,
    "steps_per_second": 9.0,
    "epsilon": 0.5,
    "loss": 0.25,
    "return_mean_100": -20.5,
}
SENTENCE = (
    "step 25,000 of 100,000 (25%), 100,000 frames, 1,234 steps/s, 2 h 5 min left, return -20.5 (last 100 episodes), "
    "epsilon 0.500, loss 0.2500\n"
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress_line.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_lines_come_regularly(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    line = ProgressLine(0, 100_000, "auto")
    due = []
    for second in range(100):
        clock[0] = float(second)
        if line.is_due:
            due.append(second)
            line.update(ROW)
            line.report(NOW)
    assert due == [FIRST, FIRST + EVERY, FIRST + 2 * EVERY, FIRST + 3 * EVERY]
    assert capsys.readouterr().err == 4 * SENTENCE


def test_a_line_is_ascii_and_says_what_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    line = ProgressLine(0, 100, "auto")
    values = vars(NOW) | {"step": 1, "steps": 100, "frames": 1, "updates": 0, "steps_per_second": None}
    line.report(Progress(**values | {"seconds_left": None, "phase": EVALUATING}))
    found = capsys.readouterr().err
    assert found == "step 1 of 100 (1%), evaluating, no return yet, epsilon 0.500, no updates yet\n"
    assert found.isascii()


def test_a_terminal_has_one_line_that_is_redrawn(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    line = ProgressLine(0, 100_000, "auto")
    clock[0] = 1000.0
    assert not line.is_due
    line.update(ROW)
    assert "return -20.5 (last 100)" in line.progress.tasks[0].fields["text"]


class Cell:
    """What a notebook's cell shows: IPython's `display` and the handle that it returns."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def display(self, shown: Any, *, display_id: bool) -> "Cell":
        assert display_id
        self.update(shown)
        return self

    def update(self, shown: Any) -> None:
        self.shown.append(shown._repr_mimebundle_(include=None, exclude=None)["text/html"])


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Cell:
    """A notebook, as rich recognises one."""
    found = Cell()
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setattr("builtins.get_ipython", lambda: shell, raising=False)
    module = types.ModuleType("IPython.display")
    module.__dict__.update(display=found.display, HTML=lambda html: html)
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return found


@pytest.mark.parametrize("style", ["auto", "bar"])
def test_a_notebook_has_a_bar_that_is_replaced(style: Any, cell: Cell, clock: list[float]) -> None:
    line = ProgressLine(0, 100_000, style)
    line.start()
    line.update(ROW)
    clock[0] = 1000.0
    assert not line.is_due
    line.stop()
    assert ["25,000/100,000 steps" in html for html in cell.shown] == [False, True]
    assert " 0/100,000 steps" in cell.shown[0]
    assert "return -20.5 (last 100)" in " ".join(cell.shown[1].split())


@pytest.mark.parametrize(
    ("style", "terminal", "lines", "bar"),
    [
        ("auto", True, False, True),
        ("auto", False, True, False),
        ("line", True, True, False),
        ("bar", False, False, True),
        ("none", True, False, False),
    ],
)
def test_the_style_decides_what_is_shown(
    style: Any, terminal: bool, lines: bool, bar: bool, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    stderr = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    if style == "auto":
        monkeypatch.setenv("FORCE_COLOR", "1")  # which makes no file a terminal
    line = ProgressLine(0, 100_000, style)
    clock[0] = 1000.0
    assert line.is_due == lines
    line.start()
    line.update(ROW)
    line.stop()
    assert ("25,000/100,000 steps" in stderr.getvalue()) == bar
    assert ("\x1b[2K" in stderr.getvalue()) == bar  # lines are erased to be redrawn
    line.say("something")
    assert ("something" in stderr.getvalue()) == (style != "none")


def test_a_dumb_terminal_has_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "dumb")
    assert ProgressLine(0, 100_000, "auto").is_plain


def test_progress_is_a_truth_value_or_a_style() -> None:
    styles = [LearnOptions(progress=progress).progress_style for progress in (True, False, "auto", "bar", "line")]
    assert styles == ["auto", "none", "auto", "bar", "line"]
    wrong: Any = "loud"
    with pytest.raises(InvalidConfig, match="progress must be True, False or one of auto, bar, line, none, got 'loud'"):
        LearnOptions(progress=wrong)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"resume": True}, "resume must be False without out, the folder of the run to resume"),
        ({"resume": "yes"}, "resume must be True or False, got 'yes'"),
        ({"ranks": 3}, "ranks must be a Ranks or None, got 3"),
        ({"description": [1]}, r"description must be a dict of JSON values: got \[1\]"),
        ({"description": {"when": {1}}}, "description must be a dict of JSON values: Object of type set is not"),
    ],
)
def test_options_that_make_no_sense_are_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidConfig, match=sentence):
        LearnOptions(**fields)


@pytest.mark.parametrize(
    "seconds",
    [(5, "5 s"), (99.4, "99 s"), (100, "2 min"), (3560, "59 min"), (7170, "2 h 0 min"), (90_000, "25 h 0 min")],
)
def test_times_have_the_unit_that_suits_them(seconds: tuple[float, str]) -> None:
    assert duration_text(seconds[0]) == seconds[1]


def reporter(line: ProgressLine) -> ProgressReporter:
    return ProgressReporter(
        ProgressFile(None),
        DQN(PIXELS, ACTIONS, small(AgentConfig()), device="cpu"),
        Episodes(1),
        Stopwatch(),
        last_step=10,
        evaluate_every=10,
        frames_per_step=4,
        received=[],
        line=line,
    )


def test_a_run_and_its_evaluations_print_what_is_due(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    progress = reporter(ProgressLine(0, 10, "auto"))
    progress.tick()
    assert capsys.readouterr().err == ""
    clock[0] = FIRST
    progress.agent.step = 5
    progress.tick()
    progress.tick()
    assert capsys.readouterr().err.startswith("step 5 of 10 (50%), 20 frames, 1 steps/s, 5 s left, ")
    with progress.evaluation():
        clock[0] += EVERY
        assert not progress.stops_evaluation()
    assert capsys.readouterr().err.startswith("step 5 of 10 (50%), evaluating, 20 frames")


@pytest.mark.parametrize("evaluated", [False, True])
def test_the_last_step_is_told_of_once(evaluated: bool, capsys: pytest.CaptureFixture[str]) -> None:
    progress = reporter(ProgressLine(0, 10, "auto"))
    progress.agent.step = 10
    if evaluated:
        progress.line.say_evaluation(10, Evaluation("x", (1.0, 2.0), (3, 4)))
    progress.end()
    assert progress.phase == FINISHED
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith("step 10: mean return 1.5" if evaluated else "step 10 of 10 (100%)")


def test_nothing_is_printed_unless_it_is_asked_for(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    progress: Any = reporter(ProgressLine(0, 10, "none"))
    clock[0] = 1000.0
    progress.tick()
    progress.line.say("nothing")
    progress.end()
    assert capsys.readouterr().err == ""

"""The progress line, on a terminal and without one."""

import io
import sys
from typing import Any

import pytest

from pixelq.agents import DQN, AgentConfig
from pixelq.agents.evaluation.evaluate import Evaluation
from pixelq.agents.runs.progress import EVALUATING, FINISHED, TRAINING, Progress, ProgressFile, duration_text
from pixelq.agents.training import progress_line
from pixelq.agents.training.interval import Episodes
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
    line = ProgressLine(0, 100_000, enabled=True)
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
    line = ProgressLine(0, 100, enabled=True)
    values = vars(NOW) | {"step": 1, "steps": 100, "frames": 1, "updates": 0, "steps_per_second": None}
    line.report(Progress(**values | {"seconds_left": None, "phase": EVALUATING}))
    found = capsys.readouterr().err
    assert found == "step 1 of 100 (1%), evaluating, return - (last 100 episodes), epsilon 0.500, no updates yet\n"
    assert found.isascii()


def test_a_terminal_has_one_line_that_is_redrawn(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    line = ProgressLine(0, 100_000, enabled=True)
    clock[0] = 1000.0
    assert not line.is_due
    line.update(ROW)
    assert "return -20.5 (last 100)" in line.progress.tasks[0].fields["text"]


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
    progress = reporter(ProgressLine(0, 10, enabled=True))
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
    progress = reporter(ProgressLine(0, 10, enabled=True))
    progress.agent.step = 10
    if evaluated:
        progress.line.say_evaluation(10, Evaluation("x", (1.0, 2.0), (3, 4)))
    progress.end()
    assert progress.phase == FINISHED
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith("step 10: mean return 1.5" if evaluated else "step 10 of 10 (100%)")


def test_nothing_is_printed_unless_it_is_asked_for(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    progress: Any = reporter(ProgressLine(0, 10, enabled=False))
    clock[0] = 1000.0
    progress.tick()
    progress.line.say("nothing")
    progress.end()
    assert capsys.readouterr().err == ""

"""The process of a cell: its cores, its threads, and that it does not outlive the one that waits for it."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pixelq.agents.distributed import process
from pixelq.agents.distributed.cells import cells_of
from pixelq.agents.distributed.process import Job, run_cell
from pixelq.agents.distributed.spec import spec_of

pytestmark = pytest.mark.linux
(CELL,) = cells_of(
    spec_of({"envs": ["CartPole-v1"], "presets": ["classic"], "seeds": [0], "steps": 1, "device": "cpu"})
)
SHOWS_STEPS = "import sys; print(sys.argv[sys.argv.index('--steps') + 1])"
SHOWS = "import json, os; print(json.dumps([sorted(os.sched_getaffinity(0)), os.environ.get('OMP_NUM_THREADS')]))"


@pytest.mark.parametrize(
    ("before", "threads", "expected"),
    [(None, None, None), (None, 1, "1"), (3, 1, "3"), (3, None, "3")],
)
def test_a_process_has_its_cores_and_the_threads_that_its_run_had(
    before: int | None, threads: int | None, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "PROGRAM", (sys.executable, "-c", SHOWS))
    job = Job(CELL, tmp_path, threads=threads, cores=(max(os.sched_getaffinity(0)),))
    if before is not None:
        job.run.mkdir()
        config = {"env": "x", "protocol": None, "agent": {}, "hardware": {"device": "cpu", "torch_threads": before}}
        (job.run / "config.json").write_text(json.dumps(config))
    outcome = run_cell(job)
    assert (outcome.code, json.loads(outcome.said)) == (0, [list(job.cores), expected])


@pytest.mark.parametrize(
    ("saved", "is_evaluated", "steps"), [(40, False, "40"), (30, False, "200"), (None, False, "200"), (40, True, "200")]
)
def test_a_run_that_a_callback_stopped_only_makes_up_for_its_final_evaluation(
    saved: int | None, is_evaluated: bool, steps: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes no more steps than it had, unless it is none that has ended at its newest checkpoint."""
    monkeypatch.setattr(process, "PROGRAM", (sys.executable, "-S", "-c", SHOWS_STEPS))
    job = Job(dataclasses.replace(CELL, steps=200), tmp_path)
    job.run.mkdir()
    config = {"env": "CartPole-v1", "protocol": None, "agent": {}, "steps": 200}
    stopped = {"step": 40, "callback": "StopAfter", "why": "7200 seconds are over"}
    (job.run / "config.json").write_text(json.dumps(config | {"stopped": stopped}))
    if saved is not None:
        (job.run / "checkpoints" / f"step_{saved:010d}").mkdir(parents=True)
    if is_evaluated:
        (job.run / "final_evaluation.json").write_text("{}")
    assert run_cell(job).said == steps


def test_a_process_is_stopped_when_the_one_that_waits_dies(tmp_path: Path) -> None:
    """It may write a checkpoint: the signal is SIGTERM."""
    said = tmp_path / "said"
    cell = f"""
import pathlib, signal, time
signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path({str(said)!r}).write_text("stopped"), exit()))
pathlib.Path({str(said)!r}).write_text("begun")
time.sleep(60)
"""
    waiting = f"""
import subprocess, sys
from pixelq.agents.distributed.process import _bound
subprocess.run(_bound([sys.executable, "-c", {cell!r}], ()))
"""
    with subprocess.Popen([sys.executable, "-c", waiting]) as parent:
        _wait_for(said, "begun")
        parent.send_signal(signal.SIGKILL)
    _wait_for(said, "stopped")


def _wait_for(path: Path, text: str) -> None:
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text() == text):
        assert time.monotonic() < deadline
        time.sleep(0.01)

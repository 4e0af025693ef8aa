"""The process of a cell: its cores, its threads, and that it does not outlive the one that waits for it."""

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

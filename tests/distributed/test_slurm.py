"""Sweeps as jobs of SLURM: a real one of one machine, where it can be started, and submitit's own stand-in."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.test_sweep import PROGRAM, QUICK, command, figures, finished_steps, wait_for
from tests.distributed.test_tune import PEAK
from tests.distributed.test_tune import command as tune_command
from tests.distributed.test_tune import program as tune_program
from tests.support import slurm as real
from tests.support.runs import Harness

pytestmark = [pytest.mark.slow, pytest.mark.linux]
SMALL = ["--slurm.mem", "200M", "--slurm.partition", "low"]


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """SLURM, whose jobs train with the stand-in."""
    pytest.importorskip("submitit")
    why = real.missing()
    if why is not None:
        pytest.skip(why)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        f"""
import sys
if "submitit.core._submit" in sys.orig_argv:
    from pixelq.agents.distributed import process
    process.PROGRAM = {PROGRAM!r}
"""
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}:{':'.join(sys.path)}")
    monkeypatch.setenv("STAND_IN", '{"seconds": 0.2}')
    with real.slurm(tmp_path / "slurm"):
        yield


def submissions(folder: Path) -> list[Path]:
    """What was sent to SLURM."""
    return list((folder / "logs" / "slurm").glob("*_submission.sh"))


def program(folder: Path, arguments: list[str]) -> list[str]:
    """A script that runs a command with the environment variables of this process."""
    own = {name: os.environ[name] for name in ("SLURM_CONF", "PYTHONPATH", "STAND_IN")}
    (folder / "run.py").write_text(
        f"""
import os, sys
os.environ.update({own!r})
from pixelq.scripts.main import main
sys.exit(main({[*arguments, *SMALL]!r}))
"""
    )
    return ["script", str(folder / "run.py"), str(folder)]


@pytest.mark.timeout(600)
def test_jobs_are_preempted_and_the_driver_is_killed(slurm: None, harness: Harness, tmp_path: Path) -> None:
    whole = harness.run(command(tmp_path, "whole"), QUICK)
    assert whole.code == 0, whole.err
    sweep = program(tmp_path, command(tmp_path, "sweep", "slurm"))
    child = harness.start(sweep)
    wait_for("sweep/*/checkpoint.json", tmp_path, child)
    child.send(signal.SIGKILL)
    child.wait()
    urgent = ["sbatch", "--partition=high", "--exclusive", "--wait", "--mem=100M", "--output=/dev/null"]
    subprocess.run([*urgent, "--wrap", "sleep 1"], check=True, timeout=120, capture_output=True)
    ended = harness.start(sweep).wait(400.0)
    assert ended.code == 0, ended.err
    tries = [len(path.read_text()) for path in (tmp_path / "sweep" / "logs").glob("*.tries")]
    assert (len(tries), max(tries) > 1) == (4, True)  # some were requeued
    assert finished_steps(tmp_path / "sweep") == [60] * 4
    assert figures(tmp_path / "sweep") == figures(tmp_path / "whole")
    assert len(submissions(tmp_path / "sweep")) == 1  # the second driver took up the jobs of the first


@pytest.mark.timeout(600)
def test_jobs_go_on_after_their_time_limit(
    slurm: None, harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"envs": ["CartPole-v1"], "seeds": [0]}
    whole = harness.run(command(tmp_path, "whole", **few), QUICK)
    assert whole.code == 0, whole.err
    monkeypatch.setenv("STAND_IN", '{"seconds": 1.0}')  # as long as the limit, a minute, before which a job is told
    limits = ["--slurm.time", "1", "--slurm.signal-delay-s", "1"]
    ended = harness.start(program(tmp_path, [*command(tmp_path, "sweep", "slurm", **few), *limits])).wait(500.0)
    assert ended.code == 0, ended.err
    (log,) = (tmp_path / "sweep" / "logs").glob("*.log")
    assert log.read_text().count("--resume") >= 1
    assert finished_steps(tmp_path / "sweep") == [60]
    assert figures(tmp_path / "sweep") == figures(tmp_path / "whole")
    said = [path.read_text() for path in (tmp_path / "sweep" / "logs" / "slurm").glob("*.out")]
    assert "".join(said).count("Requeued job") >= 1  # and not only tried again


@pytest.mark.timeout(600)
def test_a_search_is_that_of_this_machine(
    slurm: None, harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    few: dict[str, Any] = {"trials": 3, "jobs": 1}
    monkeypatch.setenv("STAND_IN", json.dumps(PEAK))
    for name, launcher in (("whole", "local"), ("tuning", "slurm")):
        flags = [*tune_command(tmp_path, name, **few), "--launcher", launcher]
        search = program(tmp_path, flags) if launcher == "slurm" else tune_program(tmp_path, flags, 0.0)
        ended = harness.start(search).wait(300.0)
        assert ended.code == 0, ended.err
    for file in ("trials.csv", "trials.json"):
        assert (tmp_path / "tuning" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert len(submissions(tmp_path / "tuning")) == 3  # an array for each trial


def test_a_signal_stops_jobs_with_a_checkpoint(slurm: None, harness: Harness, tmp_path: Path) -> None:
    child = harness.start(program(tmp_path, command(tmp_path, "sweep", "slurm", steps=2000)))
    wait_for("sweep/*/checkpoint.json", tmp_path, child)
    child.send(signal.SIGTERM)
    ended = child.wait(120.0)
    assert ended.code == 143, ended.err
    stopped = list((tmp_path / "sweep" / "logs").glob("pixelq-*.json"))
    assert stopped
    assert {json.loads(path.read_text())["code"] for path in stopped} == {143}
    queue = subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, check=True)
    assert queue.stdout == ""

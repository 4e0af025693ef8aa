"""Sweeps as jobs of SLURM: a real one of one machine, where it can be started, and submitit's own stand-in."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.distributed.test_sweep import PROGRAM, command, figures, finished_steps, wait_for
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


@pytest.mark.timeout(600)
def test_jobs_are_preempted_and_the_driver_is_killed(slurm: None, harness: Harness, tmp_path: Path) -> None:
    whole = harness.run(command(tmp_path, "whole"), {"pixelq.agents.distributed.process.PROGRAM": PROGRAM})
    assert whole.code == 0, whole.err
    program = tmp_path / "run.py"
    program.write_text(
        f"""
import os, sys
os.environ.update({ {name: os.environ[name] for name in ("SLURM_CONF", "PYTHONPATH", "STAND_IN")}!r})
from pixelq.scripts.main import main
sys.exit(main({[*command(tmp_path, "sweep", "slurm"), *SMALL]!r}))
"""
    )
    child = harness.start(["script", str(program), str(tmp_path)])
    wait_for("sweep/*/checkpoint.json", tmp_path, child)
    child.send(signal.SIGKILL)
    child.wait()
    urgent = ["sbatch", "--partition=high", "--exclusive", "--wait", "--mem=100M", "--output=/dev/null"]
    subprocess.run([*urgent, "--wrap", "sleep 1"], check=True, timeout=120, capture_output=True)
    ended = harness.start(["script", str(program), str(tmp_path)]).wait(
        400.0
    )  # SLURM holds requeued jobs back for two minutes
    assert ended.code == 0, ended.err
    tries = [len(path.read_text()) for path in (tmp_path / "sweep" / "logs").glob("*.tries")]
    assert (len(tries), max(tries) > 1) == (4, True)  # some were requeued
    assert finished_steps(tmp_path / "sweep") == [60] * 4
    assert figures(tmp_path / "sweep") == figures(tmp_path / "whole")
    submitted = list((tmp_path / "sweep" / "logs" / "slurm").glob("*_submission.sh"))
    assert len(submitted) == 1  # the second driver took up the jobs of the first


def test_a_signal_stops_jobs_with_a_checkpoint(slurm: None, harness: Harness, tmp_path: Path) -> None:
    program = tmp_path / "run.py"
    program.write_text(
        f"""
import os, sys
os.environ.update({ {name: os.environ[name] for name in ("SLURM_CONF", "PYTHONPATH", "STAND_IN")}!r})
from pixelq.scripts.main import main
sys.exit(main({[*command(tmp_path, "sweep", "slurm", steps=2000), *SMALL]!r}))
"""
    )
    child = harness.start(["script", str(program), str(tmp_path)])
    wait_for("sweep/*/checkpoint.json", tmp_path, child)
    child.send(signal.SIGTERM)
    ended = child.wait()
    assert ended.code == 143, ended.err
    stopped = list((tmp_path / "sweep" / "logs").glob("pixelq-*.json"))
    assert stopped
    assert {json.loads(path.read_text())["code"] for path in stopped} == {143}
    queue = subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, check=True)
    assert queue.stdout == ""

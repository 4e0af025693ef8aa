"""Sweeps on a Ray cluster of two machines, as far as one machine can be two."""

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.test_sweep import PROGRAM, command, figures, finished_steps, wait_for
from tests.distributed.test_tune import PEAK
from tests.distributed.test_tune import command as tune_command
from tests.distributed.test_tune import program as tune_program
from tests.support.ray_cluster import started
from tests.support.runs import Harness

pytestmark = [pytest.mark.slow, pytest.mark.linux, pytest.mark.timeout(900)]
MEMORY = 4 * 10**9


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A cluster without a core on its head; its tasks train with the stand-in."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    (tmp_path / "sitecustomize.py").write_text(
        f"""
import os
if "STAND_IN" in os.environ and "default_worker.py" in " ".join(__import__("sys").orig_argv):
    from pixelq.agents.distributed import process
    process.PROGRAM = {PROGRAM!r}
"""
    )
    monkeypatch.setenv("STAND_IN", '{"seconds": 0.1}')
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{':'.join(sys.path)}")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # or else other tests leave the workers no time
    head = {"num_cpus": 0, "include_dashboard": False}
    made = started(lambda: Cluster(initialize_head=True, head_node_args=head))
    yield made
    made.shutdown()


def test_a_sweep_survives_a_lost_machine_and_a_killed_driver(cluster: Any, harness: Harness, tmp_path: Path) -> None:
    whole = harness.run(command(tmp_path, "whole"), {"pixelq.agents.distributed.process.PROGRAM": PROGRAM})
    assert whole.code == 0, whole.err
    lost = started(lambda: cluster.add_node(num_cpus=2, memory=MEMORY))
    flags = [*command(tmp_path, "lost", "ray"), "--ray-address", cluster.address]
    flags = [word for word in flags if word not in ("--jobs", "4")]
    child = harness.start(flags)
    for _ in range(2):
        wait_for("lost/*/checkpoint.json", tmp_path, child)
    cluster.remove_node(lost, allow_graceful=False)
    started(lambda: cluster.add_node(num_cpus=2, memory=MEMORY))  # however long that takes: no other has a core
    deadline = time.monotonic() + 240
    while not any("--resume" in path.read_text() for path in (tmp_path / "lost" / "logs").glob("*.log")):
        assert time.monotonic() < deadline, child.wait(0.0)
        time.sleep(0.01)
    child.send(signal.SIGKILL)
    assert child.wait().code == -signal.SIGKILL
    ended = harness.start(flags).wait(300.0)
    assert ended.code == 0, ended.err
    assert finished_steps(tmp_path / "lost") == [60] * 4
    assert figures(tmp_path / "lost") == figures(tmp_path / "whole")


def test_a_search_is_that_of_this_machine(
    cluster: Any, harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    few: dict[str, Any] = {"trials": 3, "jobs": 1}
    whole = harness.start(tune_program(tmp_path, tune_command(tmp_path, "whole", **few), 0.1)).wait(120.0)
    assert whole.code == 0, whole.err
    monkeypatch.setenv("STAND_IN", json.dumps(PEAK | {"seconds": 0.1}))
    started(lambda: cluster.add_node(num_cpus=2, memory=MEMORY))
    flags = [*tune_command(tmp_path, **few), "--launcher", "ray", "--ray-address", cluster.address]
    ended = harness.start(flags).wait(240.0)
    assert ended.code == 0, ended.err
    for file in ("trials.csv", "trials.json"):
        assert (tmp_path / "tuning" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_a_signal_stops_tasks_with_a_checkpoint(cluster: Any, harness: Harness, tmp_path: Path) -> None:
    started(lambda: cluster.add_node(num_cpus=2, memory=MEMORY))
    flags = [*command(tmp_path, "sweep", "ray", steps=2000), "--ray-address", cluster.address]
    child = harness.start(flags)
    wait_for("sweep/*/checkpoint.json", tmp_path, child)
    child.send(signal.SIGTERM)
    ended = child.wait(120.0)
    assert ended.code == 143, ended.err
    for path in (tmp_path / "sweep" / "logs").glob("*.json"):
        assert '"code": 143' in path.read_text()

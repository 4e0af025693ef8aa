"""Sweeps on a Ray cluster of two machines, as far as one machine can be two."""

import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.test_sweep import PROGRAM, command, figures, finished_steps, wait_for
from tests.support.ray_cluster import started
from tests.support.runs import Harness

pytestmark = [pytest.mark.slow, pytest.mark.linux]
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
    started(lambda: cluster.add_node(num_cpus=2, memory=MEMORY))
    cluster.remove_node(lost, allow_graceful=False)
    time.sleep(2.0)
    child.send(signal.SIGKILL)
    assert child.wait().code == -signal.SIGKILL
    ended = harness.start(flags).wait(120.0)
    assert ended.code == 0, ended.err
    assert finished_steps(tmp_path / "lost") == [60] * 4
    assert figures(tmp_path / "lost") == figures(tmp_path / "whole")


def test_a_signal_stops_tasks_with_a_checkpoint(cluster: Any, harness: Harness, tmp_path: Path) -> None:
    started(lambda: cluster.add_node(num_cpus=2, memory=MEMORY))
    flags = [*command(tmp_path, "sweep", "ray", steps=2000), "--ray-address", cluster.address]
    child = harness.start(flags)
    wait_for("sweep/*/checkpoint.json", tmp_path, child)
    child.send(signal.SIGTERM)
    ended = child.wait()
    assert ended.code == 143, ended.err
    for path in (tmp_path / "sweep" / "logs").glob("*.json"):
        assert '"code": 143' in path.read_text()

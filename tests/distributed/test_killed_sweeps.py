"""A sweep with the program itself that is killed ten times, and ends as one that was not; on each launcher."""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.test_sweep import command, figures
from tests.support import slurm as real
from tests.support.ray_cluster import started
from tests.support.runs import Child, Harness, contents

pytestmark = [pytest.mark.slow, pytest.mark.linux, pytest.mark.timeout(1800)]
KILLS = 10
SPEC: dict[str, Any] = {
    "envs": ["pixelq/Catch-v0", "CartPole-v1"],
    "presets": ["classic", "rainbow"],
    "seeds": [0, 1, 2],
    "steps": 500,
    "num_envs": 2,
    "device": "cpu",
    "checkpoint_every": 25,
    "evaluate_every": 250,
    "evaluation_episodes": 2,
    "final_episodes": 2,
    "log_every": 100,
    "retries": KILLS,
    "agent": {"encoder": "mlp", "hidden": 16, "batch_size": 8, "learning_starts": 50, "replay_capacity": 200},
}


def what_it_learned(sweep: Path) -> dict[str, Any]:
    """Scores, and of each run the tables and the weights of the latest and the best checkpoint, but times."""
    found: dict[str, Any] = {name: each for name, each in figures(sweep).items() if name.startswith("scores.")}
    for run in sorted(path.parent for path in sweep.glob("*/config.json")):
        kept = [f"checkpoints/{(run / 'checkpoints' / mark).read_text().strip()}/" for mark in ("latest", "best")]
        for name, each in contents(run).items():
            if not name.startswith("checkpoints/") or (name.endswith(".safetensors") and name.startswith(tuple(kept))):
                found[f"{run.name}/{name}"] = each
    return found


def runs_under_way(sweep: Path) -> list[int]:
    """Ids of the processes that train cells of a sweep."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if b"train" in words and any(word.startswith(bytes(sweep) + b"/") for word in words):
                found.append(int(path.parent.name))
    return found


def kill(drawn: random.Random, child: Child, sweep: Path) -> bool:
    """Kill a run, or the driver, whose runs then stop with a checkpoint, or all at once; whether it was not a run."""
    victims = drawn.choice(["a run", "the driver", "everything"])
    runs = runs_under_way(sweep)
    if victims != "a run":
        child.send(signal.SIGKILL)
    for run in {"a run": runs[:1], "the driver": [], "everything": runs}[victims]:
        with suppress(ProcessLookupError):
            os.kill(run, signal.SIGKILL)
    return victims != "a run"


def run_to_the_end(flags: list[str], sweep: Path, harness: Harness, env: dict[str, str]) -> None:
    """Run a sweep that is killed at random moments, each after a new checkpoint of some run."""
    drawn, known, child = random.Random(0), set[Path](), None
    for _ in range(KILLS):
        child = child or harness.start(flags, env=env)
        deadline = time.monotonic() + 300
        while not (now := set(sweep.glob("*/checkpoints/step_*"))) - known:
            assert time.monotonic() < deadline, child.wait(0.0)
            time.sleep(0.05)
        known |= now
        time.sleep(drawn.uniform(0.0, 1.0))
        if kill(drawn, child, sweep):
            assert child.wait().code == -signal.SIGKILL
            child = None
    ended = (child or harness.start(flags, env=env)).wait(900.0)
    assert ended.code == 0, ended.err


@pytest.fixture(scope="module")
def whole(harness: Harness, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a sweep learned that was never killed."""
    folder = tmp_path_factory.mktemp("whole")
    ended = harness.start(command(folder, jobs=2, **SPEC)).wait(900.0)
    assert ended.code == 0, ended.err
    found = what_it_learned(folder / "sweep")
    assert sum(name.endswith(".safetensors") for name in found) >= 12 * 2
    return found


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster without a core on its head."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    monkeypatch.setenv("RAY_worker_niceness", "0")  # or else other tests leave the workers no time
    head = {"num_cpus": 0, "include_dashboard": False}
    made = started(lambda: Cluster(initialize_head=True, head_node_args=head))
    started(lambda: made.add_node(num_cpus=2, memory=4 * 10**9))
    yield made
    made.shutdown()


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[dict[str, str]]:
    """SLURM, as the environment variables by which a command finds it."""
    pytest.importorskip("submitit")
    why = real.missing()
    if why is not None:
        pytest.skip(why)
    with real.slurm(tmp_path / "slurm"):
        yield {"SLURM_CONF": os.environ["SLURM_CONF"], "PYTHONPATH": ":".join(sys.path)}


@pytest.mark.parametrize("launcher", ["local", "ray", "slurm"])
def test_a_sweep_that_is_killed_ten_times(
    launcher: str, whole: dict[str, Any], harness: Harness, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    flags = command(tmp_path, launcher=launcher, jobs=2, **SPEC)
    env: dict[str, str] = {}
    if launcher == "ray":
        flags += ["--ray-address", request.getfixturevalue("cluster").address]
    if launcher == "slurm":
        flags += ["--slurm.mem", "500M", "--slurm.partition", "low"]
        env = request.getfixturevalue("slurm")
    run_to_the_end(flags, tmp_path / "sweep", harness, env)
    resumed = [json.loads(path.read_text())["resumed"] for path in (tmp_path / "sweep").glob("*/config.json")]
    assert sum(map(len, resumed)) >= KILLS / 2
    assert all(each["exact"] for of_run in resumed for each in of_run)
    found = what_it_learned(tmp_path / "sweep")
    assert found.keys() == whole.keys()
    for name in whole:
        assert found[name] == whole[name], name

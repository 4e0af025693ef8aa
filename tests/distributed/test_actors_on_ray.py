"""Training with actors on a real Ray: here, killed in the middle, and on a cluster that loses a node."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pixelq.agents import (
    DQN,
    ActorEnvs,
    AgentConfig,
    Callback,
    InvalidConfig,
    Training,
    UserError,
    evaluate,
    preset,
)
from pixelq.agents.distributed.block import Block
from pixelq.agents.distributed.engine import RayEngine
from pixelq.envs import InvalidEnv, make_vec
from tests.support.ray_cluster import started
from tests.support.runs import ROOT, run_here, table, words

ray = pytest.importorskip("ray")

CATCH = dataclasses.replace(
    preset("classic"), replay_capacity=2_000, hidden=64, batch_size=32, learning_rate=5e-4, train_every=4,
    target_update_every=200, learning_starts=500, epsilon_steps=3_000,
)  # fmt: skip
FLAGS = {
    "--env": "pixelq/Catch-v0",
    "--preset": "classic",
    "--num-envs": "4",
    "--device": "cpu",
    "--checkpoint-every": "1000",
    "--evaluate-every": "100000",
    "--log-every": "250",
    "--final-episodes": "20",
    "--evaluation-episodes": "2",
    "--agent.hidden": "64",
    "--agent.learning-starts": "500",
    "--agent.replay-capacity": "2000",
    "--actors": "2",
}


@pytest.fixture(autouse=True)
def _no_ray_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RAY_worker_niceness", "0")  # or else other tests leave workers of a cluster no time
    yield
    ray.shutdown()


def made(envs: Any, config: AgentConfig = CATCH) -> DQN:
    return DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=1)


def actor_processes(driver: int) -> list[int]:
    """Ids of the processes that are actors of a driver on the Ray that it has started."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    lines = (line.split(None, 2) for line in listed.splitlines())
    found = {int(pid): (int(parent), command) for pid, parent, command in lines}

    def is_of_driver(pid: int) -> bool:
        while pid in found and pid != driver:
            pid = found[pid][0]
        return pid == driver

    return [pid for pid, (_, command) in found.items() if command.startswith("ray::Actor") and is_of_driver(pid)]


def is_alive(actor: int) -> bool:
    try:
        return Path(f"/proc/{actor}/cmdline").read_bytes().startswith(b"ray::Actor")
    except OSError:
        return False


def newest_checkpoint(run: Path) -> int:
    return max((int(path.name[5:]) for path in (run / "checkpoints").glob("step_*")), default=0)


def wait_until(condition: Any, seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow  # Ray takes half a minute to start beside other tests
@pytest.mark.linux
def test_two_actors_play_and_none_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    bytes_taken = []
    get = RayEngine.get

    def weighed(self: RayEngine, ref: Any) -> Block:
        block = get(self, ref)
        bytes_taken.append(sum(part.nbytes for part in (*block.outcomes, *block.views) if part is not None))
        return block

    monkeypatch.setattr(RayEngine, "get", weighed)
    envs = ActorEnvs("pixelq/Catch-v0", 8, 1, actors=2)
    agent = made(envs).learn(envs, 1_200)
    assert agent.replay is not None
    assert agent.updates == pytest.approx((agent.step - 500) / 4, abs=8)
    assert max(bytes_taken) == 16 * 4 * (50 + 2 + 4 + 3)  # rows of 4 environments: one frame each, and 9 bytes
    wait_until(lambda: not actor_processes(os.getpid()))
    with pytest.raises(InvalidEnv, match="NoSuch"):
        ActorEnvs("NoSuch-v0", 2, actors=2)
    with pytest.raises(UserError, match="which has 2 CPUs, but 3 need 3"):
        ActorEnvs("pixelq/Catch-v0", 3, actors=3)  # on the Ray that is there
    with pytest.raises(InvalidConfig, match="learn alone"):
        envs.reset()
    envs.close()
    assert not ray.is_initialized()


@pytest.mark.slow
@pytest.mark.linux
def test_catch_is_learned_by_two_actors() -> None:
    envs = ActorEnvs("pixelq/Catch-v0", 8, 1, actors=2)
    agent = made(envs).learn(envs, 5_000)
    assert evaluate(agent, make_vec("pixelq/Catch-v0", 10, seed=1_234), 100).mean > 0.6  # standing still gives −0.6
    envs.close()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"actors": 0}, "--actors must be between 1 and the 4 environments"),
        ({"actors": 5}, "--actors must be between 1 and the 4 environments"),
        ({"ray_address": "localhost:1"}, "no Ray cluster answers at 'localhost:1'"),
        ({"ray_address": "ray://somewhere"}, "--ray-address must be HOST:PORT or auto"),
        ({"actor_gpus": 2}, "--actor-gpus must be a number in [0, 1]"),
    ],
)
def test_bad_input_gets_a_sentence_and_leaves_no_run(flags: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    ended = run_here(["train", *words(FLAGS, out=tmp_path / "run", steps=100, **flags)])
    assert ended.code == 2
    assert sentence in ended.err
    assert not (tmp_path / "run").exists()


def test_without_ray_a_sentence_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    ended = run_here(["train", *words(FLAGS, out=tmp_path / "run", steps=100)])
    assert ended.code == 2
    assert "pip install 'pixelq[ray]'" in ended.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.linux
def test_an_actor_that_is_killed_and_a_learner_that_is_killed(tmp_path: Path) -> None:
    """The actor is replaced; after SIGKILL no actor is left, and the run goes on from its last checkpoint."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "pixelq.scripts.main", "train"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    steps = words(FLAGS, out=out, steps=200_000)
    with subprocess.Popen([*command, *steps], cwd=ROOT, env=environment) as learner:
        try:
            wait_until(lambda: (out / "metrics.csv").exists() and len(table(out / "metrics.csv")) > 3)
            os.kill(actor_processes(learner.pid)[0], signal.SIGKILL)
            wait_until(lambda: table(out / "metrics.csv")[-1]["actor_restarts"] == 1)
            wait_until(lambda: len(actor_processes(learner.pid)) == 2)
            known = newest_checkpoint(out)
            wait_until(lambda: newest_checkpoint(out) > known)
            actors = actor_processes(learner.pid)
        finally:
            learner.kill()
    assert len(actors) == 2
    wait_until(lambda: not any(map(is_alive, actors)), 60.0)
    before = newest_checkpoint(out)
    more = ["--resume", "--out", str(out), "--device", "cpu", "--steps", str(before + 3_000)]
    subprocess.run([*command, *more], cwd=ROOT, env=environment, check=True, timeout=600)
    config = json.loads((out / "config.json").read_text())
    assert config["actors"] == 2
    assert config["resumed"][-1]["step"] == before
    assert config["resumed"][-1]["exact"] is False
    rows = table(out / "metrics.csv")
    assert rows[-1]["step"] is not None
    assert rows[-1]["step"] >= before + 3_000
    assert rows[-1]["samples_per_insert"] == pytest.approx(CATCH.batch_size, rel=0.1)  # an update a step


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.linux
def test_a_node_that_is_lost(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "object_store_memory": 10**8, "include_dashboard": False}
    cluster = started(lambda: Cluster(initialize_head=True, head_node_args=head))
    node = started(lambda: cluster.add_node(num_cpus=1, object_store_memory=10**8))
    try:
        envs = ActorEnvs("pixelq/Catch-v0", 4, 1, actors=2, address=cluster.address)
        agent, killed = made(envs, dataclasses.replace(CATCH, replay_capacity=20_000)), []

        class Killing(Callback):
            def on_step(self, training: Training) -> None:
                if training.step > 2_000 and not killed:
                    killed.append(training.step)
                    cluster.remove_node(node)
                if training.step > 4_000 and len(killed) == 1:
                    killed.append(training.step)
                    cluster.add_node(num_cpus=1, object_store_memory=10**8)

        agent.learn(envs, 12_000, tmp_path / "run", callbacks=[Killing()], log_every=500)
        rows = table(tmp_path / "run" / "metrics.csv")
        assert rows[-1]["actor_restarts"] == 1
        assert agent.replay is not None
        is_start = agent.replay.ring.is_start
        assert is_start[:, :2].sum() > is_start[:, 2:].sum() + 100  # half was not played for a while
        envs.close()
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_cartpole_is_learned(tmp_path: Path) -> None:
    """As by tests/training/test_learning.py, without actors."""
    envs = ActorEnvs("CartPole-v1", 8, 0, actors=2)
    agent = DQN(envs.single_observation_space, envs.single_action_space, preset("classic"), device="cpu", seed=0)
    others = make_vec("CartPole-v1", 10, seed=99)
    agent.learn(envs, 30_000, tmp_path / "run", evaluation_envs=others, evaluate_every=2_500, evaluation_episodes=20)
    best = DQN.load(tmp_path / "run", device="cpu")
    assert evaluate(best, make_vec("CartPole-v1", 10, seed=1_234), 100).mean >= 475
    envs.close()

"""Several learners: two with half the batch each are one with the whole, and a run of theirs goes on exactly."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelq.agents import DQN, AgentConfig
from pixelq.agents.config.at_step import epsilon_ladder
from pixelq.agents.config.torchrun import TOLD_SECONDS
from pixelq.agents.experience.samplers import PrioritizedSampler
from pixelq.agents.training.rank_parts import RankCollector
from pixelq.agents.training.ranks import Ranks
from pixelq.envs import make_vec
from pixelq.envs.checks import PartOfSeed, spread_seeds
from pixelq.scripts.main import main
from tests.support.cases import examples
from tests.support.runs import Child, Ended, Harness, assert_same, column, table, train

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.linux


def ended(children: list[Child]) -> list[Ended]:
    return [child.wait() for child in children]


def ended_well(children: list[Child]) -> Ended:
    found = ended(children)
    assert [each.code for each in found] == [0] * len(found), found
    assert all(each.out == "" for each in found[1:]), found
    return found[0]


def test_two_learners_with_half_the_batch_are_one_with_the_whole(harness: Harness, tmp_path: Path) -> None:
    """Gradients to 1e-6, and with the same draws the weights after 100 updates."""
    script = ["script", str(ROOT / "tests/support/half_batches.py"), str(tmp_path)]
    found = json.loads(ended_well(harness.start_learners(script)).out)
    assert set(found) == {"scalar", "noisy categorical", "memory", "pqn"}
    for name, each in found.items():
        assert each["gradient"] < 1e-6, name
        assert each["loss"] < 1e-5, name
        assert each["weights"] < 1e-5, name
        assert each["moved"] > 1e-3, name
        assert each["apart"] == 0.0, name


def test_a_run_of_two_learners_goes_on_exactly_whatever_ends_one(harness: Harness, tmp_path: Path) -> None:
    """One learner is asked to stop; then the first dies in the middle of a checkpoint; byte by byte nothing is lost."""
    whole, out = tmp_path / "whole", tmp_path / "run"
    flags = ["--agent.prioritized", "--agent.noisy"]
    first = ended_well(harness.start_learners([*train(whole, checkpoint_every=10), *flags]))
    assert "2 learners" in first.err
    config = json.loads((whole / "config.json").read_text())
    assert (config["learners"], config["num_envs"], config["agent"]["batch_size"]) == (2, 2, 4)
    rows = table(whole / "metrics.csv")
    assert rows[-1]["step"] in (120.0, 121.0)
    assert rows[-1]["updates"] == pytest.approx((rows[-1]["step"] - 20) / 3, abs=1)  # as of one learner
    # Stopped by a signal that only the second learner gets
    fault = ["stop_before", {"method": "RunCheckpoints.run_state", "call": 4, "number": signal.SIGTERM}]
    found = ended(harness.start_learners([*train(out, checkpoint_every=10), *flags], fault=fault, of=1))
    assert [each.code for each in found] == [143, 143], found
    assert "stopped at step" in found[0].err
    assert found[1].err == ""
    # Dead in the middle of a checkpoint
    fault = ["die_in", {"method": "RunCheckpoints.add", "at": 7, "call": 3}]
    found = ended(harness.start_learners(train(out, resume=True), fault=fault))
    assert [each.code for each in found] == [9, 1], found
    assert "another learner is gone" in found[1].err
    # And on
    last = ended_well(harness.start_learners(train(out, resume=True)))
    assert "exactly" in last.err
    assert_same(whole, out)
    resumed = json.loads((out / "config.json").read_text())["resumed"]
    assert [each["exact"] for each in resumed] == [True, True]


@pytest.mark.parametrize("first", [0, 1, 5])
def test_shares_of_environments_are_those_of_one_learner(first: int) -> None:
    assert spread_seeds(PartOfSeed(7, first), 3).tolist() == spread_seeds(7, first + 3)[first:].tolist()
    everything, share = make_vec("pixelq/Catch-v0", first + 3, 7), make_vec("pixelq/Catch-v0", 3, PartOfSeed(7, first))
    assert np.array_equal(share.reset()[0], everything.reset()[0][first:])


@settings(max_examples=examples(50), deadline=None)
@given(priorities=st.lists(st.lists(st.floats(0.01, 10.0), min_size=1, max_size=6), min_size=2, max_size=2))
@pytest.mark.parametrize("uniform", [0.0, 0.3])
def test_importance_weights_are_those_of_all_shards(uniform: float, priorities: list[list[float]]) -> None:
    """(M P(i))^−β over the greatest weight of both batches, where a shard draws half the rows, from its own total."""
    samplers = []
    for seed, shard in enumerate(priorities):
        sampler = PrioritizedSampler(len(shard), torch.Generator().manual_seed(seed), alpha=1.0, uniform=uniform)
        sampler.extend(torch.arange(len(shard)))
        sampler.update(torch.arange(len(shard)), torch.tensor(shard))
        samplers.append(sampler)
    least: list[torch.Tensor] = []
    states = [sampler.generator.get_state() for sampler in samplers]
    for sampler in samplers:
        sampler.least = lambda share: least.append(share) or share  # type: ignore[func-returns-value]
        sampler.sample(4)
    drawn = []
    for sampler, state in zip(samplers, states, strict=True):
        sampler.generator.set_state(state)
        sampler.least = lambda share: torch.stack(least).min()
        drawn.append(sampler.sample(4))
    shares = []
    for (rows, _), shard in zip(drawn, priorities, strict=True):
        own = torch.tensor(shard, dtype=torch.float64) + 1e-6
        shares.append(((1 - uniform) * own / own.sum() + uniform / len(shard))[rows])
    lowest = torch.cat(shares).min()
    for (_, weight), share in zip(drawn, shares, strict=True):
        assert torch.allclose(weight.double(), (lowest / share) ** 0.4, rtol=1e-5)


def started_by_torchrun(monkeypatch: pytest.MonkeyPatch, size: int, rank: int = 0) -> None:
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": 1}
    for name, value in ({"MASTER_ADDR": "127.0.0.1"} | names).items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--num-envs 8", "--num-envs must be a multiple of the 3 learners of torchrun, got 8"),
        ("--num-envs 9", "--agent.batch-size must be a multiple of the 3 learners of torchrun, got 64"),
        ("--num-envs 9 --actors 3", "--actors cannot play for several learners"),
    ],
)
def test_what_cannot_be_shared_is_refused(
    flags: str, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "--env", "pixelq/Catch-v0", "--preset", "classic", *flags.split()]
    started_by_torchrun(monkeypatch, 3)
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"pixelq train: {sentence}")
    started_by_torchrun(monkeypatch, 3, rank=1)
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    assert main(arguments) == 2
    assert capsys.readouterr().err == ""  # the first one has said it
    assert waited == [TOLD_SECONDS]


@pytest.mark.slow
def test_a_run_keeps_its_number_of_learners(harness: Harness, tmp_path: Path) -> None:
    two, one = tmp_path / "two", tmp_path / "one"
    ended_well(harness.start_learners(train(two, steps=40, final_episodes=1)))
    assert harness.run(train(one, steps=40, final_episodes=1)).code == 0
    found = harness.run(train(two, resume=True))
    assert (found.code, found.err) == (
        2,
        f"pixelq train: the run in {two} has 2 learners, got 1; resume it by torchrun with 2 learners in all\n",
    )
    both = ended(harness.start_learners(train(one, resume=True)))
    sentence = f"pixelq train: the run in {one} has 1 learners, got 2; resume it without torchrun\n"
    assert [(each.code, each.err) for each in both] == [(2, sentence), (2, "")]


@pytest.mark.parametrize(
    ("callback", "why"),
    [
        ("StopAfter(seconds=0.001)", "0.001 seconds are over"),
        pytest.param("StopAtScore(score=-2)", "an evaluation reached", marks=pytest.mark.slow),
    ],
)
def test_a_callback_of_the_first_learner_stops_all(harness: Harness, tmp_path: Path, callback: str, why: str) -> None:
    out = tmp_path / "run"
    ended_well(harness.start_learners([*train(out, final_episodes=1), "--callback", callback]))
    stopped = json.loads((out / "config.json").read_text())["stopped"]
    assert stopped["why"].startswith(why)
    assert 0 < stopped["step"] < 60
    assert (out / f"checkpoints/step_{stopped['step']:010d}/rank1.json").exists()


OTHERS = {
    "pqn": ["--agent.rollout-length", "5", "--agent.minibatches", "2", "--agent.overlap"],
    "pqn with past rollouts": [
        *("--agent.rollout-length", "5", "--agent.minibatches", "2", "--agent.overlap"),
        *("--agent.kept-rollouts", "3", "--agent.past-rollouts", "2"),
    ],
    "pqn with memory": ["--agent.rollout-length", "5", "--agent.minibatches", "1", "--agent.lstm", "6"],
    "memory and ladder": [
        *("--agent.lstm", "6", "--agent.sequence-length", "5", "--agent.sequence-period", "3", "--agent.burn-in", "2"),
        *("--agent.noisy", "--agent.epsilon-ladder"),
    ],
    "atari": [],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_other_runs_of_learners_go_on_exactly(harness: Harness, tmp_path: Path, name: str) -> None:
    changes: dict[str, Any] = {"num_envs": 4}
    if name.startswith("pqn"):
        changes |= {"preset": "pqn", "agent.epsilon-steps": 100, "agent.batch-size": 32}
        changes |= {"agent.replay-capacity": 1_000_000, "agent.train-every": 4}  # as where there is no replay
    if name == "atari":
        changes |= {"env": "ALE/Breakout-v5", "preset": "quick_dqn", "agent.batch-size": 4}
        changes |= {"evaluate_every": 1000, "final_episodes": 1, "evaluation_episodes": 1, "max_episode_steps": 60}
    whole, out = tmp_path / "whole", tmp_path / "run"
    ended_well(harness.start_learners([*train(whole, **changes), *OTHERS[name]]))
    assert column(whole / "metrics.csv", "updates")[-1] > 5
    fault = ["die_in", {"method": "RunCheckpoints.add", "at": 9, "call": 6}]
    found = ended(harness.start_learners([*train(out, **changes), *OTHERS[name]], fault=fault))
    assert [each.code for each in found] == [9, 1], found
    assert "exactly" in ended_well(harness.start_learners(train(out, resume=True))).err
    assert_same(whole, out)


LONGER = {"steps": 2000, "checkpoint_every": 100, "evaluate_every": 1000, "log_every": 200, "agent.train-every": 4}
"""Flags of a run that takes long enough to be stopped."""
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "pixelq.scripts.main"]


def torchrun(arguments: list[str], **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen([*TORCHRUN, *arguments], stderr=subprocess.PIPE, text=True, env=dict(os.environ), **options)


@pytest.fixture(scope="module")
def run_by_torchrun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    process = torchrun(train(out, **LONGER))
    assert process.wait(500) == 0, process.communicate()
    return out


def learners_of(process: subprocess.Popen[str]) -> list[int]:
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in found]


def is_alive(pid: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def wait_until(check: Any, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def has_checkpoint(out: Path) -> bool:
    return any(out.glob("checkpoints/step_*"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "how", ["a learner is killed", "torchrun is killed", "torchrun is stopped", "torchrun is interrupted"]
)
def test_torchrun_itself(tmp_path: Path, run_by_torchrun: Path, how: str) -> None:
    """Whatever ends, all end, and the run goes on from its last checkpoint as if nothing had happened."""
    out = tmp_path / "run"
    process = torchrun(train(out, **LONGER))
    wait_until(lambda: has_checkpoint(out))
    learners = learners_of(process)
    assert len(learners) == 2
    if how == "a learner is killed":
        os.kill(learners[1], signal.SIGKILL)
    else:
        numbers = {"killed": signal.SIGKILL, "stopped": signal.SIGTERM, "interrupted": signal.SIGINT}
        process.send_signal(numbers[how.split()[-1]])
    error = process.communicate(timeout=120)[1]
    assert process.returncode != 0
    wait_until(lambda: not any(map(is_alive, learners)), 60.0)
    if how != "a learner is killed":
        assert "stopped at step" in error
    last = torchrun(train(out, resume=True))
    assert "exactly" in last.communicate(timeout=500)[1]
    assert last.returncode == 0
    assert_same(run_by_torchrun, out)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_each_learner_makes_its_own_share_of_the_environments(rank: int) -> None:
    ranks: Any = SimpleNamespace(rank=rank, size=3, _place=SimpleNamespace(local_size=1))
    whole = make_vec("pixelq/Catch-v0", 6, 7).reset()[0]
    share = Ranks.make_vec(ranks, "pixelq/Catch-v0", 6, 7).reset()[0]
    assert np.array_equal(share, whole[2 * rank : 2 * rank + 2])


def test_learners_draw_random_numbers_of_their_own() -> None:
    config = AgentConfig(hidden=8, batch_size=4, replay_capacity=400, learning_starts=10, epsilon_ladder=True)
    agents = [DQN(Box(-1, 1, (3,)), Discrete(2), config, device="cpu", seed=3) for _ in range(2)]
    for rank, agent in enumerate(agents):
        agent.join(rank, 2)
    drawn = [
        (
            torch.rand(4, generator=agent.noise).tolist(),
            torch.rand(4, generator=agent.learner.generator).tolist(),
            agent.rng.random(),
            agent.seeds.replay,
        )
        for agent in agents
    ]
    assert all(one != other for one, other in zip(*drawn, strict=True))
    for name in ("network", "resets"):
        assert getattr(agents[0].seeds, name) == getattr(agents[1].seeds, name)
    assert [agent.epsilons(2).tolist() for agent in agents] == [
        epsilon_ladder(4)[:2].tolist(),
        epsilon_ladder(4)[2:].tolist(),
    ]


def test_learners_wait_for_the_one_with_the_fewest_rows() -> None:
    collector: Any = RankCollector.__new__(RankCollector)
    collector.replay, collector.episodes = None, SimpleNamespace(done=np.zeros(2, bool))
    collector.restarts = SimpleNamespace(count=0)
    collector.ranks = SimpleNamespace(meet=lambda *_: np.array([[1, 0, 0, 3], [1, 2, 0, 9]]))
    assert collector._meet(0) == 2
    assert collector.least_rows() == 3

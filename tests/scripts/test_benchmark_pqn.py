"""`pixelq benchmark --algorithm pqn`: the same rollouts and updates for all entries, and a bound counted by hand."""

import json
from pathlib import Path

import pytest
import torch

from pixelq.scripts.benchmarks.peer_cleanrl_pqn import CleanRLPQN, q_network
from pixelq.scripts.benchmarks.peer_pixelq_pqn import PixelqPQN, config_of
from pixelq.scripts.benchmarks.pqn_cost import pqn_cost
from pixelq.scripts.benchmarks.pqn_work import PQNWork
from pixelq.scripts.benchmarks.work import Trainer
from pixelq.scripts.flags.benchmark import read
from pixelq.scripts.main import main

SMALL = PQNWork(num_envs=2, rollout_length=4, minibatches=2)


def test_the_work_is_that_of_purejaxql():
    work = PQNWork()
    assert (work.num_envs, work.rollout_length, work.minibatches, work.epochs) == (128, 32, 32, 2)
    assert (work.batch_size, work.train_every, work.replay_capacity) == (128, 64, 4_096)
    args = read(["--algorithm", "pqn"])
    assert (args.num_envs, args.against) == (128, "cleanrl")
    assert read(["--algorithm", "pqn", "--num-envs", "8"]).num_envs == 8
    assert (read([]).envs_of_each, read([]).against) == (8, "sb3")
    config = config_of(work)
    assert (config.channel_norm, config.reward_clip, config.td_lambda, config.encoder) == (True, 1.0, 0.65, "nature")


@pytest.mark.parametrize("kind", [PixelqPQN, CleanRLPQN])
def test_entries_make_equal_numbers_of_updates(kind: type[PixelqPQN | CleanRLPQN]) -> None:
    trainer: Trainer = kind(SMALL, "cpu")
    trainer.learn(24)
    trainer.learn(2 if kind is PixelqPQN else 0)  # ours learns from a rollout while the next one begins
    steps, updates = trainer.counts()
    assert steps == (26 if kind is PixelqPQN else 24)
    assert updates == 3 * 2 * 2


def test_our_writing_of_cleanrl_computes_its_returns() -> None:
    """γ 0.99, λ 0.65: a done step cuts the bootstrapped value, and, as in the script, not the λ-return after it."""
    trainer = CleanRLPQN(SMALL, "cpu")
    trainer.reward[:] = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, 0.0]])
    trainer.done[:] = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    trainer.value[:] = torch.tensor([[9.0, 9.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]])
    trainer.next_done[:] = torch.tensor([0.0, 1.0])
    last = trainer.network(trainer.next_obs).max(1).values[0].item()
    three = 0.99 * last
    two = -1 + 0.99 * (0.65 * three + 0.35 * 6)
    one = 0.99 * (0.65 * two + 0.35 * 0)
    zero = 1 + 0.99 * (0.65 * one + 0.35 * 2)
    returns = trainer._returns()
    torch.testing.assert_close(returns[:, 0], torch.tensor([zero, one, two, three]))
    assert returns[3, 1] == 0  # the game was over


def test_the_bound_counts_a_minibatch_and_the_acting_for_it() -> None:
    """Multiply-adds of an image: 3.28M + 2.65M + 1.81M in the convolutions, 1.61M + 3k in the dense layers."""
    first, others = 20 * 20 * 32 * 4 * 64, 9 * 9 * 64 * 32 * 16 + 7 * 7 * 64 * 64 * 9 + 3_136 * 512 + 512 * 6
    forward = 2 * (first + others)
    cost = pqn_cost(PQNWork(num_envs=8), torch.device("cpu"))  # 8 steps in a minibatch, of which 4 are new
    backward = 2 * forward - 2 * first  # pixels need no gradient
    assert cost.gflop == pytest.approx((8 * (forward + backward) + 4 * forward) / 1e9, rel=1e-3)
    weights = sum(parameter.numel() for parameter in q_network(6).parameters())
    assert cost.gigabytes > 4 * 4 * weights / 1e9


@pytest.mark.slow
def test_the_figures_of_both(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    flags = ["--algorithm", "pqn", "--num-envs", "4", "--seconds", "2", "--turns", "1", "--device", "cpu"]
    file = tmp_path / "pqn.json"
    assert main(["benchmark", *flags, "--json", str(file)]) == 0
    figures = json.loads(file.read_text())
    ours, peer = figures["results"]
    assert (ours["name"], peer["name"], peer["version"]) == ("pixelq", "cleanrl", "our writing")
    for result in (ours, peer):
        assert result["updates"] / result["steps"] == pytest.approx(1 / 2, rel=0.2)
    assert 0 < ours["share_of_bound"] < 1
    assert figures["milliseconds_per_step"]["pixelq"]["update"] > 0
    assert "updates/s that arithmetic alone would allow" in capfd.readouterr().out


def test_what_pqn_is_not_measured_with_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--algorithm", "pqn", "--against", "sb3", "--device", "cpu"]) == 2
    assert "--against must be cleanrl, got 'sb3'" in capfd.readouterr().err
    assert main(["benchmark", "--algorithm", "pqn", "--startup"]) == 2
    assert "--startup measures DQN alone; leave out --algorithm pqn" in capfd.readouterr().err

"""`pixelq benchmark --small` and `--evaluation`: equal work, and figures that fit together."""

import time
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from pixelq.agents import Policy
from pixelq.envs import make_vec
from pixelq.scripts.benchmarks.evaluation_cost import (
    EMULATOR,
    GREEDY,
    play_fixed_actions,
    play_greedily,
    show_evaluation,
    summarize,
)
from pixelq.scripts.benchmarks.peers import entries_of
from pixelq.scripts.benchmarks.roofline import update_cost
from pixelq.scripts.benchmarks.work import SMALL
from pixelq.scripts.main import main


@pytest.mark.slow
def test_small_networks_do_equal_work() -> None:
    entries = entries_of(SMALL)
    assert list(entries) == ["pixelq", "sb3"]
    ours, sb3 = (entry.make(SMALL, "cpu") for entry in entries.values())
    shapes = [[tuple(p.shape) for p in network.parameters()] for network in (ours.agent.network, sb3.model.q_net)]
    assert shapes[0] == [(256, 4), (256,), (256, 256), (256,), (2, 256), (2,)]
    assert shapes[1] == shapes[0]
    config = ours.agent.config
    assert (config.batch_size, config.n_step, config.gamma, config.max_grad_norm) == (64, 1, 0.99, 10.0)
    assert (sb3.model.batch_size, sb3.model.n_steps, sb3.model.gamma, sb3.model.max_grad_norm) == (64, 1, 0.99, 10.0)
    assert (config.target_update_every, config.reward_clip) == (256, None)
    assert sb3.model.target_update_interval == 256
    optimizers = [ours.agent.learner.optimizers["optimizer"], sb3.model.policy.optimizer]
    for key, value in {"lr": pytest.approx(1e-3), "eps": 1e-8, "betas": (0.9, 0.999), "weight_decay": 0}.items():
        assert [optimizer.param_groups[0][key] for optimizer in optimizers] == [value, value]
    # By hand: the target forward, the online forward, and backward by weights and by inputs but those of the first.
    assert update_cost(SMALL, torch.device("cpu")).gflop == 64 * 2 * (3 * 4 * 256 + 4 * (256 * 256 + 2 * 256)) / 1e9


def test_an_evaluation_and_fixed_actions_are_timed_over_the_same_games() -> None:
    envs = make_vec("CartPole-v1", 3)
    policy = Policy(envs.single_observation_space, envs.single_action_space, "classic", device="cpu")
    seen: list[Any] = []
    step = envs.step
    envs.step = lambda actions: seen.append(np.array(actions)) or step(actions)  # type: ignore[method-assign]
    for play in (play_greedily, play_fixed_actions):
        seen.clear()
        start = time.perf_counter()
        played = play(policy, envs, 0.05)
        assert played.steps == 3 * len(seen) > 0
        assert 0.05 <= played.seconds < time.perf_counter() - start
    assert [each.tolist() for each in seen[:3]] == [[0, 0, 0], [1, 1, 1], [0, 0, 0]]


def test_shares_are_those_of_medians(capsys: pytest.CaptureFixture[str]) -> None:
    speeds = {(1, GREEDY): [5.0, 1.0, 3.0], (1, EMULATOR): [4.0, 6.0, 12.0], (8, GREEDY): [8.0], (8, EMULATOR): [10.0]}
    figures = summarize(speeds, torch.device("cpu"))
    assert [(each["episodes"], each["share"]) for each in figures["results"]] == [(1, 0.5), (8, 0.8)]
    assert figures["results"][0]["steps_per_second"] == 3
    show_evaluation(figures, Console(width=120))
    assert "50%" in capsys.readouterr().out


@pytest.mark.slow
def test_both_are_measured_from_the_command_line(capfd: pytest.CaptureFixture[str]) -> None:
    short = ["--seconds", "1", "--turns", "1", "--device", "cpu"]
    assert main(["benchmark", "--small", "--replay-capacity", "500", *short]) == 0
    out = capfd.readouterr().out
    assert "CartPole-v1 · 1 environments · batch 64 · an update per 2 steps" in out
    assert "pixelq over sb3" in out
    assert main(["benchmark", "--evaluation", "--num-envs", "2", *short]) == 0
    assert "emulator alone" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--small", "--env", "ALE/Pong-v5"], "--small always plays CartPole-v1; leave out --env"),
        (["--evaluation", "--env=ALE/Breakout-v5"], "--evaluation always plays Pong; leave out --env"),
        (["--small", "--evaluation"], "--small and --evaluation measure different things"),
        (["--small", "--against", "cleanrl"], "--against must be sb3, got 'cleanrl'"),
        (["--evaluation", "--picture", "a.png"], "which --evaluation does not measure; leave it out"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    flags: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", *flags]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1

"""Integers of any kind are taken and written as numbers, and everything else is refused at once."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pixelq.agents import DQN, AgentConfig, InvalidConfig
from pixelq.agents.config.integers import checked_integer
from pixelq.envs import make_vec

SMALL = AgentConfig(hidden=8, learning_starts=8, batch_size=4, replay_capacity=100, encoder="mlp")
COUNTS = "steps evaluate_every evaluation_episodes checkpoint_every keep log_every".split()


def agent_of(envs: Any, config: AgentConfig = SMALL, **keywords: Any) -> DQN:
    return DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", **keywords)


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3), torch.tensor(3)])
def test_integers_of_any_kind_are_python_s(value: Any) -> None:
    assert type(checked_integer("n", value, 1)) is int
    assert checked_integer("n", value, 1) == 3
    config = replace(SMALL, n_step=value)
    assert type(config.n_step) is int
    assert json.loads(json.dumps(config.to_dict()))["n_step"] == 3


@pytest.mark.parametrize("value", [3.0, np.float64(3), "3", None, True, np.True_, [3], np.array([3])])
def test_everything_else_is_refused(value: Any) -> None:
    with pytest.raises(InvalidConfig, match="n must be an integer, got"):
        checked_integer("n", value, 1)
    with pytest.raises(InvalidConfig, match="n_step must be an integer or a schedule, got"):
        replace(SMALL, n_step=value)


def test_numbers_and_truth_values_of_numpy_are_python_s() -> None:
    config = replace(SMALL, gamma=np.float32(0.5), double=np.True_, max_grad_norm=np.int32(2), reset_every=None)
    assert [type(value) for value in (config.gamma, config.double, config.max_grad_norm)] == [float, bool, int]
    assert AgentConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_run_with_numpy_s_integers_is_resumed(tmp_path: Path) -> None:
    seed, counts = np.int64(3), dict.fromkeys(COUNTS[1:], np.int32(20))
    envs = make_vec("pixelq/Catch-v0", np.int64(2), seed)  # type: ignore[arg-type]
    agent_of(envs, seed=seed).learn(envs, np.int16(40), tmp_path / "run", **counts)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["seed"], config["steps"], config["keep"], config["num_envs"]) == (3, 40, 20, 2)
    again = DQN.load(tmp_path / "run" / "checkpoints" / "latest", "cpu")
    again.learn(make_vec("pixelq/Catch-v0", 2, 3), 20, tmp_path / "run", resume=True, **counts)
    assert again.step >= 60


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [2e2, "20", None, True, 0, 10**13])
def test_counts_of_a_training_are_refused_before_it(tmp_path: Path, name: str, value: Any) -> None:
    envs = make_vec("pixelq/Catch-v0", 2)
    agent = agent_of(envs)
    with pytest.raises(InvalidConfig, match=f"^{name} must be (an integer|at least 1|at most 1,000,000,000,000), got "):
        agent.learn(envs, **({"steps": 40, "out": tmp_path / "run"} | {name: value}))
    assert agent.step == 0
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("seed", [1.0, -1, "1", None, True, 2**129])
def test_seeds_that_could_not_be_resumed_are_refused(seed: Any) -> None:
    with pytest.raises(InvalidConfig, match=r"^seed must be "):
        agent_of(make_vec("pixelq/Catch-v0", 2), seed=seed)


def test_numbers_of_many_digits_are_refused_in_a_sentence() -> None:
    for value, message in (
        (10**5000, "at most 9, got one of 16610 bits"),
        (-(10**5000), "at least 1, got one of 16610 bits"),
    ):
        with pytest.raises(InvalidConfig, match=f"^n must be {message}$"):
            checked_integer("n", value, 1, 9)

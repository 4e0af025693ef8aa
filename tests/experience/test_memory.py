"""Memory is reckoned before it is taken: for replays, networks and losses."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from pixelq.agents import DQN, PQN, AgentConfig, InvalidConfig, InvalidRun, Policy, preset
from pixelq.agents.acting import network
from pixelq.agents.acting.network import _count_loss, _count_weights, learning_bytes, make_network
from pixelq.agents.config import machine_limits
from pixelq.agents.config.presets import PRESET_NUM_ENVS
from pixelq.agents.experience.replay import Replay
from pixelq.agents.experience.rollout import Rollout
from pixelq.envs import make_vec
from tests.support.runs import copied

PIXELS = gymnasium.spaces.Box(0, 255, (4, 84, 84), np.uint8)
ACTIONS = gymnasium.spaces.Discrete(6)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes that are free: two billion, or what a test puts there."""
    found = [2_000_000_000]
    monkeypatch.setattr(machine_limits, "free_memory", lambda _: found[0])
    monkeypatch.setattr(network, "free_memory", lambda _: found[0])
    return found


def make(capacity: int, **keywords: Any) -> Replay:
    return Replay((4, 84, 84), np.dtype(np.uint8), capacity=capacity, num_envs=1, frame_stack=4, **keywords)


def test_a_replay_that_would_not_fit_is_refused_and_told_what_would(free: list[int]) -> None:
    sentence = r"^no memory for a replay of 7\.1 GB, 2\.0 GB are free; lower replay_capacity; 226,000 rows would fit$"
    with pytest.raises(InvalidConfig, match=sentence):
        make(1_000_000)
    make(226_000)


@pytest.mark.parametrize("prioritized", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("lstm", [None, 16])
def test_what_is_reckoned_is_what_is_taken(free: list[int], prioritized: bool, dtype: Any, lstm: int | None) -> None:
    sequences = None
    if lstm is not None:
        sequences = {"length": 8, "period": 4, "burn_in": 0, "state_size": lstm, "stores": True}
    arguments: dict[str, Any] = {"capacity": 4_000, "num_envs": 2, "prioritized": prioritized, "sequences": sequences}
    taken = Replay((9, 9), np.dtype(dtype), **arguments).nbytes
    free[0] = int(0.99 * taken)
    with pytest.raises(InvalidConfig, match="no memory for a replay"):
        Replay((9, 9), np.dtype(dtype), **arguments)
    free[0] = int(1.01 * taken)
    assert Replay((9, 9), np.dtype(dtype), **arguments).nbytes == taken


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_what_is_reckoned_of_a_rollout_is_what_is_taken(free: list[int], dtype: Any) -> None:
    arguments: dict[str, Any] = {"steps": 4_000, "num_envs": 2}
    rollout = Rollout((3,), np.dtype(dtype), **arguments)
    taken = rollout.ring.nbytes + rollout.values.nbytes
    free[0] = int(0.99 * taken)
    sentence = (
        r"^no memory for a rollout of 0\.0 GB, 0\.0 GB are free; lower rollout_length, or use fewer environments$"
    )
    with pytest.raises(InvalidConfig, match=sentence):
        Rollout((3,), np.dtype(dtype), **arguments)
    free[0] = int(1.01 * taken)
    Rollout((3,), np.dtype(dtype), **arguments)


@pytest.mark.parametrize("name", ["nature", "dqn", "rainbow", "iqn", "fqf", "btr", "r2d2", "qrdqn"])
def test_weights_are_counted_without_making_them(name: str) -> None:
    made = make_network((4, 84, 84), 6, preset(name), 0)
    counted = _count_weights((4, 84, 84), 6, preset(name))
    assert counted is not None
    assert counted <= sum(weight.numel() for weight in made.parameters()) <= 1.01 * counted


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"hidden": 10**9}, "network"),
        ({"hidden": 10**12}, "network"),
        ({"hidden": 10**5}, "network"),
        ({"lstm": 10**10}, "network"),
        ({"head": "quantile", "quantiles": 10**6}, "network"),
        ({"head": "quantile", "quantiles": 10**5, "hidden": 1}, "updates"),
        ({"head": "categorical", "atoms": 10**4, "hidden": 1, "batch_size": 64}, "updates"),
        ({"head": "implicit", "tau_samples": 10**6}, "updates"),
        ({"head": "fqf", "quantiles": 20_000}, "updates"),
        ({"batch_size": 10**5}, "updates"),
        ({"encoder": "impala", "encoder_width": 10**5}, "network"),
    ],
    ids=str,
)
def test_settings_whose_memory_cannot_be_had_are_refused_at_once(
    free: list[int], settings: dict[str, Any], word: str
) -> None:
    begun = time.process_time()
    with pytest.raises(InvalidConfig, match=f"^not enough memory for (a )?{word} of that size.*; lower "):
        DQN(PIXELS, ACTIONS, replace(AgentConfig(), **settings), device="cpu")
    assert time.process_time() - begun < 2.0


def test_a_policy_needs_memory_for_its_weights_alone(free: list[int]) -> None:
    weights = _count_weights((4, 84, 84), 6, AgentConfig())
    assert weights is not None
    free[0] = 5 * 4 * weights - 1
    Policy(PIXELS, ACTIONS, device="cpu")
    with pytest.raises(InvalidConfig, match="not enough memory for a network of that size"):
        DQN(PIXELS, ACTIONS, device="cpu")
    free[0] = 4 * weights - 1
    with pytest.raises(InvalidConfig, match="not enough memory for a network of that size"):
        Policy(PIXELS, ACTIONS, device="cpu")


def test_pqn_needs_no_memory_for_a_target_network(free: list[int]) -> None:
    config = AgentConfig(algorithm="pqn", learning_starts=1)
    weights = _count_weights((4, 84, 84), 6, config)
    assert weights is not None
    free[0] = 4 * 4 * weights
    PQN(PIXELS, ACTIONS, config, device="cpu")
    free[0] -= 1
    with pytest.raises(InvalidConfig, match="not enough memory for a network of that size"):
        PQN(PIXELS, ACTIONS, config, device="cpu")


def test_no_preset_is_reckoned_too_large(free: list[int]) -> None:
    free[0] = 10**9
    for name in ("dqn", "rainbow", "iqn", "fqf", "btr", "r2d2", "pqn"):
        assert 4 * _count_loss((4, 84, 84), 18, preset(name), PRESET_NUM_ENVS[name]) < free[0], name
        num_envs = PRESET_NUM_ENVS[name]
        network.check_memory((4, 84, 84), 18, preset(name), torch.device("cpu"), learns=True, num_envs=num_envs)


def test_a_minibatch_of_a_rollout_is_reckoned_and_not_a_batch() -> None:
    config = replace(preset("pqn"), hidden=512, head="scalar")
    assert (config.rollout_length, config.minibatches, config.batch_size) == (32, 32, 32)
    row = 4 * 84 * 84 + 6 + 512
    assert [_count_loss((4, 84, 84), 6, config, num_envs) / row for num_envs in (1, 128, None)] == [1, 128, 1]
    lstm = replace(config, lstm=16, minibatches=4)  # whole environments
    assert [_count_loss((4, 84, 84), 6, lstm, num_envs) / row for num_envs in (4, 5, None)] == [32, 64, 32]
    sized = [learning_bytes((4, 84, 84), 6, config, num_envs) for num_envs in (1, 128)]
    assert sized[1] - sized[0] == 4 * 127 * row
    r2d2 = replace(preset("r2d2"), hidden=512)
    row = 4 * 84 * 84 + 1 + 2 * 6 + 512
    learned = r2d2.sequence_length - r2d2.burn_in
    assert _count_loss((4, 84, 84), 6, r2d2, 128) == r2d2.batch_size * learned * row


def test_minibatches_that_would_not_fit_are_refused_where_the_environments_are_known(free: list[int]) -> None:
    space = gymnasium.spaces.Box(-1, 1, (1000,), np.float32)
    config = AgentConfig(algorithm="pqn", rollout_length=100, minibatches=1, hidden=16, learning_starts=1)
    agent = PQN(space, ACTIONS, config, device="cpu")
    free[0] = 8_300_000  # of 20 environments; 2,000 rows of 1,000 + 6 + 16 numbers take 8,176,000 bytes
    sentence = (
        r"^not enough memory for updates of that size: 0\.0 GB, and 0\.0 GB are free; "
        "use fewer environments, raise minibatches, or lower rollout_length or hidden$"
    )
    with pytest.raises(InvalidConfig, match=sentence):
        agent.make_replay(21, 1)
    agent.make_replay(20, 1)
    free[0] = 4_200_000
    agent.replace(minibatches=2)
    with pytest.raises(InvalidConfig, match=sentence):
        agent.replace(minibatches=1)
    with pytest.raises(InvalidConfig, match=r"are free; raise minibatches, or lower rollout_length or hidden$"):
        PQN(space, ACTIONS, replace(config, rollout_length=10**4), device="cpu")


def test_a_larger_batch_needs_no_memory_for_the_network_again(free: list[int]) -> None:
    space = gymnasium.spaces.Box(-1, 1, (10,), np.float32)
    agent = DQN(space, ACTIONS, AgentConfig(encoder="mlp", hidden=512, batch_size=2), device="cpu")
    weights = _count_weights((10,), 6, agent.config)
    assert weights is not None
    free[0] = 4 * weights  # a fifth of what a new agent takes
    agent.replace(batch_size=4)
    with pytest.raises(InvalidConfig, match="not enough memory for updates of that size"):
        agent.replace(batch_size=4_000)


def test_a_run_is_known_for_its_own_before_memory_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint that claims another capacity than its run."""
    envs = make_vec("pixelq/Catch-v0", 2)
    config = AgentConfig(hidden=8, learning_starts=8, batch_size=4, replay_capacity=100, encoder="mlp")
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")
    agent.learn(envs, 20, tmp_path / "run")
    copied(tmp_path / "run", tmp_path / "copy")
    loaded = DQN.load(tmp_path / "copy", "cpu")
    loaded.configure(replace(config, replay_capacity=10**8))
    monkeypatch.setattr(torch, "empty", pytest.fail)
    with pytest.raises(InvalidRun, match="replay_capacity must be 100 as in the run in"):
        loaded.learn(envs, 20, tmp_path / "copy", resume=True)

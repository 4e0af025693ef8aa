"""What only a GPU can show; ``pytest -m gpu`` runs these, and without one each is skipped."""

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pixelq.agents import DQN, PQN, AgentConfig, preset
from pixelq.agents.agent import Agent
from pixelq.agents.experience.rollout import Minibatch, Rollout
from pixelq.agents.insight.activations import feature_maps, first_filters, last_hidden
from pixelq.agents.insight.saliency import saliency
from pixelq.agents.insight.state_map import map_states
from pixelq.agents.learning.cuda_graph import (
    EAGER_UPDATES,
    UPDATES_PER_GRAPH,
    CapturedUpdates,
    make_rollout_update,
    make_updates,
    update_from_replay,
)
from pixelq.envs import make_vec
from pixelq.networks import LSTM
from tests.support.runs import assert_same
from tests.support.small_agents import ACTIONS, PIXELS, SMALL, filled, small, step_on
from tests.training.test_resume import PARTS, PARTS_OF_PQN, TINY, TINY_PQN, Trained

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA GPU"),
]
COMBINED = ["nature", "qrdqn", "iqn", "fqf", "munchausen", "rainbow", "btr", "drqn", "r2d2"]


def moved_and_apart(one: Agent, other: Agent, start: Agent) -> tuple[float, float]:
    """How far the values of random pixels have moved, and how far two agents' lie apart (root of the squares' sum)."""
    before, values, others = (values_over_time(agent) for agent in (start, one, other))
    return float((values - before).norm()), float((values - others).norm())


def values_over_time(agent: Agent) -> torch.Tensor:
    """Of random pixels in 16 games at 4 steps, which an agent with memory goes through one after the other."""
    memory, nothing = agent.make_memory(16), np.zeros(16)
    values = []
    for obs in np.random.default_rng(2).integers(256, size=(4, 16, *PIXELS.shape), dtype=np.uint8):
        values.append(agent.q_values(obs, memory).cpu())
        if memory is not None:
            memory.step(nothing, nothing, nothing.astype(bool))
    return torch.cat(values)


@pytest.mark.parametrize(
    ("name", "count", "is_compiled"),
    [*((name, count, False) for name in COMBINED for count in (1, UPDATES_PER_GRAPH)), ("nature", 1, True)],
)
def test_captured_and_eager_learn_the_same(name: str, count: int, is_compiled: bool) -> None:
    """After 100 updates values lie apart by less than 2% of how far they moved; kernels may add in another order."""
    config = small(preset(name), learning_rate_steps=1000, precision="float32")
    captured = filled(dataclasses.replace(config, compile_update=is_compiled), device="cuda")
    eager, start = (filled(config, device="cuda") for _ in range(2))
    assert captured.replay is not None
    assert eager.replay is not None
    updates = make_updates(captured.learner, captured.replay)
    assert isinstance(updates, CapturedUpdates)
    rng, same_rng = np.random.default_rng(1), np.random.default_rng(1)
    losses = []
    for step in range(100 // count):
        losses += [(update.loss, update_from_replay(eager.learner, eager.replay).loss) for update in updates(count)]
        for agent, numbers in ((captured, rng), (eager, same_rng)):
            step_on(agent, 1, numbers)
            agent.learner.set_learning_rate(1e-4 / (1 + step / 50))
            if step % 20 == 0:
                agent.learner.sync_target()
    assert [len(each.captures) for each in (updates.one, updates.several)] == [count == 1, count > 1]
    assert make_updates(captured.learner, captured.replay) is updates  # a second training captures nothing anew
    captured_loss, eager_loss = torch.tensor(losses).T
    first = (EAGER_UPDATES + 1) * count + 2  # some of those in the graph
    assert torch.allclose(captured_loss[:first], eager_loss[:first], rtol=1e-3 if count == 1 else 1e-2)
    moved, apart = moved_and_apart(captured, eager, start)
    assert apart < 0.02 * moved


@pytest.mark.parametrize("name", ["rainbow", "r2d2"])
def test_nothing_waits_for_the_device_but_the_actions(name: str) -> None:
    agent = filled(small(preset(name)), device="cuda")
    assert agent.replay is not None
    updates = make_updates(agent.learner, agent.replay)
    for count in (1, UPDATES_PER_GRAPH) * (EAGER_UPDATES + 1):
        list(updates(count))
    memory = agent.make_memory(2)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(10):
            list(updates(UPDATES_PER_GRAPH + 1))
            if memory is not None:
                memory.step(np.zeros(2), np.zeros(2), np.zeros(2, bool))
            step_on(agent, 1, np.random.default_rng(0))
            agent.replay.observe(np.zeros((2, *PIXELS.shape), np.uint8))
            agent.replay.latest()
            agent.replay.complete(np.zeros(2), np.zeros(2), np.zeros(2, bool), np.zeros(2, bool))
        if name == "rainbow":  # an LSTM looks for episodes' starts, but in a graph
            update_from_replay(agent.learner, agent.replay)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def learned_from_rollouts(agent: PQN, count: int) -> Minibatch:
    """Teaches an agent rollouts of random steps, each whole and twice, and returns the last of them."""
    config, rng, rollout = agent.config, np.random.default_rng(0), agent.make_replay(2, 4)
    assert isinstance(rollout, Rollout)
    for _ in range(count * config.rollout_length + 1):
        rollout.observe(rng.integers(256, size=(2, *PIXELS.shape), dtype=np.uint8))
        agent.act(rollout.latest(), 0.0)  # which keeps the values
        if rollout.is_complete:
            learn = make_rollout_update(agent.learner, rollout)
            for drawn in rollout.draw(rollout.targets(0.9, config.td_lambda, None), count=1, epochs=2):
                learn(drawn)
                batch = rollout.gather(drawn)
            rollout.begin()
        ended = rng.random((2, 2)) < 0.05
        rollout.complete(rng.integers(3, size=2), rng.normal(size=2), ended[0], ended[1] & ~ended[0])
    return batch


@pytest.mark.parametrize("is_captured", [False, True])
def test_pqn_learns_as_on_a_cpu_and_waits_for_nothing(is_captured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With another RAdam; each rollout is one minibatch, because each device has its own order of the rows."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    config = small(preset("quick"), precision="float32", cuda_graph=is_captured)
    on_gpu, on_cpu, start = (PQN(PIXELS, ACTIONS, config, device=device) for device in ("cuda", "cpu", "cpu"))
    batch = learned_from_rollouts(on_gpu, 30)
    learned_from_rollouts(on_cpu, 30)
    moved, apart = moved_and_apart(on_gpu, on_cpu, start)
    assert apart < 0.01 * moved
    assert (on_gpu.learner.captured is not None) == is_captured
    torch.cuda.set_sync_debug_mode("error")
    try:
        on_gpu.learner.update(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("prioritized", [False, True])
def test_a_replay_on_the_gpu_gives_the_batches_of_one_on_the_host(prioritized: bool) -> None:
    config = AgentConfig(prioritized=prioritized, n_step=3, **SMALL)
    host, device = filled(config, device="cpu"), filled(config, device="cuda")
    assert host.replay is not None
    assert device.replay is not None
    assert len(host.replay) == len(device.replay)
    rows = device.replay.sampler.sample(64)[0]
    expected, batch = host.replay.gather(rows.cpu()), device.replay.gather(rows)
    for name in ("obs", "action", "next_obs"):
        assert torch.equal(getattr(batch, name).cpu(), getattr(expected, name)), name
    for name in ("reward", "discount"):
        torch.testing.assert_close(getattr(batch, name).cpu(), getattr(expected, name))
    obs = np.random.default_rng(3).integers(256, size=(2, *PIXELS.shape), dtype=np.uint8)
    for agent in (host, device):
        agent.replay.observe(obs)  # type: ignore[union-attr]
    assert torch.equal(host.replay.latest(), device.replay.latest().cpu())


@pytest.mark.parametrize("head", ["scalar", "implicit"])
def test_bfloat16_stays_near_float32(head: str) -> None:
    config = AgentConfig(head=head, learning_rate=1e-4, **SMALL)  # type: ignore[arg-type]
    exact, rough, start = (
        filled(dataclasses.replace(config, precision=precision), device="cuda")
        for precision in ("float32", "bfloat16", "float32")
    )
    for agent in (exact, rough):
        assert agent.replay is not None
        for _ in range(100):
            update_from_replay(agent.learner, agent.replay)
    moved, apart = moved_and_apart(exact, rough, start)
    assert 0 < apart < 0.1 * moved


@pytest.mark.parametrize("name", ["quick_dqn", "rainbow", "quick_recurrent"])
def test_trains_saves_and_goes_on(name: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"replay_capacity": 5000, "learning_starts": 500, "target_update_every": 200}
    if preset(name).lstm is not None:
        changes |= {"sequence_length": 20, "sequence_period": 10, "burn_in": 4}
    config = dataclasses.replace(preset(name), **changes)
    envs = make_vec("ALE/Pong-v5", num_envs=8, seed=0, frame_stack=config.frame_stack)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cuda", seed=0)
    agent.learn(envs, 2000, tmp_path / "run")
    assert agent.updates == (agent.step - 500) // config.train_every
    assert agent.replay is not None
    assert agent.replay.ring.frames.is_cuda
    loaded = DQN.load(tmp_path / "run", device="cuda")
    obs = envs.reset()[0]
    assert torch.equal(loaded.q_values(obs), agent.q_values(obs))
    on_cpu = DQN.load(tmp_path / "run", device="cpu")
    assert torch.allclose(on_cpu.q_values(obs), agent.q_values(obs).cpu(), atol=2e-3)
    loaded.learn(envs, 1000)
    assert loaded.step >= 3000
    envs.close()


def test_a_reset_network_is_captured_anew() -> None:
    config = dataclasses.replace(preset("quick_dqn"), replay_capacity=2000, learning_starts=200, reset_every=50)
    envs = make_vec("ALE/Pong-v5", num_envs=8, seed=0)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cuda", seed=0)
    agent.learn(envs, 200 + 4 * 70)  # 20 updates after the reset
    moments = agent.learner.tensors()
    assert agent.updates == 70
    assert moments["optimizer.0.step"].item() == 20  # a graph of before would go on with the moments that were left
    envs.close()


@pytest.mark.parametrize(
    "parts",
    [
        *("scalar", "prioritized", "noisy categorical", "quantile munchausen", "bfloat16", "memory"),
        *("scalar of pqn", "memory of pqn", "overlap of pqn", "past rollouts of pqn"),
    ],
)
def test_a_killed_run_goes_on_exactly_with_deterministic_algorithms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: str
) -> None:
    """Without captured graphs: a run that is resumed captures its own, after the first updates without one."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        name, _, is_pqn = parts.partition(" of ")
        whole, changes = (TINY_PQN, PARTS_OF_PQN) if is_pqn else (TINY, PARTS)
        trained = Trained(config=dataclasses.replace(whole, **changes[name], cuda_graph=False), device="cuda")
        assert trained.train(tmp_path / "whole", 500) is not None
        for kill_at in (130, 55):
            assert trained.train(tmp_path / "killed", 500, kill_at=kill_at) is None
        assert trained.train(tmp_path / "killed", 500) is not None
    finally:
        torch.use_deterministic_algorithms(False)
    assert_same(tmp_path / "whole", tmp_path / "killed")
    resumed = json.loads((tmp_path / "killed" / "config.json").read_text())["resumed"]
    assert [entry["exact"] for entry in resumed] == [True, True]


@pytest.mark.parametrize("head", ["scalar", "fqf"])
def test_insight_is_that_of_the_cpu(head: str) -> None:
    config = AgentConfig(**SMALL, head=head, dueling=True, quantiles=8)  # type: ignore[arg-type]
    on_gpu, on_cpu = (filled(config, device=device) for device in ("cuda", "cpu"))
    on_cpu.network.load_state_dict(on_gpu.network.state_dict())
    obs = np.random.default_rng(3).integers(256, size=(70, *PIXELS.shape), dtype=np.uint8)
    np.testing.assert_allclose(last_hidden(on_gpu, obs), last_hidden(on_cpu, obs), atol=1e-2)
    np.testing.assert_array_equal(first_filters(on_gpu), first_filters(on_cpu))
    for one, other in zip(feature_maps(on_gpu, obs[0]), feature_maps(on_cpu, obs[0]), strict=True):
        np.testing.assert_allclose(one.maps, other.maps, atol=1e-2)
    seen, expected = saliency(on_gpu, obs[0]), saliency(on_cpu, obs[0])
    assert seen is not None
    assert expected is not None
    np.testing.assert_allclose(seen.q_values, expected.q_values, atol=1e-3)
    np.testing.assert_allclose(map_states(on_gpu, obs).values, on_cpu.q_values(obs).max(1).values, atol=1e-2)


def test_an_lstm_unrolls_on_a_gpu_as_on_a_cpu() -> None:
    """cuDNN's kernel, with and without an episode's start, and step by step as in a graph."""
    torch.manual_seed(0)
    lstm, x = LSTM(6, 8), torch.randn(20, 3, 6)
    state, starts = (torch.randn(3, 8), torch.randn(3, 8)), torch.zeros(20, 3, dtype=torch.bool)
    on_gpu = copy.deepcopy(lstm).cuda()
    for start in (None, (7, 1)):
        if start is not None:
            starts[start] = True
        expected, _ = lstm.unroll(x, state, starts)
        out, last = on_gpu.unroll(x.cuda(), (state[0].cuda(), state[1].cuda()), starts.cuda())
        torch.testing.assert_close(out.cpu(), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(last[0].cpu(), expected[-1], rtol=0, atol=1e-5)

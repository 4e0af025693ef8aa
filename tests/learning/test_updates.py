"""What makes an update fast leaves it the same update: it can be captured, and it runs while the games play."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import VectorWrapper

from pixelq.agents import DQN, PRESETS, AgentConfig, Exponential, Linear, TrainingDiverged, preset
from pixelq.agents.acting.network import make_network
from pixelq.agents.learning.cuda_graph import EAGER_UPDATES, CapturedUpdates, make_updates, update_from_replay
from pixelq.envs import make_vec
from pixelq.envs.interface import background_stepping
from pixelq.scripts.benchmarks.operations import Operations
from tests.support.cases import representative
from tests.support.small_agents import ACTIONS, PIXELS, SMALL, filled, small, step_on


@pytest.mark.parametrize(
    "name",
    representative(
        [name for name in PRESETS if name != "classic" and preset(name).algorithm == "dqn"],
        keep={"rainbow", "fqf", "r2d2"},
    ),
)
def test_an_update_is_the_same_sequence_of_operations_at_any_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a CUDA graph asks for: no value of a tensor is asked, and no number or memory differs between updates."""
    monkeypatch.setattr("pixelq.networks.lstm.is_capturing", lambda x: True)
    config = small(preset(name), learning_rate_steps=1000, priority_beta_steps=1000)
    agent = filled(config)
    rng = np.random.default_rng(1)
    assert agent.replay is not None
    tapes = []
    for step in range(EAGER_UPDATES + 2):
        with Operations() as tape:
            update_from_replay(agent.learner, agent.replay)
        assert tape.waits == []
        if step >= EAGER_UPDATES:
            tapes.append(tape)
        # All that may change between two updates does.
        step_on(agent, 1, rng)
        agent.learner.set_learning_rate(1e-4 / (step + 1))
        agent.replay.set_beta(0.4 + step / 10)
        agent.learner.sync_target()
    first, second = (tape.noted for tape in tapes)
    assert len(first) > 50
    assert first == second


@pytest.mark.parametrize("name", representative(["rainbow", "r2d2"], keep=["rainbow"]))
def test_an_update_with_scheduled_returns_is_the_same_sequence_of_operations(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixelq.networks.lstm.is_capturing", lambda x: True)
    config = small(preset(name), n_step=Exponential(5, 2, 100), gamma=Linear(0.9, 0.99, 100))
    agent = filled(config)
    assert agent.replay is not None
    tapes = []
    for step in range(EAGER_UPDATES + 2):
        agent.replay.set_returns(5 - step // 2, 0.9 + step / 100)
        with Operations() as tape:
            update_from_replay(agent.learner, agent.replay)
        assert tape.waits == []
        tapes.append(tape.noted)
    assert tapes[-2] == tapes[-1]


def test_the_tape_hears_a_value_asked_for() -> None:
    tensor = torch.ones(3)
    with Operations() as tape:
        bool(tensor.sum() > 2)
    assert tape.waits == ["_local_scalar_dense"]


@pytest.mark.slow
@pytest.mark.parametrize("head", ["scalar", "quantile"])
def test_bfloat16_stays_near_float32_over_100_updates(head: str) -> None:
    """Values within a twentieth of how far they moved: eight bits of precision, errors of 0.4% a product."""
    config = AgentConfig(head=head, quantiles=20, learning_rate=1e-4, **SMALL)  # type: ignore[arg-type]
    exact, rough = (filled(dataclasses.replace(config, precision=precision)) for precision in ("float32", "bfloat16"))
    obs = np.random.default_rng(2).integers(256, size=(64, *PIXELS.shape), dtype=np.uint8)
    before = exact.q_values(obs)
    assert torch.equal(before, rough.q_values(obs))
    for agent in (exact, rough):
        assert agent.replay is not None
        for _ in range(100):
            update_from_replay(agent.learner, agent.replay)
    moved, apart = exact.q_values(obs) - before, exact.q_values(obs) - rough.q_values(obs)
    assert 0 < apart.norm() < moved.norm() / 20


class Foreground(VectorWrapper):  # type: ignore[type-arg]
    """Environments without ``send`` and ``recv`` of their own, that hand all else on to those inside."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", representative(["quick_dqn", "rainbow"], keep=["quick_dqn"]))
def test_games_in_the_background_are_the_same_training(name: str) -> None:
    config = dataclasses.replace(
        preset(name), replay_capacity=2000, learning_starts=100, batch_size=8, hidden=16, target_update_every=50
    )
    agents = []
    for wrap in (lambda envs: envs, Foreground):
        envs = wrap(make_vec("ALE/Pong-v5", num_envs=3, seed=5))
        assert (background_stepping(envs) is None) == (wrap is Foreground)
        agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=3)
        agents.append(agent.learn(envs, 300))
        envs.close()
    one, other = agents
    assert one.updates == other.updates == (one.step - 100) // config.train_every
    for name_, weights in one.learner.tensors().items():
        assert torch.equal(weights, other.learner.tensors()[name_]), name_
    for weights, others in zip(one.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(weights, others)


def test_updates_run_between_send_and_recv(monkeypatch: pytest.MonkeyPatch) -> None:
    envs = make_vec("ALE/Pong-v5", num_envs=2, seed=0)
    config = AgentConfig(replay_capacity=1000, learning_starts=20, batch_size=4, hidden=8, train_every=2)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")
    update, under_way = agent.learner.update, []

    def watched(batch: Any) -> Any:
        under_way.append(envs._is_sent)  # type: ignore[attr-defined]
        return update(batch)

    monkeypatch.setattr(agent.learner, "update", watched)
    agent.learn(envs, 60)
    assert under_way == [True] * 20
    envs.close()


def test_environments_can_be_used_again_after_an_error_in_an_update(monkeypatch: pytest.MonkeyPatch) -> None:
    envs = make_vec("ALE/Pong-v5", num_envs=2, seed=0)
    config = AgentConfig(replay_capacity=1000, learning_starts=20, batch_size=4, hidden=8)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")
    update = agent.learner.update

    def fails(batch: Any) -> Any:
        raise TrainingDiverged("on purpose")

    monkeypatch.setattr(agent.learner, "update", fails)
    with pytest.raises(TrainingDiverged, match="on purpose"):
        agent.learn(envs, 100)
    monkeypatch.setattr(agent.learner, "update", update)
    step = agent.step
    agent.learn(envs, 60)
    assert agent.step == step + 60
    assert agent.replay is not None
    row = torch.tensor([2 * (step // 2 - 2)])  # the last step that was played to its end before the error
    batch = agent.replay.gather(row)
    assert batch.discount.item() == pytest.approx(config.gamma)  # cut, not continued: the reset's row follows it
    assert agent.replay.ring.truncated[row].item()
    envs.close()


def test_an_agent_that_was_saved_learns_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    """Moments in another order in memory than their weights would be taken for those of other weights."""
    config = AgentConfig(optimizer="adam", learning_rate=1e-3, **SMALL)
    agent = filled(config)
    assert agent.replay is not None
    batches = [agent.replay.sample(8) for _ in range(6)]
    for batch in batches[:3]:
        agent.learner.update(batch)
    agent.save(tmp_path / "saved")
    loaded = DQN.load(tmp_path / "saved", device="cpu")
    for batch in batches[3:]:
        agent.learner.update(batch)
        loaded.learner.update(batch)
    for weights, others in zip(agent.network.parameters(), loaded.network.parameters(), strict=True):
        assert torch.equal(weights, others)


def test_no_graph_on_a_cpu() -> None:
    agent = filled(AgentConfig(**SMALL))
    assert agent.replay is not None
    updates = make_updates(agent.learner, agent.replay)
    assert not isinstance(updates, CapturedUpdates)
    assert [update.loss.isfinite().item() for update in updates(2)] == [True, True]


@pytest.mark.parametrize("encoder", ["nature", "dopamine", "impala", "minatar", "der"])
def test_kernels_lie_channels_last(encoder: str) -> None:
    network = make_network((4, 84, 84), 3, AgentConfig(encoder=encoder, hidden=8))  # type: ignore[arg-type]
    kernels = [parameter for parameter in network.parameters() if parameter.dim() == 4]
    assert kernels
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


def test_a_checkpoint_of_another_device_can_be_loaded(tmp_path: Path) -> None:
    """A GPU's generators have states of 16 bytes, which no generator of a CPU can take."""
    agent = filled(AgentConfig(**SMALL))
    tensors = agent.learner.tensors()
    agent.learner.tensors = lambda: tensors | {"generator.state": torch.arange(16, dtype=torch.uint8)}  # type: ignore[method-assign]
    agent.noise = FromGpu()  # type: ignore[assignment]
    agent.save(tmp_path / "saved")
    one, other = (DQN.load(tmp_path / "saved", device="cpu") for _ in range(2))
    for weights, others in zip(agent.network.parameters(), one.network.parameters(), strict=True):
        assert torch.equal(weights, others)
    drawn = [torch.rand(3, generator=generator) for generator in (one.noise, other.noise, one.learner.generator)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], torch.rand(3, generator=DQN(PIXELS, ACTIONS, device="cpu").noise))


class FromGpu:
    """A generator whose state is that of a GPU's."""

    def get_state(self) -> torch.Tensor:
        return torch.arange(16, dtype=torch.uint8) + 1


def test_latest_asks_for_a_row_that_has_begun() -> None:
    agent = filled(AgentConfig(**SMALL))
    assert agent.replay is not None
    with pytest.raises(RuntimeError, match="latest was called before observe"):
        agent.replay.latest()


def test_actions_that_the_games_refuse_are_the_error_that_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    envs = make_vec("ALE/Pong-v5", num_envs=2, seed=0)
    config = AgentConfig(replay_capacity=1000, learning_starts=20, batch_size=4, hidden=8)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")
    monkeypatch.setattr(agent, "explore", lambda obs, memory: np.full(2, 99))
    with pytest.raises(ValueError, match="99"):
        agent.learn(envs, 100)
    monkeypatch.undo()
    agent.learn(envs, 60)
    envs.close()

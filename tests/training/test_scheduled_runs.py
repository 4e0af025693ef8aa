"""Trainings with schedules: what they use at each step, what metrics say, and exact resume."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pixelq.agents import DQN, AgentConfig, Cosine, Exponential, Linear, Piecewise
from pixelq.agents.config.at_step import epsilon_at, gamma_at, learning_rate_at, n_step_at, priority_beta_at
from pixelq.agents.report.settings import settings_section
from pixelq.agents.results.records import agent_of, read_groups
from pixelq.agents.training.recorder import Recorder
from pixelq.envs import make_vec

SCHEDULED = AgentConfig(
    hidden=8,
    encoder="mlp",
    learning_starts=8,
    batch_size=4,
    replay_capacity=240,
    train_every=2,
    prioritized=True,
    learning_rate=Piecewise((0, 0.01), (20, Linear(0.02, 0.001, 40))),
    n_step=Exponential(5, 1, 60),
    gamma=Exponential(0.9, 0.99, 60, limit=1.0),
    priority_beta=Linear(0.4, 1.0, 60),
    epsilon=Cosine(1.0, 0.1, 40),
)
MEMORY: dict[str, Any] = {"lstm": 4, "sequence_length": 6, "sequence_period": 3, "burn_in": 1}
OPTIONS: dict[str, Any] = {"log_every": 10, "checkpoint_every": 40}


def envs_of(seed: int) -> Any:
    return make_vec("pixelq/Catch-v0", 2, seed)


@pytest.mark.parametrize("fields", [{}, MEMORY], ids=["transitions", "sequences"])
def test_updates_use_the_values_of_their_step_and_go_on_exactly(
    tmp_path: Path, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    envs = envs_of(0)
    config = AgentConfig.from_dict(SCHEDULED.to_dict() | fields)
    new = lambda: DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")  # noqa: E731
    whole, seen = new(), []
    update = whole.learner.update

    def watched(batch: Any) -> Any:
        replay = whole.replay
        assert replay is not None
        returns, step = replay.window.returns, whole.step
        assert returns.current_n is not None
        used = whole.learner.learning_rate, int(returns.current_n), float(returns.gamma), float(replay.sampler.beta)  # type: ignore[attr-defined]
        kinds = learning_rate_at, n_step_at, gamma_at, priority_beta_at
        assert used == pytest.approx([kind(config, step) for kind in kinds], rel=1e-6)
        seen.append(int(returns.current_n))
        return update(batch)

    monkeypatch.setattr(whole.learner, "update", watched)
    whole.learn(envs_of(0), 80, tmp_path / "whole", **OPTIONS)
    assert {1, 2, 3} <= set(seen) <= {1, 2, 3, 4, 5}
    new().learn(envs_of(0), 40, tmp_path / "run", **OPTIONS)
    agent = DQN.load(tmp_path / "run" / "checkpoints" / "latest", "cpu")
    assert agent.config == config
    agent.learn(envs_of(1), 40, tmp_path / "run", resume=True, **OPTIONS)
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, agent.network.state_dict()[name])
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert float(row["epsilon"]) == pytest.approx(epsilon_at(config, int(row["step"])), rel=1e-5)


def test_reports_show_schedules_as_they_are_typed(tmp_path: Path) -> None:
    envs = envs_of(0)
    config = AgentConfig(learning_rate=Linear(0.01, 0, 100), hidden=8, learning_starts=8, replay_capacity=240)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")
    agent.learn(envs_of(0), 20, tmp_path / "run", **OPTIONS)
    assert "learning_rate linear(0.01,0,100)" in agent_of(json.loads((tmp_path / "run" / "config.json").read_text()))
    (table,) = settings_section(read_groups([tmp_path / "run"])).values["tables"]
    rates = [row for row in table["rows"] if row["name"] == "learning_rate"]
    assert rates == [{"name": "learning_rate", "preset": "0.00025", "run": "linear(0.01, 0, 100)"}]
    assert "learning_rate=Linear(start=0.01, end=0, steps=100)" in repr(agent)


def test_a_shorter_period_with_steps_owed_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run may be saved when a change has made more steps owed than its new period has."""
    envs = envs_of(0)
    config = AgentConfig(hidden=8, encoder="mlp", learning_starts=8, batch_size=4, replay_capacity=240, train_every=25)
    record = Recorder.record

    def recorded(self: Any, before: int, *rest: Any) -> None:
        if before < 40 <= self.agent.step:
            self.agent.replace(train_every=3)
        record(self, before, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Recorder, "record", recorded)
        agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")
        agent.learn(envs_of(0), 40, tmp_path / "run", **OPTIONS)
        whole = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")
        whole.learn(envs_of(0), 60, tmp_path / "whole", **OPTIONS)
    assert json.loads((tmp_path / "run/checkpoints/step_0000000040/run.json").read_text())["steps_owed"] > 2
    again = DQN.load(tmp_path / "run" / "checkpoints" / "latest", "cpu")
    again.learn(envs_of(1), 20, tmp_path / "run", resume=True, **OPTIONS)
    assert again.updates == whole.updates
    assert torch.equal(next(whole.network.parameters()), next(again.network.parameters()))

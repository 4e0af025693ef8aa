"""What a row of metrics is about."""

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pixelq.agents import DQN, AgentConfig, preset
from pixelq.agents.runs.event_file import TAGS
from pixelq.agents.runs.tables import EVALUATIONS, METRICS
from pixelq.agents.training.interval import Episode, Interval
from pixelq.envs import make_vec
from tests.support.runs import table
from tests.support.small_agents import filled, small

CPU = torch.device("cpu")


def test_the_mean_of_the_last_100_episodes_reaches_over_intervals() -> None:
    interval = Interval(0)
    assert interval.row(10, 1.0)["return_mean_100"] is None
    interval.episodes = [Episode(float(i), 2 * i) for i in range(80)]
    row = interval.row(10, 1.0)
    assert (row["return_mean_100"], row["length_mean_100"]) == (39.5, 79.0)
    interval.begin(10, 1.0)
    interval.episodes = [Episode(float(i), 2 * i) for i in range(80, 130)]
    row = interval.row(20, 2.0)
    assert (row["return_mean"], row["return_mean_100"], row["length_mean_100"]) == (104.5, 79.5, 159.0)
    interval.begin(20, 2.0)
    row = interval.row(30, 3.0)
    assert (row["return_mean"], row["return_mean_100"]) == (None, 79.5)


def test_recent_episodes_are_restored_and_older_runs_have_none() -> None:
    interval = Interval(0)
    interval.episodes = [Episode(1.0, 3)] * 50
    interval.begin(10, 1.0)
    interval.episodes = [Episode(4.0, 6)] * 25
    values, arrays = interval.state()
    restored = Interval(0)
    restored.load_state(values, arrays, CPU)
    assert restored.row(20, 2.0) == interval.row(20, 2.0)
    assert restored.row(20, 2.0)["return_mean_100"] == 2.0
    older = {name: array for name, array in arrays.items() if not name.startswith("recent")}
    restored.load_state(values, older, CPU)
    assert restored.row(20, 2.0)["return_mean_100"] == 4.0
    with pytest.raises(ValueError, match="recent_lengths must be"):
        restored.load_state(values, arrays | {"recent_lengths": torch.zeros(3)}, CPU)


def gradients_of(agent: DQN) -> float:
    found = [p.grad.square().sum() for p in agent.network.parameters() if p.grad is not None]
    return float(torch.stack(found).sum().sqrt())


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_the_gradients_norm_is_that_before_a_limit(optimizer: str) -> None:
    free = filled(small(AgentConfig(), optimizer=optimizer))
    limited = filled(small(AgentConfig(), optimizer=optimizer, max_grad_norm=1e-3))
    assert free.learner.grad_norm() is None
    assert free.replay is not None
    assert limited.replay is not None
    for agent in (free, limited):
        assert agent.replay is not None
        agent.learner.update(agent.replay.sample(8))
    expected = gradients_of(free)
    assert expected > 0.01
    assert free.learner.grad_norm() == pytest.approx(expected)
    assert limited.learner.grad_norm() == pytest.approx(expected)
    assert free.learner.learning_rate == pytest.approx(2.5e-4)


def test_tensorboard_has_the_names_that_dashboards_know(tmp_path: Path) -> None:
    assert set(TAGS["metrics"]) >= set(METRICS) - {"step"}
    assert set(TAGS["evaluations"]) >= set(EVALUATIONS) - {"step"}
    envs, others = (make_vec("pixelq/Catch-v0", 2, seed) for seed in (0, 1))
    config = small(preset("classic"), hidden=8)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")
    agent.learn(envs, 80, tmp_path / "run", log_every=40, evaluation_envs=others, evaluation_episodes=2)
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    shown = {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    rows, (evaluation,) = table(tmp_path / "run" / "metrics.csv"), table(tmp_path / "run" / "evaluations.csv")
    assert shown["rollout/ep_rew_mean"] == pytest.approx([row["return_mean_100"] for row in rows])
    assert shown["time/fps"] == pytest.approx([row["steps_per_second"] for row in rows])
    assert shown["train/loss"] == pytest.approx([row["loss"] for row in rows])
    assert shown["eval/mean_reward"] == pytest.approx([evaluation["mean"]])
    assert shown["eval/mean_ep_length"] == shown["rollout/ep_len_mean"][:1] == [9.0]
    assert shown["train/learning_rate"] == pytest.approx([config.learning_rate] * 2)
    assert shown["train/grad_norm"][-1] == pytest.approx(agent.learner.grad_norm())
    (told,) = events.Tensors("config")
    assert '"learning_starts": 8' in told.tensor_proto.string_val[0].decode()
    settings = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    for name in (b"learning_rate", b"env", b"pixelq/Catch-v0"):
        assert name in settings

"""The parts of the loop by themselves: what they do when something around them fails."""

import csv
import dataclasses
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv, VectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from numpy.typing import NDArray

from pixelq.agents import DQN, Evaluation, InvalidConfig, preset
from pixelq.agents.training.loop import open_run, run
from pixelq.agents.training.options import LearnOptions
from pixelq.agents.training.progress_line import ProgressLine
from pixelq.envs import make_vec


class Wild(DQN):
    """An agent whose actions are out of range."""

    def explore(self, obs: Any, memory: Any = None) -> NDArray[np.int64]:
        return np.full(len(obs), 99)


def catch(kind: type[DQN] = DQN, **fields: Any) -> tuple[DQN, Any]:
    envs = make_vec("pixelq/Catch-v0", 2, 0)
    config = dataclasses.replace(
        preset("classic"), **{"hidden": 8, "batch_size": 4, "learning_starts": 40, "replay_capacity": 200} | fields
    )
    return kind(envs.single_observation_space, envs.single_action_space, config, device="cpu"), envs


def test_an_action_that_cannot_be_sent_is_named() -> None:
    agent, envs = catch(Wild)
    with pytest.raises(ValueError, match="actions must be in"):  # and not that nothing was sent
        agent.learn(envs, 20)


def test_the_speed_is_that_of_training_alone() -> None:
    agent, envs = catch()
    parts = open_run(agent, envs, LearnOptions(), 100, [])
    reporter = parts.recorder.progress
    reporter._span_begun -= 1000.0  # as if opening and restoring the run had taken so long
    run(parts, [])
    progress = reporter.progress()
    assert progress.step == 100
    assert progress.steps_per_second is not None
    assert progress.steps_per_second > 1.0
    assert progress.wall_seconds < 100


def test_an_agent_that_has_learned_begins_a_run_in_a_new_folder(tmp_path: Path) -> None:
    agent, envs = catch()
    agent.learn(envs, 60)
    agent.learn(envs, 40, tmp_path / "one", log_every=20)
    loaded = DQN.load(tmp_path / "one", "cpu")
    loaded.learn(envs, 40, tmp_path / "two", log_every=20)

    def steps(name: str) -> list[int]:
        with (tmp_path / name / "metrics.csv").open(newline="") as file:
            return [int(row["step"]) for row in csv.DictReader(file)]

    assert (steps("one"), steps("two")) == ([80, 100], [120, 140])
    assert DQN.load(tmp_path / "two" / "checkpoints" / "latest", "cpu").step == 140


class Own(VectorEnv):
    """A wrapper that is none of Gymnasium's."""

    def __init__(self, envs: Any) -> None:
        self.inner = [envs]
        self.num_envs, self.metadata = envs.num_envs, envs.metadata
        self.single_observation_space, self.single_action_space = (
            envs.single_observation_space,
            envs.single_action_space,
        )


def test_training_and_evaluation_are_of_different_environments(tmp_path: Path) -> None:
    agent, envs = catch()
    single = gymnasium.make("pixelq/Catch-v0")
    by_hand, again = (SyncVectorEnv([lambda: single]) for _ in range(2))
    wrapped = RecordEpisodeStatistics(envs)
    for one, other in ((envs, envs), (envs, wrapped), (wrapped, Own(envs)), (by_hand, again)):
        with pytest.raises(
            InvalidConfig, match="evaluation_envs must be other environments than those of the training"
        ):
            agent.learn(one, 20, tmp_path / "run", evaluation_envs=other)
    assert not (tmp_path / "run").exists()
    agent.learn(envs, 20, evaluation_envs=RecordEpisodeStatistics(make_vec("pixelq/Catch-v0", 2, 1)))


def test_an_evaluation_that_was_cut_off_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    ProgressLine(0, 10, True).say_evaluation(5, Evaluation("", (1.0,) * 4, (27_000,) * 4, cut=3))
    said = capsys.readouterr().err
    assert "mean return 1.0 (95% interval 1.0 to 1.0) over 4 evaluation episodes" in said
    assert "3 of them cut off after 27,000 steps" in said


def test_a_replay_that_is_too_small_leaves_no_folder(tmp_path: Path) -> None:
    agent, envs = catch(replay_capacity=4)
    with pytest.raises(InvalidConfig, match="replay"):
        agent.learn(envs, 20, tmp_path / "run")
    assert not (tmp_path / "run").exists()

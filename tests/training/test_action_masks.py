"""Action masks through all doors: exact resume, save and load, evaluation, films, and what is refused."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from pixelq.agents import DQN, PQN, AgentConfig, InvalidConfig, evaluate
from pixelq.agents.evaluation.episode import Game, film_episode, play_episode
from pixelq.agents.experience.rollout import Rollout
from pixelq.agents.insight.recording import RecordedEpisode
from pixelq.agents.report.inside import chosen_moments
from pixelq.agents.storage.checkpoint import read_description
from pixelq.agents.storage.checkpoint_files import RUN
from pixelq.agents.storage.files import CHECKSUMS
from pixelq.agents.storage.pointers import folder_of_step
from pixelq.envs import EnvironmentFailed, make_filmed, make_vec
from tests.support.masked_envs import Corridor, UnmaskedCorridor

FIELDS: dict[str, Any] = {
    "encoder": "mlp",
    "hidden": 8,
    "batch_size": 8,
    "replay_capacity": 120,
    "learning_starts": 40,
    "n_step": 3,
    "epsilon_steps": 100,
    "epsilon_end": 0.3,
    "munchausen": True,
}
MEMORY: dict[str, Any] = {"lstm": 4, "sequence_length": 4, "sequence_period": 2, "burn_in": 1}


def agent_in(envs: Any, seed: int = 0, **fields: Any) -> DQN:
    config = AgentConfig(**{**FIELDS, **fields})
    return DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=seed)


def files_of(run: Path, step: int) -> dict[str, bytes]:
    """The files of a checkpoint but for those in which times and speeds stand."""
    files = {path.name: path.read_bytes() for path in folder_of_step(run / "checkpoints", step).iterdir()}
    return {name: data for name, data in files.items() if name not in (RUN, CHECKSUMS)}


@pytest.mark.parametrize("fields", [{}, MEMORY], ids=["transitions", "sequences"])
def test_a_resumed_run_is_the_run_to_the_byte(tmp_path: Path, fields: dict[str, Any]) -> None:
    for name, ends in (("whole", (130,)), ("resumed", (80, 130))):
        for end in ends:
            envs = make_vec("tests/Corridor-v0", 3, seed=4)
            is_new = end == ends[0]
            agent = agent_in(envs, **fields) if is_new else DQN.load(tmp_path / name / "checkpoints" / "latest", "cpu")
            agent.learn(envs, end - agent.step, tmp_path / name, resume=not is_new)
        assert agent.replay is not None
        assert agent.replay.ring.mask is not None
    resumed = (tmp_path / "resumed" / "config.json").read_text()
    assert '"exact": true' in resumed
    assert files_of(tmp_path / "whole", agent.step) == files_of(tmp_path / "resumed", agent.step)


def test_saved_agents_say_that_they_know_masks(tmp_path: Path) -> None:
    for env, expected in ((Corridor, True), (UnmaskedCorridor, None)):
        envs = make_vec(env, 2)
        agent_in(envs).learn(envs, 20).save(tmp_path / env.__name__)
        assert read_description(tmp_path / env.__name__)[0].get("action_masks") is expected
        assert DQN.load(tmp_path / env.__name__, "cpu").action_masks is bool(expected)


def test_agents_with_masks_need_them() -> None:
    agent, unmasked = agent_in(make_vec(Corridor, 2)), make_vec(UnmaskedCorridor, 2)
    agent.learn(make_vec(Corridor, 2), 20)
    sentence = "^the environments must give action masks, as those of the agent's training did, got none; return them"
    for refused in (
        lambda: evaluate(agent, unmasked, 1),
        lambda: list(play_episode(agent, make_filmed("tests/UnmaskedCorridor-v0"), None)),
        lambda: agent.learn(unmasked, 20),
        lambda: agent.learn(make_vec(Corridor, 2), 20, evaluation_envs=unmasked),
    ):
        with pytest.raises(InvalidConfig, match=sentence):
            refused()


def test_evaluations_obey_masks_also_of_agents_without_them_and_of_random_actions() -> None:
    for made in (
        lambda n: make_vec(Corridor, n, seed=1),  # which rest when their quota is played
        lambda n: SyncVectorEnv([Corridor] * n, autoreset_mode=AutoresetMode.NEXT_STEP),  # which do not
    ):
        envs = made(3)
        agent = agent_in(envs, **MEMORY)
        assert not agent.action_masks
        result = evaluate(agent, envs, 7, epsilon=0.5)  # a forbidden action would raise an error
        assert result.episodes == 7
        assert evaluate(agent, envs, 1).episodes == 1  # two environments play no episode, and are stepped all the same
        assert -30 <= result.mean <= Corridor.BEST


def test_finished_environments_change_nothing_in_the_games_of_the_others() -> None:
    agent = agent_in(make_vec(Corridor, 1))
    few = evaluate(agent, make_vec(Corridor, 3, seed=1), 4, epsilon=0.6, seed=2)
    many = evaluate(agent, make_vec(Corridor, 3, seed=1), 12, epsilon=0.6, seed=2)
    assert few.lengths == (*many.lengths[:2], many.lengths[4], many.lengths[8])


def test_films_obey_masks_and_say_what_is_forbidden(tmp_path: Path) -> None:
    agent = agent_in(make_vec(Corridor, 1))
    steps = list(play_episode(agent, make_filmed("tests/Corridor-v0"), None, epsilon=0.5))
    for step in steps:
        twin = Corridor()
        twin.place = int(step.observation.argmax())
        np.testing.assert_array_equal(np.isfinite(step.q_values), twin.allowed())
    total = film_episode(agent, Game("tests/Corridor-v0", epsilon=0.5), tmp_path / "film.mp4")
    assert -30 <= total <= Corridor.BEST


class Fickle(Corridor):
    """At the fifth step of an episode it gives no mask."""

    def step(self, action: int) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, truncated, {} if self.steps == 5 else info


class Nothing(Corridor):
    def reset(self, **options: Any) -> Any:
        observation, info = super().reset(**options)
        return observation, {"action_mask": 0 * info["action_mask"]}


def test_masks_that_go_or_allow_nothing_end_the_training_with_a_sentence() -> None:
    for env, sentence in (
        (Fickle, r"^'.*:\w+' gave no info\['action_mask'\] in environment \d; .*, at step \d+$"),
        (Nothing, r"^'.*:\w+' must give an action mask that allows an action, got none in environment 0$"),
    ):
        envs = make_vec(env, 2)
        with pytest.raises(EnvironmentFailed, match=sentence):
            agent_in(envs).learn(envs, 200)


class FailsOnce(Corridor):
    has_failed = False

    def step(self, action: int) -> Any:
        if self.place == 2 and not FailsOnce.has_failed:  # what is allowed here is forbidden at the first place
            FailsOnce.has_failed = True
            raise OSError("the device was busy")
        return super().step(action)


def test_masks_after_a_restart_are_those_of_the_new_episodes() -> None:
    FailsOnce.has_failed = False
    envs = make_vec(FailsOnce, 2)
    agent = agent_in(envs).learn(envs, 150)  # a forbidden action would end it
    assert FailsOnce.has_failed
    assert agent.step >= 150


def test_an_agent_without_masks_that_meets_them_gets_a_new_replay() -> None:
    envs = make_vec(UnmaskedCorridor, 2)
    agent = agent_in(envs).learn(envs, 60)
    with pytest.warns(UserWarning, match="the replay held steps of other environments"):
        agent.learn(make_vec(Corridor, 2), 60)
    assert agent.action_masks
    assert agent.replay is not None
    assert agent.replay.ring.mask is not None


def test_other_environments_begin_without_earlier_rollouts() -> None:
    """Here with masks, which rows without them could not be kept beside."""
    config = AgentConfig(
        algorithm="pqn", encoder="mlp", hidden=8, learning_starts=1, rollout_length=4, minibatches=1, kept_rollouts=3
    )
    envs = make_vec(UnmaskedCorridor, 2)
    agent = PQN(envs.single_observation_space, envs.single_action_space, config, device="cpu").learn(envs, 60)
    rollout = agent.replay
    assert isinstance(rollout, Rollout)
    assert agent.learn(envs, 60).replay is rollout
    assert len(rollout.draw_past(5, 1)[0]) == 3
    with pytest.warns(UserWarning, match="the earlier rollouts that were kept are of other environments"):
        agent.learn(make_vec(Corridor, 2), 6)
    assert isinstance(agent.replay, Rollout)
    assert agent.replay is not rollout
    assert agent.replay.time <= 4
    assert agent.replay.ring.mask is not None


def test_wrapped_environments_keep_their_masks() -> None:
    envs = gymnasium.wrappers.vector.RecordEpisodeStatistics(make_vec(Corridor, 2))
    agent = agent_in(envs).learn(envs, 60)
    assert agent.action_masks


def test_recorded_episodes_compare_allowed_actions() -> None:
    q = np.array([[1.0, 3.0, 2.5], [9.0, -np.inf, -np.inf], [-np.inf, 2.0, -5.0]], np.float32)
    arrays = (np.zeros(3, np.int64), np.zeros(3), np.arange(3), np.zeros((3, 4)), np.zeros((3, 2, 2, 3), np.uint8))
    episode = RecordedEpisode(None, 10.0, 0, ("A", "B", "C"), q, *arrays)
    assert episode.values.tolist() == [3.0, 9.0, 2.0]
    assert episode.gaps.tolist() == [0.5, 0.0, 7.0]
    moments = {moment.index: moment.why for moment in chosen_moments(episode)}
    assert moments[1] == "the highest value"
    assert moments[2].startswith("the lowest value; the clearest choice")

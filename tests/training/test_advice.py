"""What is said before a training that learns nothing, or plays by other rules than its preset's source."""

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from pixelq.agents import DQN, PQN, AgentConfig, InvalidRun, preset
from pixelq.agents.training.advice import advice
from pixelq.envs import make_vec

TINY: dict[str, Any] = {"encoder": "mlp", "hidden": 8, "batch_size": 4, "replay_capacity": 400}


def agent_of(config: AgentConfig | str, env_id: str = "CartPole-v1") -> tuple[DQN, Any]:
    envs = make_vec(env_id, 2, 0)
    return DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu"), envs


def told(agent: DQN, envs: Any, steps: int, out: Path | None = None, **options: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        agent.learn(envs, steps, out, **options)
    assert all(warning.filename == __file__ for warning in caught)
    return [str(warning.message) for warning in caught]


def test_a_training_that_ends_before_it_learns_says_so() -> None:
    agent, envs = agent_of(AgentConfig(learning_starts=20, **TINY))
    (sentence,) = told(agent, envs, 20)
    assert sentence.startswith("nothing is learned up to step 20, since learning starts after step 20; take more steps")
    assert agent.updates == 0
    assert told(agent, envs, 20) == []
    assert agent.updates > 0


@pytest.mark.parametrize(("steps", "is_too_short"), [(24, True), (25, False)])
def test_a_training_that_is_shorter_than_half_a_rollout_says_so(steps: int, is_too_short: bool) -> None:
    envs = make_vec("CartPole-v1", 4, 0)
    config = AgentConfig(algorithm="pqn", rollout_length=12, minibatches=2, encoder="mlp", hidden=8, learning_starts=1)
    agent = PQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")
    sentences = told(agent, envs, steps)
    assert agent.updates == 0
    expected = (
        f"no rollout is complete after {steps} steps, so nothing is learned yet; a rollout takes 48 steps: take more"
    )
    assert [each.startswith(expected) for each in sentences] == [True] * is_too_short


def test_a_training_that_is_refused_says_nothing_else(tmp_path: Path) -> None:
    agent, envs = agent_of(AgentConfig(learning_starts=20, **TINY))
    (tmp_path / "config.json").write_text("{}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InvalidRun, match="already holds a run"):
            agent.learn(envs, 20, tmp_path)


def test_a_loaded_agent_fills_its_replay_first(tmp_path: Path) -> None:
    agent, envs = agent_of(AgentConfig(learning_starts=20, **TINY))
    agent.learn(envs, 60)
    agent.save(tmp_path / "agent")
    loaded, before = DQN.load(tmp_path / "agent", "cpu"), agent.updates
    (sentence,) = told(loaded, envs, 20)
    assert "learned up to step 80, since learning starts after step 80" in sentence
    assert loaded.updates == before


def test_a_run_that_goes_on_learns_from_its_own_replay(tmp_path: Path) -> None:
    config = AgentConfig(learning_starts=20, **TINY)
    agent, envs = agent_of(config)
    assert told(agent, envs, 40, tmp_path / "run") == []
    loaded = DQN.load(tmp_path / "run" / "checkpoints" / "latest", "cpu")
    assert told(loaded, make_vec("CartPole-v1", 2, 0), 10, tmp_path / "run", resume=True) == []
    assert loaded.updates > agent.updates


@pytest.mark.parametrize(
    ("name", "env_id", "is_named"),
    [("quick_dqn", "CartPole-v1", True), ("classic", "CartPole-v1", False), ("quick_dqn", "pixelq/Catch-v0", False)],
)
def test_the_preset_for_vectors_is_named(name: str, env_id: str, is_named: bool) -> None:
    agent, _ = agent_of(name, env_id)
    (sentence,) = advice(agent, 900)
    ending = "; the preset 'classic', made for vectors such as these, starts after step 1,000"
    assert sentence.endswith(ending) == is_named
    assert ("classic" in sentence) == is_named


@pytest.mark.parametrize(
    ("config", "recorded", "rules", "own"),
    [
        (preset("nature"), None, "sticky", "nature"),
        (preset("der"), None, "nature", "100k"),
        (dataclasses.replace(preset("nature"), gamma=0.5), "nature", "sticky+flicker=0.5", "nature"),
        (dataclasses.replace(preset("nature"), gamma=0.5), None, "sticky", None),
        (preset("nature"), None, "nature", None),
        (preset("nature"), None, "nature+flicker=0.5", None),
        (preset("nature"), None, "gymnasium", None),
        (preset("nature"), None, None, None),
        (preset("quick_dqn"), None, "sticky", None),
        (preset("quick"), None, "envpool", None),
        (preset("classic"), None, "nature", None),
    ],
)
def test_games_by_other_rules_than_the_presets_are_named(
    config: AgentConfig, recorded: str | None, rules: str | None, own: str | None
) -> None:
    agent, _ = agent_of(AgentConfig(**TINY))
    agent._config = config  # of images, while the agent is one for vectors
    agent.protocol = rules
    sentences = advice(agent, 10**6, recorded)
    assert len(sentences) == (own is not None)
    if own is not None and rules is not None:
        expected = (
            f"by the protocol '{rules.split('+')[0]}', the source of the preset '{recorded or 'nature'}' by '{own}'"
        )
        assert expected.replace("'nature' by '100k'", "'der' by '100k'") in sentences[0]


@pytest.mark.parametrize(
    ("description", "named"),
    [({}, {"preset": "classic"}), ({"preset": "other", "name": "mine"}, {"preset": "other", "name": "mine"})],
)
def test_a_run_from_python_records_the_preset_that_it_has(
    tmp_path: Path, description: dict[str, str], named: dict[str, str]
) -> None:
    agent, envs = agent_of("classic")
    agent.learn(envs, 4, tmp_path / "run", description=description)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {name: config[name] for name in ("preset", "name") if name in config} == named


def test_a_run_of_other_settings_records_no_preset(tmp_path: Path) -> None:
    agent, envs = agent_of(dataclasses.replace(preset("classic"), gamma=0.5))
    agent.learn(envs, 4, tmp_path / "run")
    assert "preset" not in json.loads((tmp_path / "run" / "config.json").read_text())

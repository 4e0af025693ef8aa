"""What a user changes between two trainings of an agent: its configuration, its step size, its environments."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from pixelq.agents import DQN, AgentConfig, InvalidConfig
from pixelq.envs import make_vec

SMALL = AgentConfig(hidden=8, learning_starts=8, batch_size=4, replay_capacity=100, encoder="mlp")


def catch(seed: int = 0, env: str = "pixelq/Catch-v0") -> Any:
    return make_vec(env, 2, seed)


def new(envs: Any, config: AgentConfig = SMALL) -> DQN:
    return DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")


def weights(agent: DQN) -> list[Any]:
    return [parameter.tolist() for parameter in agent.network.parameters()]


def test_rates_and_intervals_can_be_replaced(tmp_path: Path) -> None:
    """An agent whose configuration was replaced learns as one that was made with it."""
    config = replace(SMALL, learning_rate=0.01, train_every=2, epsilon_start=0.5, epsilon_end=0.0)
    made = new(catch(), config)
    made.learn(catch(), 60)
    changed = new(catch())
    changed.config = config
    changed.learn(catch(), 60, tmp_path / "run")
    assert weights(changed) == weights(made)
    assert changed.updates == made.updates
    loaded = DQN.load(tmp_path / "run", "cpu")
    assert (loaded.config, loaded.learner.learning_rate) == (config, pytest.approx(0.01))


@pytest.mark.parametrize("change", [{"hidden": 16}, {"replay_capacity": 200}, {"prioritized": True}])
def test_what_is_built_cannot_be_replaced(change: dict[str, Any]) -> None:
    agent = new(catch())
    ((name, value),) = change.items()
    with pytest.raises(InvalidConfig) as refused:
        agent.config = replace(SMALL, **change)
    assert str(refused.value) == (
        f"{name} must stay {getattr(SMALL, name)!r}, from which this DQN was built, got {value!r}; "
        "make a new one: DQN(observation_space, action_space, config)"
    )
    assert agent.config == SMALL


def test_a_step_size_set_by_hand_is_refused_before_training() -> None:
    agent = new(catch())
    agent.learner.optimizers["optimizer"].param_groups[0]["lr"] = 0.005
    sentence = r"learning rate must be the configuration's 0.00025, got 0.005; change it by agent.replace"
    with pytest.raises(InvalidConfig, match=sentence):
        agent.learn(catch(), 20)
    agent.config = replace(SMALL, learning_rate=0.005)
    agent.learn(catch(), 20)
    assert agent.learner.learning_rate == pytest.approx(0.005)
    agent.learner.set_learning_rate(0.1)
    with pytest.raises(InvalidConfig, match=r"got 0\.1;"):
        agent.learn(catch(), 20)


def test_a_schedule_goes_on_in_the_next_training() -> None:
    agent = new(catch(), replace(SMALL, learning_rate_steps=100))
    agent.learn(catch(), 40)
    agent.learn(catch(), 40)
    assert agent.learner.learning_rate == pytest.approx(2.5e-4 * (1 - (agent.step - 8) / 100), rel=0.1)


class Scaled(gymnasium.wrappers.vector.TransformReward):
    def __init__(self, env: Any) -> None:
        super().__init__(env, lambda reward: 2 * reward)


def learned() -> DQN:
    agent = new(catch())
    agent.learn(catch(), 60)
    return agent


def test_environments_made_alike_share_the_replay() -> None:
    agent = learned()
    replay = agent.replay
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent.learn(catch(7), 20)
    assert agent.replay is replay


@pytest.mark.parametrize("other", [lambda: Scaled(catch()), lambda: catch(env="tests/Caught-v0")])
def test_other_environments_begin_with_an_empty_replay(other: Any) -> None:
    if "tests/Caught-v0" not in gymnasium.registry:
        gymnasium.register("tests/Caught-v0", lambda **_: gymnasium.make("pixelq/Catch-v0").unwrapped)
    agent = learned()
    updates, replay = agent.updates, agent.replay
    with pytest.warns(UserWarning, match="the replay held steps of other environments and was emptied"):
        agent.learn(other(), 6)
    assert agent.replay is not replay
    assert agent.replay is not None
    assert agent.replay.time <= 4  # the steps of this training alone
    assert agent.updates == updates  # it is filled before the next update


class Unknown(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """Environments without an ID."""

    def __init__(self) -> None:
        self.num_envs = 2
        self.single_observation_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)
        self.single_action_space = gymnasium.spaces.Discrete(2)

    def reset(self, **_: Any) -> Any:
        return np.zeros((2, 3), np.float32), {}

    def step(self, actions: Any) -> Any:
        return np.zeros((2, 3), np.float32), np.ones(2), np.zeros(2, bool), np.zeros(2, bool), {}


def test_environments_without_an_id_are_known_by_themselves() -> None:
    envs = Unknown()
    agent = new(envs)
    agent.learn(envs, 20)
    replay = agent.replay
    agent.learn(envs, 20)
    assert agent.replay is replay
    with pytest.warns(UserWarning, match="other environments"):
        agent.learn(Unknown(), 20)
    assert agent.replay is not replay

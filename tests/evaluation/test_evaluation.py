"""Evaluation counts episodes fairly and its statistics are right."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from pixelq.agents import DQN, AgentConfig, Evaluation, evaluate, preset
from pixelq.envs import human_normalized_score, make_vec


class LongIsGood(gymnasium.Env[Any, Any]):
    """Half of the episodes take 2 steps and return 2, half take 20 and return 20, by the toss of a coin."""

    observation_space = Box(-1, 1, (1,), np.float32)
    action_space = Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.left = 2 if self.np_random.random() < 0.5 else 20
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.left -= 1
        return np.zeros(1, np.float32), 1.0, self.left == 0, False, {}


gymnasium.register("tests/LongIsGood-v0", LongIsGood)


def an_agent(env: str) -> tuple[DQN, Any]:
    envs = make_vec(env, 10, seed=3)
    config = AgentConfig(hidden=8, learning_starts=1, replay_capacity=100)
    return DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu"), envs


def test_short_episodes_are_not_counted_more_often() -> None:
    agent, envs = an_agent("tests/LongIsGood-v0")
    result = evaluate(agent, envs, 400)
    # Fair: mean 11, standard error 0.45. First come, first counted would give about 8 at the same number.
    assert result.episodes == 400
    assert abs(result.mean - 11) < 1.8
    assert result.returns == tuple(float(length) for length in result.lengths)


@pytest.mark.parametrize("episodes", [1, 7, 10, 23])
def test_as_many_episodes_as_asked_for(episodes: int) -> None:
    agent, envs = an_agent("tests/LongIsGood-v0")
    assert len(evaluate(agent, envs, episodes).returns) == episodes


def test_environments_that_show_no_last_observation_are_refused() -> None:
    mode = {"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}
    envs = gymnasium.make_vec("CartPole-v1", 2, "sync", vector_kwargs=mode)
    agent = DQN(envs.single_observation_space, envs.single_action_space, preset("classic"), device="cpu")
    with pytest.raises(ValueError, match="autoreset mode must be AutoresetMode"):
        evaluate(agent, envs, 1)


def test_no_episode_is_refused() -> None:
    agent, envs = an_agent("tests/LongIsGood-v0")
    with pytest.raises(ValueError, match="at least 1"):
        evaluate(agent, envs, 0)


def test_returns_are_those_of_the_policy_alone() -> None:
    agent, _ = an_agent("CartPole-v1")
    ours = evaluate(agent, make_vec("CartPole-v1", 3, seed=5), 3)
    envs = make_vec("CartPole-v1", 3, seed=5)
    obs, _ = envs.reset()
    alive, lengths = np.ones(3, bool), np.zeros(3, int)
    while alive.any():
        obs, _, terminated, truncated, _ = envs.step(agent.predict(obs)[0])
        lengths += alive
        alive &= ~(terminated | truncated)
    assert ours.lengths == tuple(lengths)


def test_epsilon_one_is_random_play() -> None:
    agent, envs = an_agent("CartPole-v1")
    greedy, random = evaluate(agent, envs, 100), evaluate(agent, envs, 100, epsilon=1.0)
    assert 18 < random.mean < 27  # random play balances for 22 steps
    assert greedy.returns != random.returns


def test_statistics() -> None:
    result = Evaluation("ALE/Pong-v5", (1.0, 2.0, 3.0, 10.0), (5, 6, 7, 8))
    assert (result.mean, result.median, result.std) == (4.0, 2.5, pytest.approx(np.sqrt(12.5)))
    assert result.human_normalized == pytest.approx((4 + 20.7) / (14.6 + 20.7))
    assert Evaluation("CartPole-v1", (1.0,), (1,)).human_normalized is None
    assert human_normalized_score("breakout", 30.5) == pytest.approx(1.0)


def test_interval_covers_the_mean_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        low, high = Evaluation("", tuple(rng.normal(3.0, 2.0, 30)), (1,) * 30).ci95
        inside += low <= 3.0 <= high
    assert 178 <= inside <= 198  # the percentile bootstrap of 30 values covers a little less than it says

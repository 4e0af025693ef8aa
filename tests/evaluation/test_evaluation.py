"""Evaluation counts episodes fairly and its statistics are right."""

import copy
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import VectorWrapper
from numpy.typing import NDArray

from pixelq.agents import DQN, AgentConfig, Evaluation, evaluate, preset
from pixelq.agents.acting.exploration import epsilon_greedy
from pixelq.agents.acting.policy import Policy
from pixelq.agents.evaluation.episode import play_episode
from pixelq.agents.storage.rules import LIMIT
from pixelq.envs import human_normalized_score, make_filmed, make_vec


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


class Endless(gymnasium.Env[Any, Any]):
    """Pays what it is told to, or 1; the second of every two episodes ends after 7 steps, the others never."""

    observation_space = Box(-1, 1, (1,), np.float32)
    action_space = Discrete(2)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012

    def __init__(self, pay: float = 1.0, render_mode: str | None = None) -> None:
        self.pay, self.render_mode, self.episode, self.steps = pay, render_mode, 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.episode, self.steps = self.episode + 1, 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return np.zeros(1, np.float32), self.pay, self.episode % 2 == 0 and self.steps == 7, False, {}

    def render(self) -> Any:
        return np.zeros((8, 8, 3), np.uint8)


class Watched(VectorWrapper):
    """Counts the steps, and keeps the actions."""

    def __init__(self, envs: Any) -> None:
        super().__init__(envs)
        self.sent: list[NDArray[np.int64]] = []

    def step(self, actions: Any) -> Any:
        self.sent.append(actions)
        return self.env.step(actions)


class WatchedResting(Watched):
    """One that lets its environments rest."""

    def rest(self, mask: Any) -> None:
        self.env.rest(mask)  # type: ignore[attr-defined]


gymnasium.register("tests/LongIsGood-v0", LongIsGood)
gymnasium.register("tests/Endless-v0", Endless)


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


def played_as_a_whole(policy: Policy, envs: Any, quota: list[int], epsilon: float, seed: int) -> list[list[float]]:
    """The returns of each environment where all of them are played and computed until the last has ended."""
    rng, returns, memory = np.random.default_rng(seed), np.zeros(len(quota)), policy.make_memory(len(quota))
    found: list[list[float]] = [[] for _ in quota]
    obs, _ = envs.reset()
    while any(len(of_env) < n for of_env, n in zip(found, quota, strict=True)):
        actions = epsilon_greedy(policy.act(obs, 0.0, memory), policy.num_actions, epsilon, rng)
        obs, reward, terminated, truncated, _ = envs.step(actions)
        returns += reward
        if memory is not None:
            memory.step(actions, reward, terminated | truncated)
        for i in np.flatnonzero(terminated | truncated):
            found[i].append(float(returns[i]))
            returns[i] = 0.0
    return [of_env[:n] for of_env, n in zip(found, quota, strict=True)]


@pytest.mark.parametrize("lstm", [None, 8])
def test_environments_that_have_ended_leave_the_batch_and_change_nothing(
    lstm: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = AgentConfig(hidden=8, learning_starts=1, replay_capacity=200, lstm=lstm, lstm_last_action=lstm is not None)
    envs = make_vec("CartPole-v1", 4, seed=3)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=2)
    with torch.no_grad():  # so that actions depend on what the LSTM remembers
        for parameter in agent.network.parameters():
            parameter.mul_(20.0)
    expected = played_as_a_whole(agent, make_vec("CartPole-v1", 4, seed=3), [2, 2, 1, 1], 0.1, 7)
    batches: list[int] = []
    act = Policy.act
    monkeypatch.setattr(Policy, "act", lambda self, obs, *rest: batches.append(len(obs)) or act(self, obs, *rest))
    for kind in (Watched, WatchedResting):
        batches.clear()
        counted: list[int] = []
        result = evaluate(
            agent, kind(make_vec("CartPole-v1", 4, seed=3)), 6, epsilon=0.1, seed=7, stepped=counted.append
        )
        assert result.returns == tuple(value for of_env in expected for value in of_env)
        assert batches == sorted(batches, reverse=True) == counted
        assert (batches[0], batches[-1]) == (4, 1)
        # a step of each episode but an environment's first only resets
        assert sum(batches) == sum(result.lengths) + 2


def test_a_memory_keeps_the_rows_of_those_that_play_on() -> None:
    config, rng = AgentConfig(hidden=8, lstm=8, lstm_last_action=True, lstm_last_reward=True), np.random.default_rng(0)
    agent = DQN(Box(-1, 1, (3,)), Discrete(4), config, device="cpu")
    memory, mask = agent.make_memory(4), np.array([True, False, False, True])
    assert memory is not None
    for _ in range(3):
        agent.q_values(rng.normal(size=(4, 3)).astype(np.float32), memory)
        memory.step(rng.integers(4, size=4), rng.normal(size=4), np.array([False, True, False, True]))
    kept, obs = copy.copy(memory), np.ones((4, 3), np.float32)
    kept.keep(mask)
    for _ in range(3):
        expected = agent.q_values(obs, memory).numpy()
        assert len(np.unique(expected.round(5), axis=0)) >= 3  # an episode starts in two of them
        np.testing.assert_allclose(agent.q_values(obs[mask], kept).numpy(), expected[mask], rtol=1e-5)
        memory.step(np.arange(4), np.arange(4.0), np.zeros(4, bool))
        kept.step(np.arange(4)[mask], np.arange(4.0)[mask], np.zeros(2, bool))


def test_environments_that_rest_are_not_stepped_and_play_on_after_a_reset() -> None:
    envs, same = (make_vec("CartPole-v1", 3, seed=5) for _ in range(2))
    resting = np.array([False, True, False])
    for each in (envs, same):
        each.reset()
    shown = envs.step(np.zeros(3, np.int64))[0]
    expected = same.step(np.zeros(3, np.int64))[0]
    envs.rest(resting)
    for _ in range(30):  # the others fall meanwhile
        before = shown
        shown, reward, terminated, _, _ = envs.step(np.zeros(3, np.int64))
        expected, their_reward, their_end, _, _ = same.step(np.zeros(3, np.int64))
        np.testing.assert_array_equal(shown[~resting], expected[~resting])
        np.testing.assert_array_equal(shown[1], before[1])
        assert (reward[1], terminated[1]) == (0.0, False)
        assert (reward[[0, 2]].tolist(), terminated[[0, 2]].tolist()) == (
            their_reward[[0, 2]].tolist(),
            their_end[[0, 2]].tolist(),
        )
    with pytest.raises(RuntimeError, match="call reset first"):
        envs.get_state()
    obs, _ = envs.reset()
    state = envs.get_state()
    after = [envs.step(np.ones(3, np.int64))[0] for _ in range(5)]
    assert (after[-1] != obs).any(axis=1).all()
    envs.rest(resting)  # ends with the restoring, too
    np.testing.assert_array_equal(envs.set_state(state), obs)
    np.testing.assert_array_equal([envs.step(np.ones(3, np.int64))[0] for _ in range(5)], after)


@pytest.mark.slow
def test_games_that_rest_change_no_other_game() -> None:
    envs, same = (make_vec("ALE/Breakout-v5", 2, seed=5) for _ in range(2))
    with pytest.raises(RuntimeError, match="call rest without any before the reset"):
        envs.rest(np.array([True, False]))
    envs.rest(np.zeros(2, bool))
    np.testing.assert_array_equal(envs.reset()[0], same.reset()[0])
    actions = np.random.default_rng(0).integers(4, size=(60, 2))
    for t, action in enumerate(actions):
        if t == 20:
            envs.rest(np.array([True, False]))
        obs, reward, *flags, info = envs.step(action)
        theirs, their_reward, *their_flags, their_info = same.step(action)
        seen = slice(0 if t < 20 else 1, 2)
        np.testing.assert_array_equal(obs[seen], theirs[seen])
        np.testing.assert_array_equal(
            np.array([reward, *flags])[:, seen], np.array([their_reward, *their_flags])[:, seen]
        )
        assert info["episode_frame_number"][0] == 4 * min(t + 1, 20)
        for name, values in info.items():
            np.testing.assert_array_equal(values[seen], their_info[name][seen])
    with pytest.raises(RuntimeError, match="call reset first"):
        envs.get_state()
    # The next episodes have seeds of their own, from which they are restored
    first, _ = envs.reset()
    state, after = envs.get_state(), [envs.step(action)[0] for action in actions[:5]]
    envs.rest(np.array([True, False]))  # ends with the restoring, too
    np.testing.assert_array_equal(envs.set_state(state), first)
    np.testing.assert_array_equal([envs.step(action)[0] for action in actions[:5]], after)


def test_episodes_without_an_end_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelq.agents.evaluation.evaluate.LIMIT", 40)
    agent, _ = an_agent("tests/Endless-v0")
    result = evaluate(agent, make_vec("tests/Endless-v0", 2, seed=0), 5)
    assert (result.lengths, result.cut) == ((40, 7, 40, 40, 7), 3)  # every other episode of each environment ends
    assert result.returns == tuple(map(float, result.lengths))
    within = evaluate(agent, make_vec("tests/Endless-v0", 2, seed=0, max_episode_steps=50), 3)
    assert (within.lengths, within.cut, within.truncated) == ((50, 7, 50), 0, 2)  # their own limit, however long
    assert result.truncated == 0
    both = evaluate(agent, make_vec("tests/Endless-v0", 2, seed=0, max_episode_steps=7), 4)
    assert (both.lengths, both.truncated) == ((7,) * 4, 2)  # the others terminate at their limit
    assert evaluate(agent, make_vec("tests/Endless-v0", 1, max_episode_steps=3), 2).lengths == (3, 3)
    assert LIMIT == 27_000


def test_a_film_of_an_episode_without_an_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelq.agents.evaluation.episode.LIMIT", 11)
    agent, _ = an_agent("tests/Endless-v0")
    assert len(list(play_episode(agent, make_filmed("tests/Endless-v0"), None))) == 11
    assert len(list(play_episode(agent, make_filmed("tests/Endless-v0", max_episode_steps=13), None))) == 13


def test_returns_that_are_not_finite_have_no_warnings(recwarn: pytest.WarningsRecorder) -> None:
    for returns in ((np.inf, 1.0), (np.inf, -np.inf), (np.nan, 1.0), (1e308, 1e308)):
        result = Evaluation("ALE/Pong-v5", returns, (1, 1))
        assert not np.isfinite(result.mean)
        assert result.row()["episodes"] == 2
    assert not recwarn.list


class Endless(gymnasium.Env[Any, Any]):
    """Never ends, and shows a random number at a reset."""

    observation_space, action_space = Box(-1, 1, (1,), np.float32), Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.full(1, self.np_random.random(), np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(1, np.float32), 1.0, False, False, {}


@pytest.mark.parametrize("lstm", [None, 4])
def test_games_after_those_that_were_cut_off_are_others(monkeypatch: pytest.MonkeyPatch, lstm: int | None) -> None:
    monkeypatch.setattr("pixelq.agents.evaluation.evaluate.LIMIT", 5)
    envs = make_vec(Endless, 2, 0)
    agent = DQN(envs.single_observation_space, envs.single_action_space, AgentConfig(hidden=8, lstm=lstm), device="cpu")
    shown, reset = [], envs.reset

    def noted(**more: Any) -> Any:
        shown.append(reset(**more))
        return shown[-1]

    monkeypatch.setattr(envs, "reset", noted)
    assert evaluate(agent, envs, 6, games_seed=3).lengths == (5,) * 6
    assert len({obs.tobytes() for obs, _ in shown}) == len(shown) == 3


def test_a_played_episode_tells_the_memory_of_actions_and_rewards() -> None:
    config = AgentConfig(hidden=8, lstm=8, lstm_last_action=True, lstm_last_reward=True)
    envs = make_filmed("CartPole-v1", seed=1)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=2)
    memory, number = agent.make_memory(1), -1
    assert memory is not None
    for number, step in enumerate(play_episode(agent, envs, None)):
        assert step.memory is not None
        assert bool(step.memory.episode_start[0]) == (number == 0)
        np.testing.assert_allclose(step.q_values, agent.q_values(step.observation[None], memory)[0], rtol=1e-5)
        memory.step(np.array([step.action]), np.array([step.reward]), np.zeros(1, bool))
    assert number > 5

"""Replay on real games: what it samples is byte for byte what the environments returned, and what Gymnasium returns."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation
from numpy.typing import NDArray

from pixelq.agents import Batch, Replay
from pixelq.agents.experience.samplers import UniformSampler
from pixelq.envs import PROTOCOLS, Protocol, make_vec

GAMMA, N_STEP, NUM_ENVS = 0.99, 3, 8
Array = NDArray[Any]
Key = tuple[int, int]  # time step, environment


@dataclasses.dataclass
class History:
    """All that the environments returned, whole: lists over time of arrays [N, ...]."""

    obs: list[Array] = dataclasses.field(default_factory=list)
    action: list[Array] = dataclasses.field(default_factory=list)
    reward: list[Array] = dataclasses.field(default_factory=list)
    discount_ends: list[Array] = dataclasses.field(default_factory=list)
    episode_ends: list[Array] = dataclasses.field(default_factory=list)

    def samplable(self, length: int) -> set[Key]:
        time, num_envs = len(self.obs), self.obs[0].shape[0]
        first = time - length + 3 if time > length else 0
        return {
            (t, env)
            for t in range(first, time - N_STEP)
            for env in range(num_envs)
            if t == 0 or not self.episode_ends[t - 1][env]
        }

    def check(self, keys: list[Key], batch: Batch) -> None:
        """Asserts that the batch's transitions are those that start at the keys."""
        obs, action, reward, discount, next_obs = (tensor.numpy() for tensor in batch[:5])
        for i, (t, env) in enumerate(keys):
            total, bootstrap, end = 0.0, 1.0, t
            while end < t + N_STEP:
                total += bootstrap * min(max(float(self.reward[end][env]), -1.0), 1.0)
                bootstrap *= 0.0 if self.discount_ends[end][env] else GAMMA
                end += 1
                if self.discount_ends[end - 1][env] or self.episode_ends[end - 1][env]:
                    break
            assert obs[i].tobytes() == self.obs[t][env].tobytes(), (t, env)
            assert next_obs[i].tobytes() == self.obs[end][env].tobytes(), (t, env)
            assert action[i] == self.action[t][env], (t, env)
            assert abs(reward[i] - total) < 1e-6, (t, env)
            assert abs(discount[i] - bootstrap) < 1e-6, (t, env)


def keys_of(replay: Replay, rows: torch.Tensor) -> list[Key]:
    """Time and environment of rows; the ring holds the newest time steps, the environments of one side by side."""
    slots, envs = rows // replay.num_envs, rows % replay.num_envs
    newest = replay.time - 1
    return list(zip((newest - (newest - slots) % replay.length).tolist(), envs.tolist(), strict=True))


def record(env_id: str, protocol: Protocol, num_envs: int, steps: int, replay: Replay) -> History:
    """Plays at random and checks batches on the way."""
    envs = make_vec(env_id, num_envs, 0, protocol, num_threads=1)
    actions = np.random.default_rng(0).integers(0, envs.single_action_space.n, (steps, num_envs))
    history = History()
    obs, _ = envs.reset()
    for t, action in enumerate(actions):
        next_obs, reward, terminated, truncated, info = envs.step(action)
        life_lost = info.get("life_lost")
        replay.add(obs, action, reward, terminated, truncated, life_lost)
        history.obs.append(obs)
        history.action.append(action)
        history.reward.append(reward)
        history.discount_ends.append(terminated if life_lost is None else terminated | life_lost)
        history.episode_ends.append(terminated | truncated)
        obs = next_obs
        if t % 10 == 9:
            batch = replay.sample(8)
            assert batch.row is not None
            history.check(keys_of(replay, batch.row), batch)
    envs.close()
    return history


def everything_samplable(replay: Replay) -> Iterator[tuple[list[Key], Batch]]:
    """All transitions and where they start, 256 at a time."""
    assert isinstance(replay.sampler, UniformSampler)
    for rows in replay.sampler.oldest(len(replay)).split(256):
        yield keys_of(replay, rows), replay.gather(rows)


def atari_replay(num_envs: int, capacity: int) -> Replay:
    return Replay(
        (4, 84, 84),
        np.dtype(np.uint8),
        capacity=capacity,
        num_envs=num_envs,
        frame_stack=4,
        n_step=N_STEP,
        gamma=GAMMA,
        reward_clip=1.0,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env_id", "protocol"),
    [
        pytest.param("ALE/Pong-v5", dataclasses.replace(PROTOCOLS["sticky"], max_frames=1_000), marks=pytest.mark.slow),
        ("ALE/Breakout-v5", PROTOCOLS["nature"]),
    ],
)
def test_ten_thousand_steps_of_a_game_come_back_byte_for_byte(env_id: str, protocol: Protocol) -> None:
    replay = atari_replay(NUM_ENVS, capacity=6_003)
    history = record(env_id, protocol, NUM_ENVS, 1250, replay)
    found = []
    for keys, batch in everything_samplable(replay):
        history.check(keys, batch)
        found += keys
    assert len(found) == len(set(found)) == len(replay)
    assert set(found) == history.samplable(replay.length)
    ends, zero_discount = np.stack(history.episode_ends), np.stack(history.discount_ends)
    assert ends.sum() >= 30
    assert np.abs(np.stack(history.reward)).sum() >= 50
    if env_id == "ALE/Pong-v5":
        assert (ends & ~zero_discount).sum() >= 30  # truncations
    else:
        assert (zero_discount & ~ends).sum() >= 100  # lost lives


def gymnasium_observations(env_id: str, actions: Array) -> list[Array]:
    """Stacks from Gymnasium's own wrappers; a step after an end resets."""
    raw = gymnasium.make(env_id, frameskip=1, repeat_action_probability=0.0)
    env = FrameStackObservation(AtariPreprocessing(raw, noop_max=0), 4, padding_type="zero")
    observations, done = [env.reset(seed=0)[0]], False
    for action in actions:
        if done:
            observation, done = env.reset()[0], False
        else:
            observation, _, done, _, _ = env.step(int(action))
        observations.append(observation)
    env.close()
    return observations


@pytest.mark.slow
def test_sampled_stacks_are_gymnasiums() -> None:
    env_id, steps, num_envs = "ALE/Breakout-v5", 350, 2
    replay = atari_replay(num_envs, capacity=500)
    protocol = Protocol("plain", 0.0, 0, False, 0.0, 108_000)
    history = record(env_id, protocol, num_envs, steps, replay)
    actions = np.stack(history.action)
    theirs = [gymnasium_observations(env_id, actions[:, env]) for env in range(num_envs)]
    ends = np.stack(history.episode_ends)
    assert (ends[-200:].sum(0) > 0).any()  # the ring holds a restart
    for keys, batch in everything_samplable(replay):
        for (t, env), obs, next_obs in zip(keys, batch.obs.numpy(), batch.next_obs.numpy(), strict=True):
            np.testing.assert_array_equal(obs, theirs[env][t])
            steps_taken = 1 + int(np.argmax(np.append(ends[t : t + N_STEP - 1, env], True)))
            np.testing.assert_array_equal(next_obs, theirs[env][t + steps_taken])

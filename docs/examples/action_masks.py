"""Nim with action masks: players take one to three sticks in turn, never more than are left; the last stick wins."""

import dataclasses

import gymnasium
import numpy as np

from pixelq.agents import DQN, evaluate, preset
from pixelq.envs import make_vec


class Nim(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0.0, 1.0, (11,), np.float32)  # the number of sticks left, one-hot
    action_space = gymnasium.spaces.Discrete(3)  # take one stick, two or three

    def _state(self):
        return np.eye(11, dtype=np.float32)[self.sticks], {"action_mask": np.arange(1, 4) <= self.sticks}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.sticks = int(self.np_random.choice([6, 7, 9, 10]))  # the agent moves first and can win from each of these
        return self._state()

    def step(self, action):
        self.sticks -= action + 1  # never below 0, because the mask forbids taking too many
        reward = float(self.sticks == 0)
        if self.sticks > 0:  # the opponent, which leaves a multiple of four if it can, and otherwise takes one
            self.sticks -= self.sticks % 4 or 1
            reward = -float(self.sticks == 0)
        observation, info = self._state()
        return observation, reward, self.sticks == 0, False, info


envs = make_vec(Nim, num_envs=8, seed=0)
config = dataclasses.replace(preset("classic"), hidden=64, learning_starts=500, epsilon_steps=1_500, train_every=4)
agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=0)
agent.learn(envs, steps=4_000)
print("mean result (1 if it wins every game):", evaluate(agent, make_vec(Nim, num_envs=8, seed=1), episodes=100).mean)
obs, info = envs.reset()
print("sticks taken:", agent.predict(obs, action_masks=info["action_mask"])[0] + 1, "of", obs.argmax(1))

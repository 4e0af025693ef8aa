"""Wrappers of your own around any Gymnasium environment.

On the command line, in the folder of this file; `pixelq evaluate RUN --import own_wrapper` evaluates the run:
  pixelq train --env CartPole-v1 --wrappers 'own_wrapper:jitter(scale=0.01),own_wrapper:RepeatAction(times=2)'
"""

from functools import partial

import gymnasium

from pixelq.agents import DQN
from pixelq.envs import make_vec


class RepeatAction(gymnasium.Wrapper):
    def __init__(self, env, times=4):
        super().__init__(env)
        self.times = times

    def step(self, action):
        total = 0.0
        for _ in range(self.times):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += reward
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, info


def jitter(env, scale=0.1):  # a function works, too
    def noisy(obs):  # draws from np_random, so that the seed determines the noise
        return (obs + env.unwrapped.np_random.normal(0, scale, obs.shape)).astype(obs.dtype)

    return gymnasium.wrappers.TransformObservation(env, noisy, None)


if __name__ == "__main__":
    envs = make_vec("CartPole-v1", num_envs=4, wrappers=[partial(jitter, scale=0.01), partial(RepeatAction, times=2)])
    DQN(envs.single_observation_space, envs.single_action_space, "classic", device="cpu").learn(envs, steps=1200)

"""An environment of your own, with arguments.

On the command line, in the folder of this file:
  pixelq train --env own_environment:Corridor --env-kwargs.length 6 --out corridor
  pixelq evaluate corridor --import own_environment
"""

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from pixelq.agents import DQN, AgentConfig
from pixelq.envs import make_vec


class Corridor(gymnasium.Env):
    """Walk to the right end of a corridor. The observation is the position as a one-hot vector."""

    def __init__(self, length=10, step_cost=0.01):
        self.length, self.step_cost = length, step_cost
        self.observation_space, self.action_space = Box(0.0, 1.0, (length,), np.float32), Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)  # seeds self.np_random, from which all random numbers must come
        self.place = int(self.np_random.integers(self.length // 2))
        return np.eye(self.length, dtype=np.float32)[self.place], {}

    def step(self, action):
        self.place = max(0, self.place + (1 if action == 1 else -1))
        is_end = self.place == self.length - 1
        return np.eye(self.length, dtype=np.float32)[self.place], float(is_end) - self.step_cost, is_end, False, {}


if __name__ == "__main__":
    envs = make_vec(Corridor, num_envs=4, seed=0, env_kwargs={"length": 6}, max_episode_steps=50)
    config = AgentConfig(encoder="mlp", hidden=32, learning_starts=100, epsilon_steps=500, replay_capacity=1000)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")
    agent.learn(envs, steps=500)
    print(agent.env_id, agent.env_arguments)  # saved with the agent, to make the same environments again

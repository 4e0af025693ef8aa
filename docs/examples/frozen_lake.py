"""FrozenLake: discrete observations become one-hot vectors, and a small network learns the shortest path in seconds."""

import dataclasses

from pixelq.agents import DQN, evaluate, preset
from pixelq.envs import make_vec

lake = {"id": "FrozenLake-v1", "env_kwargs": {"is_slippery": False}, "max_episode_steps": 30}
envs = make_vec(num_envs=8, seed=0, **lake)
print(envs.single_observation_space)  # Box(0, 1, (16,), int64): one number for each of the lake's 4 × 4 fields

config = dataclasses.replace(
    preset("classic"), hidden=64, gamma=0.9, learning_starts=500, epsilon_steps=2_000, epsilon_end=0.1
)
agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=0)
agent.learn(envs, steps=3_000)

result = evaluate(agent, make_vec(num_envs=1, seed=1, **lake), episodes=5)
print(f"mean return {result.mean} in {result.lengths[0]} steps; 1.0 in 6 steps is the optimum")

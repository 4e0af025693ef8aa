"""MiniGrid: of a Dict of observations, the wrapper keeps what is a number, and one vector is made of that.

The same from the command line:
  pixelq train --env minigrid:MiniGrid-Empty-5x5-v0 \
    --wrappers "gymnasium.wrappers:FilterObservation(filter_keys=['direction', 'image'])"
"""
# needs minigrid

import dataclasses

from pixelq.agents import DQN, evaluate, preset
from pixelq.envs import make_vec

grid = {
    "id": "minigrid:MiniGrid-Empty-5x5-v0",
    # The mission is a text, of which networks here know nothing.
    "wrappers": ["gymnasium.wrappers:FilterObservation(filter_keys=['direction', 'image'])"],
}
envs = make_vec(num_envs=8, seed=0, **grid)
print(envs.single_observation_space.shape)  # [151]: 4 entries for the direction, one-hot, and 7 × 7 × 3 for the view

config = dataclasses.replace(
    preset("classic"), hidden=64, batch_size=32, learning_starts=500, epsilon_steps=4_500, gamma=0.95
)
agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=0)
agent.learn(envs, steps=6_000, out="grid")  # `pixelq evaluate grid --import minigrid` makes the same grid

result = evaluate(agent, make_vec(num_envs=4, seed=1, **grid), episodes=10)
print(f"mean return {result.mean:.2f}; close to 1 is the shortest way")

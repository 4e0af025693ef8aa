"""MiniGrid: a wrapper keeps the numeric parts of the Dict observations, which are then flattened to one vector.

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
    # Leave out the key "mission": it is a text, which networks cannot read.
    "wrappers": ["gymnasium.wrappers:FilterObservation(filter_keys=['direction', 'image'])"],
}
envs = make_vec(num_envs=8, seed=0, **grid)
print(envs.single_observation_space.shape)  # (151,): the direction one-hot, 4 numbers, and the view, 7 × 7 × 3

config = dataclasses.replace(
    preset("classic"), hidden=64, batch_size=32, learning_starts=500, epsilon_steps=4_500, gamma=0.95
)
agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=0)
agent.learn(envs, steps=6_000, out="grid")  # evaluate it with `pixelq evaluate grid --import minigrid`

result = evaluate(agent, make_vec(num_envs=4, seed=1, **grid), episodes=10)
print(f"mean return {result.mean:.2f}; the shortest path gives almost 1")

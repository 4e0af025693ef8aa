"""A loop of your own around `learn`: several calls learn exactly the same as one long call."""

import dataclasses

from pixelq.agents import DQN, evaluate, preset
from pixelq.envs import make_vec

config = dataclasses.replace(preset("classic"), learning_starts=200, train_every=16)
envs, again = (make_vec("CartPole-v1", num_envs=4, seed=0) for _ in range(2))
others = make_vec("CartPole-v1", num_envs=4, seed=1)  # evaluating in `envs` would end its training episodes
agent, whole = (DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu") for _ in range(2))
for _ in range(4):
    agent.learn(envs, steps=300)  # continues the episodes of the call before
    score = evaluate(agent, others, episodes=4)
    print(f"step {agent.step:,}: {agent.episodes} training episodes, mean return {score.mean:.1f}")

whole.learn(again, steps=1_200)
same = all((whole.network.state_dict()[name] == value).all() for name, value in agent.network.state_dict().items())
print(f"one call of 1,200 steps ends with the same weights: {same}")
assert same

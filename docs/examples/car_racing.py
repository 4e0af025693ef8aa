"""CarRacing with discrete actions: colour pictures are resized, converted to grey and stacked.

This training is too short to learn to drive. To train for longer, on the command line:
  pixelq train --env CarRacing-v3 --env-kwargs.continuous false --frame-size 84 --grayscale --preset rainbow
"""
# needs Box2D

import dataclasses

from pixelq.agents import DQN, preset
from pixelq.envs import make_filmed, make_vec

track = {
    "id": "CarRacing-v3",
    "env_kwargs": {"continuous": False},
    "max_episode_steps": 40,
    "frame_size": 84,
    "grayscale": True,
    "frame_stack": 4,
}
envs = make_vec(num_envs=2, seed=0, **track)
print(envs.single_observation_space)  # Box(0, 255, (4, 84, 84), uint8); the replay stores each picture once

config = dataclasses.replace(preset("nature"), learning_starts=50, replay_capacity=1_000, epsilon_steps=100)
agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=0)
agent.learn(envs, steps=100, out="racing")  # `pixelq evaluate racing --video film` films the car in colour

# An environment that also renders, for films of your own.
film = make_filmed(seed=1, **track)
observation, _ = film.reset()
actions, _ = agent.predict(observation)
film.step(actions)
print(film.frame().shape)  # the original picture in colour

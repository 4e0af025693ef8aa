"""What fragments of code on the pages take as given: the reader's own environment, parts and agent."""

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from torch import Tensor, nn

from pixelq.agents import (
    DQN,
    AgentConfig,
    Callback,
    Exponential,
    Linear,
    StopAfter,
    TargetInputs,
    evaluate,
    register_encoder,
)
from pixelq.envs import make_vec
from pixelq.networks import ActionStreams, ScalarHead

__all__ = [
    "DQN",
    "AgentConfig",
    "Exponential",
    "Grid",
    "Linear",
    "Noisy",
    "Patience",
    "StopAfter",
    "agent",
    "envs",
    "evaluate",
    "factory",
    "function",
    "make_vec",
    "module",
    "other_envs",
    "register_encoder",
    "spaces",
]


class Grid(gymnasium.Env):
    """A walk to the end of a line."""

    def __init__(self, size: int = 3) -> None:
        self.observation_space, self.action_space, self.size = Box(0.0, 1.0, (4,), np.float32), Discrete(2), size

    def _seen(self) -> np.ndarray:
        return np.full(4, self.place / self.size, np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0
        return self._seen(), {}

    def step(self, action):
        self.place += int(action)
        return self._seen(), 1.0, self.place == self.size, False, {}


class Noisy(gymnasium.Wrapper):
    """A wrapper that changes nothing."""


class Patience(Callback):
    """A callback that stops nothing."""


def factory(*given):
    """Make an encoder of (observation_shape, config), or a head of (in_features, num_actions, config)."""
    if len(given) == 2:
        return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(given[0])), 8))
    return ScalarHead(ActionStreams(given[0], given[1], 1, hidden=8))


def function(inputs: TargetInputs) -> tuple[Tensor, Tensor]:
    """Follow the softmax of the values."""
    return inputs.reward, inputs.next_q.softmax(1)


module = nn.Linear(4, 8)
envs, other_envs = (make_vec("CartPole-v1", num_envs=2, seed=seed) for seed in (0, 1))
spaces = envs.single_observation_space, envs.single_action_space
agent = DQN(*spaces, "classic", device="cpu", seed=0)

"""The network of a policy as a function of arrays alone: what an exported file computes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor, nn

from pixelq.agents.acting.memory import Memory
from pixelq.agents.acting.policy import Policy
from pixelq.envs.action_masks import ActionMasks
from pixelq.networks import LastStep

NUM_RANDOM = 16
"""Number of random batches on which a file is checked where there are no played ones."""


class Inputs(NamedTuple):
    """What a network reads at a step of N environments, besides the LSTM's state.

    Attributes:
        observation: [N, *observation], uint8 or float32.
        episode_start: bool [N], whether the observation is an episode's first.
        last_action: int64 [N], action of the last step.
        last_reward: float32 [N], raw reward of the last step.
    """

    observation: Tensor
    episode_start: Tensor
    last_action: Tensor
    last_reward: Tensor


class _BinnedMaxPool(nn.Module):
    """What `nn.AdaptiveMaxPool2d(size)` computes, of maxima that every exporter knows."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, C, H, W] to [B, C, size, size]."""
        for axis in (-2, -1):
            length = x.shape[axis]
            bins = [(i * length // self.size, -(-(i + 1) * length // self.size)) for i in range(self.size)]
            x = torch.stack([x.narrow(axis, low, high - low).amax(axis) for low, high in bins], axis)
        return x


class ActingNetwork(nn.Module):
    """The greedy network of a policy, without noise: a copy on the CPU.

    Without an LSTM, it maps `observation` to `q_values`. With one, it maps `observation`, `hidden`, `cell`,
    `episode_start`, and `last_action` and `last_reward` if the network reads them, to `q_values`, `next_hidden` and
    `next_cell`. The state of rows whose episode starts is zeroed before it is read.

    Args:
        policy: The policy.

    Attributes:
        input_names: Names of the inputs, in order.
        output_names: Names of the outputs, in order.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.network = copy.deepcopy(policy.network).cpu().eval().requires_grad_(False)
        network = self.network
        for parent in [*network.modules()]:
            for name, child in parent.named_children():
                if isinstance(child, nn.AdaptiveMaxPool2d) and isinstance(child.output_size, int):
                    setattr(parent, name, _BinnedMaxPool(child.output_size))
        self.input_names, self.output_names = ["observation"], ["q_values"]
        if network.lstm is not None:
            self.input_names += ["hidden", "cell", "episode_start"]
            self.input_names += ["last_action"] if network.last_action else []
            self.input_names += ["last_reward"] if network.last_reward else []
            self.output_names += ["next_hidden", "next_cell"]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Map the inputs, in the order of `input_names`, to the outputs, in that of `output_names`."""
        network = self.network
        if network.lstm is None:
            return (network.q(inputs[0]).float(),)
        given = dict(zip(self.input_names, inputs, strict=True))
        start = given["episode_start"]
        # What the network does not read may be anything
        action = given.get("last_action", torch.zeros_like(start, dtype=torch.int64))
        reward = given.get("last_reward", torch.zeros_like(start, dtype=torch.float32))
        last = LastStep(action, reward)
        value, (hidden, cell) = network.step(given["observation"], (given["hidden"], given["cell"]), start, last)
        return network.head.q(value).float(), hidden, cell

    def arguments(self, inputs: Inputs, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the arguments of `forward` for the inputs of a step and the LSTM's state, () without one."""
        given = inputs._asdict() | dict(zip(("hidden", "cell"), state, strict=False))
        return tuple(given[name] for name in self.input_names)

    def initial_state(self, rows: int) -> tuple[Tensor, ...]:
        """Return the LSTM's state of zeros for N rows, ([N, H], [N, H]); () without an LSTM."""
        return () if self.network.lstm is None else self.network.initial_state(rows)


def random_inputs(policy: Policy, rows: int = 3, seed: int = 0) -> Iterator[Inputs]:
    """Yield random inputs of a policy's network: `NUM_RANDOM` batches of `rows` rows, and one of a single row."""
    rng, space = np.random.default_rng(seed), policy.observation_space
    for batch in [rows] * NUM_RANDOM + [1]:
        size = (batch, *space.shape)
        is_pixels = space.dtype == np.uint8
        obs = rng.integers(256, size=size, dtype=np.uint8) if is_pixels else rng.standard_normal(size, np.float32)
        yield Inputs(
            torch.from_numpy(obs),
            torch.from_numpy(rng.random(batch) < 0.2),
            torch.from_numpy(rng.integers(policy.num_actions, size=batch)),
            torch.from_numpy(rng.standard_normal(batch, np.float32)),
        )


def played_inputs(policy: Policy, envs: VectorEnv, steps: int) -> Iterator[Inputs]:
    """Yield what a policy's network reads while the policy plays, with one action in twenty at random.

    Args:
        policy: The policy; its generator of random actions is used.
        envs: N environments that it fits; they are reset here.
        steps: Number of steps of each environment.
    """
    action_masks, memory = ActionMasks(envs, policy.num_actions), policy.make_memory(envs.num_envs)
    obs, info = envs.reset()
    masks = action_masks.read(info)
    for _ in range(steps):
        given = obs if obs.dtype == np.uint8 else obs.astype(np.float32)
        yield Inputs(torch.from_numpy(given.copy()), *_remembered(memory, envs.num_envs))
        actions = policy.act(obs, 0.05, memory, None, masks)
        obs, reward, terminated, truncated, info = envs.step(actions)
        done = terminated | truncated
        masks = action_masks.read(info, done)
        if memory is not None:
            memory.step(actions, reward, done)


def _remembered(memory: Memory | None, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    if memory is None:
        return torch.zeros(rows, dtype=torch.bool), torch.zeros(rows, dtype=torch.int64), torch.zeros(rows)
    return memory.episode_start.cpu(), memory.last.action.cpu(), memory.last.reward.cpu()

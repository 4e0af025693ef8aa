"""What a policy with memory carries from one step of its environments to the next."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelq.agents.config.device import sent
from pixelq.agents.storage.validation import fitting
from pixelq.networks import LastStep, LSTMState, Noise, QNetwork


class Memory:
    """The LSTM's state in N environments, zeroed where an episode starts, and what the last step was.

    Args:
        network: that reads and writes it.
        num_envs: N.

    Attributes:
        state: (h, c), [N, H] each, before the observation that is read next.
        episode_start: bool [N], whether that observation is an episode's first.
        last: [N], the step that led to it.
    """

    def __init__(self, network: QNetwork, num_envs: int) -> None:
        self.num_envs = num_envs
        self.state: LSTMState = network.initial_state(num_envs)
        self.device = self.state[0].device
        self.restart()

    def restart(self) -> None:
        """All environments begin an episode with what they show next."""
        self.episode_start = torch.ones(self.num_envs, dtype=torch.bool, device=self.device)
        action = torch.zeros(self.num_envs, dtype=torch.int64, device=self.device)
        self.last = LastStep(action, torch.zeros(self.num_envs, device=self.device))
        self._is_final: NDArray[np.bool_] = np.zeros(self.num_envs, dtype=bool)  # what is shown ended an episode

    def read(self, network: QNetwork, obs: Tensor, noise: Noise | None = None) -> Tensor:
        """Q-values [N, A] at observations [N, *observation], which the memory takes in.

        Raises:
            ValueError: it is the memory of another number of environments.
        """
        if len(obs) != self.num_envs:
            raise ValueError(f"this memory is of {self.num_envs} environments, but there are {len(obs)} observations")
        value, self.state = network.step(obs, self.state, self.episode_start, self.last, noise)
        return network.head.q(value)

    def step(self, action: NDArray[Any], reward: NDArray[Any], done: NDArray[np.bool_]) -> None:
        """Takes in what a step of next-step-autoreset environments brought: actions, raw rewards and ends, [N] each."""
        self.episode_start = sent(self._is_final, self.device)
        self.last = LastStep(
            sent(np.asarray(action, np.int64), self.device), sent(np.asarray(reward, np.float32), self.device)
        )
        self._is_final = done.copy()

    def arrays(self) -> dict[str, Tensor]:
        """What ``load_arrays`` needs."""
        hidden, memory = self.state
        arrays = {"hidden": hidden, "memory": memory, "episode_start": self.episode_start}
        arrays |= {"last_action": self.last.action, "last_reward": self.last.reward}
        return {name: tensor.cpu() for name, tensor in arrays.items()} | {"is_final": torch.from_numpy(self._is_final)}

    def load_arrays(self, arrays: dict[str, Tensor]) -> None:
        """Puts back what ``arrays`` gave.

        Raises:
            ValueError: it is that of another memory.
        """
        given = {name: fitting(arrays, name, own) for name, own in self.arrays().items()}
        self._is_final = given.pop("is_final").numpy().copy()
        hidden, memory, self.episode_start, action, reward = (tensor.to(self.device) for tensor in given.values())
        self.state, self.last = (hidden, memory), LastStep(action, reward)


def joined(memories: Sequence[Memory]) -> Memory:
    """One memory of all the environments of several, in order, [ΣN]; the originals stay as they are.

    Raises:
        ValueError: there is none.
    """
    if not memories:
        raise ValueError("there is no memory to join; give at least one")
    whole = copy.copy(memories[0])
    hidden, cell = (torch.cat(parts) for parts in zip(*(memory.state for memory in memories), strict=True))
    action, reward = (torch.cat(parts) for parts in zip(*(memory.last for memory in memories), strict=True))
    whole.num_envs, whole.state, whole.last = len(hidden), (hidden, cell), LastStep(action, reward)
    whole.episode_start = torch.cat([memory.episode_start for memory in memories])
    whole._is_final = np.concatenate([memory._is_final for memory in memories])
    return whole


PolicyState = tuple[NDArray[Any], ...]
"""A memory as stable-baselines3 hands it on: h and c [N, H], and the last action int64 [N]."""


def memory_of(
    network: QNetwork,
    num_envs: int,
    state: PolicyState | None,
    episode_start: NDArray[np.bool_] | None,
    reward: NDArray[Any] | None,
) -> Memory | None:
    """The memory of a policy's state, or a new one; None for a network without an LSTM.

    Raises:
        ValueError: the state is another policy's, or of another number of environments, as episode_start and reward
            may be.
    """
    if network.lstm is None:
        return None
    memory = Memory(network, num_envs)
    starts = np.zeros(num_envs, dtype=bool) if episode_start is None else np.atleast_1d(episode_start).astype(bool)
    rewards = np.zeros(num_envs, np.float32) if reward is None else np.atleast_1d(reward).astype(np.float32)
    for name, given in (("episode_start", starts), ("reward", rewards)):
        if given.shape != (num_envs,):
            raise ValueError(f"{name} has shape {given.shape}; it must be ({num_envs},)")
    if state is None:
        return memory
    own = state_of(memory)
    if not isinstance(state, tuple | list):
        raise ValueError(f"the state is {state!r:.80}; it must be what predict returned")
    shapes = [np.shape(part) for part in state]
    if shapes != [part.shape for part in own]:
        raise ValueError(f"the state has shapes {shapes}; it must be what predict returned for {num_envs} observations")
    if reward is None and network.last_reward and not starts.all():
        sentence = "this policy reads the last reward; predict was not given it and takes 0: pass it raw as reward="
        warnings.warn(sentence, stacklevel=3)
    hidden, cell, action = (
        torch.as_tensor(np.asarray(part, part_of_own.dtype)).to(memory.device)
        for part, part_of_own in zip(state, own, strict=True)
    )
    memory.state, memory.last = (hidden, cell), LastStep(action, torch.from_numpy(rewards).to(memory.device))
    memory.episode_start = torch.from_numpy(starts).to(memory.device)
    return memory


def state_of(memory: Memory, action: NDArray[np.int64] | None = None) -> PolicyState:
    """The memory as a policy's state, after the action [N] that was taken."""
    hidden, cell = (part.cpu().numpy() for part in memory.state)
    return hidden, cell, np.zeros(memory.num_envs, dtype=np.int64) if action is None else action.copy()

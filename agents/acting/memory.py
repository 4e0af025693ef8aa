"""The memory of a policy with an LSTM: what it carries from one step of its environments to the next."""

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
    """State of the LSTM in N environments, zeroed where an episode starts, and their last step.

    Args:
        network: Network that reads and writes it.
        num_envs: Number of environments, N.

    Attributes:
        state: (h, c), [N, H] each, before the next observation is read.
        episode_start: bool [N], whether the next observation is an episode's first.
        last: Action and reward [N] of the step that led to the next observation.
    """

    def __init__(self, network: QNetwork, num_envs: int) -> None:
        self.num_envs = num_envs
        self.state: LSTMState = network.initial_state(num_envs)
        self.device = self.state[0].device
        self.restart()

    def restart(self) -> None:
        """Start an episode in all environments with the next observation."""
        self.episode_start = torch.ones(self.num_envs, dtype=torch.bool, device=self.device)
        action = torch.zeros(self.num_envs, dtype=torch.int64, device=self.device)
        self.last = LastStep(action, torch.zeros(self.num_envs, device=self.device))
        # Whether the current observation ended an episode
        self._is_final: NDArray[np.bool_] = np.zeros(self.num_envs, dtype=bool)

    def read(self, network: QNetwork, obs: Tensor, noise: Noise | None = None) -> Tensor:
        """Read observations [N, *observation], and return their q-values [N, A].

        Raises:
            ValueError: If the memory belongs to another number of environments.
        """
        if len(obs) != self.num_envs:
            raise ValueError(f"obs must have {self.num_envs} rows, one per environment of the memory, got {len(obs)}")
        value, self.state = network.step(obs, self.state, self.episode_start, self.last, noise)
        return network.head.q(value)

    def step(self, action: NDArray[Any], reward: NDArray[Any], done: NDArray[np.bool_]) -> None:
        """Note a step of environments with next-step autoreset: actions, raw rewards and episode ends, [N] each."""
        self.episode_start = sent(self._is_final, self.device)
        self.last = LastStep(
            sent(np.asarray(action, np.int64), self.device), sent(np.asarray(reward, np.float32), self.device)
        )
        self._is_final = done.copy()

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Forget all environments but those where `mask` [N] is set."""
        rows = torch.from_numpy(np.flatnonzero(mask)).to(self.device)
        self.num_envs = len(rows)
        hidden, cell = self.state
        self.state = (hidden[rows], cell[rows])
        self.episode_start = self.episode_start[rows]
        self.last = LastStep(self.last.action[rows], self.last.reward[rows])
        self._is_final = self._is_final[mask]

    def arrays(self) -> dict[str, Tensor]:
        """Return the arrays that `load_arrays` restores."""
        hidden, cell = self.state
        arrays = {"hidden": hidden, "memory": cell, "episode_start": self.episode_start}
        arrays |= {"last_action": self.last.action, "last_reward": self.last.reward}
        return {name: tensor.cpu() for name, tensor in arrays.items()} | {"is_final": torch.from_numpy(self._is_final)}

    def load_arrays(self, arrays: dict[str, Tensor]) -> None:
        """Restore what `arrays` returned.

        Raises:
            ValueError: If it belongs to another memory.
        """
        given = {name: fitting(arrays, name, own) for name, own in self.arrays().items()}
        self._is_final = given.pop("is_final").numpy().copy()
        hidden, cell, self.episode_start, action, reward = (tensor.to(self.device) for tensor in given.values())
        self.state, self.last = (hidden, cell), LastStep(action, reward)


def joined(memories: Sequence[Memory]) -> Memory:
    """Return one memory of the environments of several memories, in order, [ΣN]; these stay as they are.

    Raises:
        ValueError: If there is no memory.
    """
    if not memories:
        raise ValueError("memories must hold at least one memory, got none")
    whole = copy.copy(memories[0])
    hidden, cell = (torch.cat(parts) for parts in zip(*(memory.state for memory in memories), strict=True))
    action, reward = (torch.cat(parts) for parts in zip(*(memory.last for memory in memories), strict=True))
    whole.num_envs, whole.state, whole.last = len(hidden), (hidden, cell), LastStep(action, reward)
    whole.episode_start = torch.cat([memory.episode_start for memory in memories])
    whole._is_final = np.concatenate([memory._is_final for memory in memories])
    return whole


PolicyState = tuple[NDArray[Any], ...]
"""State of a policy as stable-baselines3 passes it on: h and c [N, H], and the last action int64 [N]."""


def memory_of(
    network: QNetwork,
    num_envs: int,
    state: PolicyState | None,
    episode_start: NDArray[np.bool_] | None,
    reward: NDArray[Any] | None,
) -> Memory | None:
    """Return the memory that a policy's state describes, or a new one; None for a network without an LSTM.

    Args:
        network: Network that reads and writes the memory.
        num_envs: Number of environments, N.
        state: State that `predict` returned; None for a new memory.
        episode_start: bool [N], whether an episode starts; None for nowhere.
        reward: Raw reward [N] of the last step; None for 0.

    Raises:
        ValueError: If an argument belongs to another policy or another number of environments.
    """
    if network.lstm is None:
        return None
    memory = Memory(network, num_envs)
    starts = np.zeros(num_envs, dtype=bool) if episode_start is None else np.atleast_1d(episode_start).astype(bool)
    rewards = np.zeros(num_envs, np.float32) if reward is None else np.atleast_1d(reward).astype(np.float32)
    for name, given in (("episode_start", starts), ("reward", rewards)):
        if given.shape != (num_envs,):
            raise ValueError(f"{name} must have shape ({num_envs},), got {given.shape}")
    if state is None:
        return memory
    own = state_of(memory)
    if not isinstance(state, tuple | list):
        raise ValueError(f"state must be what predict returned, got {state!r:.80}")
    shapes = [np.shape(part) for part in state]
    if shapes != [part.shape for part in own]:
        raise ValueError(f"state must be what predict returned for {num_envs} observations, got shapes {shapes}")
    if reward is None and network.last_reward and not starts.all():
        sentence = "this policy reads the last reward, but predict was called without it and uses 0; pass it as reward="
        warnings.warn(sentence, stacklevel=3)
    hidden, cell, action = (
        torch.as_tensor(np.asarray(part, part_of_own.dtype)).to(memory.device)
        for part, part_of_own in zip(state, own, strict=True)
    )
    memory.state, memory.last = (hidden, cell), LastStep(action, torch.from_numpy(rewards).to(memory.device))
    memory.episode_start = torch.from_numpy(starts).to(memory.device)
    return memory


def state_of(memory: Memory, action: NDArray[np.int64] | None = None) -> PolicyState:
    """Return the memory as a policy's state, after an action [N]."""
    hidden, cell = (part.cpu().numpy() for part in memory.state)
    return hidden, cell, np.zeros(memory.num_envs, dtype=np.int64) if action is None else action.copy()

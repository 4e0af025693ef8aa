"""Replay memory: one frame a row; stacks and n-step returns are built when a batch is sampled.

Rows are written in time order, one of each environment at a time. Row t of an environment holds what it showed at
time t (only the newest frame of a stack), the action taken there, and what that step brought: reward, and whether
the episode ended. So the observation that ends an episode has a row of its own, in which no transition starts; at a
truncation, the next observation is right by itself.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelq.agents.config import InvalidConfig
from pixelq.agents.returns import n_step_return


class Batch(NamedTuple):
    """Transitions over up to n steps; S is the frame stack."""

    obs: Tensor  # [B, S, *frame] or, without a stack, [B, *observation]
    action: Tensor  # [B] int64
    reward: Tensor  # [B] float32, clipped and summed over the steps
    discount: Tensor  # [B] float32, γᵐ·(1 − terminated)
    next_obs: Tensor  # like obs


class Replay:
    """A ring of rows that several environments share without mixing.

    A million Atari rows take 7.07 GB. Sampling is uniform over the rows whose window is complete: the observation's
    stack has not been overwritten, and the n steps after it have been written.

    Args:
        observation_shape: shape of an observation; with a stack its first axis is the stack, oldest frame first.
        observation_dtype: uint8 is kept, anything else is stored as float32.
        capacity: rows over all environments, rounded down to a multiple of num_envs.
        num_envs: environments that write in turn.
        frame_stack: frames in an observation, zero before an episode's start; 1: observations are stored whole.
        n_step: steps of the return.
        gamma: discount of one step.
        reward_clip: rewards are clipped to ± this when sampled; None for raw.
        device: where the ring lies.
        seed: of the sampling generator.

    Raises:
        InvalidConfig: the capacity is too small for the environments, or the memory cannot be had.
    """

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        observation_dtype: np.dtype[Any],
        *,
        capacity: int,
        num_envs: int,
        frame_stack: int = 1,
        n_step: int = 1,
        gamma: float = 0.99,
        reward_clip: float | None = None,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        self.length = capacity // num_envs  # time steps
        if self.length < frame_stack + n_step:
            raise InvalidConfig(
                f"a replay of {capacity} rows is too small for {num_envs} environments; it must hold at least "
                f"{num_envs * (frame_stack + n_step)} (fewer environments or a larger replay_capacity)"
            )
        self.num_envs, self.frame_stack, self.n_step = num_envs, frame_stack, n_step
        self.gamma, self.reward_clip = gamma, reward_clip
        self.device = torch.device(device)
        self.rows = rows = self.length * num_envs
        frame_shape = observation_shape[1:] if frame_stack > 1 else observation_shape
        dtype = torch.uint8 if observation_dtype == np.uint8 else torch.float32
        try:
            self.frames = torch.empty((rows + 1, *frame_shape), dtype=dtype, device=self.device)
        except RuntimeError as error:
            size = (rows + 1) * int(np.prod(frame_shape)) * dtype.itemsize / 1e9
            raise InvalidConfig(f"no memory for a replay of {size:.1f} GB; lower replay_capacity") from error
        self.frames[rows] = 0  # the blank frame before an episode's start
        self.action = torch.zeros(rows, dtype=torch.int16, device=self.device)
        self.reward = torch.zeros(rows, dtype=torch.float32, device=self.device)
        self.terminated = torch.zeros(rows, dtype=torch.bool, device=self.device)
        self.truncated = torch.zeros(rows, dtype=torch.bool, device=self.device)
        self.age = torch.zeros(rows, dtype=torch.uint8, device=self.device)  # steps since reset, up to the stack
        # Rows that may start a transition, in the order of writing: a queue, so that sampling needs no rejection.
        self._starts = torch.zeros(rows, dtype=torch.int32, device=self.device)
        self._starts_before = np.zeros(self.length, dtype=np.int64)  # starts written before each time step
        self._starts_total = 0
        self.time = 0  # time steps written since the beginning
        self._age = np.zeros(num_envs, dtype=np.uint8)  # of the row to be written next
        self._is_final = np.zeros(num_envs, dtype=bool)  # the row to be written next ends an episode
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self._stack_offsets = torch.arange(frame_stack - 1, -1, -1, device=self.device)  # oldest first
        self._step_offsets = torch.arange(n_step, device=self.device)

    @property
    def nbytes(self) -> int:
        """Bytes that the ring takes, bookkeeping included."""
        tensors = (self.frames, self.action, self.reward, self.terminated, self.truncated, self.age, self._starts)
        return sum(t.numel() * t.element_size() for t in tensors) + self._starts_before.nbytes

    def add(
        self,
        obs: NDArray[Any],
        action: NDArray[Any],
        reward: NDArray[Any],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        life_lost: NDArray[np.bool_] | None = None,
    ) -> None:
        """Writes one row of each environment; call it once per step of next-step-autoreset environments.

        Args:
            obs: [N, *observation] as seen before the step.
            action: int [N] taken there.
            reward: [N] that the step brought, raw.
            terminated: bool [N], the step ended the episode.
            truncated: bool [N], the step cut the episode.
            life_lost: bool [N], the return ends here though the episode goes on.
        """
        slot = self.time % self.length
        rows = slice(slot * self.num_envs, (slot + 1) * self.num_envs)
        newest = obs[:, -1] if self.frame_stack > 1 else obs
        self.frames[rows].copy_(torch.from_numpy(newest))
        self.action[rows] = torch.from_numpy(action).to(self.device, torch.int16)
        self.reward[rows] = torch.from_numpy(reward).to(self.device, torch.float32)
        zero_discount = terminated if life_lost is None else terminated | life_lost
        self.terminated[rows] = torch.from_numpy(zero_discount).to(self.device)
        self.truncated[rows] = torch.from_numpy(truncated).to(self.device)
        self.age[rows] = torch.from_numpy(self._age).to(self.device)

        starts = np.flatnonzero(~self._is_final)
        self._starts_before[slot] = self._starts_total
        places = (self._starts_total + np.arange(starts.size)) % self.rows
        self._starts[torch.from_numpy(places)] = torch.from_numpy(starts + rows.start).to(self.device, torch.int32)
        self._starts_total += starts.size

        self._age = np.where(self._is_final, 0, np.minimum(self._age + 1, self.frame_stack - 1)).astype(np.uint8)
        self._is_final = terminated | truncated
        self.time += 1

    def cut(self, obs: NDArray[Any]) -> None:
        """Ends every running episode as truncated, at the observation [N, *observation] that the last step led to.

        For environments that are reset from outside. An episode that has just terminated keeps its discount of 0.
        """
        if self.time == 0:
            return
        newest = (self.time - 1) % self.length * self.num_envs
        self.truncated[newest : newest + self.num_envs] = True
        self._is_final[:] = True
        nothing = np.zeros(self.num_envs)
        self.add(obs, nothing, nothing, nothing.astype(bool), nothing.astype(bool))

    def _sampling_range(self) -> tuple[int, int]:
        """First and past-the-last position, in the queue of starts, of the rows whose window is complete."""
        oldest = self.time - self.length
        first = oldest + self.frame_stack - 1 if oldest > 0 else 0
        last = self.time - self.n_step  # past the last: the row n steps on must have been written
        if last <= first:
            return 0, 0
        return int(self._starts_before[first % self.length]), int(self._starts_before[last % self.length])

    def __len__(self) -> int:
        """Transitions that can be sampled."""
        low, high = self._sampling_range()
        return high - low

    def sample(self, batch_size: int) -> Batch:
        """A batch drawn uniformly with replacement.

        Raises:
            ValueError: no transition is complete yet.
        """
        low, high = self._sampling_range()
        if high == low:
            raise ValueError(f"the replay is empty: a transition needs {self.n_step} steps after it")
        place = torch.randint(low, high, (batch_size,), generator=self.generator, device=self.device)
        return self.gather(self._starts[place % self.rows].long())

    def gather(self, row: Tensor) -> Batch:
        """The transitions that start at rows [B] (int64), whose windows must be complete."""
        window = (row[:, None] + self._step_offsets * self.num_envs) % self.rows  # [B, n]
        reward = self.reward[window]
        if self.reward_clip is not None:
            reward = reward.clamp(-self.reward_clip, self.reward_clip)
        returns, discount, steps = n_step_return(reward, self.terminated[window], self.truncated[window], self.gamma)
        successor = (row + steps * self.num_envs) % self.rows
        obs, next_obs = self._observations(row), self._observations(successor)
        return Batch(obs, self.action[row].long(), returns, discount, next_obs)

    def _observations(self, row: Tensor) -> Tensor:
        """The observations [B, ...] at rows [B]; frames from before the episode's start are blank."""
        if self.frame_stack == 1:
            return self.frames[row]
        past = (row[:, None] - self._stack_offsets * self.num_envs) % self.rows  # [B, S]
        inside = self.age[row][:, None] >= self._stack_offsets
        index = torch.where(inside, past, self.rows)
        return self.frames.index_select(0, index.flatten()).view(*index.shape, *self.frames.shape[1:])

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
from pixelq.agents.restore import fitting, part
from pixelq.agents.returns import n_step_return
from pixelq.agents.ring import Ring
from pixelq.agents.samplers import PrioritizedSampler, Sampler, UniformSampler


class Batch(NamedTuple):
    """Transitions over up to n steps; S is the frame stack."""

    obs: Tensor  # [B, S, *frame] or, without a stack, [B, *observation]
    action: Tensor  # [B] int64
    reward: Tensor  # [B] float32, clipped and summed over the steps
    discount: Tensor  # [B] float32, γᵐ·(1 − terminated)
    next_obs: Tensor  # like obs
    weight: Tensor | None = None  # [B] float32, importance weights; None: all are 1
    row: Tensor | None = None  # [B] int64, rows of the ring where the transitions start


class Replay:
    """A ring of rows that several environments share without mixing.

    A million Atari rows take 7.07 GB. A transition may be drawn while its window is complete: the observation's stack
    has not been overwritten, and the n steps after it have been written. A sampler says which.

    Args:
        observation_shape: shape of an observation; with a stack its first axis is the stack, oldest frame first.
        observation_dtype: uint8 is kept, anything else is stored as float32.
        capacity: rows over all environments, rounded down to a multiple of num_envs.
        num_envs: environments that write in turn.
        frame_stack: frames in an observation, zero before an episode's start; 1: observations are stored whole.
        n_step: steps of the return.
        gamma: discount of one step.
        reward_clip: rewards are clipped to ± this when sampled; None for raw.
        prioritized: drawn by priority (Schaul et al. 2016) and not uniformly.
        priority_alpha, priority_beta, priority_epsilon, priority_uniform: see ``PrioritizedSampler``.
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
        prioritized: bool = False,
        priority_alpha: float = 0.5,
        priority_beta: float = 0.4,
        priority_epsilon: float = 1e-6,
        priority_uniform: float = 0.0,
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
        self.ring = Ring(
            observation_shape,
            observation_dtype,
            length=self.length,
            num_envs=num_envs,
            frame_stack=frame_stack,
            device=self.device,
        )
        self.rows = rows = self.ring.rows
        generator = torch.Generator(self.device).manual_seed(seed)
        self.sampler: Sampler = UniformSampler(rows, generator)
        if prioritized:
            self.sampler = PrioritizedSampler(
                rows,
                generator,
                alpha=priority_alpha,
                beta=priority_beta,
                epsilon=priority_epsilon,
                uniform=priority_uniform,
            )
        self._first = 0  # oldest time step that may be drawn
        self._is_observed = False  # of the time step to be written next, the observation is there already
        self._age = np.zeros(num_envs, dtype=np.uint8)  # of the row to be written next
        self._is_final = np.zeros(num_envs, dtype=bool)  # the row to be written next ends an episode
        self._step_offsets = torch.arange(n_step, device=self.device)
        pinned = self.device.type == "cuda"
        self._starts_out = torch.empty(num_envs, dtype=torch.int64, pin_memory=pinned)  # lies ready to cross

    @property
    def time(self) -> int:
        """Time steps written since the beginning."""
        return self.ring.time

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, bookkeeping included."""
        return self.ring.nbytes + self._starts_out.nbytes + self.sampler.nbytes

    def add(
        self,
        obs: NDArray[Any],
        action: NDArray[Any],
        reward: NDArray[Any],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        life_lost: NDArray[np.bool_] | None = None,
    ) -> None:
        """Writes one row of each environment, once per step of next-step-autoreset environments.

        The same as ``observe`` and ``complete``, between which the action can be chosen.
        """
        self.observe(obs)
        self.complete(action, reward, terminated, truncated, life_lost)

    def observe(self, obs: NDArray[Any]) -> None:
        """Begins a row of each environment with what it shows, [N, *observation]; of a stack the newest frame crosses.

        From here on the transitions that end at this observation can be sampled.
        """
        self._drop_before(self.time + 1 - self.length + self.frame_stack - 1)
        self.ring.begin(obs, self._age)
        self._is_observed = True
        self._offer(self.time - self.n_step)

    def latest(self) -> Tensor:
        """The observations [N, *observation] that ``observe`` was given, with stacks rebuilt, on the device.

        Raises:
            RuntimeError: the row is complete, and the next has not begun.
        """
        if not self._is_observed:
            raise RuntimeError("latest was called before observe")
        rows = self.ring.newest()
        return self.ring.observations(torch.arange(rows.start, rows.stop, device=self.device))

    def complete(
        self,
        action: NDArray[Any],
        reward: NDArray[Any],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        life_lost: NDArray[np.bool_] | None = None,
    ) -> None:
        """Ends the rows that ``observe`` began with what the step from there brought.

        Args:
            action: int [N] taken there.
            reward: [N] that the step brought, raw.
            terminated: bool [N], the step ended the episode.
            truncated: bool [N], the step cut the episode.
            life_lost: bool [N], the return ends here though the episode goes on.
        """
        zero_discount = terminated if life_lost is None else terminated | life_lost
        self.ring.end(action, reward, zero_discount, truncated, is_start=~self._is_final)
        self._age = np.where(self._is_final, 0, np.minimum(self._age + 1, self.frame_stack - 1)).astype(np.uint8)
        self._is_final = terminated | truncated
        self._is_observed = False

    def cut(self, obs: NDArray[Any]) -> None:
        """Ends every running episode as truncated, at the observation [N, *observation] that the last step led to.

        For environments that are reset from outside. An episode that has just terminated keeps its discount of 0.
        """
        if self.time == 0:
            self._is_observed = False  # a row that has only begun ends nothing
            return
        newest = (self.time - 1) % self.length * self.num_envs
        self.ring.truncated[newest : newest + self.num_envs] = True
        if not self._is_observed:
            self.observe(obs)
        self._is_final[:] = True
        nothing = np.zeros(self.num_envs)
        self.complete(nothing, nothing, nothing.astype(bool), nothing.astype(bool))

    def _offer(self, time: int) -> None:
        """Hands the rows of a time step, whose windows are now complete, to the sampler."""
        if time >= 0:
            starts = self.ring.starts(time, time + 1)
            self._starts_out.numpy()[: len(starts)] = starts
            self.sampler.extend(self._starts_out[: len(starts)].to(self.device, non_blocking=True))

    def _drop_before(self, time: int) -> None:
        """Takes the rows before a time step, whose stacks will not be whole any more, from the sampler."""
        if time < self.frame_stack:  # the ring is not full yet: before its first row lies nothing that a stack needs
            return
        for step in range(self._first, time):
            self.sampler.drop(int(self.ring.is_start[step % self.length].sum()))
        self._first = time

    def __len__(self) -> int:
        """Transitions that can be sampled."""
        return len(self.sampler)

    def sample(self, batch_size: int) -> Batch:
        """A batch drawn with replacement, with the sampler's weights and the rows that it came from.

        Raises:
            ValueError: no transition is complete yet.
        """
        if not len(self.sampler):
            raise ValueError(f"the replay is empty: a transition needs {self.n_step} steps after it")
        row, weight = self.sampler.sample(batch_size)
        return self.gather(row)._replace(weight=weight, row=row)

    def update_priorities(self, batch: Batch, priority: Tensor) -> None:
        """Sets the priorities [B] of a batch that was sampled; a uniform sampler has none."""
        assert batch.row is not None
        self.sampler.update(batch.row, priority)

    def set_beta(self, beta: float) -> None:
        """Sets the exponent of the importance weights; a uniform sampler has none."""
        if isinstance(self.sampler, PrioritizedSampler):
            self.sampler.beta.fill_(beta)

    def gather(self, row: Tensor) -> Batch:
        """The transitions that start at rows [B] (int64), whose windows must be complete."""
        window = (row[:, None] + self._step_offsets * self.num_envs) % self.rows  # [B, n]
        ring = self.ring
        reward = ring.reward[window]
        if self.reward_clip is not None:
            reward = reward.clamp(-self.reward_clip, self.reward_clip)
        returns, discount, steps = n_step_return(reward, ring.terminated[window], ring.truncated[window], self.gamma)
        successor = (row + steps * self.num_envs) % self.rows
        obs, next_obs = ring.observations(torch.cat([row, successor])).chunk(2)
        return Batch(obs, ring.action[row].long(), returns, discount, next_obs)

    def state(self) -> dict[str, Tensor]:
        """What ``load_state`` needs beside the rows of the ring."""
        return {
            "time": torch.tensor(self.time),
            "first": torch.tensor(self._first),
            "age": torch.from_numpy(self._age),
            "is_final": torch.from_numpy(self._is_final),
            **{f"sampler.{name}": tensor for name, tensor in self.sampler.state().items()},
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Goes on from ``state`` exactly, after the ring's rows were written back.

        Raises:
            ValueError: it is not the state of such a replay.
        """
        time, first = (int(fitting(state, name, torch.tensor(0))) for name in ("time", "first"))
        if not max(0, time - self.length) <= first <= time <= 2**62:
            raise ValueError(f"a replay of {self.length} time steps cannot have rows {first:,} to {time:,}")
        age = fitting(state, "age", torch.from_numpy(self._age))
        is_final = fitting(state, "is_final", torch.from_numpy(self._is_final))
        self.ring.time, self._first = time, first
        self._age, self._is_final = age.numpy().copy(), is_final.numpy().copy()
        self._is_observed = False
        starts = self.ring.starts(first, max(first, time - self.n_step))
        self.sampler.load_state(torch.from_numpy(starts).to(self.device), part(state, "sampler"))

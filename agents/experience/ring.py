"""The ring: memory of the replay, with one row for each environment and time step, of which the oldest are overwritten.

Row t of an environment holds its observation at time t (only the newest frame of a stack), the action taken there, and
the outcome of that step. Stacks are rebuilt from the frames. Rows lie time-major, environments side by side.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelq.agents.errors import InvalidConfig
from pixelq.agents.experience.transfer import StepTransfer
from pixelq.agents.storage.validation import fitting

MOST_FRAMES = 255
"""Most frames in a stack, since ages are stored in one byte."""


def row_bytes(observation_shape: tuple[int, ...], observation_dtype: np.dtype[Any], frame_stack: int) -> int:
    """Return the bytes of a row without a mask: frame, action, reward, two ends, age, and whether it is a start.

    Args:
        observation_shape, observation_dtype, frame_stack: See `Ring`.
    """
    frame = math.prod(observation_shape[1:] if frame_stack > 1 else observation_shape)
    return frame * (1 if observation_dtype == np.uint8 else 4) + 2 + 4 + 1 + 1 + 1 + 1


class Ring:
    """A ring of `length` time steps of `num_envs` environments.

    Args:
        observation_shape: Shape of an observation; with a stack, its first axis is the stack, oldest frame first.
        observation_dtype: NumPy type of an observation; uint8 is kept, all others are stored as float32.
        length: Number of time steps.
        num_envs: Number of environments.
        frame_stack: Frames in an observation, black before an episode's start; 1 to store observations whole.
        device: Device of the rows.
        num_actions: Number of actions A of the masks to store; None for rows without masks, until `keep_masks`.

    Attributes:
        mask: Whether each action is allowed, bool [rows, A]; None without masks.
        transfer: Sends each step to a GPU; None on a CPU, where it is written in place.

    Raises:
        InvalidConfig: If there is not enough memory.
    """

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        observation_dtype: np.dtype[Any],
        *,
        length: int,
        num_envs: int,
        frame_stack: int,
        device: torch.device,
        num_actions: int | None = None,
    ) -> None:
        self.length, self.num_envs, self.frame_stack, self.device = length, num_envs, frame_stack, device
        self.rows = rows = length * num_envs
        frame_shape = observation_shape[1:] if frame_stack > 1 else observation_shape
        dtype = torch.uint8 if observation_dtype == np.uint8 else torch.float32
        try:
            self.frames = torch.empty((rows + 1, *frame_shape), dtype=dtype, device=device)
        except RuntimeError as error:
            size = (rows + 1) * int(np.prod(frame_shape)) * dtype.itemsize / 1e9
            raise InvalidConfig(f"no memory for a replay of {size:.1f} GB; lower replay_capacity") from error
        self.frames[rows] = 0  # the black frame before an episode's start
        self.action = torch.zeros(rows, dtype=torch.int16, device=device)
        self.reward = torch.zeros(rows, dtype=torch.float32, device=device)
        self.terminated = torch.zeros(rows, dtype=torch.bool, device=device)
        self.truncated = torch.zeros(rows, dtype=torch.bool, device=device)
        self.mask: Tensor | None = None
        self.age = torch.zeros(rows, dtype=torch.uint8, device=device)  # steps since reset, at most `max_age`
        self.max_age = max(
            frame_stack - 1, 1
        )  # at least 1, so that 0 marks an episode's first row also without a stack
        self.is_start = np.zeros((length, num_envs), dtype=bool)  # a transition may start in the row
        self.time = 0  # time steps written so far
        self._stack_offsets = torch.arange(frame_stack - 1, -1, -1, device=device)  # oldest first
        self.transfer = None if device.type == "cpu" else StepTransfer(device)
        for name in ("frames", "action", "reward", "terminated", "truncated", "age"):
            self._make_buffer(name)
        if num_actions is not None:
            self.keep_masks(num_actions)

    def keep_masks(self, num_actions: int) -> None:
        """Store an action mask in every row, from the first row on.

        Raises:
            InvalidConfig: If there is not enough memory, or rows without masks have been written.
        """
        if self.time > 0:
            raise InvalidConfig(
                "the environments must give action masks from the beginning of the training on, but the replay holds "
                "steps without them; train a new agent"
            )
        try:
            self.mask = torch.ones((self.rows, num_actions), dtype=torch.bool, device=self.device)
        except RuntimeError as error:
            size = self.rows * num_actions / 1e9
            raise InvalidConfig(f"no memory for {size:.1f} GB of action masks; lower replay_capacity") from error
        self._make_buffer("mask")

    @property
    def nbytes(self) -> int:
        """Bytes of the rows and the buffers."""
        rows = (self.frames, self.action, self.reward, self.terminated, self.truncated, self.age)
        masks = () if self.mask is None else (self.mask,)
        buffers = 0 if self.transfer is None else self.transfer.nbytes
        total: int = self.is_start.nbytes + buffers + sum(part.nbytes for part in (*rows, *masks))
        return total

    @property
    def step_bytes(self) -> int:
        """Bytes of the rows of one time step."""
        return sum(field[0].nbytes for field in self._fields().values())

    def newest(self) -> slice:
        """Return the rows of the time step that is written next, or that has begun."""
        slot = self.time % self.length
        return slice(slot * self.num_envs, (slot + 1) * self.num_envs)

    def begin(self, obs: NDArray[Any], age: NDArray[np.uint8], mask: NDArray[np.bool_] | None = None) -> None:
        """Write the observations [N, *observation], ages [N] and, if they are stored, masks [N, A] of a new time step.

        Raises:
            ValueError: If masks are stored and there is none, or the other way round.
        """
        if (mask is None) != (self.mask is None):
            raise ValueError("a ring must be given the action masks of all its rows, or of none")
        if self.transfer is not None:
            self.transfer.turn()
        rows = self.newest()
        newest = obs[:, -1] if self.frame_stack > 1 else obs
        if self.transfer is None:
            np.copyto(self.frames[rows].numpy(), newest, casting="same_kind")
        else:
            self.transfer.send("frames", newest, self.frames[rows], "same_kind")
        self._put("age", self.age[rows], age)
        if self.mask is not None and mask is not None:
            self._put("mask", self.mask[rows], mask)

    def end(
        self,
        action: NDArray[Any],
        reward: NDArray[Any],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        is_start: NDArray[np.bool_],
    ) -> None:
        """Write the outcome of the step, all [N], and go on to the next time step."""
        rows = self.newest()
        self._put("action", self.action[rows], action)  # cast to the ring's type
        self._put("reward", self.reward[rows], reward)
        self._put("terminated", self.terminated[rows], terminated)
        self._put("truncated", self.truncated[rows], truncated)
        self.is_start[self.time % self.length] = is_start
        self.time += 1

    def _make_buffer(self, name: str) -> None:
        """Make buffers for a field's values of a step, where they are sent."""
        if self.transfer is not None:
            field: Tensor = getattr(self, name)
            self.transfer.add(name, field[: self.num_envs].shape, field.dtype)

    def _put(self, name: str, rows: Tensor, values: NDArray[Any]) -> None:
        """Write the values [N, ...] of a step to its rows of a field, in place or by a transfer."""
        if self.transfer is None:
            np.copyto(rows.numpy(), values, casting="unsafe")
        else:
            self.transfer.send(name, values, rows)

    def truncate_last(self, envs: NDArray[np.bool_]) -> None:
        """Mark the newest complete rows of some environments, bool [N], as truncated; nothing if there are none."""
        if self.time > 0:
            newest = (self.time - 1) % self.length * self.num_envs
            rows = torch.from_numpy(newest + np.flatnonzero(envs)).to(self.device)
            self.truncated[rows] = True

    def starts(self, begin: int, end: int) -> NDArray[np.int64]:
        """Return the rows of the time steps [begin, end) where a transition may start, in the order of writing."""
        slots = np.arange(begin, end) % self.length
        steps, envs = np.nonzero(self.is_start[slots])
        return slots[steps] * self.num_envs + envs

    def is_first(self, row: Tensor) -> Tensor:
        """Return whether rows, of any shape, are the first of their episodes."""
        return self.age[row] == 0

    def observations(self, row: Tensor) -> Tensor:
        """Return the observations [B, ...] at rows [B]; frames from before the episode's start are black."""
        if self.frame_stack == 1:
            return self.frames[row]
        past = (row[:, None] - self._stack_offsets * self.num_envs) % self.rows  # [B, S]
        inside = self.age[row][:, None] >= self._stack_offsets
        index = torch.where(inside, past, self.rows)
        return self.frames.index_select(0, index.flatten()).view(*index.shape, *self.frames.shape[1:])

    def _fields(self) -> dict[str, Tensor]:
        """Return the parts of a row, as views [length, N, ...]."""
        names = ("action", "reward", "terminated", "truncated", "age")
        fields = {name: getattr(self, name).view(self.length, self.num_envs) for name in names}
        frames = self.frames[: self.rows].view(self.length, self.num_envs, *self.frames.shape[1:])
        masks = {} if self.mask is None else {"mask": self.mask.view(self.length, self.num_envs, -1)}
        return {"frames": frames, **fields, "is_start": torch.from_numpy(self.is_start), **masks}

    def read(self, begin: int, end: int) -> dict[str, Tensor]:
        """Return the rows of the time steps [begin, end) as tensors [end − begin, N, ...] on the CPU."""
        slots = torch.arange(begin, end) % self.length
        return {name: field[slots.to(field.device)].cpu() for name, field in self._fields().items()}

    def write(self, begin: int, rows: dict[str, Tensor]) -> None:
        """Restore rows that `read` returned, from the time step `begin` on.

        Raises:
            ValueError: If they are not rows of such a ring.
        """
        fields, steps = self._fields(), len(rows["action"]) if rows.get("action", torch.zeros(())).dim() else 0
        kept = {name: fitting(rows, name, field[:1].expand(steps, *field.shape[1:])) for name, field in fields.items()}
        slots = torch.arange(begin, begin + steps) % self.length
        for name, field in fields.items():
            field[slots.to(field.device)] = kept[name].to(field.device)

"""Blocks of rows, as actors send them: one newest frame a row, never stacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelq.networks import LSTMState


class Outcomes(NamedTuple):
    """Outcomes of T rows of n environments, [T, n]."""

    action: NDArray[np.int16]
    reward: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    life_lost: NDArray[np.bool_]


class Views(NamedTuple):
    """What T rows of n environments show, and what acting had there."""

    frames: NDArray[Any]  # [T, n, *frame], the newest of a stack
    mask: NDArray[np.bool_] | None = None  # [T, n, A]; None in environments without action masks
    value: NDArray[np.float32] | None = None  # [T, n], greatest q-values; None for a DQN
    states: NDArray[np.float32] | None = None  # [K, 2, n, H], (h, c) before those of the rows where they are stored


class Block(NamedTuple):
    """T steps of n environments, from one observation to another.

    The outcomes are those of rows t to t + T − 1, the views those of rows t + 1 to t + T. So a learner that has a block
    knows what the last step led to, and a PQN its value, before the next block is played.
    """

    outcomes: Outcomes
    views: Views


def state_rows(time: int, steps: int, period: int | None) -> list[int]:
    """Return the views of a block that need the LSTM's states: those of every `period`-th time step.

    Args:
        time: Time step of the block's first row, in the learner's ring.
        steps: Rows in the block, T.
        period: Time steps between two states; None for no states.
    """
    return [] if period is None else [row for row in range(steps) if (time + 1 + row) % period == 0]


class Recording:
    """What an actor's collector writes to, in place of a replay.

    Args:
        num_envs: Number of environments, n.
        frame_stack: Frames in an observation.
        device: Device of the observations that `latest` returns.
    """

    def __init__(self, num_envs: int, frame_stack: int, device: torch.device) -> None:
        self.num_envs, self.frame_stack, self.device = num_envs, frame_stack, device
        self.wanted: list[int] = []  # views since `take` that need the LSTM's states
        self._shown: Tensor | None = None
        self._clear()

    def _clear(self) -> None:
        self._frames: list[NDArray[Any]] = []
        self._masks: list[NDArray[np.bool_]] = []
        self._values: list[NDArray[np.float32]] = []
        self._states: list[NDArray[np.float32]] = []
        self._outcomes: list[tuple[NDArray[Any], ...]] = []

    def keep_masks(self, num_actions: int) -> None:
        """Do nothing: masks are kept as they come."""

    def observe(self, obs: NDArray[Any], state: LSTMState | None = None, mask: NDArray[np.bool_] | None = None) -> None:
        """See `Store`."""
        if state is not None and len(self._frames) in self.wanted:
            self._states.append(np.stack([part.cpu().numpy() for part in state]))
        obs = np.array(obs, np.uint8 if obs.dtype == np.uint8 else np.float32)  # as a ring has them
        self._frames.append(np.ascontiguousarray(obs[:, -1]) if self.frame_stack > 1 else obs)
        if mask is not None:
            self._masks.append(mask.copy())
        self._shown = torch.from_numpy(obs).to(self.device)

    def latest(self) -> Tensor:
        """See `Store`; the environments have stacked the frames."""
        assert self._shown is not None
        return self._shown

    def keep_values(self, q: Tensor) -> None:
        """Keep the greatest of the q-values [n, A] of the last observations."""
        self._values.append(q.amax(1).cpu().numpy())

    def complete(
        self,
        action: NDArray[Any],
        reward: NDArray[Any],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        life_lost: NDArray[np.bool_] | None = None,
    ) -> None:
        """See `Store`."""
        lost = np.zeros(self.num_envs, dtype=bool) if life_lost is None else life_lost
        self._outcomes.append((action, reward, terminated, truncated, lost))

    def cut(self, obs: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> None:
        """Do nothing: what an actor played whose environments failed is not taken."""

    def take(self) -> Block:
        """Return what was recorded since the last call, which ended after an `observe`."""
        shape = (0, self.num_envs)
        fields = zip(*self._outcomes, strict=True) if self._outcomes else (np.zeros(shape) for _ in Outcomes._fields)
        types = (np.int16, np.float32, np.bool_, np.bool_, np.bool_)
        outcomes = Outcomes(*(np.array(field, kind) for field, kind in zip(fields, types, strict=True)))
        parts = (self._masks, self._values, self._states)
        kept: list[Any] = [np.stack(part) if part else None for part in parts]
        views = Views(np.stack(self._frames), *kept)
        self._clear()
        return Block(outcomes, views)


def side_by_side(parts: Sequence[NamedTuple]) -> list[NDArray[Any] | None]:
    """Return the fields of several `Outcomes` or `Views`, each joined over the environments; None where one is None."""
    joined = []
    for name, *fields in zip(parts[0]._fields, *parts, strict=True):
        has = all(field is not None for field in fields)
        joined.append(np.concatenate(fields, axis=2 if name == "states" else 1) if has else None)
    return joined


def absent_outcomes(steps: int, num_envs: int, *, joins: bool) -> Outcomes:
    """Return outcomes of environments that nobody plays: rows where no transition starts.

    Each row ends an episode, so that the next one has no step; the last does not if there is one after it.

    Args:
        steps: Number of rows, T.
        num_envs: Number of environments, n.
        joins: Whether the environments are played from the next row on.
    """
    shape = (steps, num_envs)
    nothing = np.zeros(shape, dtype=bool)
    truncated = ~nothing
    truncated[-1] = not joins
    return Outcomes(np.zeros(shape, np.int16), np.zeros(shape, np.float32), nothing, truncated, nothing)


def absent_views(like: Views, steps: int, num_envs: int, states: tuple[int, int], last: Views | None) -> Views:
    """Return views of environments that nobody plays, black and with all actions allowed.

    Args:
        like: Views of any row of the run.
        steps: Number of rows, T.
        num_envs: Number of environments, n.
        states: Number of rows that need the LSTM's states, which are zeros, and its units.
        last: View of the last row, if the environments are played from there on.
    """
    frames = np.zeros((steps, num_envs, *like.frames.shape[2:]), like.frames.dtype)
    mask = None if like.mask is None else np.ones((steps, num_envs, like.mask.shape[2]), dtype=bool)
    value = None if like.value is None else np.zeros((steps, num_envs), np.float32)
    kept = np.zeros((states[0], 2, num_envs, states[1]), np.float32) if states[0] else None
    if last is not None:
        for own, given in ((frames, last.frames), (mask, last.mask), (value, last.value)):
            if own is not None and given is not None:
                own[-1] = given[0]
    return Views(frames, mask, value, kept)

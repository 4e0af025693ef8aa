"""What is drawn from the replay, and learned from: single transitions, or sequences for a network with memory."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelq.agents.errors import InvalidConfig
from pixelq.agents.experience.batches import Batch, Sequences, Stretch
from pixelq.agents.experience.returns import Returns
from pixelq.agents.experience.ring import Ring
from pixelq.networks import LastStep, LSTMState


class Window(Protocol):
    """What belongs to a row that is drawn."""

    unit: str
    """What is drawn, as sentences say it."""
    behind: int
    """Time steps before the row that must not be overwritten."""
    ahead: int
    """Time steps after the row whose observation must be there."""

    def starts(self, begin: int, end: int) -> NDArray[np.int64]:
        """The rows of the time steps [begin, end) that may be drawn at all, in the order of writing."""

    def gather(self, row: Tensor) -> Batch | Sequences:
        """What starts at rows [B]."""


class TransitionWindow:
    """A row's stack, and the n steps after it.

    Args:
        ring: where the rows lie.
        returns: how rewards are summed.
    """

    unit = "a transition"

    def __init__(self, ring: Ring, returns: Returns) -> None:
        self.ring, self.returns = ring, returns
        self.behind, self.ahead = ring.frame_stack - 1, returns.n_step
        self._offsets = torch.arange(returns.n_step, device=ring.device) * ring.num_envs

    def starts(self, begin: int, end: int) -> NDArray[np.int64]:
        """See ``Window``."""
        return self.ring.starts(begin, end)

    def gather(self, row: Tensor) -> Batch:
        """The transitions that start at rows [B] (int64), whose windows must be complete."""
        ring = self.ring
        window = (row[:, None] + self._offsets) % ring.rows  # [B, n]
        returns, discount, steps = self.returns.of(ring.reward[window], ring.terminated[window], ring.truncated[window])
        successor = (row + steps * ring.num_envs) % ring.rows
        obs, next_obs = ring.observations(torch.cat([row, successor])).chunk(2)
        return Batch(obs, ring.action[row].long(), returns, discount, next_obs)


class SequenceWindow:
    """The steps from a row on, for a network with memory (Kapturowski et al. 2019, section 2.3).

    Sequences start at each ``period``-th time step of every environment, wherever in an episode that is: with a period
    of ``length`` − ``burn_in`` each step is learned from in one of them. Where an episode ends in between, the memory
    starts anew in the next one, and the row of the last observation, from which there is no step, is masked.

    Args:
        ring: where the rows lie; its length is a multiple of the period.
        returns: how rewards are summed.
        length: steps in a sequence, L; beyond them it holds the n that the last returns reach to.
        period: time steps between two starts.
        burn_in: of these steps, the first ones from which only the memory's state is taken.
        state_size: H.
        stores: the states that acting had at the starts are kept; else sequences start with zeros.

    Raises:
        InvalidConfig: the memory for the states cannot be had.
    """

    unit = "a sequence"

    def __init__(
        self, ring: Ring, returns: Returns, *, length: int, period: int, burn_in: int, state_size: int, stores: bool
    ) -> None:
        self.ring, self.returns = ring, returns
        self.length, self.period, self.burn_in = length, period, burn_in
        self.behind, self.ahead = max(ring.frame_stack - 1, 1), length + returns.n_step - 1  # 1: the last step
        shape = (ring.length // period if stores else 0, ring.num_envs, 2, state_size)
        try:
            self.states = torch.zeros(shape, device=ring.device)  # h and c
        except RuntimeError as error:
            size = 4 * math.prod(shape) / 1e9
            raise InvalidConfig(
                f"no memory for {size:.1f} GB of stored states; lower replay_capacity or lstm, or have a greater "
                "sequence_period"
            ) from error
        self._zero = torch.zeros((2, state_size), device=ring.device)
        self._offsets = torch.arange(length + returns.n_step, device=ring.device)[:, None] * ring.num_envs  # [W, 1]
        self._learned = torch.arange(length - burn_in, device=ring.device)[:, None]  # [U, 1]

    def starts(self, begin: int, end: int) -> NDArray[np.int64]:
        """See ``Window``."""
        times = np.arange(-(-begin // self.period) * self.period, end, self.period) % self.ring.length
        rows: NDArray[np.int64] = (times[:, None] * self.ring.num_envs + np.arange(self.ring.num_envs)).reshape(-1)
        return rows

    def keep_state(self, state: LSTMState | None) -> None:
        """Stores the states [N, H] before the time step that was begun last, if sequences start there; None: zeros."""
        slot, rest = divmod(self.ring.time % self.ring.length, self.period)
        if rest == 0 and len(self.states):
            torch.stack(state or self._zeros(self.ring.num_envs), 1, out=self.states[slot])

    def kept_states(self) -> Tensor:
        """Those of the slots that have been written [slots, N, 2, H], to be read or written."""
        return self.states[: self.ring.time // self.period + 1]

    def gather(self, row: Tensor) -> Sequences:
        """The sequences that start at rows [B] (int64), whose windows must be complete."""
        ring, n, steps = self.ring, self.returns.n_step, slice(self.burn_in, self.length)
        window = (row + self._offsets) % ring.rows  # [W, B]
        stretch = self._stretch(window, ring.is_first(window), self._states(row))
        reached = window[self.burn_in : self.length + n - 1]  # the rows whose rewards are summed
        reward, discount, taken = self.returns.of(
            *(
                field[reached].unfold(0, n, 1).flatten(0, 1)  # [M, n]
                for field in (ring.reward, ring.terminated, ring.truncated)
            )
        )
        return Sequences(
            stretch,
            self.burn_in,
            action=ring.action[window[steps]].long().flatten(),
            reward=reward,
            discount=discount,
            next_step=self._learned + taken.view(-1, len(row)),
            is_step=~stretch.episode_start[self.burn_in + 1 : self.length + 1],
        )

    def history(self, row: Tensor, most: int) -> Stretch:
        """The steps up to the first one that is learned from of sequences that start at rows [B], at most so many.

        What the ring does not hold any more is passed over: the first row that it has counts as an episode's first.
        """
        ring = self.ring
        newest = ring.time - 1
        first_learned = newest - (newest - row // ring.num_envs) % ring.length + self.burn_in  # [B] time steps
        times = first_learned + torch.arange(1 - most, 1, device=ring.device)[:, None]  # [W, B]
        oldest = ring.time - ring.length + self.behind if ring.time > ring.length else 0
        window = times % ring.length * ring.num_envs + row % ring.num_envs
        return self._stretch(window, ring.is_first(window) | (times <= oldest), self._zeros(len(row)))

    def _stretch(self, window: Tensor, episode_start: Tensor, state: LSTMState) -> Stretch:
        """What lies in rows [W, B]."""
        before = (window - self.ring.num_envs) % self.ring.rows
        obs = self.ring.observations(window.flatten())
        obs = obs.view(*window.shape, *obs.shape[1:])
        last = LastStep(self.ring.action[before].long(), self.ring.reward[before])
        return Stretch(obs, state, episode_start, last)

    def _zeros(self, batch: int) -> LSTMState:
        hidden, memory = self._zero[:, None].expand(-1, batch, -1)
        return hidden, memory

    def _states(self, row: Tensor) -> LSTMState:
        """The states [B, H] before rows [B]."""
        if not len(self.states):
            return self._zeros(len(row))
        slot, env = row // (self.period * self.ring.num_envs), row % self.ring.num_envs
        hidden, memory = self.states[slot, env].unbind(1)
        return hidden, memory

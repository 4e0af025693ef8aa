"""Windows: the rows that belong to a drawn row, gathered as a transition or, for a network with an LSTM, a sequence."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelq.agents.errors import InvalidConfig
from pixelq.agents.experience.batches import Batch, Segment, Sequences
from pixelq.agents.experience.returns import Returns
from pixelq.agents.experience.ring import Ring
from pixelq.agents.storage.validation import fitting
from pixelq.networks import LastStep, LSTMState


class Window(Protocol):
    """The rows that belong to a drawn row, and how they become a batch."""

    unit: str
    """What is drawn, with its article, for errors."""
    returns: Returns
    """How rewards are summed."""
    behind: int
    """Time steps before the row that must not be overwritten."""
    ahead: int
    """Time steps after the row whose observations must be written."""

    def use(self, returns: Returns) -> None:
        """Sum rewards in another way from the next batch on, which changes `ahead`."""

    def starts(self, begin: int, end: int) -> NDArray[np.int64]:
        """Return the rows of the time steps [begin, end) that may be drawn at all, in the order of writing."""

    def gather(self, row: Tensor) -> Batch | Sequences:
        """Return the transitions or sequences that start at rows [B] (int64), whose windows must be complete."""

    def keep_state(self, state: LSTMState | None) -> None:
        """Store the LSTM's states [N, H] before the time step that began last, if they are needed; None for zeros."""

    def state(self) -> dict[str, Tensor]:
        """Return the state that `load_state` restores; the rows of the ring are not part of it."""

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore a state, after the time of the ring has been restored.

        Raises:
            ValueError: If it is not the state of such a window.
        """

    @property
    def nbytes(self) -> int:
        """Bytes of what is stored besides the ring."""


class TransitionWindow:
    """Window of a transition: the row's stack of frames, and the n steps after it.

    Args:
        ring: Ring of the rows.
        returns: How rewards are summed.
    """

    unit = "a transition"

    def __init__(self, ring: Ring, returns: Returns) -> None:
        self.ring, self.behind = ring, ring.frame_stack - 1
        self.use(returns)

    def use(self, returns: Returns) -> None:
        """See `Window`."""
        self.returns, self.ahead = returns, returns.n_step
        self._offsets = torch.arange(returns.n_step, device=self.ring.device) * self.ring.num_envs

    def starts(self, begin: int, end: int) -> NDArray[np.int64]:
        """See `Window`."""
        return self.ring.starts(begin, end)

    def gather(self, row: Tensor) -> Batch:
        """See `Window`."""
        ring = self.ring
        window = (row[:, None] + self._offsets) % ring.rows  # [B, n]
        returns, discount, steps = self.returns.of(ring.reward[window], ring.terminated[window], ring.truncated[window])
        successor = (row + steps * ring.num_envs) % ring.rows
        obs, next_obs = ring.observations(torch.cat([row, successor])).chunk(2)
        batch = Batch(obs, ring.action[row].long(), returns, discount, next_obs)
        if ring.mask is None:
            return batch
        return batch._replace(mask=ring.mask[row], next_mask=ring.mask[successor])

    def keep_state(self, state: LSTMState | None) -> None:
        """Do nothing: a transition has no LSTM state."""

    def state(self) -> dict[str, Tensor]:
        """See `Window`; there is nothing to restore."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """See `Window`; there is nothing to restore."""

    @property
    def nbytes(self) -> int:
        """See `Window`."""
        return 0


class SequenceWindow:
    """Window of a sequence: the steps from a row on, for a network with an LSTM (Kapturowski et al. 2019, section 2.3).

    Sequences start at every `period`-th time step of every environment, at any place in an episode: with a period of
    `length` − `burn_in`, each step is learned from in one sequence. Where an episode ends within a sequence, the LSTM
    starts with a new state in the next episode, and the row of the last observation, from which no step is taken, is
    masked.

    Args:
        ring: Ring of the rows; its length is a multiple of the period.
        returns: How rewards are summed.
        length: Steps in a sequence, L; it also holds the n steps after them that the last returns reach.
        period: Time steps between two starts.
        burn_in: First steps of a sequence, which only give the LSTM's state.
        state_size: Units of the LSTM, H.
        stores: Whether sequences start with the states that acting had there, which are stored; otherwise with zeros.

    Raises:
        InvalidConfig: If there is not enough memory for the states.
    """

    unit = "a sequence"

    def __init__(
        self, ring: Ring, returns: Returns, *, length: int, period: int, burn_in: int, state_size: int, stores: bool
    ) -> None:
        self.ring, self.length, self.period, self.burn_in = ring, length, period, burn_in
        self.behind = max(ring.frame_stack - 1, 1)  # at least 1: the LSTM reads the last action and reward
        shape = (ring.length // period if stores else 0, ring.num_envs, 2, state_size)
        try:
            self.states = torch.zeros(shape, device=ring.device)  # h and c
        except RuntimeError as error:
            size = 4 * math.prod(shape) / 1e9
            raise InvalidConfig(
                f"no memory for {size:.1f} GB of stored states; lower replay_capacity or lstm, or raise sequence_period"
            ) from error
        self._zero = torch.zeros((2, state_size), device=ring.device)
        self._learned = torch.arange(length - burn_in, device=ring.device)[:, None]  # [U, 1]
        self.use(returns)

    def use(self, returns: Returns) -> None:
        """See `Window`."""
        self.returns, self.ahead = returns, self.length + returns.n_step - 1
        steps = torch.arange(self.length + returns.n_step, device=self.ring.device)
        self._offsets = steps[:, None] * self.ring.num_envs  # [W, 1]

    def starts(self, begin: int, end: int) -> NDArray[np.int64]:
        """See `Window`."""
        times = np.arange(-(-begin // self.period) * self.period, end, self.period) % self.ring.length
        rows: NDArray[np.int64] = (times[:, None] * self.ring.num_envs + np.arange(self.ring.num_envs)).reshape(-1)
        return rows

    def keep_state(self, state: LSTMState | None) -> None:
        """See `Window`; states are stored where sequences start."""
        slot, rest = divmod(self.ring.time % self.ring.length, self.period)
        if rest == 0 and len(self.states):
            torch.stack(state or self._zeros(self.ring.num_envs), 1, out=self.states[slot])

    def state(self) -> dict[str, Tensor]:
        """See `Window`."""
        return {"states": self._written_states().cpu()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """See `Window`."""
        written = self._written_states()
        written.copy_(fitting(state, "states", written))

    def _written_states(self) -> Tensor:
        """Return the states of the slots that have been written, a view [slots, N, 2, H]."""
        return self.states[: self.ring.time // self.period + 1]

    @property
    def nbytes(self) -> int:
        """See `Window`."""
        return self.states.nbytes

    def gather(self, row: Tensor) -> Sequences:
        """See `Window`."""
        ring, n, steps = self.ring, self.returns.n_step, slice(self.burn_in, self.length)
        window = (row + self._offsets) % ring.rows  # [W, B]
        segment = self._segment(window, ring.is_first(window), self._states(row))
        reached = window[self.burn_in : self.length + n - 1]  # the rows whose rewards are summed
        reward, discount, taken = self.returns.of(
            *(
                field[reached].unfold(0, n, 1).flatten(0, 1)  # [M, n]
                for field in (ring.reward, ring.terminated, ring.truncated)
            )
        )
        next_step = self._learned + taken.view(-1, len(row))  # [U, B]
        sequences = Sequences(
            segment,
            self.burn_in,
            action=ring.action[window[steps]].long().flatten(),
            reward=reward,
            discount=discount,
            next_step=next_step,
            is_step=~segment.episode_start[self.burn_in + 1 : self.length + 1],
        )
        if ring.mask is None:
            return sequences
        successor = window[self.burn_in :].gather(0, next_step)
        return sequences._replace(mask=ring.mask[window[steps].flatten()], next_mask=ring.mask[successor.flatten()])

    def history(self, row: Tensor, most: int) -> Segment:
        """Return the steps before and in sequences up to the first step that is learned from.

        Steps that the ring no longer holds are left out: its first row counts as the first of an episode.

        Args:
            row: Rows [B] where the sequences start.
            most: Number of steps of each sequence's history, W.
        """
        ring = self.ring
        newest = ring.time - 1
        first_learned = newest - (newest - row // ring.num_envs) % ring.length + self.burn_in  # [B] time steps
        times = first_learned + torch.arange(1 - most, 1, device=ring.device)[:, None]  # [W, B]
        oldest = ring.time - ring.length + self.behind if ring.time > ring.length else 0
        window = times % ring.length * ring.num_envs + row % ring.num_envs
        return self._segment(window, ring.is_first(window) | (times <= oldest), self._zeros(len(row)))

    def _segment(self, window: Tensor, episode_start: Tensor, state: LSTMState) -> Segment:
        """Return the steps in rows [W, B]."""
        before = (window - self.ring.num_envs) % self.ring.rows
        obs = self.ring.observations(window.flatten())
        obs = obs.view(*window.shape, *obs.shape[1:])
        last = LastStep(self.ring.action[before].long(), self.ring.reward[before])
        return Segment(obs, state, episode_start, last)

    def _zeros(self, batch: int) -> LSTMState:
        hidden, cell = self._zero[:, None].expand(-1, batch, -1)
        return hidden, cell

    def _states(self, row: Tensor) -> LSTMState:
        """Return the states [B, H] before rows [B]."""
        if not len(self.states):
            return self._zeros(len(row))
        slot, env = row // (self.period * self.ring.num_envs), row % self.ring.num_envs
        hidden, cell = self.states[slot, env].unbind(1)
        return hidden, cell

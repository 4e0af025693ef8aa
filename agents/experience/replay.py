"""The replay: stores one frame a row, and builds stacks and n-step returns when a batch is sampled.

Rows are written in time order, one row of each environment at a time. Row t of an environment holds its observation
at time t (only the newest frame of a stack), the action taken there, and the outcome of that step: the reward, and
whether the episode ended. So the observation that ends an episode has its own row, where no transition starts; at a
truncation, the next observation needs no special care.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.config.at_step import gamma_at, has_scheduled_returns, longest_return, priority_beta_at
from pixelq.agents.config.machine_limits import require_memory
from pixelq.agents.errors import InvalidConfig
from pixelq.agents.experience.batches import Batch, Sequences
from pixelq.agents.experience.returns import Returns, returns_of
from pixelq.agents.experience.ring import Ring, row_bytes
from pixelq.agents.experience.samplers import PrioritizedSampler, Sampler, UniformSampler
from pixelq.agents.experience.sum_tree import SumTree
from pixelq.agents.experience.windows import SequenceWindow, TransitionWindow, Window
from pixelq.agents.storage.validation import fitting, part
from pixelq.networks import LSTMState

IN_QUEUE = 4
"""Bytes of a row's place in the queue."""
IN_TREE = 8 * SumTree.BRANCHES / (SumTree.BRANCHES - 1)
"""Bytes of a row's priority and of the sums above it."""
SHARE = 0.8
"""Share of the free memory that a proposed capacity takes, which leaves some for the network and the environments."""


class Replay:
    """Ring of rows from which batches are drawn; several environments share it without mixing.

    A million Atari rows take 7.07 GB. A transition may be drawn while its window is complete: the stack of its
    observation has not been overwritten, and the n steps after it have been written. The sampler keeps the rows for
    which this holds.

    Args:
        observation_shape: Shape of an observation; with a stack, its first axis is the stack, oldest frame first.
        observation_dtype: NumPy type of an observation; uint8 is kept, all others are stored as float32.
        capacity: Rows over all environments, rounded down to a multiple of `num_envs` (and of a sequence's period).
        num_envs: Number of environments.
        frame_stack: Frames in an observation, black before an episode's start; 1 to store observations whole.
        n_step: Steps of the return.
        gamma: Discount of one step.
        reward_clip: Limit to which rewards are clipped on either side when sampled; None for raw rewards.
        prioritized: Whether rows are drawn by priority (Schaul et al. 2016) or uniformly.
        priority_alpha, priority_beta, priority_epsilon, priority_uniform: See `PrioritizedSampler`.
        sequences: Keyword arguments of `SequenceWindow`, to draw sequences; None to draw transitions.
        device: Device of the ring.
        seed: Seed of the generator of the draws.
        num_actions: Number of actions A of the masks to store, A bytes a row; None for no masks, until `keep_masks`.

    Raises:
        InvalidConfig: If the capacity is too small for the environments, or there is not enough memory.
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
        sequences: dict[str, Any] | None = None,
        device: torch.device | str = "cpu",
        seed: int = 0,
        num_actions: int | None = None,
    ) -> None:
        self._sequences = sequences
        self.length = _time_steps(capacity, num_envs, frame_stack, n_step, sequences)
        self.num_envs, self.frame_stack = num_envs, frame_stack
        self.device = torch.device(device)
        in_ring = row_bytes(observation_shape, observation_dtype, frame_stack) + (num_actions or 0)
        self._row_bytes = in_ring + IN_QUEUE + prioritized * IN_TREE
        self._state_bytes = _state_bytes(sequences)
        _check_memory(self.length * num_envs, self._row_bytes, self._state_bytes, self.device)
        self.ring = Ring(
            observation_shape,
            observation_dtype,
            length=self.length,
            num_envs=num_envs,
            frame_stack=frame_stack,
            device=self.device,
            num_actions=num_actions,
        )
        self.rows = self.ring.rows
        returns = Returns(n_step, gamma, reward_clip)
        self.window: Window = (
            TransitionWindow(self.ring, returns)
            if sequences is None
            else SequenceWindow(self.ring, returns, **sequences)
        )
        generator = torch.Generator(self.device).manual_seed(seed)
        self.sampler: Sampler = (
            PrioritizedSampler(
                self.rows,
                generator,
                alpha=priority_alpha,
                beta=priority_beta,
                epsilon=priority_epsilon,
                uniform=priority_uniform,
            )
            if prioritized
            else UniformSampler(self.rows, generator)
        )
        self.first = 0  # oldest time step that may be drawn
        self._is_observed = False  # whether the row to be written next has its observation
        self._age = np.zeros(num_envs, dtype=np.uint8)  # of the row to be written next
        self._is_final = np.zeros(num_envs, dtype=bool)  # whether the row to be written next ends an episode
        if self.ring.transfer is not None:
            self.ring.transfer.add("starts", torch.Size([num_envs]), torch.int64)

    @property
    def time(self) -> int:
        """Number of time steps written so far."""
        return self.ring.time

    @property
    def bytes_per_row(self) -> float:
        """Bytes of a row, with its place in the queue, its priority and its share of the stored LSTM states."""
        return self._row_bytes + self._state_bytes

    @property
    def most_state_bytes(self) -> int:
        """Greatest number of bytes of what `state` returns."""
        return self.sampler.nbytes + self.window.nbytes

    @property
    def nbytes(self) -> int:
        """Bytes of the rows and all bookkeeping."""
        return self.ring.nbytes + self.sampler.nbytes + self.window.nbytes

    def keep_masks(self, num_actions: int) -> None:
        """Store the masks of A actions in every row, from the first row on; nothing changes if they are stored already.

        Raises:
            InvalidConfig: If there is not enough memory, or rows without masks have been written.
        """
        if self.ring.mask is None:
            taken = self.nbytes if self.device.type == "cuda" else 0  # a CPU gives memory when it is written to
            _check_memory(self.rows, self._row_bytes + num_actions, self._state_bytes, self.device, taken)
            self.ring.keep_masks(num_actions)
            self._row_bytes += num_actions

    def add(
        self,
        obs: NDArray[Any],
        action: NDArray[Any],
        reward: NDArray[Any],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        life_lost: NDArray[np.bool_] | None = None,
        mask: NDArray[np.bool_] | None = None,
    ) -> None:
        """Write one row of each environment, once per step of environments that reset in the step after an end.

        This is the same as `observe` and `complete`, between which the action can be chosen.
        """
        self.observe(obs, mask=mask)
        self.complete(action, reward, terminated, truncated, life_lost)

    def observe(self, obs: NDArray[Any], state: LSTMState | None = None, mask: NDArray[np.bool_] | None = None) -> None:
        """Begin a row of each environment with its observation.

        From now on, the transitions that end at this observation can be sampled. Of a stack, only the newest frame is
        transferred.

        Args:
            obs: Observations [N, *observation].
            state: LSTM's state (h, c), [N, H] each, before it reads the observations; it is stored where sequences
                start. None for zeros.
            mask: Whether each action is allowed at the observations, bool [N, A]; None for a replay without masks.
        """
        self._drop_before(self.time + 1 - self.length + self.window.behind)
        self.ring.begin(obs, self._age, mask)
        self._is_observed = True
        self.window.keep_state(state)
        self._offer(self.time - self.window.ahead)

    def latest(self) -> Tensor:
        """Return the observations [N, *observation] of the last `observe`, with stacks rebuilt, on the device.

        Raises:
            RuntimeError: If that row is complete and the next has not begun.
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
        """End the rows that `observe` began with the outcome of the step.

        Args:
            action: Actions taken at the observations, int [N].
            reward: Raw rewards [N].
            terminated: Whether the step ended the episode, bool [N].
            truncated: Whether the step cut the episode off, bool [N].
            life_lost: Whether the return ends here although the episode goes on, bool [N]; None for no life lost.
        """
        zero_discount = terminated if life_lost is None else terminated | life_lost
        self.ring.end(action, reward, zero_discount, truncated, is_start=~self._is_final)
        self._age = np.where(self._is_final, 0, np.minimum(self._age + 1, self.ring.max_age)).astype(np.uint8)
        self._is_final = terminated | truncated
        self._is_observed = False

    def cut(self, obs: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> None:
        """End every running episode as truncated.

        This is for environments that are reset from outside. An episode that has just terminated keeps its discount
        of 0.

        Args:
            obs: Observations [N, *observation] that the last step led to.
            mask: Their action masks, as in `observe`.
        """
        if self.time == 0:
            self._is_observed = False  # a row without an outcome is part of no episode yet
            return
        newest = (self.time - 1) % self.length * self.num_envs
        self.ring.truncated[newest : newest + self.num_envs] = True
        if not self._is_observed:
            self.observe(obs, mask=mask)
        self._is_final[:] = True
        nothing = np.zeros(self.num_envs)
        self.complete(nothing, nothing, nothing.astype(bool), nothing.astype(bool))

    def abandon(self, envs: NDArray[np.bool_]) -> None:
        """See `Store`; an episode that has just terminated keeps its discount of 0."""
        self.ring.truncate_last(envs)
        self._is_final = self._is_final | envs

    def _offer(self, time: int) -> None:
        """Give the rows of a time step, whose windows are now complete, to the sampler."""
        if time >= 0:
            starts, transfer = self.window.starts(time, time + 1), self.ring.transfer
            rows = torch.from_numpy(starts)
            if transfer is not None:
                rows = torch.empty_like(rows, device=self.device)
                transfer.send("starts", starts, rows)
            self.sampler.extend(rows)

    def _drop_before(self, time: int) -> None:
        """Take the rows before a time step, whose windows will no longer be whole, from the sampler."""
        if time <= self.window.behind:  # the ring is not full yet, so no window has lost a row
            return
        for step in range(self.first, time):
            self.sampler.drop(len(self.window.starts(step, step + 1)))
        self.first = time

    def __len__(self) -> int:
        """Return the number of transitions, or sequences, that can be sampled."""
        return len(self.sampler)

    def sample(self, batch_size: int) -> Batch | Sequences:
        """Draw a batch with replacement; it holds the importance weights and the rows that were drawn.

        Raises:
            ValueError: If no transition or sequence is complete yet.
        """
        if not len(self.sampler):
            raise ValueError(f"the replay is empty: {self.window.unit} needs {self.window.ahead} steps after it")
        row, weight = self.sampler.sample(batch_size)
        return self.window.gather(row)._replace(weight=weight, row=row)

    def gather(self, row: Tensor) -> Batch | Sequences:
        """Return the transitions or sequences that start at rows [B] (int64), whose windows must be complete."""
        return self.window.gather(row)

    def update_priorities(self, row: Tensor, priority: Tensor) -> None:
        """Set the priorities [B] of the rows [B] of a batch that was sampled; a uniform sampler has none."""
        self.sampler.update(row, priority)

    def set_beta(self, beta: float) -> None:
        """Set the exponent of the importance weights; a uniform sampler has none."""
        self.sampler.set_beta(beta)

    def set_returns(self, n_step: int, gamma: float) -> None:
        """Set n and γ of returns that change; see `Returns.set`."""
        self.window.returns.set(n_step, gamma)

    def use_returns(self, returns: Returns) -> None:
        """Sum rewards in another way from the next batch on.

        With longer returns, the newest rows are no longer complete: they cannot be drawn until they are, and have lost
        their priorities then.

        Raises:
            InvalidConfig: If the replay is too small for them; then nothing has changed.
        """
        _time_steps(self.length * self.num_envs, self.num_envs, self.frame_stack, returns.n_step, self._sequences)
        begun = self.time + self._is_observed
        before = begun - self.window.ahead  # the rows before this time step may be drawn
        self.window.use(returns)
        after = begun - self.window.ahead
        if after < before:
            oldest = max(self.first, after, 0)
            self.sampler.withdraw(len(self.window.starts(oldest, max(before, oldest))))
        if after > before:  # not by `_offer`, whose buffer a GPU may still read
            starts = self.window.starts(max(before, self.first), max(after, self.first))
            self.sampler.extend(torch.from_numpy(starts).to(self.device))

    def state(self) -> dict[str, Tensor]:
        """Return the state that `load_state` restores; the rows of the ring are not part of it."""
        return {
            "time": torch.tensor(self.time),
            "first": torch.tensor(self.first),
            "age": torch.from_numpy(self._age),
            "is_final": torch.from_numpy(self._is_final),
            **self.window.state(),
            **{f"sampler.{name}": tensor for name, tensor in self.sampler.state().items()},
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore a state, after the rows of the ring have been restored.

        Raises:
            ValueError: If it is not the state of such a replay.
        """
        time, first = (int(fitting(state, name, torch.tensor(0))) for name in ("time", "first"))
        if not max(0, time - self.length) <= first <= time <= 2**62:
            raise ValueError(f"a replay of {self.length} time steps cannot have rows {first:,} to {time:,}")
        age = fitting(state, "age", torch.from_numpy(self._age))
        is_final = fitting(state, "is_final", torch.from_numpy(self._is_final))
        self.ring.time, self.first = time, first
        self._age, self._is_final = age.numpy().copy(), is_final.numpy().copy()
        self._is_observed = False
        self.window.load_state(state)
        starts = self.window.starts(first, max(first, time - self.window.ahead))
        self.sampler.load_state(torch.from_numpy(starts).to(self.device), part(state, "sampler"))


def _state_bytes(sequences: Mapping[str, Any] | None) -> float:
    """Return the bytes of stored LSTM states in a row."""
    if sequences is None or not sequences["stores"]:
        return 0.0
    return float(2 * 4 * sequences["state_size"] / sequences["period"])  # h and c, float32


def _check_memory(rows: int, row_size: float, state_size: float, device: torch.device, taken: int = 0) -> None:
    """Check that there is memory for rows, before any is taken.

    Args:
        rows: Number of rows.
        row_size: Bytes of a row without LSTM states.
        state_size: Bytes of the LSTM states in a row.
        device: Device of the rows.
        taken: Bytes that they have taken already.

    Raises:
        InvalidConfig: If there is not.
    """

    def advice(free: int) -> str:
        fit = int(SHARE * free / (row_size + state_size))
        memory = " or lstm, or raise sequence_period" if state_size > row_size else ""
        return f"lower replay_capacity{memory}; {fit - fit % 1000 if fit >= 1000 else fit:,} rows would fit"

    require_memory("replay", rows * (row_size + state_size), device, advice, taken)


def _time_steps(
    capacity: int, num_envs: int, frame_stack: int, n_step: int, sequences: Mapping[str, Any] | None
) -> int:
    """Return the number of time steps that a replay holds.

    Raises:
        InvalidConfig: If they are too few for a single transition or sequence.
    """
    if sequences is None:
        period, least = 1, frame_stack + n_step
    else:  # the length is a multiple of the period, as the starts are
        period, needed = sequences["period"], max(frame_stack, 2) + n_step + sequences["length"] - 1
        least = -(-needed // period) * period
    length = capacity // num_envs // period * period
    if length < least:
        raise InvalidConfig(
            f"replay_capacity must be at least {num_envs * least} with {num_envs} environments, got {capacity} rows; "
            "use fewer environments or a larger replay_capacity"
        )
    return length


def make_replay(
    observation_shape: tuple[int, ...],
    observation_dtype: np.dtype[Any],
    config: AgentConfig,
    *,
    num_envs: int,
    frame_stack: int,
    device: torch.device,
    seed: int,
    num_actions: int | None = None,
) -> Replay:
    """Return the replay that a configuration describes; with an LSTM it draws sequences.

    Args:
        observation_shape, observation_dtype, num_envs, frame_stack, device, seed, num_actions: See `Replay`.
        config: The configuration.

    Raises:
        InvalidConfig: If the capacity is too small, or there is not enough memory.
    """
    replay = Replay(
        observation_shape,
        observation_dtype,
        capacity=config.replay_capacity,
        num_envs=num_envs,
        frame_stack=frame_stack,
        n_step=longest_return(config),
        gamma=gamma_at(config, 0),
        reward_clip=config.reward_clip,
        prioritized=config.prioritized,
        priority_alpha=config.priority_alpha,
        priority_beta=priority_beta_at(config, 0),
        priority_epsilon=config.priority_epsilon,
        priority_uniform=config.priority_uniform,
        sequences=None if config.lstm is None else _sequences(config, num_envs, frame_stack),
        device=device,
        seed=seed,
        num_actions=num_actions,
    )
    if has_scheduled_returns(config):
        replay.use_returns(returns_of(config, device))
    return replay


def replay_bytes(
    observation_shape: tuple[int, ...],
    observation_dtype: np.dtype[Any],
    config: AgentConfig,
    *,
    num_envs: int,
    frame_stack: int,
    num_actions: int | None = None,
) -> float:
    """Return the bytes that `make_replay` takes, without taking them.

    Args:
        observation_shape, observation_dtype, config, num_envs, frame_stack, num_actions: See `make_replay`.

    Raises:
        InvalidConfig: If the capacity is too small.
    """
    sequences = None if config.lstm is None else _sequences(config, num_envs, frame_stack)
    rows = num_envs * _time_steps(config.replay_capacity, num_envs, frame_stack, longest_return(config), sequences)
    in_ring = row_bytes(observation_shape, observation_dtype, frame_stack) + (num_actions or 0)
    return rows * (in_ring + IN_QUEUE + config.prioritized * IN_TREE + _state_bytes(sequences))


def change_replay(replay: Replay, old: AgentConfig, new: AgentConfig) -> None:
    """Let a replay follow a configuration that differs from the one it was made by in changeable fields.

    Raises:
        InvalidConfig: If the replay is too small for it; then nothing has changed.
    """
    if new.lstm is not None:
        _sequences(new, replay.num_envs, replay.frame_stack)
    if any(getattr(old, name) != getattr(new, name) for name in ("n_step", "gamma", "reward_clip")):
        replay.use_returns(returns_of(new, replay.device))
    replay.sampler.set_priorities(new.priority_alpha, new.priority_epsilon, new.priority_uniform)


def _sequences(config: AgentConfig, num_envs: int, frame_stack: int) -> dict[str, Any]:
    """Return the arguments of `SequenceWindow` that a configuration describes.

    Raises:
        InvalidConfig: If a full replay would hold less than one batch of whole sequences: there would be no update.
    """
    steps = max(frame_stack, 2) + longest_return(config) + config.sequence_length
    rounds = -(-config.batch_size // num_envs)
    least = (-(-steps // config.sequence_period) + rounds) * config.sequence_period * num_envs
    if config.replay_capacity < least:
        raise InvalidConfig(
            f"replay_capacity must be at least {least:,} with {num_envs} environments and batches of "
            f"{config.batch_size} sequences, got {config.replay_capacity:,}"
        )
    return {
        "length": config.sequence_length,
        "period": config.sequence_period,
        "burn_in": config.burn_in,
        "state_size": config.lstm,
        "stores": config.sequence_state == "stored",
    }

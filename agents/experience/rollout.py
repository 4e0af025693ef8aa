"""The rollout: T steps of N environments, which are learned from once they are complete.

Then they are forgotten, or kept for a time, so that some of the last rollouts can be learned from with each new one.

It is written as the replay is (`pixelq.agents.experience.replay`): a row of each environment for each time step, with
one frame, and a row without a step for the observation that ends an episode.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.config.machine_limits import require_memory
from pixelq.agents.errors import InvalidConfig
from pixelq.agents.experience.batches import Segment
from pixelq.agents.experience.returns import lambda_returns
from pixelq.agents.experience.ring import Ring, row_bytes
from pixelq.agents.storage.validation import fitting, restore_generator
from pixelq.networks import LastStep, LSTMState, QNetwork

VALUE = 4
"""Bytes of a row's value."""


class Drawn(NamedTuple):
    """Rows of a rollout that were drawn for a minibatch, [M], or [T, B] of B environments with an LSTM."""

    row: Tensor  # int64
    target: Tensor  # float32, λ-returns
    is_step: Tensor  # bool, see `Minibatch`
    env: Tensor | None = None  # [B] int64, the environments; None without an LSTM


class Minibatch(NamedTuple):
    """Steps of a rollout and their λ-returns; with an LSTM whole sequences, time first. M is the number of rows."""

    obs: Tensor | Segment  # [M, *observation], or T steps of some environments
    action: Tensor  # [M] int64
    target: Tensor  # [M] float32, λ-returns
    is_step: Tensor  # [M] bool, False at an episode's last observation, from which no step is taken

    @property
    def steps(self) -> Tensor:
        """Number of steps that `mean` is over, []."""
        return self.is_step.sum()

    def features(self, network: QNetwork) -> Tensor:
        """Return the features [M, D] that the head reads at the observations."""
        if isinstance(self.obs, Segment):
            return self.obs.features(network, 0).flatten(0, 1)
        features: Tensor = network.encoder(self.obs)
        return features

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean [] of values [M] over the rows with a step."""
        return torch.where(self.is_step, values, 0.0).sum() / self.is_step.sum().clamp(min=1)


class Rollout:
    """T steps of N environments, with the values of their states as acting computed them.

    The row after the last step is the first of the next rollout: its observation ends the last step, and acting has
    its value already.

    Args:
        observation_shape: Shape of an observation; with a stack, its first axis is the stack, oldest frame first.
        observation_dtype: NumPy type of an observation; uint8 is kept, all others are stored as float32.
        steps: T.
        num_envs: N.
        frame_stack: Frames in an observation, black before an episode's start; 1 to store observations whole.
        state_size: Units of the LSTM; None without one.
        device: Device of the rows.
        seed: Seed of the order in which rows are drawn.
        is_kept: Whether a rollout can be learned from until the next one is complete.
        past: Number of earlier rollouts that are kept beside it.
        num_actions: Number of actions A of the masks to keep with them; None for no masks, until `keep_masks`.

    Attributes:
        start: Time step of the first step.

    Raises:
        InvalidConfig: If there is not enough memory.
    """

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        observation_dtype: np.dtype[Any],
        *,
        steps: int,
        num_envs: int,
        frame_stack: int = 1,
        state_size: int | None = None,
        device: torch.device | str = "cpu",
        seed: int = 0,
        is_kept: bool = False,
        past: int = 0,
        num_actions: int | None = None,
    ) -> None:
        self.steps, self.num_envs, self.frame_stack = steps, num_envs, frame_stack
        self.device = torch.device(device)
        length = ring_length(steps, frame_stack, is_kept, past)
        row = row_bytes(observation_shape, observation_dtype, frame_stack) + VALUE
        size = length * num_envs * (row + ((num_actions or 0) if past else 0))
        advice = f"lower {'kept_rollouts or ' if past else ''}rollout_length, or use fewer environments"
        require_memory("rollout", size, self.device, lambda free: advice)
        self.ring = Ring(
            observation_shape,
            observation_dtype,
            length=length,
            num_envs=num_envs,
            frame_stack=frame_stack,
            device=self.device,
            num_actions=num_actions if past else None,
        )
        self.start = 0
        self.values = torch.zeros((length, num_envs), device=self.device)  # max over actions of q, by slot of the ring
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self._lstm_states: list[Tensor] | None = None  # h and c [N, H] before the first step
        if state_size is not None:
            self._lstm_states = [torch.zeros((num_envs, state_size), device=self.device) for _ in range(2)]
        self._past: deque[int] = deque(maxlen=past)  # first time steps of the earlier rollouts
        self._reach = (2 if is_kept else 1) * steps  # how far the ring is written while a rollout is learned from
        self._state: LSTMState | None = None  # before the newest row
        self._shown: Tensor | None = None  # what `latest` has returned; None until the newest row has begun
        self._valued = -1  # newest time step with values
        self._age = np.zeros(num_envs, dtype=np.uint8)  # of the row to be written next
        self._is_final = np.zeros(num_envs, dtype=bool)  # whether the row to be written next ends an episode

    @property
    def time(self) -> int:
        """See `Store`."""
        return self.ring.time

    @property
    def most_state_bytes(self) -> int:
        """See `Store`."""
        states = sum(part.nbytes for part in self._lstm_states or ())
        past = 8 * (self._past.maxlen or 0)
        return self.values.nbytes + states + past + self.generator.get_state().nbytes

    @property
    def is_complete(self) -> bool:
        """Whether all steps are there, and the value of the state after them."""
        return self.time - self.start == self.steps and self._valued == self.time

    # Writing
    def keep_masks(self, num_actions: int) -> None:
        """See `Store`; they are stored for earlier rollouts only, since acting has values of allowed actions."""
        if self._past.maxlen and self.ring.mask is None:
            advice = "lower kept_rollouts or rollout_length, or use fewer environments"
            require_memory("rollout's action masks", self.ring.rows * num_actions, self.device, lambda free: advice)
            self.ring.keep_masks(num_actions)

    def observe(self, obs: NDArray[Any], state: LSTMState | None = None, mask: NDArray[np.bool_] | None = None) -> None:
        """See `Store`."""
        self.ring.begin(obs, self._age, None if self.ring.mask is None else mask)
        self._state = state
        if self.time == self.start:
            self._keep_state()

    def latest(self) -> Tensor:
        """See `Store`."""
        rows = self.ring.newest()
        self._shown = self.ring.observations(torch.arange(rows.start, rows.stop, device=self.device))
        return self._shown

    def keep_values(self, obs: NDArray[Any] | Tensor, q: Tensor) -> None:
        """Keep the greatest of the q-values [N, A] if they are those of the observations that `latest` returned."""
        if obs is self._shown:
            torch.amax(q, 1, out=self.values[self.time % self.ring.length])
            self._valued = self.time

    def complete(
        self,
        action: NDArray[Any],
        reward: NDArray[Any],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        life_lost: NDArray[np.bool_] | None = None,
    ) -> None:
        """See `Store`."""
        zero_discount = terminated if life_lost is None else terminated | life_lost
        self.ring.end(action, reward, zero_discount, truncated, is_start=~self._is_final)
        self._age = np.where(self._is_final, 0, np.minimum(self._age + 1, self.ring.max_age)).astype(np.uint8)
        self._is_final = terminated | truncated
        self._shown = None

    def cut(self, obs: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> None:
        """Forget the steps so far, because the environments were reset from outside; see `Store`."""
        if self._past and self._past[-1] + self.steps == self.time:  # the observation after it is overwritten
            self._past.pop()
        self.start, self._shown = self.time, None
        self._age[:], self._is_final[:] = 0, False

    def abandon(self, envs: NDArray[np.bool_]) -> None:
        """See `Store`."""
        self.ring.truncate_last(envs)
        self._is_final = self._is_final | envs

    def begin(self) -> None:
        """Begin the next rollout with the newest row."""
        self._past.append(self.start)
        self.start = self.time
        self._keep_state()

    def _keep_state(self) -> None:
        if self._lstm_states is not None and self._state is not None:
            for kept, given in zip(self._lstm_states, self._state, strict=True):
                kept.copy_(given)

    # Reading
    def targets(self, gamma: float, td_lambda: float, reward_clip: float | None) -> Tensor:
        """Return the λ-returns [T, N]; see `lambda_returns`. They count only where a step was taken."""
        values = self.values[self._slots(self.steps, self.start + 1)]
        return self._returns(self.start, values, gamma, td_lambda, reward_clip)

    def past_targets(
        self,
        start: int,
        value_of: Callable[[Tensor, Tensor | None], Tensor],
        count: int,
        gamma: float,
        td_lambda: float,
        reward_clip: float | None,
    ) -> Tensor:
        """Return the λ-returns [T, N] of an earlier rollout, as `targets` does, with new values.

        Args:
            start: Time step of its first step.
            value_of: Returns the values [M] of observations [M, *observation] with masks [M, A], or None without masks.
            count: Number of parts in which they are computed; as many as minibatches, they need no more memory.
            gamma, td_lambda, reward_clip: See `targets`.
        """
        ring = self.ring
        values = torch.cat(
            [
                value_of(ring.observations(row), None if ring.mask is None else ring.mask[row])
                for row in torch.tensor_split(self._rows(start + 1).flatten(), count)
            ]
        )
        return self._returns(start, values.view(self.steps, self.num_envs), gamma, td_lambda, reward_clip)

    def _returns(self, start: int, values: Tensor, gamma: float, td_lambda: float, reward_clip: float | None) -> Tensor:
        """Return the λ-returns from a time step on, with the values [T, N] of the observations after each step."""
        ring, slots = self.ring, self._slots(self.steps, start)
        reward, terminated, truncated = (
            field.view(ring.length, self.num_envs)[slots] for field in (ring.reward, ring.terminated, ring.truncated)
        )
        if reward_clip is not None:
            reward = reward.clamp(-reward_clip, reward_clip)
        return lambda_returns(reward, terminated, truncated, values, gamma, td_lambda)

    def holds(self, first: int, newest: int) -> bool:
        """Return whether the rollout from one time step on can be learned from with that from `newest` on."""
        first_frame = newest + self._reach + 1 - self.ring.length  # once the newest has been learned from
        return 0 <= first <= newest - self.steps and first - self.ring.max_age >= first_frame

    def draw_past(self, count: int, epochs: int) -> list[list[int]]:
        """Draw earlier rollouts for each epoch.

        Args:
            count: Number of rollouts, drawn without replacement; if there are fewer, all of them are.
            epochs: Number of epochs.

        Returns:
            For each epoch, the first time steps of its earlier rollouts.
        """
        there = [first for first in self._past if self.holds(first, self.start)]
        orders = [torch.randperm(len(there), generator=self.generator, device=self.device) for _ in range(epochs)]
        return [[there[place] for place in order] for order in torch.stack(orders)[:, :count].tolist()]

    def draw(
        self,
        target: Tensor,
        count: int,
        epochs: int,
        *,
        start: int | None = None,
        past: Sequence[Sequence[int]] = (),
        skipped: int = 0,
    ) -> Iterator[Drawn]:
        """Yield the rows of each step of the newest rollout in every epoch, and those of others in their own.

        Each epoch is in a new order, in minibatches of equal size up to one row.

        With an LSTM a minibatch is all steps of some environments: the LSTM reads them from the state that acting had
        before the first one.

        Args:
            target: λ-returns [T, N]; those of the earlier rollouts follow, in the order of the epochs, [(1 + R) T, N].
            count: Number of minibatches in an epoch for each rollout in it.
            epochs: Number of epochs.
            start: Time step of the first step; None for that of the newest rollout.
            past: For each epoch, the first time steps of its earlier rollouts, R in all; empty for none.
            skipped: Number of minibatches at the beginning to leave out, which have been learned from.
        """
        start, position = self.start if start is None else start, 0
        newest, *others = torch.split(target, self.steps)
        of_newest, targets = (self._rows(start), self._is_step(start), newest), iter(others)
        for epoch in range(epochs):
            earlier = past[epoch] if past else ()
            parts = [of_newest, *((self._rows(first), self._is_step(first), next(targets)) for first in earlier)]
            row, is_step, target = (torch.cat(each) for each in zip(*parts, strict=True))
            drawn = row.numel() if self._lstm_states is None else self.num_envs
            order = torch.randperm(drawn, generator=self.generator, device=self.device)
            for chosen in order.tensor_split(count * len(parts)):
                position += 1
                if position <= skipped:
                    continue
                if self._lstm_states is None:
                    yield Drawn(row.flatten()[chosen], target.flatten()[chosen], is_step.flatten()[chosen])
                else:
                    yield Drawn(row[:, chosen], target[:, chosen], is_step[:, chosen], chosen)

    def gather(self, drawn: Drawn) -> Minibatch:
        """Return the minibatch of rows that were drawn."""
        row = drawn.row.flatten()
        obs: Tensor | Segment
        obs = self.ring.observations(row) if drawn.env is None else self._segment(drawn.row, drawn.env)
        return Minibatch(obs, self.ring.action[row].long(), drawn.target.flatten(), drawn.is_step.flatten())

    def _rows(self, start: int) -> Tensor:
        """Return the rows of the ring in which T steps from a time step on lie, [T, N]."""
        envs = torch.arange(self.num_envs, device=self.device)
        return self._slots(self.steps, start)[:, None] * self.num_envs + envs

    def _slots(self, steps: int, start: int) -> Tensor:
        """Return the slots of the ring in which the time steps from `start` on lie, [steps]."""
        return torch.arange(start, start + steps, device=self.device) % self.ring.length

    def _is_step(self, start: int) -> Tensor:
        """Return whether a step was taken in each row from the time step `start` on, bool [T, N]."""
        slots = np.arange(start, start + self.steps) % self.ring.length
        return torch.from_numpy(self.ring.is_start[slots]).to(self.device)

    def _segment(self, row: Tensor, env: Tensor) -> Segment:
        """Return the steps in rows [T, B] of environments [B]."""
        ring = self.ring
        assert self._lstm_states is not None
        hidden, cell = (part[env] for part in self._lstm_states)
        before = (row - self.num_envs) % ring.rows
        obs = ring.observations(row.flatten())
        obs = obs.view(*row.shape, *obs.shape[1:])
        last = LastStep(ring.action[before].long(), ring.reward[before])
        return Segment(obs, (hidden, cell), ring.is_first(row), last)

    # Checkpoints
    def state(self) -> dict[str, Tensor]:
        """See `Store`."""
        hidden, cell = self._lstm_states or (torch.zeros(0), torch.zeros(0))
        return {
            "time": torch.tensor(self.time),
            "start": torch.tensor(self.start),
            "valued": torch.tensor(self._valued),
            "age": torch.from_numpy(self._age),
            "is_final": torch.from_numpy(self._is_final),
            "values": self.values.cpu(),
            "hidden": hidden.cpu(),
            "cell": cell.cpu(),
            "generator": self.generator.get_state(),
            **({"past": self._past_starts()} if self._past.maxlen else {}),
        }

    def _past_starts(self) -> Tensor:
        """Return the first time steps of the earlier rollouts, filled up with −1, int64 [K]."""
        starts = torch.full((self._past.maxlen or 0,), -1)
        starts[: len(self._past)] = torch.tensor(list(self._past), dtype=torch.int64)
        return starts

    def load_state(self, state: dict[str, Tensor]) -> None:
        """See `Store`."""
        own = self.state()
        given = {name: fitting(state, name, like) for name, like in own.items() if name != "generator"}
        time, start, valued = (int(given[name]) for name in ("time", "start", "valued"))
        if not (0 <= start <= time <= 2**62 and time - start <= self.steps and -1 <= valued <= time):
            raise ValueError(f"a rollout of {self.steps} steps cannot go from {start:,} to {time:,}")
        past = [int(first) for first in given.get("past", ()) if first >= 0]
        if any(first + self.steps > later for first, later in zip(past, [*past, start][1:], strict=True)):
            raise ValueError(f"rollouts of {self.steps} steps cannot begin at {past} and {start:,}")
        restore_generator(self.generator, state, "generator")
        self._past.clear()
        self._past.extend(past)
        self.ring.time, self.start, self._valued = time, start, valued
        self._age, self._is_final = given["age"].numpy().copy(), given["is_final"].numpy().copy()
        self.values.copy_(given["values"])
        for kept, name in zip(self._lstm_states or (), ("hidden", "cell"), strict=False):
            kept.copy_(given[name])
        self._shown = None


def ring_length(steps: int, frame_stack: int, is_kept: bool, past: int = 0) -> int:
    """Return the time steps that a rollout holds: its own, the one after them, and those that its first row reads.

    Earlier rollouts add their steps.

    The first row reads the other frames of its stack, and the last action and reward for an LSTM. If a rollout is kept
    until the next one is complete, there are the steps of both.
    """
    return (past + (2 if is_kept else 1)) * steps + 1 + max(frame_stack - 1, 1)


def rollout_bytes(
    observation_shape: tuple[int, ...],
    observation_dtype: np.dtype[Any],
    config: AgentConfig,
    *,
    num_envs: int,
    frame_stack: int,
) -> int:
    """Return the bytes that `make_rollout` takes, without taking them.

    Args:
        observation_shape, observation_dtype, config, num_envs, frame_stack: See `make_rollout`.
    """
    rows = num_envs * ring_length(config.rollout_length, frame_stack, config.overlap, config.kept_rollouts)
    return rows * (row_bytes(observation_shape, observation_dtype, frame_stack) + VALUE)


def check_minibatches(config: AgentConfig, num_envs: int) -> None:
    """Check that every minibatch of a rollout of N environments has a row.

    Raises:
        InvalidConfig: If there are fewer steps, or with an LSTM environments, than minibatches.
    """
    drawn = config.rollout_length * num_envs if config.lstm is None else num_envs
    if config.minibatches > drawn:
        whose = "steps of a rollout" if config.lstm is None else "environments, whose sequences an LSTM reads whole"
        raise InvalidConfig(f"minibatches must be at most the {drawn:,} {whose}, got {config.minibatches:,}")


def make_rollout(
    observation_shape: tuple[int, ...],
    observation_dtype: np.dtype[Any],
    config: AgentConfig,
    *,
    num_envs: int,
    frame_stack: int,
    device: torch.device,
    seed: int,
    num_actions: int | None = None,
) -> Rollout:
    """Return the rollout that a configuration describes.

    Args:
        observation_shape, observation_dtype, num_envs, frame_stack, device, seed: See `Rollout`.
        config: The configuration.
        num_actions: Number of actions of masks, as in `make_replay`; kept with earlier rollouts only.

    Raises:
        InvalidConfig: If there are fewer steps, or with an LSTM environments, than minibatches, or not enough memory.
    """
    check_minibatches(config, num_envs)
    return Rollout(
        observation_shape,
        observation_dtype,
        steps=config.rollout_length,
        num_envs=num_envs,
        frame_stack=frame_stack,
        state_size=config.lstm,
        device=device,
        seed=seed,
        is_kept=config.overlap,
        past=config.kept_rollouts,
        num_actions=num_actions,
    )

"""Replay memory: one frame a row; stacks and n-step returns are built when a batch is sampled.

Rows are written in time order, one of each environment at a time. Row t of an environment holds what it showed at
time t (only the newest frame of a stack), the action taken there, and what that step brought: reward, and whether
the episode ended. So the observation that ends an episode has a row of its own, in which no transition starts; at a
truncation, the next observation is right by itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.errors import InvalidConfig
from pixelq.agents.experience.batches import Batch, Sequences
from pixelq.agents.experience.returns import Returns
from pixelq.agents.experience.ring import Ring
from pixelq.agents.experience.samplers import PrioritizedSampler, Sampler, UniformSampler
from pixelq.agents.experience.windows import SequenceWindow, TransitionWindow, Window
from pixelq.agents.storage.validation import fitting, part
from pixelq.networks import LSTMState


class Replay:
    """A ring of rows that several environments share without mixing.

    A million Atari rows take 7.07 GB. A transition may be drawn while its window is complete: the observation's stack
    has not been overwritten, and the n steps after it have been written. A sampler says which.

    Args:
        observation_shape: shape of an observation; with a stack its first axis is the stack, oldest frame first.
        observation_dtype: uint8 is kept, anything else is stored as float32.
        capacity: rows over all environments, rounded down to a multiple of num_envs (and of a sequence's period).
        num_envs: environments that write in turn.
        frame_stack: frames in an observation, zero before an episode's start; 1: observations are stored whole.
        n_step: steps of the return.
        gamma: discount of one step.
        reward_clip: rewards are clipped to ± this when sampled; None for raw.
        prioritized: drawn by priority (Schaul et al. 2016) and not uniformly.
        priority_alpha, priority_beta, priority_epsilon, priority_uniform: see ``PrioritizedSampler``.
        sequences: what ``SequenceWindow`` asks for, to draw sequences; None draws transitions.
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
        sequences: dict[str, Any] | None = None,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        steps, period = (n_step, 1) if sequences is None else (n_step + sequences["length"], sequences["period"])
        least = frame_stack + steps if sequences is None else -(-(max(frame_stack, 2) + steps) // period + 1) * period
        self.length = capacity // num_envs // period * period  # time steps
        if self.length < least:
            raise InvalidConfig(
                f"a replay of {capacity} rows is too small for {num_envs} environments; it must hold at least "
                f"{num_envs * least} (fewer environments or a larger replay_capacity)"
            )
        self.num_envs, self.frame_stack = num_envs, frame_stack
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
        returns = Returns(n_step, gamma, reward_clip)
        self.window: Window = TransitionWindow(self.ring, returns)
        if sequences is not None:
            self.window = SequenceWindow(self.ring, returns, **sequences)
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
        self.first = 0  # oldest time step that may be drawn
        self._is_observed = False  # of the time step to be written next, the observation is there already
        self._age = np.zeros(num_envs, dtype=np.uint8)  # of the row to be written next
        self._is_final = np.zeros(num_envs, dtype=bool)  # the row to be written next ends an episode
        pinned = self.device.type == "cuda"
        self._starts_out = torch.empty(num_envs, dtype=torch.int64, pin_memory=pinned)  # lies ready to cross

    @property
    def time(self) -> int:
        """Time steps written since the beginning."""
        return self.ring.time

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, bookkeeping included."""
        states = self.window.states.nbytes if isinstance(self.window, SequenceWindow) else 0
        return self.ring.nbytes + self._starts_out.nbytes + self.sampler.nbytes + states

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

    def observe(self, obs: NDArray[Any], state: LSTMState | None = None) -> None:
        """Begins a row of each environment with what it shows, [N, *observation]; of a stack the newest frame crosses.

        From here on the transitions that end at this observation can be sampled. ``state`` is a memory's before it has
        read the observation, (h, c) [N, H] each; it is stored where a sequence starts; None: zeros.
        """
        self._drop_before(self.time + 1 - self.length + self.window.behind)
        self.ring.begin(obs, self._age)
        self._is_observed = True
        if isinstance(self.window, SequenceWindow):
            self.window.keep_state(state)
        self._offer(self.time - self.window.ahead)

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
        self._age = np.where(self._is_final, 0, np.minimum(self._age + 1, self.ring.oldest)).astype(np.uint8)
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
            starts = self.window.starts(time, time + 1)
            self._starts_out.numpy()[: len(starts)] = starts
            self.sampler.extend(self._starts_out[: len(starts)].to(self.device, non_blocking=True))

    def _drop_before(self, time: int) -> None:
        """Takes the rows before a time step, whose stacks will not be whole any more, from the sampler."""
        if time <= self.window.behind:  # the ring is not full yet: before its first row lies nothing that is needed
            return
        for step in range(self.first, time):
            self.sampler.drop(len(self.window.starts(step, step + 1)))
        self.first = time

    def __len__(self) -> int:
        """Transitions, or sequences, that can be sampled."""
        return len(self.sampler)

    def sample(self, batch_size: int) -> Batch | Sequences:
        """A batch drawn with replacement, with the sampler's weights and the rows that it came from.

        Raises:
            ValueError: nothing is complete yet.
        """
        if not len(self.sampler):
            raise ValueError(f"the replay is empty: {self.window.unit} needs {self.window.ahead} steps after it")
        row, weight = self.sampler.sample(batch_size)
        return self.gather(row)._replace(weight=weight, row=row)

    def gather(self, row: Tensor) -> Batch | Sequences:
        """What starts at rows [B] (int64), whose windows must be complete."""
        return self.window.gather(row)

    def update_priorities(self, batch: Batch | Sequences, priority: Tensor) -> None:
        """Sets the priorities [B] of a batch that was sampled; a uniform sampler has none."""
        assert batch.row is not None
        self.sampler.update(batch.row, priority)

    def set_beta(self, beta: float) -> None:
        """Sets the exponent of the importance weights; a uniform sampler has none."""
        if isinstance(self.sampler, PrioritizedSampler):
            self.sampler.beta.fill_(beta)

    def state(self) -> dict[str, Tensor]:
        """What ``load_state`` needs beside the rows of the ring."""
        return {
            "time": torch.tensor(self.time),
            "first": torch.tensor(self.first),
            "age": torch.from_numpy(self._age),
            "is_final": torch.from_numpy(self._is_final),
            **({"states": self.window.kept_states().cpu()} if isinstance(self.window, SequenceWindow) else {}),
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
        self.ring.time, self.first = time, first
        self._age, self._is_final = age.numpy().copy(), is_final.numpy().copy()
        self._is_observed = False
        if isinstance(self.window, SequenceWindow):
            kept = self.window.kept_states()
            kept.copy_(fitting(state, "states", kept))
        starts = self.window.starts(first, max(first, time - self.window.ahead))
        self.sampler.load_state(torch.from_numpy(starts).to(self.device), part(state, "sampler"))


def make_replay(
    observation_shape: tuple[int, ...],
    observation_dtype: np.dtype[Any],
    config: AgentConfig,
    *,
    num_envs: int,
    frame_stack: int,
    device: torch.device,
    seed: int,
) -> Replay:
    """The replay that a configuration describes; with an LSTM it draws sequences. For the arguments see ``Replay``.

    Raises:
        InvalidConfig: the capacity is too small, or the memory cannot be had.
    """
    sequences = None
    if config.lstm is not None:
        # Those that lie wholly in a full replay must be a batch, or there would never be an update.
        steps = max(frame_stack, 2) + config.n_step + config.sequence_length
        rounds = -(-config.batch_size // num_envs)
        least = (-(-steps // config.sequence_period) + rounds) * config.sequence_period * num_envs
        if config.replay_capacity < least:
            raise InvalidConfig(
                f"replay_capacity is {config.replay_capacity:,}; with {num_envs} environments a batch of "
                f"{config.batch_size} sequences needs {least:,}"
            )
        sequences = {
            "length": config.sequence_length,
            "period": config.sequence_period,
            "burn_in": config.burn_in,
            "state_size": config.lstm,
            "stores": config.sequence_state == "stored",
        }
    return Replay(
        observation_shape,
        observation_dtype,
        capacity=config.replay_capacity,
        num_envs=num_envs,
        frame_stack=frame_stack,
        n_step=config.n_step,
        gamma=config.gamma,
        reward_clip=config.reward_clip,
        prioritized=config.prioritized,
        priority_alpha=config.priority_alpha,
        priority_beta=config.priority_beta,
        priority_epsilon=config.priority_epsilon,
        priority_uniform=config.priority_uniform,
        sequences=sequences,
        device=device,
        seed=seed,
    )

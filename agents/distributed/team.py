"""The actors of a run: their blocks, in rounds of one block of each, and how those that die are replaced."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelq.agents.agent import Agent
from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.distributed.actor import Plan, Weights
from pixelq.agents.distributed.block import (
    Block,
    Outcomes,
    Views,
    absent_outcomes,
    absent_views,
    side_by_side,
    state_rows,
)
from pixelq.agents.distributed.engine import Engine, Handle, Ref
from pixelq.agents.errors import ActorLost, RunFailed
from pixelq.agents.runs.progress import duration_text
from pixelq.agents.storage.checkpoint import pack_tensors
from pixelq.agents.training.collector import Restarts
from pixelq.envs import EnvironmentFailed

MOST_DEATHS = 3
"""Deaths of an actor in a row, without a block between them, after which the training fails."""
PATIENCE = 60.0
"""Seconds after which the user is told that the training waits for actors."""
REMINDER = 600.0
"""Seconds after which the user is told again."""
MOST_WAIT = 1800.0
"""Seconds without any actor after which a training that had begun ends; one that starts waits for room."""
TICK = 0.5
"""Seconds between two looks at whether a signal asks to stop."""


@dataclass
class Seat:
    """An actor's place: the environments are the same ones if another actor takes it."""

    index: int
    plan: Callable[[int], Plan]
    """Returns what an actor plays that is started for the k-th time, from 0 on."""
    first: int
    """Its first environment among all."""
    num_envs: int
    """Number of its environments."""
    starts: int = 0
    """Number of actors that have been started here."""
    deaths: int = 0
    """Number of them that have died since the last block."""
    actor: Handle = None
    begun: Ref = None
    """What the actor shows first; None once it plays."""
    blocks: deque[tuple[Ref, int]] = field(default_factory=deque)
    """Blocks that are being played or wait to be taken, each with the agent step at which it was asked for."""

    @property
    def plays(self) -> bool:
        """Whether the actor plays, and does not only start."""
        return self.actor is not None and self.begun is None


class Round(NamedTuple):
    """A block of all environments; see `Block`."""

    outcomes: Outcomes
    views: Views
    states: list[int]  # the views that have the LSTM's states
    absent: NDArray[np.bool_]  # [N], environments that nobody plays in this round
    step: int  # agent step at which the oldest of its weights were sent


class _Wait:
    """A wait for actors, of which the user is told once in a while.

    Args:
        warn: Called with a sentence.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn, self._begun, self._due = warn, time.monotonic(), PATIENCE

    @property
    def seconds(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._begun

    def tell(self, what: str) -> None:
        """Tell the user, if that is due, what has not happened so far."""
        if self.seconds > self._due:
            self._due = self.seconds + REMINDER
            self._warn(f"{what} after {duration_text(self.seconds)}")


class Team:
    """The actors of a run.

    All write into the learner's ring in rounds, so that time steps stay those of all environments: a round is a block
    of each actor. An actor that dies leaves its environments unplayed, with rows where no transition starts, until the
    end of the round in which another has begun in its place.

    Args:
        engine: Where actors run.
        seats: Their places.
        agent: Its weights are sent.
        restarts: Notes environments that fail.
        steps: Rows in a block, T.
        period: Time steps between two stored states of the LSTM; None for no states.
        ahead: Blocks that an actor may play beyond the one that the learner takes next. With none, it plays only
            while the learner waits.
        stops: Returns whether a signal asks the run to stop.

    Attributes:
        deaths: Number of actors that have died.
        failure: Why the training cannot go on after the last round, which nobody played; None if it can.
    """

    def __init__(
        self,
        engine: Engine,
        seats: Sequence[Seat],
        agent: Agent,
        restarts: Restarts,
        *,
        steps: int,
        period: int | None,
        ahead: int,
        stops: Callable[[], bool],
    ) -> None:
        self.engine, self.seats, self.agent, self.restarts = engine, list(seats), agent, restarts
        self.steps, self.period, self.ahead, self.stops = steps, period, ahead, stops
        self.deaths = 0
        self.failure: RunFailed | None = None
        self._versions = 0
        self._sent: tuple[int, AgentConfig] | None = None  # updates and configuration of the last version
        self._weights: Ref = None
        self._like: Views | None = None

    @property
    def in_flight(self) -> int:
        """Number of blocks that are being played or wait to be taken."""
        return sum(len(seat.blocks) for seat in self.seats)

    def begin(self) -> Views | None:
        """Start all actors, and return what they show; None if a signal asked to stop before all had begun.

        Raises:
            RunFailed: If an actor dies again and again.
            InvalidConfig, InvalidEnv, EnvironmentFailed: What an actor raised.
        """
        for seat in self.seats:
            self._start(seat)
        shown: dict[int, Views] = {}
        wait = _Wait(self.restarts.warn)
        while len(shown) < len(self.seats):
            if self.stops():
                return None
            wait.tell(f"waiting for actors: {len(shown)} of {len(self.seats)} have started")
            self.engine.ready([seat.begun for seat in self.seats if seat.begun is not None], TICK)
            for seat in self.seats:
                if seat.begun is not None:
                    self._join(seat, shown)
        self._like = Views(*side_by_side([shown[seat.index] for seat in self.seats]))  # type: ignore[arg-type]
        return self._like

    def round(self, now: int) -> Round:
        """Return the next round, whose first row is that of the time step `now`.

        If a signal asks to stop, nobody plays it, nor if all actors have died and none begins for `MOST_WAIT` seconds.

        Raises:
            RunFailed: If an actor dies again and again.
            InvalidConfig, InvalidEnv, EnvironmentFailed: What an actor raised.
        """
        blocks: dict[int, Block] = {}
        oldest = min((seat.blocks[0][1] for seat in self.seats if seat.blocks), default=self.agent.step)
        self._order(now)
        self._await([seat.blocks[0][0] for seat in self.seats if seat.plays])
        for seat in self.seats:
            if seat.plays and not self.stops():
                self._take(seat, blocks)
        joined: dict[int, Views] = {}
        wait = _Wait(self.restarts.warn)
        while not self.stops():
            for seat in self.seats:
                self._join(seat, joined)
            if blocks or joined:
                break
            died, most = f"all actors have died, at step {self.agent.step:,}", duration_text(MOST_WAIT)
            if wait.seconds > MOST_WAIT:
                self.failure = RunFailed(
                    f"{died}, and no other has started within {most}; resume the run when there is room for them"
                )
                break
            wait.tell(f"{died}, which ends the run after {most} if no other starts; none has")
            self.engine.ready([seat.begun for seat in self.seats], TICK)
        return self._whole(now, blocks, joined, oldest)

    def _start(self, seat: Seat) -> None:
        """Start an actor in a seat, which begins once it is there."""
        seat.actor = self.engine.start(seat.plan(seat.starts))
        seat.starts += 1
        seat.begun = self.engine.begin(seat.actor, self._version(), self.agent.step)

    def _version(self) -> Ref:
        """Return the present version of the policy, which is put once."""
        agent = self.agent
        now = (agent.updates, agent.config)
        if self._sent is None or self._sent[0] != now[0] or self._sent[1] is not now[1]:
            self._versions += 1
            self._sent = now
            weights = pack_tensors(dict(agent.network.state_dict()))
            self._weights = self.engine.put(Weights(self._versions, weights, agent.config))
        return self._weights

    def _order(self, now: int) -> None:
        """Let every actor play as far ahead as it may."""
        total = sum(seat.num_envs for seat in self.seats)
        for seat in self.seats:
            while seat.plays and len(seat.blocks) <= self.ahead:
                begun = len(seat.blocks) * self.steps
                step = self.agent.step
                block = self.engine.play(seat.actor, self._version(), step + begun * total, now + begun)
                seat.blocks.append((block, step))

    def _await(self, refs: list[Ref]) -> None:
        """Wait until results are there, or a signal asks to stop."""
        while refs and not self.stops() and len(self.engine.ready(refs, TICK)) < len(refs):
            pass

    def _take(self, seat: Seat, blocks: dict[int, Block]) -> None:
        """Take the next block of a seat, or replace its actor."""
        try:
            blocks[seat.index] = self.engine.get(seat.blocks.popleft()[0])
            seat.deaths = 0
        except ActorLost as error:
            self._replace(seat, error)
        except EnvironmentFailed as error:
            self.restarts.note(error)
            self._replace(seat, None)

    def _join(self, seat: Seat, joined: dict[int, Views]) -> None:
        """Let an actor play from now on if it has begun, and note what it shows; replace it if it has died."""
        if seat.begun is None or not self.engine.ready([seat.begun], 0.0):
            return
        begun, seat.begun = seat.begun, None
        try:
            joined[seat.index] = self.engine.get(begun).views
        except ActorLost as error:
            self._replace(seat, error)

    def _replace(self, seat: Seat, error: ActorLost | None) -> None:
        """Start another actor in a seat.

        Args:
            seat: The seat.
            error: How its actor died; None if that is known, and it has not.

        Raises:
            RunFailed: If too many have died one after another.
        """
        self.engine.stop(seat.actor)
        seat.blocks.clear()
        if error is not None:
            self.deaths += 1
            seat.deaths += 1
            at = f"at step {self.agent.step:,}"
            if seat.deaths >= MOST_DEATHS:
                times = f"{seat.deaths} times before it played a block"
                raise RunFailed(f"actor {seat.index} has died {times} ({error}), {at}{self.restarts.kept()}")
            self.restarts.warn(f"actor {seat.index} has died ({error}), {at}; a new actor replaces it")
        self._start(seat)

    def _whole(self, now: int, blocks: dict[int, Block], joined: dict[int, Views], oldest: int) -> Round:
        """Return the round that blocks make, with rows without steps where there is none."""
        assert self._like is not None
        states = state_rows(now, self.steps, self.period)
        outcomes, views, absent = list[Outcomes](), list[Views](), list[bool]()
        for seat in self.seats:
            block, last, size = blocks.get(seat.index), joined.get(seat.index), seat.num_envs
            absent += [block is None] * size
            if block is not None:
                outcomes.append(block.outcomes)
                views.append(block.views)
            else:
                kept = len(states), self.agent.config.lstm or 0
                outcomes.append(absent_outcomes(self.steps, size, joins=last is not None))
                views.append(absent_views(self._like, self.steps, size, kept, last))
        return Round(
            Outcomes(*side_by_side(outcomes)),  # type: ignore[arg-type]
            Views(*side_by_side(views)),  # type: ignore[arg-type]
            states,
            np.array(absent),
            oldest,
        )

    def stop(self) -> None:
        """End all actors."""
        for seat in self.seats:
            if seat.actor is not None:
                self.engine.stop(seat.actor)
            seat.actor = seat.begun = None
            seat.blocks.clear()

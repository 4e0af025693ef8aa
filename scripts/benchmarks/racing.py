"""What runs in the process of a race's entry: its clock, and the interface of its agent. Imports no PyTorch."""

from __future__ import annotations

import importlib
import os
import signal
import time
from collections import deque
from collections.abc import Sequence
from importlib.metadata import version
from multiprocessing.connection import Connection
from statistics import fmean
from typing import Any, NamedTuple, Protocol

from pixelq.agents.errors import RunFailed, UserError
from pixelq.scripts.main import let_threads_sleep

GAMES = 30
"""Number of the last whole games whose mean raw return is an entry's score."""


class Conditions(NamedTuple):
    """What is the same for all entries of a race."""

    env: str
    """ID of an Atari environment."""
    protocol: str
    """Name of the rules that all play by."""
    to_score: float
    """Score to reach."""
    device: str
    """`cpu` or `cuda`."""


class Entry(NamedTuple):
    """An entry of a race; its module is imported only in its process."""

    name: str
    """Name in figures."""
    module: str
    """Module in this folder."""
    racer: str
    """Class in it; it is given the conditions, the seed and the options."""
    distribution: str | None = None
    """Name in the package index, for the version; None for what is no package."""
    options: dict[str, Any] = {}  # noqa: RUF012  # a tuple's defaults are never written
    """Further keyword arguments of the class."""
    is_ours: bool = False
    """Whether it is an agent of ours, whose threads sleep while they wait, as in `pixelq train`."""


class Described(NamedTuple):
    """What a process first says of its entry."""

    version: str | None
    """Version of its package; None for what is no package."""
    settings: dict[str, Any]
    """Settings as JSON values."""


class Refused(NamedTuple):
    """Why an entry cannot race."""

    why: str
    """A sentence for the user."""


class Report(NamedTuple):
    """How far an entry is at the end of a slice of time."""

    seconds: float
    """Seconds for which it has trained; those of other entries do not count."""
    steps: int
    """Agent steps taken."""
    games: int
    """Whole games played."""
    score: float | None
    """Mean raw return of the last `GAMES` games, or of all if there are fewer; None before the first."""
    seconds_to_score: float | None
    """Seconds after which `GAMES` games had the score to reach; None if they have not yet."""
    threads: int
    """Number of PyTorch's threads."""


class Racer(Protocol):
    """An agent of some library with its environments."""

    def settings(self) -> dict[str, Any]:
        """Return the settings as JSON values, with their source."""

    def train(self, clock: Clock) -> None:
        """Train, and let the clock tick after each step of all environments, until the training ends by itself."""


class Clock:
    """The time of an entry, which passes only in its slices.

    Args:
        connection: Connection to the process that gives slices, each as the entry's own seconds at its end.
        to_score: Score to reach.
    """

    def __init__(self, connection: Connection, to_score: float) -> None:
        self._connection, self._to_score = connection, to_score
        self._last: deque[float] = deque(maxlen=GAMES)
        self._steps = self._games = 0
        self._own = 0.0  # seconds up to the beginning of the present slice
        self._to_score_after: float | None = None

    def start(self) -> None:
        """Wait for the first slice."""
        self._until: float = self._connection.recv()
        self._since = time.perf_counter()

    def tick(self, steps: int, returns: Sequence[float] = ()) -> None:
        """Count a step; at the end of a slice, and at the score to reach, report and wait for the next slice.

        Args:
            steps: Agent steps taken so far.
            returns: Raw returns of the whole games that the last one ended.
        """
        now = self._own + time.perf_counter() - self._since
        has_arrived = False
        if returns:
            self._games += len(returns)
            self._last.extend(returns)
            is_enough = len(self._last) == GAMES and fmean(self._last) >= self._to_score
            if is_enough and self._to_score_after is None:
                self._to_score_after, has_arrived = now, True
        self._steps = steps
        if has_arrived or now >= self._until:
            self._report(now)

    def rest(self) -> None:
        """Let all further time pass without a step, because the training has ended."""
        self._report(self._own + time.perf_counter() - self._since)
        while True:
            self._report(self._until)

    def _report(self, now: float) -> None:
        """Report, and wait for the next slice; without the other process, this one ends."""
        torch = importlib.import_module("torch")  # by name, since its threads are chosen before it is loaded
        score = fmean(self._last) if self._last else None
        report = Report(now, self._steps, self._games, score, self._to_score_after, torch.get_num_threads())
        try:
            self._connection.send(report)
            self._until = self._connection.recv()
        except (EOFError, OSError):
            os._exit(0)
        self._own, self._since = now, time.perf_counter()


def race_on(connection: Connection, entry: Entry, conditions: Conditions, seed: int) -> None:
    """Describe an entry, then train it slice by slice; the main function of a process.

    Args:
        connection: Connection to the process that gives slices.
        entry: The entry.
        conditions: What is the same for all.
        seed: Seed of the weights, the games and every random choice.
    """
    os.dup2(2, 1)  # stdout belongs to the parent
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    if entry.is_ours:
        let_threads_sleep()
    try:
        module = importlib.import_module(f"{__package__}.{entry.module}")
        racer: Racer = getattr(module, entry.racer)(conditions, seed, **entry.options)
        found = None if entry.distribution is None else version(entry.distribution)
        connection.send(Described(found, racer.settings()))
        clock = Clock(connection, conditions.to_score)
        clock.start()
        racer.train(clock)
        clock.rest()
    except (UserError, RunFailed) as error:
        connection.send(Refused(str(error)))
    except (EOFError, BrokenPipeError):
        pass  # the parent has ended

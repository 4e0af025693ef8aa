"""Cells that are handed to a launcher, until each has finished or failed for good."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pixelq.agents.distributed.needs import Need
from pixelq.agents.distributed.process import Job, Outcome, ask_to_stop
from pixelq.agents.distributed.states import QUEUED, RUNNING, CellState, state_of
from pixelq.agents.runs.progress import FAILED


class Launcher(Protocol):
    """Runs cells somewhere, and says which have ended."""

    def expect(self, jobs: Sequence[Job], needs: Mapping[str, Need]) -> None:
        """Check that some more cells can run, before they are submitted.

        Raises:
            UserError: If one cannot.
        """

    def submit(self, jobs: Sequence[Job]) -> list[Job]:
        """Take the first of some cells, as many as there is room for, and return them."""

    def ended(self) -> list[tuple[str, Outcome]]:
        """Return the cells that have ended since this was asked last, and how."""

    def stop(self) -> None:
        """Ask all cells to stop with a checkpoint, and wait for them."""

    def close(self) -> None:
        """Stop what still runs, and give back what was taken."""


class RunningCells:
    """Cells of a sweep or a search, and what is left to do of them.

    Args:
        out: Folder in which they have their run folders.
        retries: Times that one that failed is tried again.
        launcher: Where they run.

    Attributes:
        states: How each stands, by name.
        running: Names of those that the launcher has.
    """

    def __init__(self, out: Path, retries: int, launcher: Launcher) -> None:
        self.out, self.retries, self.launcher = out, retries, launcher
        self.jobs: dict[str, Job] = {}
        self.states: dict[str, CellState] = {}
        self.running: set[str] = set()
        self._waiting: list[Job] = []
        self._dropped: set[str] = set()
        self._tries: dict[str, int] = {}
        self._last_steps: dict[str, int] = {}  # step at which each was stopped last

    @property
    def is_busy(self) -> bool:
        """Whether anything is left to do."""
        return bool(self._waiting or self.running)

    def add(self, jobs: Iterable[Job]) -> None:
        """Take up cells; those that have finished are skipped."""
        for job in jobs:
            name = job.cell.name
            self.jobs[name], self._tries[name], self._last_steps[name] = job, 0, -1
            self.states[name] = self._read(name)
            if not self.states[name].is_finished:
                self._waiting.append(job)

    def is_over(self, name: str) -> bool:
        """Return whether nothing more will be done for a cell: it has finished, or failed for good."""
        return name not in self.running and all(job.cell.name != name for job in self._waiting)

    def poll(self) -> bool:
        """Hand what waits to the launcher, and note what has ended; return whether anything has."""
        if self._waiting:
            taken = self.launcher.submit(self._waiting)
            self._waiting = self._waiting[len(taken) :]
            self.running |= {job.cell.name for job in taken}
        ended = self.launcher.ended()
        for name, outcome in ended:
            self.running.discard(name)
            self._end(name, outcome)
        return bool(ended)

    def drop(self, names: Collection[str]) -> None:
        """Leave cells out from now on: those that run are asked to stop with a checkpoint."""
        self._dropped |= set(names)
        self._waiting = [job for job in self._waiting if job.cell.name not in names]
        for name in names:
            if name in self.running:
                ask_to_stop(self.out, name)

    def read(self) -> None:
        """Read how those stand that run."""
        for name in self.running:
            self.states[name] = self._read(name)

    def _end(self, name: str, outcome: Outcome) -> None:
        """Note that a cell's process has ended; it goes on, or is tried again, if anything is left."""
        self.states[name] = state = self._read(name)
        if state.is_finished or name in self._dropped:
            return
        has_moved, self._last_steps[name] = state.step > self._last_steps[name], state.step
        # One that ended well but has not finished had fewer steps to take, as a job from before these were raised
        if outcome.is_failure or not has_moved:
            self._tries[name] += 1
            problem = outcome.said or f"exit code {outcome.code}"
            self.states[name] = dataclasses.replace(state, state=FAILED, tries=self._tries[name], problem=problem)
        if self._tries[name] <= self.retries:
            self._waiting.append(self.jobs[name])

    def _read(self, name: str) -> CellState:
        state = state_of(self.out, name, self.jobs[name].cell.steps)
        if name in self.running and state.state not in RUNNING and not state.is_finished:
            state = dataclasses.replace(state, state=QUEUED, problem=None)
        return state

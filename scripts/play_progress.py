"""How far games that are being played are, on standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pixelq.agents.results.formatting import pluralize

FIRST, EVERY = 5.0, 30.0
"""Seconds up to the first line without a terminal, and between two lines."""


class PlayProgress:
    """A bar on a terminal, and else a line every half minute; a context that ends with the games.

    Args:
        what: What is counted, such as `episodes`.
        total: How many there are.
        done: How many are done already.
    """

    def __init__(self, what: str, total: int, done: int = 0) -> None:
        self.what, self.total, self.done, self.steps = what, total, done, 0
        console = Console(stderr=True)
        self._is_terminal = console.is_terminal
        columns = TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[steps]}")
        self._bar = Progress(
            *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
        )
        self._task = self._bar.add_task(what, total=total, completed=done, steps="")
        self._due = time.monotonic() + FIRST

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._bar.stop()

    def advance(self) -> None:
        """Count one more as done."""
        self.done += 1
        self._bar.advance(self._task)
        self._say()

    def step(self, steps: int) -> None:
        """Count steps that were played."""
        self.steps += steps
        self._say()

    def _say(self) -> None:
        """Show the steps, or print a line if one is due."""
        played = pluralize(self.steps, "step") if self.steps else ""
        if self._is_terminal:
            self._bar.update(self._task, steps=played)
        elif time.monotonic() >= self._due:
            self._due = time.monotonic() + EVERY
            print(f"{self.done:,} of {self.total:,} {self.what}{played and f', {played}'}", file=sys.stderr, flush=True)

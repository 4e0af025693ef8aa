"""How the cells of a sweep stand, as a table that is kept up to date, or as a line a minute."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, JustifyMethod
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pixelq.agents.distributed.states import RUNNING, STATES, CellState
from pixelq.agents.errors import printable
from pixelq.agents.results.formatting import plain_score
from pixelq.agents.runs.progress import FINISHED, duration_text

LINE_SECONDS = 60.0
"""Seconds between two lines where there is no terminal."""
HEADINGS = ("run", "state", "step", "of", "%", "steps/s", "score", "left")
ORDER = {state: place for place, state in enumerate(("failed", *sorted(RUNNING), "queued", "stopped", "silent"))}
"""States whose cells come first where there is no room for all."""


class LiveTable:
    """Something that is shown on stderr while runs are trained, and kept up to date where that is a terminal.

    Args:
        console: Where to show it; None for stderr.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        self._due = 0.0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()


class SweepTable(LiveTable):
    """Shows how cells stand: a table on a terminal, a line a minute elsewhere; see `LiveTable`."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(console)
        self._last = ""
        self._said: dict[str, str] = {}

    def show(self, cells: Sequence[CellState]) -> None:
        """Show how the cells stand; what has failed is told once."""
        if self._live is not None:
            room = max(5, self.console.size.height - 6)
            self._live.update(Group(table_of(_first(cells, room)), Text(line_of(cells))), refresh=True)
            return
        for cell in cells:
            if cell.problem is not None and self._said.get(cell.name) != (said := f"{cell.tries} {cell.problem}"):
                self._said[cell.name] = said
                times = f" ({cell.tries} times)" if cell.tries > 1 else ""
                print(f"{cell.name} failed{times}: {printable(cell.problem)}", file=sys.stderr, flush=True)
        line, is_over = line_of(cells), all(cell.is_finished for cell in cells)
        if time.monotonic() >= self._due or (is_over and line != self._last):
            self._due, self._last = time.monotonic() + LINE_SECONDS, line
            print(line, file=sys.stderr, flush=True)


def table_of(cells: Sequence[CellState]) -> Table:
    """Return a table with a line for each cell; where it is too wide for the terminal, names take several lines."""
    rows = [_cells(cell) for cell in cells]
    table = Table(box=None, pad_edge=False)
    table.add_column(HEADINGS[0], overflow="fold")
    for heading, *column in list(zip(HEADINGS, *rows, strict=True))[1:]:
        justify: JustifyMethod = "left" if heading == "state" else "right"
        table.add_column(heading, justify=justify, no_wrap=True, min_width=max(map(len, (heading, *column))))
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def line_of(cells: Sequence[CellState]) -> str:
    """Return how all cells stand, in a line."""
    number = Counter(cell.state for cell in cells)
    parts = [f"{number[state]} {state}" for state in STATES if number[state]]
    steps, speed = sum(cell.step for cell in cells), sum(cell.steps_per_second or 0.0 for cell in cells)
    parts.append(f"{steps:,} of {sum(cell.steps for cell in cells):,} steps")
    if speed:
        parts.append(f"{speed:,.0f} steps/s")
        left = sum(max(0, cell.steps - cell.step) for cell in cells if cell.state != FINISHED) / speed
        parts.append(f"{duration_text(left)} left")
    return f"{len(cells)} runs: {', '.join(parts)}"


def _first(cells: Sequence[CellState], room: int) -> Sequence[CellState]:
    """Return the cells for which there is room, those that run before others, in their order."""
    if len(cells) <= room:
        return cells
    chosen = sorted(range(len(cells)), key=lambda i: ORDER.get(cells[i].state, len(ORDER)))[:room]
    return [cells[i] for i in sorted(chosen)]


def _cells(cell: CellState) -> tuple[str, ...]:
    score = cell.last_evaluation.mean if cell.last_evaluation is not None else cell.last_return
    return (
        cell.name,
        cell.state,
        f"{cell.step:,}",
        f"{cell.steps:,}",
        f"{min(1.0, cell.step / cell.steps):.0%}" if cell.steps else "-",
        "-" if cell.steps_per_second is None else f"{cell.steps_per_second:,.0f}",
        "-" if score is None else plain_score(score),
        "-" if cell.seconds_left is None else duration_text(cell.seconds_left),
    )

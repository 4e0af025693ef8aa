"""How a search stands: its trials as lines, and its runs as a table that is kept up to date on a terminal."""

from __future__ import annotations

import sys
import time
from collections import Counter

from rich.console import Console, Group
from rich.text import Text

from pixelq.agents.distributed.tune_folder import COMPLETE, PRUNED, RUNNING, STATES, TrialState, TuneStatus
from pixelq.agents.errors import printable
from pixelq.scripts.sweep_table import LINE_SECONDS, LiveTable, line_of, table_of


class TuneTable(LiveTable):
    """Shows how a search stands: a line for each trial that ends, and how its runs stand; see `LiveTable`.

    These are a table on a terminal, and a line a minute elsewhere.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(console)
        self._told = set[int]()
        self._has_begun = False

    def show(self, status: TuneStatus) -> None:
        """Show how the search stands; a trial that has ended is told once, and none that had before."""
        ended = [trial for trial in status.trials if trial.state != RUNNING and trial.number not in self._told]
        self._told |= {trial.number for trial in ended}
        for trial in ended if self._has_begun else ():
            self._say(printable(trial_line(trial)))
        self._has_begun = True
        line = trials_line(status)
        if self._live is not None:
            room = max(1, self.console.size.height - 6)
            self._live.update(Group(table_of(status.cells[:room]), Text(line)), refresh=True)
        elif time.monotonic() >= self._due:
            self._due = time.monotonic() + LINE_SECONDS
            self._say(f"{line}; {line_of(status.cells)}" if status.cells else line)

    def _say(self, line: str) -> None:
        if self._live is not None:
            self._live.console.print(Text(line))
        else:
            print(line, file=sys.stderr, flush=True)


def trial_line(trial: TrialState) -> str:
    """Return how a trial stands, in a line."""
    said = trial.state
    if trial.state == COMPLETE and trial.value is not None:
        said = f"{trial.value:,.4g}"
    elif trial.state in (PRUNED, RUNNING) and trial.step is not None and trial.last is not None:
        said = f"{trial.state} at step {trial.step:,} with {trial.last:,.4g}"
    elif trial.problem is not None:
        said = f"failed ({trial.problem})"
    return f"trial {trial.number}: {said}; {settings_text(trial)}"


def settings_text(trial: TrialState) -> str:
    """Return the settings of a trial as text."""
    return ", ".join(f"{name} {value}" for name, value in trial.settings.items())


def trials_line(status: TuneStatus) -> str:
    """Return how all trials stand, in a line."""
    number = Counter(trial.state for trial in status.trials)
    parts = [f"{number[state]} {state}" for state in (*STATES[1:], STATES[0]) if number[state]]
    best = "" if status.best is None else f"; best {status.best.value:,.4g} of trial {status.best.number}"
    return f"{len(status.trials)} of {status.total} trials: {', '.join(parts) or 'none'}{best}"


def best_line(best: TrialState) -> str:
    """Return which trial is best, in a line."""
    runs = "1 run" if len(best.runs) == 1 else f"the mean of {len(best.runs)} runs"
    return f"best: trial {best.number} with {best.value:,.4g}, {runs}"

"""Progress for people: a bar on a terminal and in a notebook, and plain lines elsewhere."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.jupyter import JupyterMixin
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column

from pixelq.agents.evaluation.evaluate import Evaluation
from pixelq.agents.runs.progress import EVALUATING, Progress, duration_text
from pixelq.agents.storage.rules import LIMIT
from pixelq.agents.training.options import ProgressStyle

FIRST, EVERY = 5.0, 30.0
"""Seconds until the first plain line, and from one plain line to the next."""


class ProgressLine:
    """Steps, frames, speed, time left, mean return of the last 100 episodes, ε and loss.

    A bar is redrawn in its place. Plain lines suit files (nohup, SLURM, Docker, CI): the first is printed after
    seconds, further ones every half minute.

    Args:
        first_step: Agent step at which this training begins.
        last_step: Agent step at which it ends.
        style: `bar`, `line`, `none`, or `auto` for a bar on a terminal and in a notebook and lines elsewhere.
    """

    def __init__(self, first_step: int, last_step: int, style: ProgressStyle) -> None:
        console = Console(stderr=True)
        if style == "bar" and not console.is_jupyter:
            console = Console(stderr=True, force_terminal=True)
        is_terminal = console.file.isatty() and not console.is_dumb_terminal  # FORCE_COLOR makes no log a terminal
        has_bar = style == "bar" or (style == "auto" and (is_terminal or console.is_jupyter))
        self.is_enabled = style != "none"
        self.is_plain = self.is_enabled and not has_bar
        self.progress = Bar(
            BarColumn(bar_width=16),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} steps"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}", table_column=Column(no_wrap=False)),  # two lines on a narrow terminal
            console=console,
            disable=not has_bar or console.is_jupyter,
        )
        self.task = self.progress.add_task("", total=last_step, completed=first_step, text="")
        self._cell = NotebookCell(self.progress) if has_bar and console.is_jupyter else None
        self._due = time.monotonic() + FIRST
        self._return, self._loss = "-", "-"
        self._said_at = first_step  # the step of the last evaluation that was told of

    def start(self) -> None:
        """Show the bar."""
        self.progress.start()
        if self._cell is not None:
            self._cell.show()

    def stop(self) -> None:
        """Leave the bar as it is, and print below it from now on."""
        self.progress.stop()

    @property
    def is_due(self) -> bool:
        """Whether a plain line is to be printed."""
        return self.is_plain and time.monotonic() >= self._due

    def update(self, row: Mapping[str, Any]) -> None:
        """Show a row of metrics."""
        self._return = "-" if row["return_mean_100"] is None else f"{row['return_mean_100']:.1f}"
        self._loss = "-" if row["loss"] is None else f"{row['loss']:.4f}"
        text = (
            f"left · {row['frames']:,} frames · {row['steps_per_second']:.0f} steps/s · return {self._return} "
            f"(last 100) · ε {row['epsilon']:.3f} · loss {self._loss}"
        )
        self.progress.update(self.task, completed=row["step"], text=text)
        if self._cell is not None:
            self._cell.show()

    def report(self, progress: Progress) -> None:
        """Print a plain line about how far the run is."""
        self._due = time.monotonic() + EVERY
        parts = [f"step {progress.step:,} of {progress.steps:,} ({progress.step / max(progress.steps, 1):.0%})"]
        if progress.phase == EVALUATING:
            parts.append("evaluating")
        if progress.frames != progress.step:
            parts.append(f"{progress.frames:,} frames")
        if progress.steps_per_second is not None:
            parts.append(f"{progress.steps_per_second:,.0f} steps/s")
        if progress.seconds_left is not None and progress.step < progress.steps:
            parts.append(f"{duration_text(progress.seconds_left)} left")
        parts.append("no return yet" if self._return == "-" else f"return {self._return} (last 100 episodes)")
        parts.append(f"epsilon {progress.epsilon:.3f}")  # outputs without a terminal may have no Greek letters
        parts.append(f"loss {self._loss}" if progress.updates else "no updates yet")
        self.say(", ".join(parts))

    def end(self, progress: Progress) -> None:
        """Print the last plain line, unless an evaluation of the last step was told of."""
        if self.is_plain and self._said_at != progress.step:
            self.report(progress)

    def say_evaluation(self, step: int, result: Evaluation) -> None:
        """Print the result of an evaluation."""
        low, high = result.ci95
        self._said_at = step
        cut = f", {result.cut} of them cut off after {LIMIT:,} steps" if result.cut else ""
        self.say(
            f"step {step:,}: mean return {result.mean:.1f} (95% interval {low:.1f} to {high:.1f}) "
            f"over {result.episodes} evaluation episodes{cut}"
        )

    def say(self, line: str) -> None:
        """Print a line, on a terminal above the progress line."""
        if self.is_enabled:
            self.progress.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def warn(self, line: str) -> None:
        """Print a line, or warn of it where nothing is printed."""
        if self.is_enabled:
            self.say(line)
        else:
            warnings.warn(line, stacklevel=2)


class NotebookCell:
    """The output of a notebook's cell, in which something that rich prints is replaced.

    Rich itself needs ipywidgets for this, and draws from a thread of its own.

    Args:
        shown: What is printed.
    """

    def __init__(self, shown: JupyterMixin) -> None:
        self._shown = shown
        self._handle: Any = None

    def show(self) -> None:
        """Print it, or replace what was printed of it."""
        if self._handle is None:
            from IPython.display import display  # which is there in a notebook

            self._handle = display(self._shown, display_id=True)
        else:
            self._handle.update(self._shown)

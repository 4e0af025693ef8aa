"""The progress line on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from pixelq.agents.evaluation.evaluate import LIMIT, Evaluation


class ProgressLine:
    """One line on the terminal: steps, frames, speed, time left, last return, ε and loss.

    Args:
        first_step: Agent step at which this training begins.
        last_step: Agent step at which it ends.
        enabled: Whether to show anything.
    """

    def __init__(self, first_step: int, last_step: int, enabled: bool) -> None:
        self.progress = Progress(
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} steps"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}", table_column=Column(no_wrap=False)),  # two lines on a narrow terminal
            console=Console(stderr=True),
            disable=not enabled,
        )
        self.task = self.progress.add_task("", total=last_step, completed=first_step, text="")

    def update(self, row: Mapping[str, Any]) -> None:
        """Show a row of metrics."""
        last_return = "–" if row["return_mean"] is None else f"{row['return_mean']:.1f}"
        loss = "–" if row["loss"] is None else f"{row['loss']:.4f}"
        text = (
            f"left · {row['frames']:,} frames · {row['steps_per_second']:.0f} steps/s · return {last_return} · "
            f"ε {row['epsilon']:.3f} · loss {loss}"
        )
        self.progress.update(self.task, completed=row["step"], text=text)

    def say_evaluation(self, step: int, result: Evaluation) -> None:
        """Print the result of an evaluation."""
        low, high = result.ci95
        cut = f", {result.cut} of them cut off after {LIMIT:,} steps" if result.cut else ""
        self.say(
            f"step {step:,}: mean return {result.mean:.1f} (95% {low:.1f} to {high:.1f}) "
            f"over {result.episodes} evaluation episodes{cut}"
        )

    def say(self, line: str) -> None:
        """Print a line above the progress line."""
        if not self.progress.disable:
            self.progress.console.print(line, highlight=False, soft_wrap=True)

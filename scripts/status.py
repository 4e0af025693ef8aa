"""`pixelq status`: how far runs are, a line each."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from pixelq.agents.errors import InvalidRun, printable
from pixelq.agents.results.formatting import plain_score
from pixelq.agents.runs.progress import EVALUATING, FINISHED, TRAINING, duration_text
from pixelq.agents.runs.status import MeanAt, Status, read_status, runs_in
from pixelq.scripts.command_line import STDOUT, check_writable, write_json
from pixelq.scripts.flags.status import StatusArgs
from pixelq.scripts.main import run

HEADINGS = ("run", "state", "step", "of", "%", "steps/s", "left", "return", "evaluation", "best")
LEFT = 2
"""Number of columns that are aligned to the left."""


def main(args: StatusArgs) -> None:
    """Print a line for each run, and a sentence for what cannot be read."""
    if args.json not in (None, STDOUT):
        check_writable(args.json, "--json")
    found, problems = [], []
    for folder in dict.fromkeys(args.runs):
        try:
            runs = runs_in(folder)
        except InvalidRun as error:
            problems.append(str(error))
            continue
        for each in runs:
            try:
                found.append(read_status(each))
            except InvalidRun as error:
                problems.append(str(error))
    if args.json is not None:
        write_json([dataclasses.asdict(status) for status in found], args.json)
    elif found:
        print("\n".join(_table([HEADINGS, *map(_cells, found)])))
    problems += [printable(status.problem) for status in found if status.problem is not None]
    for problem in problems:
        print(f"pixelq status: {problem}", file=sys.stderr)
    if problems:
        sys.exit(2)


def _cells(status: Status) -> tuple[str, ...]:
    """Return the columns of a run."""
    is_running = status.state in (TRAINING, EVALUATING)
    speed, left = status.steps_per_second, status.seconds_left if is_running else None
    return (
        printable(status.run, 80),
        _state(status),
        f"{status.step:,}",
        "-" if status.steps is None else f"{status.steps:,}",
        f"{status.step / status.steps:.0%}" if status.steps else "-",
        "-" if speed is None else f"{speed:,.0f}",
        "-" if left is None else duration_text(left),
        _score(status.last_return),
        _evaluation(status.last_evaluation),
        _evaluation(status.best_evaluation),
    )


def _state(status: Status) -> str:
    stop = status.stopped
    if stop is None or status.state != FINISHED:
        return status.state
    return "stopped" if stop.callback is None else f"stopped by {printable(stop.callback, 40)}"


def _score(value: float | None) -> str:
    return "-" if value is None else plain_score(value)


def _evaluation(found: MeanAt | None) -> str:
    return "-" if found is None else f"{_score(found.mean)} at {found.step:,}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, whose columns are as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if column < LEFT else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


if __name__ == "__main__":
    sys.exit(run("status"))

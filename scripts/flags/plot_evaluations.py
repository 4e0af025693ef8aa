"""The flags of `python -m pixelq.scripts.plot_evaluations`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pixelq.scripts.command_line import check_runs, parse


@dataclass(frozen=True)
class PlotArgs:
    """Draw mean returns of evaluations: a panel for each environment, and a curve for each agent over its seeds."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Folders of runs; runs with the same settings belong to one agent."""
    out: Path
    """The PNG file to write."""
    line: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Horizontal line to draw, as ENV=RETURN=NAME; may be repeated."""
    name: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Name of the agent of a run, as FOLDER=NAME; may be repeated. Other agents are named after their settings."""


def read(arguments: Sequence[str]) -> PlotArgs:
    """Return the flags of a command line.

    Raises:
        UserError: If they do not fit.
    """
    args = parse(PlotArgs, "plot_evaluations", arguments)
    check_runs(args.runs)
    return args

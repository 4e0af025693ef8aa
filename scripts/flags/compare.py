"""The flags of `pixelq compare`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pixelq.scripts.command_line import check_runs, optional_value, parse


@dataclass(frozen=True)
class CompareArgs:
    """Compare Atari runs with published curves of the same agents (Castro et al. 2018), million by million frames.

    If a preset has no published curve, its runs are compared with DQN. Settings that differ are listed.
    """

    runs: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint="(required)"),
    ]
    """Folders of runs that have played at least a million frames (250,000 steps)."""
    out: Path | None = None
    """PNG file for a plot of the curves; None for no plot."""
    json: Path | None = None
    """File for the results as JSON; without a value, print them on stdout; None writes none."""


def read(arguments: Sequence[str]) -> CompareArgs:
    """Return the flags of a command line.

    Raises:
        UserError: If they do not fit.
    """
    args = parse(CompareArgs, "compare", optional_value(arguments, "--json"))
    check_runs(args.runs)
    return args

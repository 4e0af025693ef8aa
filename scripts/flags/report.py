"""The flags of `pixelq report`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from pixelq.agents.errors import UserError
from pixelq.scripts.command_line import Modules, check_least, check_runs, parse, split_modules


@dataclass(frozen=True)
class ReportArgs:
    """Write a report on runs: an HTML page with scores, curves and settings that works offline in any browser."""

    runs: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint="(required)"),
    ]
    """Folders of runs; runs that differ only in their seed are grouped."""
    out: Path = Path("report.html")
    """HTML file to write."""
    film: Path | None = None
    """Run, checkpoint or pretrained policy whose best episode is shown; None for the run with the best evaluation."""
    episodes: int = 10
    """Number of episodes to play for the film, of which the best is shown with insight into the network; 0 for none."""
    seed: int = 0
    """Seed of these episodes."""
    device: str = "auto"
    """Device to play on: auto (a GPU if there is one), cpu or cuda."""
    modules: Modules = ()
    """Modules to import first, separated by commas, that register environments; a run's folder alone imports
    nothing."""
    price_per_hour: float | None = None
    """Price of the machine per hour, in any currency, to show the cost of a million frames; None to omit it."""
    name: str | None = None
    """Title of the page; None for the agent and the environment."""


def read(arguments: Sequence[str]) -> ReportArgs:
    """Return the flags of a command line.

    Raises:
        UserError: If they do not fit.
    """
    args = parse(ReportArgs, "report", arguments)
    args = replace(args, modules=split_modules(args.modules))
    check_runs(args.runs)
    check_least(("--episodes", args.episodes, 0), ("--seed", args.seed, 0))
    price = args.price_per_hour
    if price is not None and not (math.isfinite(price) and price >= 0):
        raise UserError(f"--price-per-hour must be a number of at least 0, got {price}")
    return args

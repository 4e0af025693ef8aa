"""`pixelq report`: runs as one page that opens offline in any browser."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pixelq.agents.config.device import resolve_device
from pixelq.agents.errors import RunFailed, UserError
from pixelq.agents.report import ReportOptions, write_report
from pixelq.agents.storage.files import read_regular
from pixelq.scripts.command_line import Modules, check_least, check_writable, import_modules, parse
from pixelq.scripts.main import run


@dataclass(frozen=True)
class ReportArgs:
    """Make a report of runs: a page with figures, curves and settings that opens offline in any browser."""

    runs: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint="(required)"),
    ]
    """Folders of runs; runs that differ only in their seed are taken together."""
    out: Path = Path("report.html")
    """HTML file to write."""
    film: Path | None = None
    """Run, checkpoint or pretrained policy whose best episode is shown; None for the run with the best evaluation."""
    episodes: int = 10
    """Number of episodes that it plays, of which the best is shown with insight into the network; 0 for none."""
    seed: int = 0
    """Seed of these episodes."""
    device: str = "auto"
    """Device to play on: auto (a GPU if there is one), cpu or cuda."""
    modules: Modules = ()
    """Module that registers environments, to import first; a run's folder alone imports none."""
    price_per_hour: float | None = None
    """Price of the machine in any currency, for the cost of a million frames; None leaves the cost out."""
    name: str | None = None
    """Title of the page; None for the agent and the environment."""


def main(arguments: Sequence[str]) -> None:
    """Parse the command line, write the report, and print its path."""
    args = parse(ReportArgs, "report", list(arguments))
    if not args.runs:
        raise UserError("no run is given; give the folder of one or more")
    check_least(("--episodes", args.episodes, 0), ("--seed", args.seed, 0))
    resolve_device(args.device)
    price = args.price_per_hour
    if price is not None and not (math.isfinite(price) and price >= 0):
        raise UserError(f"--price-per-hour must be a number of at least 0, got {price}")
    import_modules(args.modules)
    _check_replaceable(args.out)
    check_writable(args.out, "--out")
    options = ReportOptions(args.film, args.episodes, args.seed, args.device, price, args.name)
    try:
        write_report(args.runs, args.out, options, tell=lambda what: print(what, file=sys.stderr))
    except OSError as error:
        raise RunFailed(f"{args.out} cannot be written ({error.strerror})") from error
    print(f"report: {args.out} ({args.out.stat().st_size / 1e6:.1f} MB)")


def _check_replaceable(out: Path) -> None:
    """Check that nothing but a page would be overwritten, such as a file of the run, or a device.

    Raises:
        UserError: If something else would be.
    """
    try:
        start = read_regular(out)[:100] if os.path.exists(out) else b""
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror}); use another --out file") from error
    if start and not start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise UserError(f"{out} already exists and is no page; use another --out file")


if __name__ == "__main__":
    sys.exit(run("report"))

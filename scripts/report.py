"""``pixelq report``: runs as one page that opens offline in any browser."""

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
from pixelq.scripts.command_line import check_least, check_writable, parse


@dataclass(frozen=True)
class ReportArgs:
    """Make a report of runs: a page with figures, curves and settings that opens offline in any browser."""

    runs: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint="(required)"),
    ]
    """Folders of runs; those that differ in their seed alone are taken together."""
    out: Path = Path("report.html")
    """The HTML file."""
    film: Path | None = None
    """Run, checkpoint or policy of the box whose best episode is shown; None for the run with the best evaluation."""
    episodes: int = 10
    """Games that it plays, of which the best is shown with what the network sees; 0 for none."""
    seed: int = 0
    """Of these games."""
    device: str = "auto"
    """On which it plays: auto (a GPU where there is one), cpu or cuda."""
    price_per_hour: float | None = None
    """Of the machine in any currency, for the cost of a million frames; None leaves it out."""


def main(arguments: Sequence[str]) -> None:
    """Parses the command line, makes the report and says where it is."""
    args = parse(ReportArgs, "report", list(arguments))
    if not args.runs:
        raise UserError("no run is given; give the folder of one or more")
    check_least(("--episodes", args.episodes, 0), ("--seed", args.seed, 0))
    resolve_device(args.device)
    price = args.price_per_hour
    if price is not None and not (math.isfinite(price) and price >= 0):
        raise UserError(f"--price-per-hour is {price}; it must be a number from 0 on")
    _check_replaceable(args.out)
    check_writable(args.out, "--out")
    options = ReportOptions(args.film, args.episodes, args.seed, args.device, price)
    try:
        write_report(args.runs, args.out, options, tell=lambda what: print(what, file=sys.stderr))
    except OSError as error:
        raise RunFailed(f"{args.out} cannot be written ({error.strerror})") from error
    print(f"report: {args.out} ({args.out.stat().st_size / 1e6:.1f} MB)")


def _check_replaceable(out: Path) -> None:
    """Sees that no file but a page is written over, such as one of the run's own, or a device.

    Raises:
        UserError: one would be.
    """
    try:
        start = read_regular(out)[:100] if os.path.exists(out) else b""
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror}); use another --out file") from error
    if start and not start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise UserError(f"{out} is there already and is no page; use another --out file")


if __name__ == "__main__":
    from pixelq.scripts.main import run

    sys.exit(run("report"))

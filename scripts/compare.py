"""`pixelq compare`: training runs beside published learning curves."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from pixelq.agents.errors import RunFailed, UserError
from pixelq.agents.results.comparison import SPREAD, Comparison, compare_run
from pixelq.agents.results.plots import plot_comparisons
from pixelq.envs import PUBLISHED_SOURCE
from pixelq.scripts.command_line import STDOUT, check_writable, optional_value, parse, write_json
from pixelq.scripts.main import run


@dataclass(frozen=True)
class CompareArgs:
    """Compare Atari runs with the published curves of the same agents (Castro et al. 2018), per million frames.

    A run of a preset that was not published is compared with DQN, and the settings that differ are listed.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Folders of runs that have played at least a million frames (250,000 steps)."""
    out: Path | None = None
    """PNG file for a picture of the curves; None draws none."""
    json: Path | None = None
    """File for the figures as JSON; without a value they go to stdout, and None writes none."""


def main(arguments: Sequence[str]) -> None:
    """Parse the command line, compare the runs, and print the figures."""
    args = parse(CompareArgs, "compare", optional_value(list(arguments), "--json"))
    if not args.runs:
        raise UserError("no run is given; give the folder of one or more")
    for flag, path in (("--out", args.out), ("--json", args.json)):
        if path not in (None, STDOUT):
            check_writable(path, flag)
    comparisons = [compare_run(run) for run in args.runs]
    console = Console(stderr=args.json == STDOUT)
    for comparison in comparisons:
        show(comparison, console)
    if args.out is not None:
        try:
            plot_comparisons(comparisons, args.out)
        except OSError as error:
            raise RunFailed(f"the picture cannot be written to {args.out} ({error.strerror})") from error
    if args.json is not None:
        write_json([comparison.to_json() for comparison in comparisons], args.json, indent=2)


def show(comparison: Comparison, console: Console) -> None:
    """Print a comparison as a table."""
    agent = comparison.published.agent
    table = Table(
        title=f"{comparison.run} · {comparison.env} · mean return of training episodes",
        title_justify="left",
        caption=f"{agent}: {PUBLISHED_SOURCE}, mean ± std over seeds. Inside: within {SPREAD:g} std of the mean.",
        caption_justify="left",
    )
    for column in ("million frames", "episodes", "run", agent, "deviations"):
        table.add_column(column, justify="right")
    table.add_column("verdict")
    for million in comparison.millions:
        table.add_row(
            str(million.frames_millions),
            f"{million.episodes:,}",
            f"{million.mean:.2f}",
            f"{million.published_mean:.2f} ± {million.published_std:.2f}",
            f"{million.deviations:+.1f}",
            "" if comparison.differs else "inside" if million.is_inside else "outside",
        )
    console.print(table)
    if comparison.differs:
        different = ", ".join(comparison.differs)
        console.print(f"No verdict: it is not the published {agent} but differs in {different}.", highlight=False)


if __name__ == "__main__":
    sys.exit(run("compare"))

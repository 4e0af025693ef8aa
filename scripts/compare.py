"""`pixelq compare`: training runs beside published learning curves."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from pixelq.agents.errors import RunFailed
from pixelq.agents.results.comparison import SPREAD, Comparison, compare_run
from pixelq.agents.results.plots import plot_comparisons
from pixelq.envs import PUBLISHED_SOURCE
from pixelq.scripts.command_line import STDOUT, check_writable, write_json
from pixelq.scripts.flags.compare import CompareArgs
from pixelq.scripts.main import run


def main(args: CompareArgs) -> None:
    """Compare the runs, and print the figures."""
    for flag, path in (("--out", args.out), ("--json", args.json)):
        if path not in (None, STDOUT):
            check_writable(path, flag)
    comparisons = [compare_run(run) for run in args.runs]
    console = Console(stderr=args.json == STDOUT, markup=False)
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
        said = f"No verdict: the run differs from the published {agent} in {different}."
        console.print(said, highlight=False, markup=False)


if __name__ == "__main__":
    sys.exit(run("compare"))

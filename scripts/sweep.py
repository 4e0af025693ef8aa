"""`pixelq sweep`: many runs, on this machine or a cluster, and how they stand."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from pixelq.agents.distributed.folder import sweep_status
from pixelq.agents.distributed.spec import names_modules, read_values
from pixelq.agents.distributed.states import CellState
from pixelq.agents.distributed.sweep import LaunchOptions, sweep
from pixelq.agents.errors import RunFailed, UserError, printable
from pixelq.agents.report import ReportOptions, write_report
from pixelq.scripts.command_line import STDOUT, allow_working_folder, write_json
from pixelq.scripts.flags.sweep import SweepArgs
from pixelq.scripts.main import run
from pixelq.scripts.sweep_table import SweepTable, line_of, table_of

REPORT = "report.html"
NAMED = 5
"""Most failures that are named in a sentence."""


def main(args: SweepArgs) -> None:
    """Run a sweep, or show how one stands.

    Raises:
        RunFailed: If cells have failed for good.
    """
    if args.status is not None:
        return _show(sweep_status(args.status), args)
    assert args.out is not None
    values = read_values(args.spec_file)
    if names_modules(values):
        allow_working_folder()
    options = LaunchOptions(args.launcher, args.jobs, args.cpus, args.gpus, args.ray_address, args.slurm)
    with SweepTable() as table:
        result = sweep(values, args.out, options, table.show)
    print(f"scores: {result.scores} and {result.scores.with_suffix('.csv').name}")
    if args.report:
        _report([args.out / cell.name for cell in result.cells if cell.is_finished], args.out / REPORT)
    if result.failed:
        raise RunFailed(_failures(result.failed, args.out))


def _show(cells: Sequence[CellState], args: SweepArgs) -> None:
    if args.json:
        return write_json([dataclasses.asdict(cell) for cell in cells], STDOUT)
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table_of(cells))
    print(line_of(cells))
    for cell in cells:
        if cell.problem is not None:
            print(f"pixelq sweep: {cell.name}: {printable(cell.problem)}", file=sys.stderr)


def _report(runs: Sequence[Path], out: Path) -> None:
    """Write the report of the cells that have finished; without its libraries, say what they are."""
    if not runs:
        return
    try:
        write_report(runs, out, ReportOptions(episodes=0))
    except (UserError, OSError) as error:  # such as a missing extra, or cells that are of one agent
        print(f"pixelq sweep: no report was written: {error}", file=sys.stderr)
    else:
        print(f"report: {out}")


def _failures(failed: Sequence[CellState], out: Path) -> str:
    named = ", ".join(f"{cell.name} ({cell.problem})" if cell.problem else cell.name for cell in failed[:NAMED])
    more = f" and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
    runs = "1 run has" if len(failed) == 1 else f"{len(failed)} runs have"
    return f"{runs} failed: {named}{more}; see {out / 'logs'}"


if __name__ == "__main__":
    sys.exit(run("sweep"))

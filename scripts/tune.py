"""`pixelq tune`: a search of settings with Optuna, and how it stands."""

from __future__ import annotations

import dataclasses
import sys

from rich.console import Console

from pixelq.agents.distributed.spec import names_modules, read_values
from pixelq.agents.distributed.study import TuneOptions
from pixelq.agents.distributed.sweep import LaunchOptions
from pixelq.agents.distributed.tune import tune
from pixelq.agents.distributed.tune_folder import TRIALS, TuneStatus, tune_status
from pixelq.agents.errors import RunFailed, printable
from pixelq.scripts.command_line import STDOUT, allow_working_folder, write_json
from pixelq.scripts.flags.tune import TuneArgs
from pixelq.scripts.main import run
from pixelq.scripts.sweep_table import table_of
from pixelq.scripts.tune_table import TuneTable, best_line, settings_text, trial_line, trials_line


def main(args: TuneArgs) -> None:
    """Run a search, or show how one stands.

    Raises:
        RunFailed: If no trial is complete at the end.
    """
    if args.status is not None:
        return _show(tune_status(args.status), args)
    assert args.out is not None
    values = read_values(args.spec_file)
    if names_modules(values):
        allow_working_folder()
    options = LaunchOptions(args.launcher, args.jobs, args.cpus, args.gpus, args.ray_address, args.slurm)
    search = TuneOptions(args.trials, args.sampler, args.pruner, args.seed)
    with TuneTable() as table:
        status = tune(values, args.out, options, search, table.show)
    print(f"trials: {args.out / TRIALS} and {(args.out / TRIALS).with_suffix('.csv').name}")
    _print_best(status)
    if status.best is None:
        problem = next((trial.problem for trial in reversed(status.trials) if trial.problem), None)
        raise RunFailed(
            f"no trial is complete, of {len(status.trials)}" + (f"; the last: {problem}" if problem else "")
        )


def _show(status: TuneStatus, args: TuneArgs) -> None:
    if args.json:
        best = None if status.best is None else status.best.number
        return write_json({**dataclasses.asdict(status), "best": best}, STDOUT)
    for trial in status.trials:
        print(printable(trial_line(trial)))
    if status.cells:
        Console(width=None if sys.stdout.isatty() else 200).print(table_of(status.cells))
    print(trials_line(status))
    _print_best(status)


def _print_best(status: TuneStatus) -> None:
    """Print the best trial, what mattered, and the command that trains with its settings."""
    if status.best is None:
        return
    print(best_line(status.best))
    print(f"  {settings_text(status.best)}")
    if status.importances:
        print("importance: " + ", ".join(f"{name} {share:.2f}" for name, share in status.importances.items()))
    print(status.command)


if __name__ == "__main__":
    sys.exit(run("tune"))

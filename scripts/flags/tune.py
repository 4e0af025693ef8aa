"""The flags of `pixelq tune`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pixelq.scripts.command_line import check_least
from pixelq.scripts.flags.sweep import SlurmParameters, read_launch


@dataclass(frozen=True)
class TuneArgs:
    """Search the settings with which an agent scores best, each trained as runs of a sweep, with Optuna.

    SPEC.toml is that of a sweep with one preset, and has under [search] fields of the agent, each with a range
    {low = 1e-5, high = 1e-2, log = true}, a list of values, or {} for the field's own range; a list of names, search =
    [...], takes all ranges from the fields. A trial is one setting, trained in all envs with all seeds; its value is
    the mean of the final evaluations. Started again, a search goes on where it was stopped or killed.
    """

    spec: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SPEC.toml", help_behavior_hint="(required)")
    ] = ()
    """File that says what to train, and what to search; none with --status."""
    out: Path | None = None
    """Folder of the search, with its study in study.db; required without --status."""
    status: Path | None = None
    """Show instead how the search in a folder stands, which may run anywhere; nothing is started or written."""
    trials: int = 30
    """Trials in all, those of former starts included."""
    sampler: Literal["tpe", "random"] = "tpe"
    """How settings are drawn: by the tree-structured Parzen estimator, which learns from trials that ended, or
    uniformly."""
    pruner: Literal["median", "hyperband", "none"] = "median"
    """Which trials are stopped early, by their evaluations: those below the median of the others, those that Hyperband
    does not promote, or none."""
    seed: int = 0
    """Seed of what is drawn; the seeds of the runs are those of SPEC.toml."""
    launcher: Literal["local", "ray", "slurm"] = "local"
    """Where runs are trained: on this machine, as tasks of a Ray cluster, or as jobs of SLURM."""
    jobs: int | None = None
    """Most runs at once, of as many trials as that makes; None for as many as this machine has room for, and on Ray and
    SLURM for 8."""
    cpus: int = 1
    """Cores of a run on Ray and SLURM; on this machine, runs share all cores."""
    gpus: float | None = None
    """Share of a GPU, in [0, 1], that a run takes; None for a whole one where there is one, and on SLURM for none."""
    ray_address: str | None = None
    """HOST:PORT or ray://HOST:PORT of a Ray cluster; None for the one that runs here, or else a new one."""
    slurm: SlurmParameters = field(default_factory=dict)
    """Parameter KEY of the jobs, by its name in submitit: partition, time (minutes), mem, qos, account, ...; may be
    repeated."""
    json: bool = False
    """With --status, print JSON instead of a table."""

    @property
    def spec_file(self) -> Path:
        """The specification."""
        return self.spec[0]


def read(arguments: Sequence[str]) -> TuneArgs:
    """Return the flags of a command line.

    Raises:
        UserError: If they do not fit.
    """
    args = read_launch(TuneArgs, "tune", "search", arguments)
    if args.status is None:
        check_least(("--trials", args.trials, 1), ("--seed", args.seed, 0))
    return args

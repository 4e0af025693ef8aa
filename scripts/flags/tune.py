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
    """Search for the settings with which an agent scores best, with Optuna and the runs of a sweep.

    SPEC.toml is that of a sweep with one preset. Under [search], it has fields of the agent, each with a list of
    values, with a range as in {low = 1e-5, high = 1e-2, log = true}, or with {} for the default range; a list of names,
    as in search = [...], uses default ranges only. A trial is one combination of settings, trained in all envs with
    all seeds; its value is the mean of the final evaluations. If you start a search again, it continues.
    """

    spec: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SPEC.toml", help_behavior_hint="(required)")
    ] = ()
    """File that specifies the runs and the search; omit it with --status."""
    out: Path | None = None
    """Folder of the search, with its study in study.db; required without --status."""
    status: Path | None = None
    """Print the progress of the search in this folder instead; works on any machine that can read it."""
    trials: int = 30
    """Total number of trials, including those of earlier starts."""
    sampler: Literal["tpe", "random"] = "tpe"
    """How settings are drawn: tpe, the tree-structured Parzen estimator, learns from trials that have ended; random
    does not."""
    pruner: Literal["median", "hyperband", "none"] = "median"
    """Which trials are stopped early: those below the median of the others, those that Hyperband does not promote, or
    none."""
    seed: int = 0
    """Seed of the drawn settings; the seeds of the runs are those of SPEC.toml."""
    launcher: Literal["local", "ray", "slurm"] = "local"
    """Where runs are trained: on this machine (local), as tasks of a Ray cluster, or as SLURM jobs."""
    jobs: int | None = None
    """Maximum number of runs at once; None for as many as fit on this machine, and 8 on Ray and SLURM."""
    cpus: int = 1
    """CPU cores per run on Ray and SLURM; on this machine, the runs share all cores."""
    gpus: float | None = None
    """Share of a GPU, in [0, 1], for each run; None for a whole GPU if there is one, and on SLURM for none."""
    ray_address: str | None = None
    """HOST:PORT or ray://HOST:PORT of a Ray cluster; None for the cluster of this machine, or else a new one."""
    slurm: SlurmParameters = field(default_factory=dict)
    """Parameter KEY of the jobs, as named in submitit: partition, time (minutes), mem, qos, account, ...; may be
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

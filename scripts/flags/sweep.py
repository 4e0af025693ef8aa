"""The flags of `pixelq sweep`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from pixelq.agents.errors import UserError
from pixelq.scripts.command_line import Args, check_least, parse, take_values

SlurmParameters = Annotated[
    dict[str, Any],
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="VALUE",
        instance_from_str=lambda words: {},
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [str(value)],
    ),
    tyro.conf.arg(name="slurm.KEY"),
]
"""Type of the field for `--slurm.KEY VALUE`, which `take_values` reads."""


@dataclass(frozen=True)
class SweepArgs:
    """Train every combination of environments, presets, seeds and settings, each run in its own folder in --out.

    SPEC.toml contains the lists envs (atari5, atari26 and atari57 stand for their games), presets and seeds; steps;
    under [agent], fields of the agent with a value or a list of values; and other flags of train, such as num_envs. If
    you start a sweep again, it skips finished runs, continues the others, and adds what is new in SPEC.toml.
    """

    spec: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SPEC.toml", help_behavior_hint="(required)")
    ] = ()
    """File that specifies the runs; omit it with --status."""
    out: Path | None = None
    """Folder of the sweep; required without --status."""
    status: Path | None = None
    """Print the progress of the sweep in this folder instead; works on any machine that can read it."""
    launcher: Literal["local", "ray", "slurm"] = "local"
    """Where runs are trained: on this machine (local), as tasks of a Ray cluster, or as SLURM jobs."""
    jobs: int | None = None
    """Maximum number of runs at once; None for as many as fit: one per core, or one per share of a GPU, within
    memory."""
    cpus: int = 1
    """CPU cores per run on Ray and SLURM; on this machine, the runs share all cores."""
    gpus: float | None = None
    """Share of a GPU, in [0, 1], for each run; None for a whole GPU if there is one, and on SLURM for none."""
    ray_address: str | None = None
    """HOST:PORT or ray://HOST:PORT of a Ray cluster; None for the cluster of this machine, or else a new one."""
    slurm: SlurmParameters = field(default_factory=dict)
    """Parameter KEY of the jobs, as named in submitit: partition, time (minutes), mem, qos, account, ...; may be
    repeated."""
    report: bool = True
    """Write report.html at the end, if the extra report is installed."""
    json: bool = False
    """With --status, print JSON instead of a table."""

    @property
    def spec_file(self) -> Path:
        """The specification."""
        return self.spec[0]


def read(arguments: Sequence[str]) -> SweepArgs:
    """Return the flags of a command line.

    Raises:
        UserError: If they do not fit.
    """
    return read_launch(SweepArgs, "sweep", "sweep", arguments)


def read_launch(kind: type[Args], verb: str, noun: str, arguments: Sequence[str]) -> Args:
    """Return the flags of a verb that launches what a SPEC.toml says, or shows how that stands.

    Args:
        kind: The dataclass of the flags, with those of `SweepArgs` that are read here.
        verb: Name of the command after `pixelq`.
        noun: What it launches.
        arguments: The command line without the command.

    Raises:
        UserError: If they do not fit.
    """
    arguments, slurm = take_values(arguments, "--slurm", "partition gpu")
    args: Any = replace(parse(kind, verb, arguments), slurm=slurm)  # type: ignore[type-var]
    if args.status is not None:
        if replace(args, status=None, json=False) != kind():
            raise UserError("--status starts nothing; give no other flag with it than --json")
        return cast(Args, args)
    if len(args.spec) != 1:
        raise UserError(
            f"one SPEC.toml must be given, got {len(args.spec)}; or --status DIR to see how a {noun} stands"
        )
    if args.out is None:
        raise UserError(f"--out is missing; give the folder of the {noun}")
    if args.json:
        raise UserError("--json is for --status; give that too, or leave it out")
    check_least(("--jobs", args.jobs, 1), ("--cpus", args.cpus, 1))
    return cast(Args, args)

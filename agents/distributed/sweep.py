"""A sweep: many runs, by one of three launchers, until each has finished or failed for good."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pixelq.agents.config.integers import checked_integer
from pixelq.agents.distributed.cells import cells_of
from pixelq.agents.distributed.folder import SweepFolder
from pixelq.agents.distributed.local import LocalLauncher
from pixelq.agents.distributed.needs import needs_of
from pixelq.agents.distributed.process import Job
from pixelq.agents.distributed.ray_launcher import RayLauncher
from pixelq.agents.distributed.running import Launcher, RunningCells
from pixelq.agents.distributed.scores import write_scores
from pixelq.agents.distributed.slurm import SlurmLauncher
from pixelq.agents.distributed.spec import Spec, read_values, spec_of
from pixelq.agents.distributed.states import CellState
from pixelq.agents.errors import UserError
from pixelq.agents.storage.files import user_path
from pixelq.agents.storage.json_values import is_number
from pixelq.agents.training.signals import act_on, stop_signals

LauncherName = Literal["local", "ray", "slurm"]
POLL = 0.2
"""Seconds between two looks at what has ended."""
REFRESH = 1.0
"""Seconds between two reports."""
Watch = Callable[[Sequence[CellState]], None]


@dataclass(frozen=True)
class LaunchOptions:
    """How cells are run."""

    launcher: LauncherName = "local"
    """Where they run: processes on this machine, tasks on a Ray cluster, or jobs of SLURM."""
    jobs: int | None = None
    """Most cells at once; None for as many as there is room for."""
    cpus: int = 1
    """Cores of a cell on Ray and SLURM; on this machine, cells share all."""
    gpus: float | None = None
    """Share of a GPU that a cell takes; None for a whole one where there are any, and on SLURM for none."""
    ray_address: str | None = None
    """Address of a Ray cluster; None for the one that Ray finds, or else a new one on this machine."""
    slurm: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Parameters of the jobs, by submitit's names, such as `partition`, and `time` in minutes."""


@dataclass(frozen=True)
class SweepResult:
    """What has become of a sweep."""

    cells: tuple[CellState, ...]
    """How its cells stand."""
    scores: Path
    """The file scores.json."""

    @property
    def failed(self) -> list[CellState]:
        """The cells that have not finished, which have failed for good: a sweep that is stopped has no result."""
        return [state for state in self.cells if not state.is_finished]


def sweep(
    spec: Spec | Mapping[str, Any] | str | os.PathLike[str],
    out: str | os.PathLike[str],
    options: LaunchOptions | None = None,
    watch: Watch = lambda _: None,
) -> SweepResult:
    """Train all cells of a sweep, each in a process of its own, and write their scores.

    Cells that have finished are skipped, and those that were interrupted go on from their last checkpoint. One that
    fails is tried again `retries` times. SIGINT and SIGTERM stop all of them with a checkpoint, and then act as ever.

    Args:
        spec: What the cells are: a `Spec`, the values of one, or its file.
        out: Folder of the sweep, in which each cell has its run folder.
        options: How cells are run; None for processes on this machine.
        watch: Called about once a second with how the cells stand.

    Raises:
        UserError: If the specification or the options do not fit; then nothing is written.
        InvalidEnv: If an environment cannot be made.
        RunFailed: If the folder or the launcher fails.
    """
    options = options or LaunchOptions()
    check_options(options)
    if not isinstance(spec, Spec):
        spec = spec_of(spec if isinstance(spec, Mapping) else read_values(spec))
    cells = cells_of(spec)
    folder = SweepFolder(Path(os.path.abspath(user_path(out))))
    launcher = None
    try:
        jobs = [Job(cell, folder.out) for cell in cells]
        launcher = make_launcher(jobs, options)
        folder.begin(cells)
    except BaseException:
        if launcher is not None:
            launcher.close()
        folder.discard()
        raise
    try:
        received: list[int] = []
        running = RunningCells(folder.out, spec.retries, launcher)
        running.add(jobs)
        with stop_signals(received):
            _run(running, received, watch)
        act_on(received)
        return SweepResult(tuple(running.states.values()), write_scores(folder.out, cells))
    finally:
        try:
            launcher.close()
        finally:
            folder.close()


def _run(running: RunningCells, received: list[int], watch: Watch) -> None:
    """Run cells until nothing is left to do, or a signal is received, which stops all of them with a checkpoint."""
    watch(list(running.states.values()))
    due = time.monotonic() + REFRESH
    while running.is_busy and not received:
        running.poll()
        if time.monotonic() >= due:
            due = time.monotonic() + REFRESH
            running.read()
            watch(list(running.states.values()))
        time.sleep(POLL)
    if received:
        running.launcher.stop()
    running.read()
    watch(list(running.states.values()))


def check_options(options: LaunchOptions) -> None:
    """Check how cells are to be run.

    Raises:
        UserError: If an option does not fit.
    """
    names = get_args(LauncherName)
    if options.launcher not in names:
        raise UserError(f"`launcher` must be one of {', '.join(names)}, got {options.launcher!r:.80}")
    for name in ("jobs", "cpus"):
        if getattr(options, name) is not None:
            checked_integer(f"`{name}`", getattr(options, name), 1)
    if options.gpus is not None and not (is_number(options.gpus) and 0 <= options.gpus <= 1):
        raise UserError(f"`gpus` must be in [0, 1], since a run learns on one GPU, got {options.gpus!r:.80}")
    if options.ray_address is not None and options.launcher != "ray":
        raise UserError("`ray_address` is for `launcher=ray`; give that too, or leave it out")
    if options.slurm and options.launcher != "slurm":
        raise UserError("`slurm` is for `launcher=slurm`; give that too, or leave it out")


def make_launcher(jobs: Sequence[Job], options: LaunchOptions) -> Launcher:
    """Return the launcher that is asked for, which has checked that it can be used.

    Raises:
        UserError: If it cannot.
        InvalidEnv: If an environment cannot be made.
    """
    needs = needs_of(job.cell for job in jobs)
    if options.launcher == "ray":
        return RayLauncher(jobs, needs, options.jobs, options.cpus, options.gpus, options.ray_address)
    if options.launcher == "slurm":
        return SlurmLauncher(jobs, needs, options.jobs, options.cpus, options.gpus, options.slurm)
    return LocalLauncher(jobs, needs, options.jobs, options.gpus)

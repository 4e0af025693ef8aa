"""The launcher `slurm`: arrays of jobs through submitit, which are requeued at their time limit and when preempted."""

from __future__ import annotations

import itertools
import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pixelq.agents.distributed import held
from pixelq.agents.distributed.needs import Need
from pixelq.agents.distributed.process import LOGS, STOP, Job, Outcome, StopFile, outcome_of, run_cell
from pixelq.agents.errors import MissingExtra, RunFailed, UserError, how_to_install, one_line
from pixelq.agents.storage.files import read_regular, replace_file
from pixelq.agents.storage.json_values import MOST_JSON, is_count

JOBS = "slurm.json"
"""File in the folder of logs with the job of each cell, for a sweep that is started again."""
FILES = "slurm"
"""Folder in it with what submitit writes; its pickles are read by the jobs alone."""
REQUEUES = 10_000
"""Times that a job is requeued at its time limit."""
MINUTES = 240
"""Time limit of a job in minutes, at which it is requeued; submitit's own is five."""
DELAY = 90
"""Seconds before its time limit at which a job is signalled and begins to write its checkpoint; submitit's default."""
MOST_JOBS = 1000
"""Most jobs of an array, which SLURM limits to 1,001 unless it is set up otherwise."""
POLL = 5.0
"""Seconds between two questions to SLURM."""
ANSWER_SECONDS = 20.0
"""Seconds in which SLURM must answer."""


class CellTask:
    """What a job runs; submitit asks it for a checkpoint before the job's time is up, or when it is preempted."""

    def __call__(self, job: Job) -> None:
        """Run a cell."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})  # held back until submitit could heed it
        run_cell(job, StopFile(job.sweep / LOGS / STOP))

    def checkpoint(self, job: Job) -> Any:
        """Stop the run with a checkpoint, and return what the requeued job runs."""
        import submitit

        stop_children()
        return submitit.helpers.DelayedSubmission(CellTask(), job)


def _python() -> str:
    """Return the command that starts Python in a job, which takes a while to import what it needs."""
    return shlex.join([sys.executable, "-I", "-S", held.__file__])


def stop_children() -> None:
    """Ask the processes that this one has started to stop, and wait for them."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    for child in map(int, children):
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
    for child in map(int, children):
        with suppress(ChildProcessError):
            os.waitpid(child, 0)


class SlurmLauncher:
    """Runs cells as jobs of SLURM, an array for all that are submitted together.

    Args:
        jobs: The cells that may come.
        needs: What each needs, by name.
        most: Most cells at once; None for no limit.
        cpus: Cores of a cell.
        gpu_share: GPUs of a cell, 0 or 1; None for 0.
        parameters: Further parameters, by submitit's names without `slurm_`.

    Raises:
        MissingExtra: If submitit is not installed.
        UserError: If SLURM is absent or does not answer, or a parameter is unknown.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        needs: Mapping[str, Need],
        most: int | None,
        cpus: int,
        gpu_share: float | None,
        parameters: Mapping[str, Any],
    ) -> None:
        try:
            import submitit
        except ImportError as error:
            raise MissingExtra(f"`launcher=slurm` needs submitit: {how_to_install('slurm')}") from error
        if gpu_share not in (None, 0, 1):
            raise UserError(f"`gpus` must be 0 or 1 with `launcher=slurm`, got {gpu_share}")
        self.alive = _alive_jobs()
        self.sweep = jobs[0].sweep
        self.jobs: dict[str, str] = {}
        self.most = most or len(jobs)
        self._submitit, self._is_stopping = submitit, False
        known = submitit.SlurmExecutor._valid_parameters()
        for name in parameters:
            if name not in known:
                raise UserError(f"`slurm` has no parameter {name!r:.80}; submitit has {', '.join(sorted(known))}")
        more = parameters.get("additional_parameters", {})
        if not isinstance(more, Mapping):
            raise UserError(f"`slurm` additional_parameters must be a table, got {more!r:.80}")
        self.parameters: dict[str, Any] = {
            "job_name": "pixelq",
            "cpus_per_task": cpus,
            "array_parallelism": self.most,
            "time": MINUTES,
            "signal_delay_s": DELAY,
            **({"gpus_per_node": 1} if gpu_share else {}),
            **parameters,
            "additional_parameters": {"requeue": True, **more},
        }
        _check_times(self.parameters["time"], self.parameters["signal_delay_s"])
        self._due, self._memory, self._has_mem = 0.0, 0, "mem" in parameters
        self.expect(jobs, needs)

    def expect(self, jobs: Sequence[Job], needs: Mapping[str, Need]) -> None:
        """Ask for memory for some more cells; jobs have as much as the largest of all needs."""
        self._memory = max(self._memory, *(sum(needs[job.cell.name]) for job in jobs))
        if not self._has_mem:
            self.parameters["mem"] = f"{math.ceil(self._memory / 2**20)}M"

    def submit(self, jobs: Sequence[Job]) -> list[Job]:
        """Hand the first cells to SLURM, but for those whose job is still there from before, and return them.

        SLURM runs at most `most` jobs of an array at once. While there are other jobs, a new array has no more than
        these leave free.
        """
        before = {name: own for name, own in self._recorded().items() if own in self.alive}
        others = self.jobs.keys() | before.keys()
        room = min(MOST_JOBS, max(0, self.most - len(others))) if others else MOST_JOBS
        numbers = itertools.accumulate(job.cell.name not in before for job in jobs)  # of new jobs, up to each
        jobs = [job for job, number in zip(jobs, numbers, strict=True) if number <= room]
        if not jobs:
            return []
        folder = self.sweep / LOGS
        folder.mkdir(exist_ok=True)
        (folder / STOP).unlink(missing_ok=True)
        new = [job for job in jobs if job.cell.name not in before]
        self.jobs |= {job.cell.name: before[job.cell.name] for job in jobs if job.cell.name in before}
        if new:
            for job in new:
                (folder / f"{job.cell.name}.json").unlink(missing_ok=True)
            try:
                executor = self._submitit.SlurmExecutor(folder / FILES, max_num_timeout=REQUEUES, python=_python())
                executor.update_parameters(**self.parameters)
                made = executor.map_array(CellTask(), new)
            except Exception as error:  # submitit has several, and SLURM's refusals are among them
                raise RunFailed(f"SLURM does not take the jobs: {one_line(error)}") from error
            self.jobs |= {job.cell.name: one.job_id for job, one in zip(new, made, strict=True)}
            self.alive |= set(self.jobs.values())
        replace_file(folder / JOBS, (json.dumps(self._recorded() | self.jobs) + "\n").encode())
        self._due = time.monotonic() + POLL
        return list(jobs)

    def ended(self) -> list[tuple[str, Outcome]]:
        """Return the cells that have ended since this was asked last, and how."""
        if time.monotonic() < self._due:
            return []
        self._due = time.monotonic() + POLL
        try:
            self.alive = _alive_jobs()
        except UserError:  # asked again soon: jobs take days, and a controller may be restarted
            return []
        gone = [name for name, own in self.jobs.items() if own not in self.alive]
        for name in gone:
            del self.jobs[name]
        return [(name, outcome_of(self.sweep, name) or Outcome(1, "its job ended, and left no word")) for name in gone]

    def stop(self) -> None:
        """Ask all cells to stop with a checkpoint, and wait for them; jobs that have not begun are cancelled."""
        if not self.jobs or self._is_stopping:
            return
        self._is_stopping = True
        (self.sweep / LOGS / STOP).touch()
        left = set(self.jobs.values())
        while left:  # a second signal is heeded in between
            with suppress(UserError):
                _asked("scancel", "--state=PENDING", *sorted(left))  # also those that were requeued just now
            with suppress(UserError):
                left &= _alive_jobs()
            time.sleep(1.0)
        self.jobs.clear()
        (self.sweep / LOGS / STOP).unlink(missing_ok=True)

    def close(self) -> None:
        """Stop what still runs."""
        self.stop()

    def _recorded(self) -> dict[str, str]:
        """Return the job of each cell, as the sweep has written it down."""
        try:
            values = json.loads(read_regular(self.sweep / LOGS / JOBS, MOST_JSON))
            return {name: job for name, job in values.items() if isinstance(job, str)}
        except (OSError, ValueError, AttributeError, RecursionError):
            return {}


def _check_times(minutes: Any, delay: Any) -> None:
    """Check that a job has time to train before it is told that its time is up.

    Raises:
        UserError: If it has none.
    """
    for name, value, unit in (("time", minutes, "minutes"), ("signal_delay_s", delay, "seconds")):
        if not is_count(value) or value < 1:
            raise UserError(f"`slurm` {name} must be an integer number of {unit}, at least 1, got {value!r:.80}")
    if 60 * minutes <= delay:
        raise UserError(f"`slurm` time must be longer than signal_delay_s ({delay} seconds), got {minutes} min")


def _alive_jobs() -> set[str]:
    """Return the ids of the user's jobs that have not ended.

    Raises:
        UserError: If SLURM is absent, or does not answer.
    """
    if shutil.which("sbatch") is None:
        raise UserError("`launcher=slurm` needs SLURM, whose sbatch is not here; start the sweep where jobs are sent")
    return set(_asked("squeue", "--noheader", "--array", "--me", "--format=%i").split())


def _asked(*command: str) -> str:
    """Return what a program of SLURM prints.

    Raises:
        UserError: If it fails.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        said = said if isinstance(said, str) else said.decode(errors="replace")
        raise UserError(f"SLURM does not answer ({' '.join(said.split())[:200]}); is its controller up?") from error
    return done.stdout

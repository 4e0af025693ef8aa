"""One cell in a process of its own: `pixelq train`, with its cores, its log, and how it ended.

Launchers call `run_cell` where the cell is to run, which may be another machine that shares the sweep's folder. Nothing
that it leaves is executed by whoever reads it.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pixelq.agents.distributed import bound
from pixelq.agents.distributed.cells import Cell
from pixelq.agents.errors import InvalidRun, printable
from pixelq.agents.runs.folder import is_in_use
from pixelq.agents.runs.machine import threads_of
from pixelq.agents.runs.status import stop_of
from pixelq.agents.runs.tables import FINAL_EVALUATION, read_config
from pixelq.agents.storage.files import read_regular, replace_file
from pixelq.agents.storage.json_values import MOST_JSON
from pixelq.agents.storage.pointers import CHECKPOINTS, step_folders, step_of
from pixelq.agents.training.signals import STOPPING

PROGRAM = (sys.executable, "-m", "pixelq.scripts.main")
"""Command of `pixelq`, without its verb."""
LOGS = "logs"
"""Folder of a sweep with what its cells printed, and how they ended."""
STOPPED = frozenset(code for number in STOPPING for code in (128 + number, -number))
"""Exit codes of a run that a signal asked to stop: with a checkpoint, or before it could write one."""
STOP = "stop"
"""File in that folder that asks cells on other machines to stop."""
POLL = 0.1
"""Seconds between two looks at a process."""
LOOK = 1.0
"""Seconds between two looks for a file that asks to stop, which may lie on another machine."""
LAST_BYTES = 4096
"""Bytes at the end of a log in which its last line is looked for."""


@dataclass(frozen=True)
class Job:
    """A cell that is to run."""

    cell: Cell
    sweep: Path
    """Folder of the sweep, an absolute path."""
    folder: str = field(default_factory=os.getcwd)
    """Folder in which the command runs, where it may find the user's modules."""
    threads: int | None = None
    """Threads of a new run on a CPU; None for as many as its network is worth."""
    cores: tuple[int, ...] = ()
    """Cores to which the process is bound; none for no bound."""
    gpu: str | None = None
    """GPUs that the process sees, as CUDA names them; None for those of this process."""

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.sweep / self.cell.name


@dataclass(frozen=True)
class Outcome:
    """How a process ended."""

    code: int
    """Exit code, or minus the signal that killed it."""
    said: str = ""
    """Last line that it printed."""

    @property
    def is_failure(self) -> bool:
        """Whether the run failed, and was not stopped by a signal that it heeds."""
        return self.code != 0 and self.code not in STOPPED


class StopFile:
    """Whether a file is there that asks cells to stop, which is looked for from time to time.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._due, self._is_there = 0.0, False

    def __call__(self) -> bool:
        """Return whether the file was there when it was last looked for."""
        if time.monotonic() >= self._due:
            self._due, self._is_there = time.monotonic() + LOOK, self.path.exists()
        return self._is_there


def ask_to_stop(sweep: Path, name: str) -> None:
    """Ask a single cell to stop with a checkpoint, for good, wherever it runs.

    Raises:
        OSError: If the sweep's folder cannot be written.
    """
    (sweep / LOGS).mkdir(exist_ok=True)
    _stop_of(sweep, name).touch()


def _stop_of(sweep: Path, name: str) -> Path:
    """Return the file that asks a single cell to stop."""
    return sweep / LOGS / f"{name}.{STOP}"


def log_of(sweep: Path, name: str) -> Path:
    """Return the file with what a cell printed."""
    return sweep / LOGS / f"{name}.log"


def outcome_of(sweep: Path, name: str) -> Outcome | None:
    """Return how the last process of a cell ended; None if that is not known, or it has not."""
    try:
        values = json.loads(read_regular(sweep / LOGS / f"{name}.json", MOST_JSON))
        code, said = values["code"], values["said"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    is_valid = isinstance(code, int) and not isinstance(code, bool) and isinstance(said, str)
    return Outcome(code, said) if is_valid else None


def run_cell(job: Job, should_stop: Callable[[], bool] = lambda: False) -> Outcome:
    """Begin or continue a cell's run, and wait for its end.

    A run that another process has not let go of yet is waited for, such as that of a sweep that was killed.

    Args:
        job: The cell.
        should_stop: Asked several times a second; if it returns True, the run is asked to stop with a checkpoint.

    Raises:
        OSError: If the sweep's folder cannot be written.
    """
    is_dropped = StopFile(_stop_of(job.sweep, job.cell.name))

    def stops() -> bool:
        return should_stop() or is_dropped()

    while is_in_use(job.run) or is_dropped():
        if stops():
            return Outcome(128 + signal.SIGTERM, "stopped before it began")
        time.sleep(POLL)
    log, ending = log_of(job.sweep, job.cell.name), job.sweep / LOGS / f"{job.cell.name}.json"
    log.parent.mkdir(exist_ok=True)
    ending.unlink(missing_ok=True)
    resume = os.path.lexists(job.run / "config.json")
    words = job.cell.words(job.run, resume=resume, steps=_last_step(job.run) if resume else None)
    folder = job.folder if os.path.isdir(job.folder) else None
    with log.open("ab") as file:
        file.write(f"$ {shlex.join(['pixelq', *words])}\n".encode())
        file.flush()
        process = subprocess.Popen(
            _bound([*PROGRAM, *words], job.cores),
            cwd=folder,
            env=_environment(job),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            process_group=0 if os.name == "posix" else None,  # Ctrl-C is for the sweep, which passes it on once
        )
    code = _wait(process, stops)
    outcome = Outcome(code, _last_line(log))
    replace_file(ending, (json.dumps(asdict(outcome)) + "\n").encode(), synced=False)
    return outcome


def _last_step(run: Path) -> int | None:
    """Return the step at which a callback stopped a run that lacks nothing but its final evaluation; None for others.

    With no more steps than these, the run evaluates its policy and does not train on.
    """
    try:
        stopped, saved = stop_of(read_config(run)), step_folders(run / CHECKPOINTS)
    except (InvalidRun, OSError):
        return None  # what is wrong is for the run to say
    if stopped is None or not saved or step_of(saved[-1]) != stopped.step or (run / FINAL_EVALUATION).exists():
        return None
    return stopped.step


def _wait(process: subprocess.Popen[bytes], should_stop: Callable[[], bool]) -> int:
    """Return the exit code of a process, which is asked to stop if `should_stop` says so, or this process is."""
    asked = False
    while True:
        try:
            if not asked and should_stop():
                asked = True
                process.terminate()
            return process.wait(POLL)
        except subprocess.TimeoutExpired:
            continue
        except BaseException:  # a signal's; the run writes its checkpoint
            process.terminate()
            process.wait()
            raise


def _environment(job: Job) -> dict[str, str]:
    """Return the environment variables of a cell's process.

    A run that goes on has the number of threads that it had, on which the rounding of sums depends.
    """
    found = dict(os.environ)
    threads = threads_of(job.run) or job.threads
    if threads is None:
        found.pop("OMP_NUM_THREADS", None)
    else:
        found["OMP_NUM_THREADS"] = str(threads)
    if job.gpu is not None:
        found["CUDA_VISIBLE_DEVICES"] = job.gpu
    return found


def _bound(command: Sequence[str], cores: Sequence[int]) -> list[str]:
    """Return a command that also stops when this process dies, and runs on some cores; see `bound`."""
    if not sys.platform.startswith("linux"):
        return list(command)
    program = [sys.executable, "-I", "-S", bound.__file__]
    return [*program, str(os.getpid()), ",".join(map(str, cores)), *command]


def _last_line(log: Path) -> str:
    """Return the last line of a log, to be shown."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    said = next((line for line in reversed(lines) if line.strip()), "")
    return "" if said.startswith("$ ") else printable(said, 300)

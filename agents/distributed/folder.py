"""The folder of a sweep: sweep.json, which says what its cells are, under a lock that searches share."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pixelq.agents.distributed.cells import Cell
from pixelq.agents.distributed.states import CellState, state_of
from pixelq.agents.errors import InvalidRun, InvalidSpec, one_line
from pixelq.agents.runs.status import read_status
from pixelq.agents.storage.files import read_regular, replace_file, user_path
from pixelq.agents.storage.json_values import is_count
from pixelq.agents.storage.pointers import CHECKPOINTS, step_folders, step_of

SWEEP = "sweep.json"
TUNE = "tune.json"
"""File that a search has in place of sweep.json."""
LOCK = ".sweep.lock"
MOST_BYTES = 2**28
"""Size of the longest sweep.json that is read."""


class LockedFolder:
    """A folder of many runs, held by a lock that ends with its process.

    Args:
        out: The folder; created if it is missing.
        kind: What is done there, a noun.
        file: Name of the file that says that it has begun.

    Raises:
        InvalidRun: If it cannot be written, or is in use.
    """

    def __init__(self, out: Path, kind: str, file: str) -> None:
        self.out, self.file = out, file
        self._new = [path for path in (out, *out.parents) if not os.path.exists(path)]  # innermost first
        lock = out / LOCK
        if os.path.islink(lock) or (os.path.exists(lock) and os.stat(lock).st_nlink > 1):  # locking it empties it
            raise InvalidRun(f"{lock} must not be a link; remove it")
        try:
            out.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(lock)
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise InvalidRun(f"another {kind} runs in {out}; wait for it, stop it, or use another `out`") from error
        except OSError as error:
            raise InvalidRun(f"{out} cannot be written ({error.strerror}); use another `out`") from error

    def discard(self) -> None:
        """Remove what was made here before it was refused; nothing of others."""
        self.close()
        if not os.path.lexists(self.out / self.file):
            with suppress(OSError):
                (self.out / LOCK).unlink(missing_ok=True)
                for folder in self._new:
                    folder.rmdir()  # if it is empty

    def close(self) -> None:
        """Release the folder."""
        self._lock.release()


class SweepFolder(LockedFolder):
    """The folder of a sweep.

    Args:
        out: The folder; created if it is missing.

    Attributes:
        cells: What sweep.json says of each cell, by name.

    Raises:
        InvalidRun: If it cannot be written, is in use by another sweep, or holds something else.
    """

    def __init__(self, out: Path) -> None:
        if os.path.lexists(out / TUNE):
            raise InvalidRun(f"{out} is the folder of a search; continue it with pixelq tune, or use another `out`")
        self.cells = read_cells(out) if os.path.lexists(out / SWEEP) else {}
        super().__init__(out, "sweep", SWEEP)

    def begin(self, cells: Sequence[Cell]) -> None:
        """Check that the cells fit those that have begun, and write sweep.json.

        Cells that are no longer in the specification keep their run folders, and their entries, which say so.

        Raises:
            InvalidSpec: If a setting of a cell that has begun would be changed.
            InvalidRun: If there is a run of something else.
            OSError: If the file cannot be written.
        """
        records = {cell.name: cell.record() for cell in cells}
        for name, record in records.items():
            if os.path.lexists(self.out / name):
                self._check_unchanged(name, record)
        former = {name: {**record, "is_left_out": True} for name, record in self.cells.items() if name not in records}
        values = {"pixelq": version("pixelq"), "cells": records | former}
        replace_file(self.out / SWEEP, (json.dumps(values, indent=1) + "\n").encode())
        self.cells = records | former

    def _check_unchanged(self, name: str, record: dict[str, Any]) -> None:
        own, elsewhere = self.cells.get(name), "use another `out`"
        if own is None:
            raise InvalidRun(f"{self.out / name} is not of this sweep; move it, or {elsewhere}")
        before, now = ({**each, **each["flags"], "flags": None} for each in (own, record))
        for key in sorted((before.keys() | now.keys()) - {"is_left_out", "steps"}):
            if before.get(key) != now.get(key):
                was = f"{before[key]!r:.80}" if key in before else "left out"
                new = f"{now[key]!r:.80}" if key in now else "nothing"
                raise InvalidSpec(f"{key} must be {was} as in the run {self.out / name}, got {new}; {elsewhere}")
        if record["steps"] < own["steps"]:
            least = _steps_taken(self.out / name, own["steps"])
            if record["steps"] < least:
                raise InvalidSpec(
                    f"steps must be at least {least:,} as in the run {self.out / name}, got {record['steps']:,}; "
                    f"raise it, or {elsewhere}"
                )


def _steps_taken(run: Path, otherwise: int) -> int:
    """Return the steps that a run has taken, without those that several environments took it beyond its last one.

    Args:
        run: Its folder.
        otherwise: What is returned if its files cannot be read.
    """
    try:
        status, saved = read_status(run), step_folders(run / CHECKPOINTS)
    except (InvalidRun, OSError):
        return otherwise
    taken = max(status.step, step_of(saved[-1]) if saved else 0)  # progress.json may be older than the checkpoint
    return min(taken, otherwise if status.steps is None else status.steps)


def read_cells(out: Path) -> dict[str, dict[str, Any]]:
    """Return what sweep.json of a folder says of each cell, by name.

    Raises:
        InvalidRun: If there is no sweep in the folder, or the file is damaged.
    """
    path = out / SWEEP
    try:
        cells = json.loads(read_regular(path, MOST_BYTES))["cells"]
        for name, record in cells.items():
            is_name = name and name not in (".", "..") and Path(name).name == name
            if not is_name or not is_count(record["steps"]) or not isinstance(record["flags"], dict):
                raise ValueError(f"its cell {name!r:.80} is none")
    except OSError as error:
        raise InvalidRun(f"no sweep in {out} ({error.strerror}); give the folder of one") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidRun(f"{path} is damaged ({one_line(error)}); restore the file") from error
    return dict(cells)


def sweep_status(out: str | os.PathLike[str]) -> list[CellState]:
    """Return how the cells of a sweep stand, from its files: nothing is written, and the sweep need not run here.

    Cells that are no longer in the specification are left out.

    Args:
        out: Folder of the sweep.

    Raises:
        InvalidRun: If there is none.
    """
    folder = user_path(out)
    cells = read_cells(folder)
    return [state_of(folder, name, record["steps"]) for name, record in cells.items() if "is_left_out" not in record]

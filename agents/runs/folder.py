"""The folder of a run while it is written: configuration, tables and TensorBoard events, under a lock."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pixelq.agents.errors import InvalidRun
from pixelq.agents.runs.event_file import TAGS, EventFile, has_tensorboard
from pixelq.agents.runs.progress import PROGRESS
from pixelq.agents.runs.replay_files import FOLDER
from pixelq.agents.runs.tables import (
    FINAL_EVALUATION,
    TABLES,
    append_row,
    read_config,
    read_run,
    start_table,
)
from pixelq.agents.runs.tracking import TRACKING
from pixelq.agents.storage.environments import ARGUMENTS, are_same_arguments, is_same_environment
from pixelq.agents.storage.files import replace_file, sync_file, tidy_files
from pixelq.agents.storage.json_values import is_count
from pixelq.agents.storage.pointers import CHECKPOINTS, best_evaluation

LOCK = ".lock"
CHANGES = "changes"
"""Entry of config.json that says how the agent's settings were before they were changed in the middle of the run."""
FREE_SETTINGS = {"cuda_graph", "compile_update", "frame_size", "frame_stack"}
"""Fields of the agent's configuration that may change when a run is resumed; the environments fix what is seen."""
LOOK_SECONDS = 0.5
"""Seconds in which another process that only looks whether a run is in use lets go of its lock."""


def changes_of(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the changes of the agent's settings in a run: the step of the first checkpoint after each, and old values.

    Raises:
        InvalidRun: If they are no such changes.
    """
    changes = config.get(CHANGES, [])
    if not isinstance(changes, list) or not all(
        isinstance(each, dict) and is_count(each.get("step")) and isinstance(each.get("before"), dict)
        for each in changes
    ):
        raise InvalidRun(f"{CHANGES} in config.json must be a list of steps and settings; restore the file")
    return changes


def settings_at(config: Mapping[str, Any], step: int) -> dict[str, Any]:
    """Return the agent's settings with which a run went on from its checkpoint of a step.

    Args:
        config: Contents of config.json.
        step: The step.

    Raises:
        InvalidRun: If the file is damaged.
    """
    settings = dict(config["agent"])
    for change in reversed(changes_of(config)):
        if change["step"] > step:
            settings |= change["before"]
    return settings


def is_in_use(out: Path) -> bool:
    """Return whether another process writes a run; what is no lock, or cannot be locked, counts as no use."""
    lock = out / LOCK
    if os.path.islink(lock) or not os.path.isfile(lock) or os.stat(lock).st_nlink > 1:  # locking it empties it
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


class RunFolder:
    """The folder of one run, held by a lock that ends with its process.

    Args:
        out: The folder; created if it is missing.
        resume: Whether to go on with the run in it.

    Attributes:
        config: What config.json contained; empty for a new run.
        evaluations: Rows of evaluations.csv, as text by column.

    Raises:
        InvalidRun: If the folder cannot be written, is in use by another process, already holds a run, or holds none to
            resume.
    """

    def __init__(self, out: Path, resume: bool = False) -> None:
        self.out = out
        self.checkpoints = out / CHECKPOINTS
        self.config: dict[str, Any] = {}
        self._description: dict[str, Any] = {}  # contents of config.json now
        self.evaluations: list[dict[str, str]] = []
        self.tensorboard: EventFile | None = None
        self._columns: dict[str, list[str]] = {}  # of the tables
        self._new = [path for path in (out, *out.parents) if not os.path.exists(path)]  # innermost first
        try:
            self._check_has_no_links()
            if not resume:
                self._check_is_new()
                self.checkpoints.mkdir(parents=True, exist_ok=True)
            elif not out.is_dir():
                raise InvalidRun(f"no run in {out}; give the folder of a run")
            self._lock = FileLock(out / LOCK)
            self._lock.acquire(timeout=LOOK_SECONDS)
            self._lock_id = self._id_of_lock()
        except Timeout as error:
            raise InvalidRun(f"{out} is in use by another process; wait for it, or stop it") from error
        except OSError as error:
            raise InvalidRun(f"{out} cannot be written ({error.strerror}); use another `out`") from error
        try:
            if resume and any(self.checkpoints.glob("step_*")):
                self.config, _, self.evaluations = read_run(out)
            elif resume:  # stopped before its first checkpoint, and perhaps before its first table
                self.config = read_config(out)
        except InvalidRun:
            self.close()
            raise

    def _check_has_no_links(self) -> None:
        """Check that the run's folders, in which files are removed, and its lock lie in the run itself."""
        for path in (self.checkpoints, self.checkpoints / FOLDER, *self.checkpoints.glob("replay_*"), self.out / LOCK):
            if os.path.islink(path):
                raise InvalidRun(f"{path} must not be a link; put what it leads to in its place")
        lock = self.out / LOCK
        if os.path.exists(lock) and os.stat(lock).st_nlink > 1:  # locking it empties it
            raise InvalidRun(f"{lock} must not be a hard link to another file; remove it")

    def _id_of_lock(self) -> tuple[int, int]:
        status = os.stat(self.out / LOCK)
        return status.st_dev, status.st_ino

    def check_lock(self) -> None:
        """Check that the folder is still this process's alone.

        Raises:
            OSError: If the lock's file is no longer there, so that another process may have locked a new one.
        """
        try:
            is_own = self._id_of_lock() == self._lock_id
        except FileNotFoundError:
            is_own = False
        if not is_own:
            why = f"its file {LOCK} was deleted or replaced, or its folder moved, so another process may write there"
            raise OSError(errno.ESTALE, why)

    def _check_is_new(self) -> None:
        """Check that there is no run that would be overwritten."""
        for path in (self.out / "config.json", *(self.out / f"{name}.csv" for name in TABLES)):
            if path.exists():
                raise InvalidRun(
                    f"{self.out} already holds a run ({path.name}); use `resume=True` to continue it, or another `out`"
                )
        if self.checkpoints.exists() and any(self.checkpoints.iterdir()):
            raise InvalidRun(f"{self.checkpoints} already holds files; use another `out`")

    def check_settings(self, description: Mapping[str, Any], step: int) -> None:
        """Check that the run goes on from a step with its own environment, protocol, seed and agent.

        Raises:
            InvalidRun: If one of them is different.
        """
        of_agent = description["agent"].keys() - FREE_SETTINGS
        if not are_same_arguments(self.config, description[ARGUMENTS]):
            own, new = self.config.get(ARGUMENTS, {}), description[ARGUMENTS]
            raise InvalidRun(
                f"the arguments of the environments must be {own!r:.200} as in the run in {self.out}, got {new!r:.200}"
            )
        is_same = is_same_environment(self.config.get("env", description["env"]), description["env"])
        for own, new, names in (
            (self.config, description, (*(() if is_same else ("env",)), "protocol", "seed")),
            (settings_at(self.config, step), description["agent"], of_agent),
        ):
            for name in names:
                if own.get(name, new[name]) != new[name]:
                    raise InvalidRun(
                        f"{name} must be {own[name]!r:.80} as in the run in {self.out}, got {new[name]!r:.80}"
                    )

    def begin(self, description: Mapping[str, Any], step: int, metrics: Sequence[str] = ()) -> None:
        """Write config.json, cut the tables off after a step, open an event file, and remove the final evaluation.

        Without TensorBoard there is no event file.

        Args:
            description: Contents of config.json.
            step: The step.
            metrics: Further columns of metrics.csv.

        Raises:
            InvalidRun: If a table is damaged.
            OSError: If something cannot be written.
        """
        tidy_files(self.out)
        changes = [change for change in changes_of(description) if change["step"] <= step]
        self._description = {name: description[name] for name in description if name != CHANGES}
        self.describe(**({CHANGES: changes} if changes else {}))
        for name, columns in TABLES.items():
            more = metrics if name == "metrics" else ()
            path, last_step = self.out / f"{name}.csv", step if self.config else 0  # {} for a new run
            self._columns[name] = start_table(path, [*columns, *more], last_step)
        (self.out / FINAL_EVALUATION).unlink(missing_ok=True)
        self.evaluations = read_run(self.out).evaluations
        if has_tensorboard():
            self.tensorboard = EventFile(self.out, purge_step=step + 1 if self.config else None)
            self.tensorboard.describe(description)

    def describe(self, **entries: Any) -> None:
        """Write config.json, with further entries from now on.

        Raises:
            OSError: If it cannot be written.
        """
        self._description |= entries
        replace_file(self.out / "config.json", (json.dumps(self._description, indent=2) + "\n").encode())

    def note_settings(self, settings: Mapping[str, Any], step: int) -> None:
        """Write the agent's settings into config.json if they have changed since the last checkpoint.

        What they were before is kept there, for a run that is resumed from an earlier checkpoint.

        Args:
            settings: The settings.
            step: Step of the checkpoint that is about to be written.

        Raises:
            OSError: If it cannot be written.
        """
        old = self._description["agent"]
        before = {name: old.get(name) for name in settings if old.get(name) != settings[name]}
        if before:
            changes = [*changes_of(self._description), {"step": step, "before": before}]
            self.describe(agent=dict(settings), **{CHANGES: changes})

    def has_evaluation(self, step: int) -> bool:
        """Return whether the evaluation of a step has been written."""
        return any(row["step"] == str(step) for row in self.evaluations)

    def best(self) -> tuple[int, float] | None:
        """Return step and mean of the best evaluation so far, the first of equals; None before the first."""
        return best_evaluation((int(row["step"]), float(row["mean"])) for row in self.evaluations)

    def add_metrics(self, row: Mapping[str, Any]) -> None:
        """Append a row to metrics.csv and its scalars to the event file."""
        self._append("metrics", row)

    def add_evaluation(self, row: Mapping[str, Any]) -> None:
        """Append a row to evaluations.csv and its scalars to the event file."""
        self.evaluations.append(self._append("evaluations", row))

    def _append(self, name: str, row: Mapping[str, Any]) -> dict[str, str]:
        self.check_lock()
        cells = append_row(self.out / f"{name}.csv", self._columns[name], row)
        for key, tag in TAGS[name].items():
            if self.tensorboard is not None and row.get(key) is not None:
                self.tensorboard.scalar(tag, row[key], row["step"])
        return cells

    def sync(self) -> None:
        """Flush all rows to the disk, before a checkpoint that relies on them."""
        self.check_lock()
        for name in TABLES:
            sync_file(self.out / f"{name}.csv")
        if self.tensorboard is not None:
            self.tensorboard.flush()

    def discard(self) -> None:
        """Remove what a new run has written before its first step; nothing of others."""
        written = ["config.json", *(f"{name}.csv" for name in TABLES), PROGRESS, TRACKING, LOCK]
        if self.tensorboard is not None:
            written.append(self.tensorboard.name)
        with suppress(OSError):
            for name in written:
                (self.out / name).unlink(missing_ok=True)
            for folder in (self.checkpoints, *self._new):
                folder.rmdir()  # if it is empty

    def close(self) -> None:
        """Close the event file and release the folder."""
        try:
            if self.tensorboard is not None:
                self.tensorboard.close()
        except OSError:
            pass  # a full disk has been reported already
        finally:
            self._lock.release()

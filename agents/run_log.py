"""What a run tells: its folder, metrics.csv and evaluations.csv, and TensorBoard."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from pixelq.agents.checkpoint import MOST_JSON, one_line
from pixelq.agents.evaluation import Evaluation
from pixelq.agents.event_file import EventFile
from pixelq.agents.files import read_regular, replace_file, sync

METRICS = (
    "step frames episodes return_mean return_median length_mean loss q_mean epsilon updates "
    "steps_per_second wall_seconds restarts q_discrepancy"
).split()
EVALUATIONS = "step episodes mean median std ci95_low ci95_high human_normalized".split()
MOST_TABLE = 2**30
"""Bytes of the longest table that is read."""
TABLES = {"metrics": METRICS, "evaluations": EVALUATIONS}
FINAL_EVALUATION = "final_evaluation.json"
"""What the best policy of a finished run scored in games that it was not chosen by."""
COUNTS = "step frames episodes".split()
OPTIONAL = "return_mean return_median length_mean loss q_mean human_normalized q_discrepancy".split()
"""Columns whose cells may be empty."""
_KINDS: dict[str, Any] = {"agent": dict, "resumed": list}


class InvalidRun(ValueError):
    """A run's folder that cannot be used; the message says why, and what would be right."""


class RunLog:
    """The folder of one run, held by a lock that ends with its process.

    Args:
        out: the folder; made if it is not there.
        resume: go on with the run that is there.

    Attributes:
        config: what config.json held; empty for a new run.

    Raises:
        InvalidRun: the folder cannot be written, is another process's, holds a run already, or has none to resume.
    """

    def __init__(self, out: Path, resume: bool = False) -> None:
        self.out = out
        self.checkpoints = out / "checkpoints"
        self.config: dict[str, Any] = {}
        self.evaluations: list[dict[str, str]] = []
        self.tensorboard: EventFile | None = None
        try:
            if not resume:
                self._check_is_new()
                self.checkpoints.mkdir(parents=True, exist_ok=True)
            elif not out.is_dir():
                raise InvalidRun(f"{out} holds no run; give a run's folder")
            self._lock = FileLock(out / ".lock")
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise InvalidRun(f"{out} is in use: another process writes this run; wait for it, or stop it") from error
        except OSError as error:
            raise InvalidRun(f"{out} cannot be written ({error.strerror}); use another --out") from error
        try:
            if resume and any(self.checkpoints.glob("step_*")):
                self.config, _, self.evaluations = read_run(out)
            elif resume:  # a run that had come to no checkpoint, and perhaps to no table
                self.config = read_config(out)
        except InvalidRun:
            self.close()
            raise

    def _check_is_new(self) -> None:
        """Sees that no run is there that would be written over."""
        for path in (self.out / "config.json", *(self.out / f"{name}.csv" for name in TABLES)):
            if path.exists():
                raise InvalidRun(
                    f"{self.out} already holds a run ({path.name}); use --resume to go on with it, or another --out"
                )
        if self.checkpoints.exists() and any(self.checkpoints.iterdir()):
            raise InvalidRun(f"{self.checkpoints} already holds files; use another --out")

    def check_settings(self, description: Mapping[str, Any]) -> None:
        """Sees that the run goes on with its own environment, seed and agent.

        Raises:
            InvalidRun: one is another.
        """
        of_agent = description["agent"].keys() - {"cuda_graph", "frame_stack"}  # fits() sees to the stack
        of_run = ("env", "protocol", "flicker", "seed")
        for own, new, names in (
            (self.config, description, of_run),
            (self.config["agent"], description["agent"], of_agent),
        ):
            for name in names:
                if own.get(name, new[name]) != new[name]:
                    raise InvalidRun(
                        f"the run in {self.out} has {name} {own[name]!r:.80}, not {new[name]!r:.80}; go on with its own"
                    )

    def begin(self, description: Mapping[str, Any], step: int) -> None:
        """Writes config.json, cuts off the tables' rows from after a step, and opens the event file.

        What was written at an earlier end of the run is removed.

        Raises:
            InvalidRun: a table is damaged.
            OSError: something cannot be written.
        """
        replace_file(self.out / "config.json", (json.dumps(description, indent=2) + "\n").encode())
        for name, columns in TABLES.items():
            path = self.out / f"{name}.csv"
            if step > 0:
                _cut_after(path, step, columns)
            else:
                replace_file(path, (",".join(columns) + "\n").encode())
        (self.out / FINAL_EVALUATION).unlink(missing_ok=True)
        self.evaluations = read_run(self.out).evaluations
        self.tensorboard = EventFile(self.out, purge_step=step + 1 if self.config else None)

    def has_evaluation(self, step: int) -> bool:
        """Whether the evaluation of a step is there."""
        return any(row["step"] == str(step) for row in self.evaluations)

    def best(self) -> tuple[int, float] | None:
        """Step and mean of the best evaluation so far, of equals the first; None before the first."""
        rows = [(int(row["step"]), float(row["mean"])) for row in self.evaluations]
        return max(rows, key=lambda row: row[1], default=None)

    def metrics(self, row: Mapping[str, Any]) -> None:
        """Appends a row of metrics.csv and its scalars."""
        self._append("metrics", METRICS, row)

    def evaluation(self, step: int, evaluation: Evaluation) -> None:
        """Appends a row of evaluations.csv and its scalars."""
        low, high = evaluation.ci95
        row = {
            "step": step,
            "episodes": evaluation.episodes,
            "mean": evaluation.mean,
            "median": evaluation.median,
            "std": evaluation.std,
            "ci95_low": low,
            "ci95_high": high,
            "human_normalized": evaluation.human_normalized,
        }
        self._append("evaluations", EVALUATIONS, row)

    def _append(self, name: str, columns: list[str], row: Mapping[str, Any]) -> None:
        cells = [_cell(row[column]) for column in columns]
        with (self.out / f"{name}.csv").open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(cells)
        if name == "evaluations":
            self.evaluations.append(dict(zip(columns, cells, strict=True)))
        assert self.tensorboard is not None
        for column in columns[1:]:
            if row[column] is not None:
                self.tensorboard.scalar(f"{name}/{column}", row[column], row["step"])

    def sync(self) -> None:
        """Sees that all rows are on the disk, before a checkpoint is that counts on them."""
        for name in TABLES:
            sync(self.out / f"{name}.csv")
        assert self.tensorboard is not None
        self.tensorboard.flush()

    def close(self) -> None:
        """Closes the event file and lets others have the folder."""
        try:
            if self.tensorboard is not None:
                self.tensorboard.close()
        except OSError:
            pass  # a full disk has been told of already
        finally:
            self._lock.release()


class RunFiles(NamedTuple):
    """What the files of a run's folder hold; rows of the tables are text by column."""

    config: dict[str, Any]
    metrics: list[dict[str, str]]
    evaluations: list[dict[str, str]]


def read_run(run: str | os.PathLike[str]) -> RunFiles:
    """Reads a run's folder.

    Raises:
        InvalidRun: it holds no run, or a file of it is damaged.
    """
    run = Path(run)
    config = read_config(run)
    try:
        tables = {name: _whole_lines(run / f"{name}.csv") for name in TABLES}
    except OSError as error:
        raise InvalidRun(f"{run} holds no run ({error.strerror}: {error.filename}); give a run's folder") from error
    except ValueError as error:  # no UTF-8, an empty table
        raise InvalidRun(f"{run} is damaged ({one_line(error)}); give another run's folder") from error
    for name, (header, _) in tables.items():
        if not header:
            raise InvalidRun(f"{run} is damaged ({name}.csv is empty); give another run's folder")
        if not set(TABLES[name]) - {"restarts", "q_discrepancy"} <= set(header.split(",")):  # which older runs lack
            raise InvalidRun(f"{run / name}.csv lacks columns that a run writes; give another run's folder")
    try:
        return RunFiles(config, *(_rows(name, *table) for name, table in tables.items()))
    except ValueError as error:
        raise InvalidRun(f"{run}/{one_line(error)}; mend that line or take it out") from error


def read_config(run: Path) -> dict[str, Any]:
    """A run's config.json.

    Raises:
        InvalidRun: it is not there, or damaged.
    """
    try:
        config: dict[str, Any] = json.loads(read_regular(run / "config.json", MOST_JSON))
    except OSError as error:
        raise InvalidRun(f"{run} holds no run ({error.strerror}: {error.filename}); give a run's folder") from error
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8
        raise InvalidRun(f"{run} is damaged ({one_line(error)}); give another run's folder") from error
    is_description = isinstance(config, dict) and {"env", "protocol", "agent"} <= config.keys()
    if (
        not is_description
        or not all(isinstance(config.get(name, kind()), kind) for name, kind in _KINDS.items())
        or not (isinstance(flicker := config.get("flicker", 0.0), int | float) and 0 <= flicker < 1)
    ):
        raise InvalidRun(f"{run / 'config.json'} does not describe a run; give a run's folder")
    return config


def _rows(name: str, header: str, lines: list[str]) -> list[dict[str, str]]:
    """The rows of a table as text by column.

    Raises:
        ValueError: a cell holds no number.
    """
    rows = [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]
    for row in rows:
        for column in TABLES[name]:
            cell = row.get(column, "")
            is_number = _is_count(cell) if column in COUNTS else _is_number(cell) or (not cell and column in OPTIONAL)
            if not is_number and column in row:
                raise ValueError(f"{name}.csv is damaged ({column} is {cell!r:.80})")
    return rows


def _is_count(cell: str) -> bool:
    return re.fullmatch(r"[0-9]{1,18}", cell) is not None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)


def _cut_after(path: Path, last_step: int, columns: list[str]) -> None:
    """Cuts a table off after the rows up to a step; columns that an earlier version did not have are empty."""
    header, lines = _whole_lines(path)
    missing = columns[header.count(",") + 1 :]
    kept = [line + "," * len(missing) for line in lines if int(line.split(",")[0]) <= last_step]
    replace_file(path, ("\n".join([",".join([header, *missing]), *kept]) + "\n").encode())


def _whole_lines(path: Path) -> tuple[str, list[str]]:
    """Header and rows of a table of a run, without lines that were cut off as they were written."""
    text = read_regular(path, MOST_TABLE).decode().replace("\r\n", "\n")  # as version 0.1 ended its rows
    header, *lines = text.split("\n")
    whole = lines[:-1]  # after the last line's end stands nothing, or half a line
    return header, [line for line in whole if line.count(",") == header.count(",") and _is_count(line.split(",")[0])]

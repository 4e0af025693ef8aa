"""What a run tells: its folder, metrics.csv and evaluations.csv, and TensorBoard."""

from __future__ import annotations

from pixelq.agents.errors import InvalidRun

import csv
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from pixelq.agents.storage.checkpoint import MOST_JSON, one_line
from pixelq.agents.evaluation.evaluate import Evaluation
from pixelq.agents.runs.event_file import EventFile
from pixelq.agents.storage.files import read_regular, replace_file, sync





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



















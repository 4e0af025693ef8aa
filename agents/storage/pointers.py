"""Pointers: files of a run that hold the name of its `best` and of its `latest` checkpoint."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pixelq.agents.storage.files import read_regular, replace_file
from pixelq.agents.storage.json_values import count_in, number_in

CHECKPOINTS = "checkpoints"
"""Folder of a run that holds its checkpoints."""
EVALUATIONS_FILE = "evaluations.csv"
MOST_BYTES = 2**24
"""Size of the longest table of evaluations from which the best checkpoint is found, in bytes."""
Mark = Literal["best", "latest"]
MARKS: tuple[Mark, Mark] = ("best", "latest")
_STEP = re.compile(r"step_([0-9]{10}|[1-9][0-9]{10,17})")


def step_folders(checkpoints: Path) -> list[Path]:
    """Return the checkpoints in a run's folder of them, oldest first; none if there is no such folder.

    Raises:
        OSError: If the folder cannot be read.
    """
    try:
        names = [name for name in os.listdir(checkpoints) if _STEP.fullmatch(name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [path for name in sorted(names, key=_step_in) if os.path.isdir(path := checkpoints / name)]


def step_of(folder: Path) -> int:
    """Return the step that names a checkpoint's folder."""
    return _step_in(folder.name)


def _step_in(name: str) -> int:
    match = _STEP.fullmatch(name)
    assert match is not None
    return int(match[1])


def folder_of_step(checkpoints: Path, step: int) -> Path:
    """Return the folder of the checkpoint of a step."""
    return checkpoints / f"step_{step:010d}"


def point(checkpoints: Path, name: Mark, step: int) -> None:
    """Write a pointer to the checkpoint of a step, in one operation.

    Raises:
        OSError: If it cannot be written.
    """
    replace_file(checkpoints / name, f"{folder_of_step(checkpoints, step).name}\n".encode())


def checkpoint_folder(path: Path) -> Path:
    """Return the folder that a path means: of a pointer such as `RUN/checkpoints/best`, the checkpoint it leads to.

    Runs of older versions have links instead, and copies of them folders; both are returned as they are. If a run was
    copied without its links, the checkpoint is found as by `marked`. Any other path is returned unchanged.
    """
    for name in MARKS:
        if path.name == name and not os.path.isdir(path):
            return marked(path.parent, name) or path
    return path


def marked(checkpoints: Path, name: Mark) -> Path | None:
    """Return the checkpoint that is the `best` or `latest` of a run; None if there is none.

    Where the pointer is missing or leads nowhere, the latest is the one of the greatest step, and the best the one with
    the best mean in evaluations.csv, the first of equals.
    """
    pointer = checkpoints / name
    if os.path.isdir(pointer):  # a link of an older version, or what a copy made of it
        return pointer
    target = _target(pointer)
    if target is not None and os.path.isdir(checkpoints / target):
        return checkpoints / target
    return found_without_pointer(checkpoints, name)


def found_without_pointer(checkpoints: Path, name: Mark) -> Path | None:
    """Return what `marked` returns where there is no pointer."""
    try:
        folders = {step_of(folder): folder for folder in step_folders(checkpoints)}
    except OSError:  # that there is nothing is said later
        return None
    if name == "latest":
        return folders[max(folders)] if folders else None
    best = best_evaluation(row for row in evaluations_of(checkpoints.parent) if row[0] in folders) if folders else None
    return None if best is None else folders[best[0]]


def best_evaluation(rows: Iterable[tuple[int, float]]) -> tuple[int, float] | None:
    """Return step and mean of the best of some evaluations, the first of equals; None if there is none.

    One whose mean is not a number is worse than all others.
    """
    return max(rows, key=lambda row: -math.inf if math.isnan(row[1]) else row[1], default=None)


def evaluations_of(run: Path) -> Iterator[tuple[int, float]]:
    """Yield step and mean of a run's evaluations; nothing of a table that is missing or damaged.

    A row that is being written is left out.
    """
    try:
        text = read_regular(run / EVALUATIONS_FILE, MOST_BYTES).decode()
        lines = text[: text.rfind("\n") + 1].splitlines()
        rows: list[dict[str | None, Any]] = list(csv.DictReader(lines))
    except (OSError, ValueError, csv.Error):
        return
    for row in rows:
        if None in row or None in row.values():  # more or fewer cells than columns
            continue
        step, mean = count_in(row.get("step") or ""), number_in(row.get("mean") or "")
        if step is not None and mean is not None:
            yield step, mean


def _target(pointer: Path) -> str | None:
    """Return the name that a pointer holds; None if it is missing or damaged."""
    try:
        name = read_regular(pointer, 100).decode("ascii").strip()  # Git on Windows makes such a file of a link
    except (OSError, ValueError):
        return None
    return name if _STEP.fullmatch(name) else None


def run_of(checkpoint: Path) -> Path | None:
    """Return the folder of the run in which a checkpoint lies; None if it lies in none, as an agent that was saved."""
    folder = Path(os.path.abspath(checkpoint)).parent
    return folder.parent if folder.name == CHECKPOINTS else None

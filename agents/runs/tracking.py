"""tracking.json of a run folder: in which records its trackers keep the run, and up to which step."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pixelq.agents.storage.files import read_regular, replace_file
from pixelq.agents.storage.json_values import MOST_JSON, is_count

TRACKING = "tracking.json"


@dataclass
class Record:
    """The record of one tracker, in which a resumed run goes on."""

    run: str
    """Name by which the tracker's service knows it."""
    project: str | None
    """Project that was given; None for the default."""
    steps: dict[str, int] = field(default_factory=dict)
    """Last step that was recorded of each table."""


def read_record(folder: Path, library: str) -> Record | None:
    """Return a tracker's record of the run in a folder; None if there is none.

    Raises:
        OSError, ValueError: If the file cannot be read or is damaged.
    """
    values = _read(folder).get(library)
    if values is None:
        return None
    if not isinstance(values, dict):
        raise ValueError(f"{library} must be an object")
    run, project, steps = (values.get(name) for name in ("run", "project", "steps"))
    if not isinstance(run, str) or not (project is None or isinstance(project, str)):
        raise ValueError(f"{library} must have a run and a project")
    if not isinstance(steps, dict) or not all(is_count(step) for step in steps.values()):
        raise ValueError(f"the steps of {library} must be counts")
    return Record(run, project, steps)


def write_record(folder: Path, library: str, record: Record) -> None:
    """Write a tracker's record, and leave those of others as they are.

    Raises:
        OSError, ValueError: If the file cannot be written, or is damaged.
    """
    values = _read(folder) | {library: asdict(record)}
    replace_file(folder / TRACKING, (json.dumps(values, indent=2) + "\n").encode(), synced=False)


def tracked_by(folder: Path) -> list[str]:
    """Return the libraries of the trackers that have a record of the run in a folder; [] if the file is damaged."""
    try:
        return list(_read(folder))
    except (OSError, ValueError):
        return []


def _read(folder: Path) -> dict[str, Any]:
    try:
        values = json.loads(read_regular(folder / TRACKING, MOST_JSON))
    except FileNotFoundError:
        return {}
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(values, dict):
        raise ValueError("it must be an object")
    return values

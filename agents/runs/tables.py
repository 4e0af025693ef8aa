"""metrics.csv, evaluations.csv and config.json of a run folder."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pixelq.agents.errors import InvalidRun, one_line
from pixelq.agents.storage.environments import ARGUMENTS
from pixelq.agents.storage.files import open_regular, open_to_append, read_regular, replace_file
from pixelq.agents.storage.former_names import current_preset
from pixelq.agents.storage.json_values import MOST_JSON, check_types, count_in, number_in
from pixelq.agents.storage.rules import time_limit, with_rules

METRICS = (
    "step frames episodes return_mean return_median length_mean loss q_mean epsilon updates "
    "steps_per_second wall_seconds restarts q_discrepancy return_mean_100"
).split()
EVALUATIONS = "step episodes mean median std ci95_low ci95_high human_normalized".split()
TABLES = {"metrics": METRICS, "evaluations": EVALUATIONS}
MOST_TABLE = 2**28
"""Bytes of the longest table that is read."""
LAST_BYTES = 2**16
"""Bytes at the end of a table in which its last row is looked for."""
FINAL_EVALUATION = "final_evaluation.json"
"""Evaluation of the best policy of a finished run, in games by which it was not chosen."""
COUNTS = "step frames episodes".split()
"""Columns of integers."""
OPTIONAL = "return_mean return_median length_mean loss q_mean human_normalized q_discrepancy return_mean_100".split()
"""Columns whose cells may be empty."""
ADDED = {"restarts", "q_discrepancy", "return_mean_100"}
"""Columns that older runs lack."""


class RunFiles(NamedTuple):
    """Contents of a run folder's files. Rows of the tables are text by column."""

    config: dict[str, Any]
    metrics: list[dict[str, str]]
    evaluations: list[dict[str, str]]


def read_run(run: str | os.PathLike[str]) -> RunFiles:
    """Read a run folder.

    Raises:
        InvalidRun: If there is no run in it, or one of its files is damaged.
    """
    run = Path(run)
    config = read_config(run)
    try:
        tables = {name: _whole_lines(run / f"{name}.csv") for name in TABLES}
    except OSError as error:
        raise InvalidRun(f"no run in {run} ({error.strerror}: {error.filename}); give the folder of a run") from error
    except ValueError as error:  # not UTF-8, or an empty table
        raise InvalidRun(f"{run} is damaged ({one_line(error)}); give another run") from error
    for name, (header, _) in tables.items():
        if not header:
            raise InvalidRun(f"{run} is damaged ({name}.csv is empty); give another run")
        if not set(TABLES[name]) - ADDED <= set(header.split(",")):
            raise InvalidRun(f"{run / name}.csv lacks columns that a run writes; give another run")
    try:
        return RunFiles(config, *(_rows(name, *table) for name, table in tables.items()))
    except ValueError as error:
        raise InvalidRun(f"{run}/{one_line(error)}; repair or remove that line") from error


def read_config(run: Path) -> dict[str, Any]:
    """Read a run's config.json, with today's name of its preset.

    `protocol` holds flicker too, which older runs have as an entry of its own.

    Raises:
        InvalidRun: If it is missing or damaged.
    """
    try:
        config: dict[str, Any] = json.loads(read_regular(run / "config.json", MOST_JSON))
    except OSError as error:
        raise InvalidRun(f"no run in {run} ({error.strerror}: {error.filename}); give the folder of a run") from error
    except (ValueError, RecursionError) as error:  # not JSON, or not UTF-8
        raise InvalidRun(f"{run} is damaged ({one_line(error)}); give another run") from error
    try:
        if not isinstance(config, dict) or not {"env", "protocol", "agent"} <= config.keys():
            raise ValueError("env, protocol or agent is missing")
        check_types(config, {"agent": dict, "resumed": list, ARGUMENTS: dict})
        time_limit(config)
        if isinstance(config.get("preset"), str):
            config["preset"] = current_preset(config["preset"], config["agent"])
        return with_rules(config)
    except ValueError as error:
        raise InvalidRun(
            f"{run / 'config.json'} does not describe a run ({error}); give the folder of a run"
        ) from error


def append_row(path: Path, columns: Sequence[str], row: Mapping[str, Any]) -> dict[str, str]:
    """Append a row to a table, and return its cells by column.

    Raises:
        OSError: If it cannot be written.
    """
    cells = [_cell(row.get(column)) for column in columns]
    with open_to_append(path) as file:
        csv.writer(file, lineterminator="\n").writerow(cells)
    return dict(zip(columns, cells, strict=True))


def start_table(path: Path, columns: Sequence[str], last_step: int) -> list[str]:
    """Write a table's header, or cut an existing table off after a step that is not 0, and return its columns.

    Columns that an earlier version did not have are left empty.

    Raises:
        OSError: If it cannot be written.
    """
    if last_step == 0:
        replace_file(path, (",".join(columns) + "\n").encode())
        return [*columns]
    header, lines = _whole_lines(path)
    missing = [column for column in columns if column not in header.split(",")]
    kept = [line + "," * len(missing) for line in lines if int(line.split(",")[0]) <= last_step]
    replace_file(path, ("\n".join([",".join([header, *missing]), *kept]) + "\n").encode())
    return [*header.split(","), *missing]


def last_row(path: Path) -> dict[str, str]:
    """Return the last row of a table, as text by column, without reading all of it; {} if there is none.

    A table that is missing or cannot be read has none.
    """
    try:
        with open_regular(path) as (file, size):
            header = file.readline(LAST_BYTES).decode().rstrip("\r\n").split(",")
            file.seek(max(file.tell(), size - LAST_BYTES))
            lines = file.read(LAST_BYTES).decode(errors="replace").split("\n")[:-1]  # half a row may follow
    except (OSError, ValueError):
        return {}
    for line in reversed(lines):
        cells = line.rstrip("\r").split(",")
        if len(cells) == len(header) and count_in(cells[0]) is not None:
            return dict(zip(header, cells, strict=True))
    return {}


def _rows(name: str, header: str, lines: list[str]) -> list[dict[str, str]]:
    """Return the rows of a table as text by column.

    Raises:
        ValueError: If a cell is not a number.
    """
    rows = [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]
    for row in rows:
        for column in TABLES[name]:
            cell = row.get(column)
            if cell is None or (not cell and column in OPTIONAL):
                continue
            if (count_in if column in COUNTS else number_in)(cell) is None:
                raise ValueError(f"{name}.csv is damaged ({column} is {cell!r:.80})")
    return rows


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)


def _whole_lines(path: Path) -> tuple[str, list[str]]:
    """Return the header and the rows of a run's table, without lines that were cut off while they were written."""
    text = read_regular(path, MOST_TABLE).decode().replace("\r\n", "\n")  # as version 0.1 ended its rows
    header, *lines = text.split("\n")
    whole = [line.split(",") for line in lines[:-1]]  # after the last newline stands nothing, or half a line
    columns = header.count(",") + 1
    return header, [",".join(row) for row in whole if len(row) == columns and count_in(row[0]) is not None]

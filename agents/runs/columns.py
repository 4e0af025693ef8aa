"""Tables of a run folder as arrays, read line by line, with neighbouring rows of very long tables put together."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixelq.agents.errors import InvalidRun, one_line
from pixelq.agents.runs.tables import ADDED, COUNTS, MOST_TABLE, OPTIONAL, TABLES
from pixelq.agents.storage.files import open_regular
from pixelq.agents.storage.json_values import count_in, number_in

Array = NDArray[np.float64]
Columns = dict[str, Array]
"""Columns [rows] of a table by name; NaN where a cell is empty, or its number is none that can be drawn."""

MOST_ROWS = 20_000
"""Number of rows from which on neighbouring rows are put together; a table has at most twice as many."""
GREATEST = 1e100
"""Greatest magnitude of a number that can be drawn; sums, squares and the axes of charts overflow beyond it."""
LATEST = "step frames episodes epsilon updates wall_seconds restarts".split()
"""Columns that tell how far the run is; of rows that are put together the last one tells it."""
PER_EPISODE = ("return_mean", "return_median", "length_mean")
"""Columns of means over the episodes of a row, by whose number a row is weighted; in other columns it is by steps."""


def drawable(values: Array) -> Array:
    """Return numbers with NaN in place of those that are not finite, or too large to be drawn."""
    return np.where(np.abs(values) <= GREATEST, values, np.nan)


def read_columns(run: Path, table: str) -> Columns:
    """Read a table of a run, `metrics` or `evaluations`.

    Rows of metrics.csv are put together by means over their episodes or steps; of evaluations, every second is left
    out. Memory and later work are thus bounded for any length.

    Raises:
        InvalidRun: If it is missing or damaged.
    """
    path = run / f"{table}.csv"
    try:
        lines = _lines(path)
        header = next(lines, "")
        columns = header.split(",")
        if not header:
            raise InvalidRun(f"{run} is damaged ({table}.csv is empty); give another run")
        if not set(TABLES[table]) - ADDED <= set(columns):
            raise InvalidRun(f"{path} lacks columns that a run writes; give another run")
        names = [name for name in TABLES[table] if name in columns]
        rows = _rows(lines, table, columns, names)
    except InvalidRun:
        raise
    except OSError as error:
        raise InvalidRun(f"no run in {run} ({error.strerror}: {error.filename}); give the folder of a run") from error
    except UnicodeDecodeError as error:
        raise InvalidRun(f"{run} is damaged ({one_line(error)}); give another run") from error
    except ValueError as error:
        raise InvalidRun(f"{run}/{one_line(error)}; repair or remove that line") from error
    return {
        name: drawable(rows[:, names.index(name)]) if name in names else np.full(len(rows), np.nan)
        for name in TABLES[table]
    }


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a table that end in a newline, without it; the last line of a run that goes on may not.

    Raises:
        OSError: If it cannot be read, is larger than `MOST_TABLE`, or is no regular file.
    """
    with open_regular(path) as (file, size):
        if size > MOST_TABLE:
            raise OSError(errno.EFBIG, f"more than {MOST_TABLE:,} bytes", str(path))
        while line := file.readline(size):
            size -= len(line)
            if line.endswith(b"\n"):
                yield line[:-1].decode().removesuffix("\r")  # as version 0.1 ended its rows


def _rows(lines: Iterator[str], table: str, columns: list[str], names: list[str]) -> Array:
    """Return named columns of a table [rows, names]; lines that were cut off while they were written are left out.

    Raises:
        ValueError: If a cell is not a number.
    """
    kept, fresh = np.empty((0, len(names))), []
    known = [columns.index(name) for name in names]
    counts = [columns.index(name) for name in COUNTS if name in names]
    optional = {columns.index(name) for name in OPTIONAL if name in names}
    for line in lines:
        cells = line.split(",")
        if len(cells) != len(columns) or count_in(cells[0]) is None:
            continue
        try:
            if not all(cells[i].isdecimal() and len(cells[i]) <= 18 for i in counts):
                raise ValueError
            row = [float(cells[i] if cells[i] or i not in optional else "nan") for i in known]
        except ValueError:
            raise ValueError(_complaint(table, dict(zip(columns, cells, strict=True)))) from None
        fresh.append(row)
        if len(fresh) == MOST_ROWS:
            kept, fresh = np.concatenate([kept, fresh]), []
            if len(kept) >= 2 * MOST_ROWS:
                kept = _halved(kept, names) if table == "metrics" else kept[1::2]
    return np.concatenate([kept, fresh]) if fresh else kept


def _complaint(table: str, row: dict[str, str]) -> str:
    """Return what is wrong with a row of which a cell is no number."""
    for name in TABLES[table]:
        cell = row.get(name, "0")
        read = count_in if name in COUNTS else number_in
        if (cell or name not in OPTIONAL) and read(cell) is None:
            return f"{table}.csv is damaged ({name} is {cell!r:.80})"
    return f"{table}.csv is damaged"


def _halved(rows: Array, names: list[str]) -> Array:
    """Return rows [2R, names] of metrics.csv put together in pairs [R, names]."""
    at = {name: i for i, name in enumerate(names)}
    parts = {name: np.maximum(np.diff(rows[:, at[name]], prepend=0.0), 0.0) for name in ("step", "episodes")}
    halved = rows[1::2].copy()
    for name in at.keys() - set(LATEST):
        values = drawable(rows[:, at[name]])
        weight = np.where(np.isnan(values), 0.0, parts["episodes" if name in PER_EPISODE else "step"]).reshape(-1, 2)
        total, whole = (weight * np.nan_to_num(values).reshape(-1, 2)).sum(1), weight.sum(1)
        halved[:, at[name]] = np.divide(total, whole, out=np.full(len(halved), np.nan), where=whole > 0)
    return halved

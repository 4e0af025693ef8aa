"""Data of the live page: the files of a run, read repeatedly while another process writes them."""

from __future__ import annotations

import os
import secrets
import threading
import time
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pixelq.agents.errors import InvalidRun
from pixelq.agents.evaluation.limits import evaluation_limit
from pixelq.agents.results.comparison import MILLION, published_beside
from pixelq.agents.results.formatting import describe_rules, shortened
from pixelq.agents.results.records import preset_name, read_evaluation
from pixelq.agents.runs.columns import GREATEST, LATEST
from pixelq.agents.runs.progress import read_progress, state_by_steps
from pixelq.agents.runs.tables import FINAL_EVALUATION, read_config
from pixelq.agents.storage.files import open_regular
from pixelq.agents.storage.json_values import is_count, is_number, number_in

COLUMNS = {
    "metrics": tuple(
        "step frames return_mean loss q_mean epsilon steps_per_second wall_seconds return_mean_100".split()
    ),
    "evaluations": ("step", "mean", "ci95_low", "ci95_high", "episodes"),
}
"""Columns of each table that the page shows."""
MOST_ROWS = 5000
"""Greatest number of rows of a table in one answer; the page asks for the next ones."""
MOST_KEPT = 20_000
"""Number of rows of a table from which on neighbouring rows are put together."""
MOST_BYTES = 2**23
"""Greatest number of bytes of a table that are read for one answer; the page asks for the rest at once."""
MOST_EPISODES = 100
"""Greatest number of environments whose current episodes are shown."""
_LAST_BYTES = 256
"""Bytes before the unread ones that are compared, to notice that a table was rewritten."""


class TableTail:
    """Rows of a table that grows, read as they are appended.

    Lines that are not rows are left out, and so is a last line that is still being written. A table that was cut off
    or rewritten, as when its run is resumed, is read again from its beginning.

    Args:
        path: Path of the table, which need not exist yet.
        columns: Columns that are kept, with `step` first.

    Attributes:
        rows: Numbers of each row in the order of the columns; None if a cell is empty or not finite.
        steps: Steps of the rows, in increasing order.
        readings: Number of times that the table was read from its beginning.
        is_behind: Whether the file holds more than was read, because it is long.
    """

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self.path, self.columns = path, columns
        self.readings = 0
        self._begin()

    def _begin(self) -> None:
        """Forget all rows, and read from the beginning of the table."""
        self.rows: list[list[float | None]] = []
        self.steps: list[float] = []
        self.readings += 1
        self._header: list[str] = []
        self.is_behind = False
        self._seen: tuple[int, ...] = ()  # inode, size and time of the file when it was last read
        self._offset, self._last = 0, b""  # where unread bytes begin, and the bytes before them

    def refresh(self) -> None:
        """Read new rows, of at most `MOST_BYTES`, if the file can be read."""
        try:
            if not os.path.isfile(self.path):  # such as a pipe in its place
                raise FileNotFoundError
            with open_regular(self.path) as (file, size):
                status = os.fstat(file.fileno())
                now = status.st_ino, size, status.st_mtime_ns
                if now == self._seen and not self.is_behind:
                    return
                file.seek(self._offset - len(self._last))
                is_same = self._seen[:1] in ((), now[:1]) and file.read(len(self._last)) == self._last
                if not is_same or (self._seen[1:2] == now[1:2] and now != self._seen):
                    self._begin()
                    file.seek(0)
                self._seen = now
                self._take(file.read(min(MOST_BYTES, max(0, size - self._offset))))
        except FileNotFoundError:
            if self._seen:
                self._begin()
        except OSError:
            return

    def _take(self, data: bytes) -> None:
        """Add the rows of further bytes of the file."""
        self.is_behind = len(data) == MOST_BYTES
        whole = data[: data.rfind(b"\n") + 1]
        if self.is_behind and not whole:  # no line of ours is as long
            whole = data
        self._offset += len(whole)
        self._last = (self._last + whole)[-_LAST_BYTES:]
        lines = whole.decode(errors="replace").split("\n")
        for line in lines if not whole.endswith(b"\n") else lines[:-1]:
            cells = line.rstrip("\r").split(",")
            if not self._header:
                self._header = cells
            elif len(cells) == len(self._header):
                self._add(dict(zip(self._header, cells, strict=True)))

    def _add(self, cells: Mapping[str, str]) -> None:
        """Add a row, given its cells by column, unless its step does not follow the last one."""
        row = [_number(cells.get(column, "")) for column in self.columns]
        if row[0] is not None and row[0] > (self.steps[-1] if self.steps else -1):
            self.rows.append(row)
            self.steps.append(row[0])
            if len(self.rows) == 2 * MOST_KEPT:
                self.rows = [self._joined(*pair) for pair in zip(self.rows[::2], self.rows[1::2], strict=True)]
                self.steps = self.steps[1::2]

    def _joined(self, one: list[float | None], other: list[float | None]) -> list[float | None]:
        """Return two neighbouring rows as one: how far the second was, and means of what was measured."""
        row = []
        for name, first, second in zip(self.columns, one, other, strict=True):
            if first is None or second is None or name in LATEST:
                row.append(first if second is None else second)
            else:
                row.append((first + second) / 2)
        return row

    def after(self, step: float) -> list[list[float | None]]:
        """Return at most `MOST_ROWS` rows after a step."""
        first = bisect_right(self.steps, step)
        return self.rows[first : first + MOST_ROWS]


class LiveRun:
    """Current state of a run folder, which is only read. Several threads may ask at once.

    Args:
        run: The run folder.

    Raises:
        InvalidRun: If there is no run in it.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self._lock = threading.Lock()
        self._tables = {name: TableTail(run / f"{name}.csv", columns) for name, columns in COLUMNS.items()}
        self._mark = secrets.token_hex(4)  # tells a restarted server from the one before
        read_config(run)

    def answer(self, since: float = -1, evaluated: float = -1) -> dict[str, Any]:
        """Return the state of the run, and the rows of its tables that follow those already known, as JSON values.

        `version` changes when a table was rewritten; rows of earlier answers then no longer hold.

        Args:
            since: Step of the last known row of metrics.csv; -1 for none, which adds the published curve.
            evaluated: Step of the last known row of evaluations.csv; -1 for none.

        Raises:
            InvalidRun: If there is no longer a run in the folder.
        """
        config = read_config(self.run)
        with self._lock:
            for table in self._tables.values():
                table.refresh()
            metrics, evaluations = (self._tables[name] for name in COLUMNS)
            new = {"metrics": metrics.after(since), "evaluations": evaluations.after(evaluated)}
            is_behind = any(table.is_behind for table in self._tables.values())
            answer = {
                "version": "-".join([self._mark, *(str(table.readings) for table in self._tables.values())]),
                "run": _description(self.run, config),
                **new,
                "total": len(metrics.rows),
                "has_more": is_behind or MOST_ROWS in map(len, new.values()),
            }
            last = metrics.rows[-1] if metrics.rows else None
        answer |= {"columns": COLUMNS, "now": time.time(), "final": _final(self.run)}
        answer |= self._state(config, None if last is None else dict(zip(COLUMNS["metrics"], last, strict=True)))
        if since < 0:
            answer["published"] = _published(config)
        return answer

    def _state(self, config: Mapping[str, Any], last: Mapping[str, float | None] | None) -> dict[str, Any]:
        """Return whether the run is still going, and its progress; without a progress.json, by its tables."""
        progress = read_progress(self.run)
        if progress is not None:
            told = asdict(progress) | {"environments": len(progress.returns)}
            told |= {name: told[name][:MOST_EPISODES] for name in ("returns", "lengths")}
            return {"state": progress.state, "progress": told}
        try:
            written = max((self.run / name).stat().st_mtime for name in ("config.json", "metrics.csv"))
        except OSError:
            written = 0.0
        steps = _count(config.get("steps"))
        state = state_by_steps(int(last["step"] or 0) if last else 0, steps)
        known = {name: last[name] for name in ("step", "frames", "epsilon", "wall_seconds")} if last else {"step": 0}
        return {"state": state, "progress": {"phase": state, "written": written, "steps": steps, **known}}


def _description(run: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the page's heading."""
    hardware = config.get("hardware")
    device = hardware.get("device") if isinstance(hardware, dict) else None
    if device in (None, "cpu") and isinstance(hardware, dict):
        device = hardware.get("cpu") or device
    protocol, limit = describe_rules(str(config["protocol"])), evaluation_limit(config)
    if limit is not None:
        protocol += f", games of evaluations cut off after {limit:,} steps"
    texts = {
        "name": run.resolve().name,
        "env": config["env"],
        "protocol": protocol,
        "preset": preset_name(config),
        "seed": config.get("seed", "–"),
        "device": device or config.get("device", "–"),
        "version": config.get("version", "–"),
    }
    return {name: shortened(text) for name, text in texts.items()} | {"num_envs": _count(config.get("num_envs"))}


def _published(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the published curve of the run's preset, or of DQN, up to the run's last step; None if there is none."""
    curve = published_beside(config)
    if curve is None:
        return None
    steps = _count(config.get("steps")) or 0
    shown = curve.frames_millions - 1 <= max(4 * steps / MILLION, 1.0)
    middle, mean, std = (column[shown] for column in (curve.middle_millions, curve.mean, curve.std))
    return {
        "agent": curve.agent,
        "frames": (middle * MILLION).tolist(),
        "mean": mean.round(3).tolist(),
        "low": (mean - std).round(3).tolist(),
        "high": (mean + std).round(3).tolist(),
    }


def _final(run: Path) -> dict[str, float] | None:
    """Return the score of the best policy at the end of the run; None before."""
    path = run / FINAL_EVALUATION
    try:
        values = read_evaluation(path) if path.is_file() else {}
        low, high = values["ci95"]
        found = {"mean": float(values["mean"]), "ci95_low": float(low), "ci95_high": float(high)}
    except (InvalidRun, KeyError, TypeError, ValueError, OverflowError):
        return None
    return found if all(abs(value) <= GREATEST for value in found.values()) else None


def _number(cell: str) -> float | None:
    """Return the number in a cell; None if it is none that can be drawn."""
    return value if is_number(value := number_in(cell), -GREATEST, GREATEST) else None


def _count(value: Any) -> int | None:
    """Return a value if it is a count that JavaScript can represent; else None."""
    return value if is_count(value, most=2**53 - 1) else None  # JavaScript's greatest exact integer

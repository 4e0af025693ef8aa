"""What a page that watches a run is told: the run's files, read again and again while another process writes them."""

from __future__ import annotations

import math
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
from pixelq.agents.results.comparison import MILLION, published_beside
from pixelq.agents.results.formatting import describe_rules
from pixelq.agents.results.records import read_evaluation
from pixelq.agents.runs.progress import EVALUATING, FINISHED, TRAINING, read_progress
from pixelq.agents.runs.tables import FINAL_EVALUATION, read_config
from pixelq.agents.storage.validation import is_count, is_number, number_in

COLUMNS = {
    "metrics": ("step", "frames", "return_mean", "loss", "q_mean", "epsilon", "steps_per_second", "wall_seconds"),
    "evaluations": ("step", "mean", "ci95_low", "ci95_high", "episodes"),
}
MOST_ROWS = 5000
"""Rows of a table in one answer; who asks goes on after the last."""
SILENT_SECONDS = 60.0
"""A run that has said nothing for so long is taken for one that no longer runs: a checkpoint may take a while."""
_LAST_BYTES = 256


class TableTail:
    """The rows of a table that grows at its end, read as they come.

    Lines that are no rows are left out, and so is a last line that is still being written. A table that was cut
    off or written anew, as when its run is resumed, is read again from its beginning.

    Args:
        path: the table; it may not be there yet.
        columns: what is kept, ``step`` first.

    Attributes:
        rows: numbers by column; None where a cell is empty or not finite.
        steps: of the rows, rising.
        readings: how often it was read from its beginning.
    """

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self.path, self.columns = path, columns
        self.readings = 0
        self._begin()

    def _begin(self) -> None:
        self.rows: list[list[float | None]] = []
        self.steps: list[float] = []
        self.readings += 1
        self._header: list[str] = []
        self._seen: tuple[int, ...] = ()  # inode, size and time of the file as it was read last
        self._offset, self._last = 0, b""  # where unread bytes begin, and the bytes before

    def refresh(self) -> None:
        """Reads what is new; a file that cannot be read has nothing new."""
        try:
            if not self.path.is_file():  # a pipe would be waited for
                raise FileNotFoundError
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                now = status.st_ino, status.st_size, status.st_mtime_ns
                if now == self._seen:
                    return
                file.seek(self._offset - len(self._last))
                is_same = self._seen[:1] in ((), now[:1]) and file.read(len(self._last)) == self._last
                if not is_same or (self._seen[1:2] == now[1:2]):
                    self._begin()
                    file.seek(0)
                self._seen = now
                self._take(file.read())
        except FileNotFoundError:
            if self._seen:
                self._begin()
        except OSError:
            return

    def _take(self, data: bytes) -> None:
        """Adds the rows of some more bytes of the file."""
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        self._last = (self._last + whole)[-_LAST_BYTES:]
        for line in whole.decode(errors="replace").split("\n")[:-1]:
            cells = line.rstrip("\r").split(",")
            if not self._header:
                self._header = cells
            elif len(cells) == len(self._header):
                self._add(dict(zip(self._header, cells, strict=True)))

    def _add(self, cells: Mapping[str, str]) -> None:
        row = [_number(cells.get(column, "")) for column in self.columns]
        if row[0] is not None and row[0] > (self.steps[-1] if self.steps else -1):
            self.rows.append(row)
            self.steps.append(row[0])

    def after(self, step: float) -> list[list[float | None]]:
        """The first rows after a step."""
        first = bisect_right(self.steps, step)
        return self.rows[first : first + MOST_ROWS]


class LiveRun:
    """A run's folder as it is now; nothing in it is written, and many may ask at once.

    Args:
        run: the folder.

    Raises:
        InvalidRun: it holds no run.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self._lock = threading.Lock()
        self._tables = {name: TableTail(run / f"{name}.csv", columns) for name, columns in COLUMNS.items()}
        self._mark = secrets.token_hex(4)  # a server that was started again has read anew
        read_config(run)

    def answer(self, since: float = -1, evaluated: float = -1) -> dict[str, Any]:
        """What has come after a step of either table, as JSON values.

        ``version`` is another one when the tables were written anew; then what was told before no longer holds.

        Raises:
            InvalidRun: the folder no longer holds a run.
        """
        config = read_config(self.run)
        with self._lock:
            for table in self._tables.values():
                table.refresh()
            metrics, evaluations = (self._tables[name] for name in COLUMNS)
            told = {
                "version": "-".join([self._mark, *(str(table.readings) for table in self._tables.values())]),
                "run": _description(self.run, config),
                "metrics": metrics.after(since),
                "evaluations": evaluations.after(evaluated),
                "total": len(metrics.rows),
            }
            last = metrics.rows[-1] if metrics.rows else None
        told |= {"columns": COLUMNS, "now": time.time(), "final": _final(self.run)}
        told |= self._state(config, None if last is None else dict(zip(COLUMNS["metrics"], last, strict=True)))
        if since < 0:
            told["published"] = _published(config)
        return told

    def _state(self, config: Mapping[str, Any], last: Mapping[str, float | None] | None) -> dict[str, Any]:
        """Whether the run goes on and how far it has come; of a run without progress.json, what its tables tell."""
        progress = read_progress(self.run)
        if progress is not None:
            age = max(0.0, time.time() - progress.written)
            is_silent = progress.phase in (TRAINING, EVALUATING) and age > SILENT_SECONDS
            return {"state": "silent" if is_silent else progress.phase, "progress": asdict(progress)}
        try:
            written = max((self.run / name).stat().st_mtime for name in ("config.json", "metrics.csv"))
        except OSError:
            written = 0.0
        steps = _count(config.get("steps"))
        state = FINISHED if last and steps and (last["step"] or 0) >= steps else "unknown"
        known = {name: last[name] for name in ("step", "frames", "epsilon", "wall_seconds")} if last else {"step": 0}
        return {"state": state, "progress": {"phase": state, "written": written, "steps": steps, **known}}


def _description(run: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """What the page's heading says."""
    hardware = config.get("hardware")
    device = hardware.get("device") if isinstance(hardware, dict) else None
    if device in (None, "cpu") and isinstance(hardware, dict):
        device = hardware.get("cpu") or device
    protocol = describe_rules(str(config["protocol"]))
    texts = {"env": config["env"], "protocol": protocol, "preset": config.get("preset", "custom")}
    return {
        "name": run.resolve().name,
        **{name: str(text) for name, text in texts.items()},
        "seed": str(config.get("seed", "–")),
        "num_envs": _count(config.get("num_envs")),
        "device": str(device or config.get("device", "–")),
        "version": str(config.get("version", "–")),
    }


def _published(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The published curve of the run's preset, or of DQN, as far as the run is to go; None where there is none."""
    curve = published_beside(config)
    if curve is None:
        return None
    steps = _count(config.get("steps")) or 0
    shown = curve.frames_millions - 1 <= max(4 * steps / MILLION, 1.0)
    middle, mean, std = ((column[shown]) for column in (curve.middle_millions, curve.mean, curve.std))
    return {
        "agent": curve.agent,
        "frames": (middle * MILLION).tolist(),
        "mean": mean.round(3).tolist(),
        "low": (mean - std).round(3).tolist(),
        "high": (mean + std).round(3).tolist(),
    }


def _final(run: Path) -> dict[str, float] | None:
    """What the best policy scored at the run's end; None before."""
    path = run / FINAL_EVALUATION
    try:
        values = read_evaluation(path) if path.is_file() else {}
        low, high = values["ci95"]
        found = {"mean": float(values["mean"]), "ci95_low": float(low), "ci95_high": float(high)}
    except (InvalidRun, KeyError, TypeError, ValueError, OverflowError):
        return None
    return found if all(map(math.isfinite, found.values())) else None


def _number(cell: str) -> float | None:
    return value if is_number(value := number_in(cell)) else None


def _count(value: Any) -> int | None:
    return value if is_count(value, most=2**53 - 1) else None  # JavaScript's integers end there

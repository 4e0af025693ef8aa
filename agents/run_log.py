"""What a run tells: its folder, metrics.csv and evaluations.csv, TensorBoard, and the progress line."""

from __future__ import annotations

import csv
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from pixelq.agents.evaluation import Evaluation

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

METRICS = (
    "step frames episodes return_mean return_median length_mean loss q_mean epsilon updates "
    "steps_per_second wall_seconds"
).split()
EVALUATIONS = "step episodes mean median std ci95_low ci95_high human_normalized".split()
TABLES = {"metrics": METRICS, "evaluations": EVALUATIONS}


class InvalidRun(ValueError):
    """A run's folder that cannot be used; the message says why, and what would be right."""


class RunLog:
    """The folder of one run.

    Args:
        out: the folder; made if it is not there.
        description: what config.json holds.
        resume_step: go on with the run that is there, from this step: later rows are cut off. None: a new run.

    Attributes:
        best_mean: of the run's evaluations so far; None before the first.
        wall_seconds: that the run took before, by its last row.

    Raises:
        InvalidRun: the folder cannot be written, holds a run already, or has none to resume.
    """

    def __init__(self, out: Path, description: dict[str, Any], resume_step: int | None = None) -> None:
        self.out = out
        self.checkpoints = out / "checkpoints"
        try:
            if resume_step is None:
                self._create()
            else:
                read_run(out)
            rows = {name: _rows_up_to(out / f"{name}.csv", resume_step or 0) for name in TABLES}
            self.best_mean = max((float(row["mean"]) for row in rows["evaluations"]), default=None)
            self.wall_seconds = float(rows["metrics"][-1]["wall_seconds"]) if rows["metrics"] else 0.0
            (out / "config.json").write_text(json.dumps(description, indent=2) + "\n")
        except OSError as error:
            raise InvalidRun(f"{out} cannot be written ({error.strerror}); use another --out") from error
        except InvalidRun:
            raise
        except ValueError as error:
            raise InvalidRun(f"a table in {out} is damaged ({error}); start another run in another --out") from error
        from torch.utils.tensorboard import SummaryWriter  # a second to import

        self.tensorboard: SummaryWriter = SummaryWriter(
            str(out), purge_step=None if resume_step is None else resume_step + 1
        )

    def _create(self) -> None:
        """Makes the folder of a new run."""
        for path in (self.out / "config.json", *(self.out / f"{name}.csv" for name in TABLES)):
            if path.exists():
                raise InvalidRun(
                    f"{self.out} already holds a run ({path.name}); use --resume to go on with it, or another --out"
                )
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        if any(self.checkpoints.iterdir()):
            raise InvalidRun(f"{self.checkpoints} already holds files; use another --out")
        for name, columns in TABLES.items():
            (self.out / f"{name}.csv").write_text(",".join(columns) + "\n")

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
        with (self.out / f"{name}.csv").open("a", newline="") as file:
            csv.writer(file).writerow([_cell(row[column]) for column in columns])
        for column in columns[1:]:
            if row[column] is not None:
                self.tensorboard.add_scalar(f"{name}/{column}", row[column], row["step"])

    def close(self) -> None:
        """Flushes and closes the event file."""
        self.tensorboard.close()


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
    try:
        config = json.loads((run / "config.json").read_text())
        tables = {name: _whole_lines(run / f"{name}.csv") for name in TABLES}
    except OSError as error:
        raise InvalidRun(f"{run} holds no run ({error.strerror}: {error.filename}); give a run's folder") from error
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, an empty table
        raise InvalidRun(f"{run} is damaged ({error}); give another run's folder") from error
    is_description = isinstance(config, dict) and {"env", "protocol", "agent"} <= config.keys()
    if not is_description or not isinstance(config["agent"], dict):
        raise InvalidRun(f"{run / 'config.json'} does not describe a run; give a run's folder")
    for name, (header, _) in tables.items():
        if not set(TABLES[name]) <= set(header.split(",")):
            raise InvalidRun(f"{run / name}.csv lacks columns that a run writes; give another run's folder")
    return RunFiles(config, *(list(csv.DictReader([header, *lines])) for header, lines in tables.values()))


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)


def _rows_up_to(path: Path, last_step: int) -> list[dict[str, str]]:
    """Cuts a file off after the rows up to a step, and returns them."""
    header, lines = _whole_lines(path)
    kept = [line for line in lines if int(line.split(",")[0]) <= last_step]
    aside = path.with_suffix(".partial")
    aside.write_text("\n".join([header, *kept]) + "\n")
    aside.replace(path)
    return list(csv.DictReader([header, *kept]))


def _whole_lines(path: Path) -> tuple[str, list[str]]:
    """Header and rows of a table of a run, without lines that were cut off as they were written."""
    header, *lines = path.read_text().splitlines()
    return header, [line for line in lines if line.count(",") == header.count(",") and line.split(",")[0].isdigit()]


def hardware(device: torch.device) -> dict[str, Any]:
    """What the run's speed depends on, as JSON values."""
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].split(":", 1)[1].strip() if names else cpu
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


class ProgressLine:
    """One line on the terminal: steps, frames, speed, time left, last return, ε, loss."""

    def __init__(self, first_step: int, last_step: int, frames_per_step: int, enabled: bool) -> None:
        self.frames_per_step = frames_per_step
        self.progress = Progress(
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} steps"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}", table_column=Column(no_wrap=False)),  # two lines where it is narrow
            console=Console(stderr=True),
            disable=not enabled,
        )
        self.task = self.progress.add_task("", total=last_step, completed=first_step, text="")

    def update(self, row: Mapping[str, Any]) -> None:
        """Shows a row of metrics."""
        last_return = "–" if row["return_mean"] is None else f"{row['return_mean']:.1f}"
        loss = "–" if row["loss"] is None else f"{row['loss']:.4f}"
        text = (
            f"left · {row['frames']:,} frames · {row['steps_per_second']:.0f} steps/s · return {last_return} · "
            f"ε {row['epsilon']:.3f} · loss {loss}"
        )
        self.progress.update(self.task, completed=row["step"], text=text)

    def say(self, line: str) -> None:
        """Prints a line above the progress line."""
        if not self.progress.disable:
            self.progress.console.print(line, highlight=False)

"""What `pixelq acceptance` takes from the files that its parts leave: a few figures by name.

Every function raises an error if its file is missing, damaged or says something else, also if it is cut off.
"""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from statistics import median
from typing import Any

from pixelq.agents.runs.tables import read_run
from pixelq.agents.storage.files import read_regular
from pixelq.agents.storage.json_values import MOST_JSON

Figures = dict[str, float]


def of_tests(file: Path) -> Figures:
    """Return how many tests have passed, failed and were skipped."""
    suite = ElementTree.fromstring(read_regular(file, MOST_JSON)).find("testsuite")
    if suite is None:
        raise ValueError("there is no test suite in it")
    total, failures, errors, skipped = (
        _number(int(suite.attrib[name])) for name in ("tests", "failures", "errors", "skipped")
    )
    return {"passed": total - failures - errors - skipped, "failed": failures + errors, "skipped": skipped}


def of_speed(file: Path) -> Figures:
    """Return the steps per second of each entry, and the ratios."""
    figures = _read(file)
    speeds = {f"{each['name']}, steps/s": _number(each["steps_per_second"]) for each in figures["results"]}
    shares = {
        f"{each['name']}, share of the bound": _number(each["share_of_bound"])
        for each in figures["results"]
        if "share_of_bound" in each
    }
    ratios = {f"pixelq over {name}": _number(ratio) for name, ratio in figures["ratios"].items()}
    return speeds | shares | ratios


def of_update(file: Path) -> Figures:
    """Return the milliseconds and the speed of one update."""
    (result,) = _read(file)["updates"]
    return {
        "ms": _number(result["milliseconds_per_update"]),
        "GFLOP": _number(result["gflop_per_update"]),
        "GFLOP/s": _number(result["gflop_per_second"]),
    }


def of_sampling(file: Path) -> Figures:
    """Return the milliseconds of drawing a batch, and the gigabytes of the replay."""
    figures = _read(file)
    drawn = {
        f"{way} of {size}, ms": _number(milliseconds)
        for size, ways in figures["milliseconds"].items()
        for way, milliseconds in ways.items()
        if way.startswith("batch")
    }
    return {"replay, GB": _number(figures["replay_gigabytes"])} | drawn


def of_startup(file: Path) -> Figures:
    """Return the seconds to the first step."""
    return {"to the first step, s": _number(_read(file)["seconds_to_first_step"])}


def of_run(run: Path, target: float) -> Figures:
    """Return how far a training run has come.

    Args:
        run: Its folder.
        target: Mean return at which it ends.
    """
    if not run.is_dir():
        raise FileNotFoundError(f"{run} was not begun")
    _, metrics, evaluations = read_run(run)
    if not metrics:
        raise ValueError("no step was logged")
    figures: Figures = {"steps": int(metrics[-1]["step"])}
    speeds = [float(row["steps_per_second"]) for row in metrics if row["loss"]]
    if speeds:
        figures["steps/s"] = _number(median(speeds))
    if evaluations:
        figures["best mean"] = _number(max(float(row["mean"]) for row in evaluations))
    reached = [row for row in evaluations if float(row["mean"]) >= target]
    if reached:
        step = int(reached[0]["step"])
        figures["reached at step"] = step
        times = [float(row["wall_seconds"]) for row in metrics if int(row["step"]) >= step]
        figures["reached after, s"] = min(times, default=float(metrics[-1]["wall_seconds"]))
    return figures


def _read(file: Path) -> dict[str, Any]:
    figures = json.loads(read_regular(file, MOST_JSON))
    if not isinstance(figures, dict):
        raise ValueError("it holds no object")
    return figures


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{value!r:.80} is no number")
    return value

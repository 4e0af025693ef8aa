"""Scores of all cells of a sweep, in scores.json and scores.csv."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pixelq.agents.config.schedules import to_json
from pixelq.agents.distributed.cells import Cell
from pixelq.agents.errors import InvalidRun
from pixelq.agents.results.aggregates import aggregates
from pixelq.agents.results.records import MeanReturn, Run, load_run, read_evaluation, read_groups
from pixelq.agents.results.scores import run_scores, score_matrices, score_of_group
from pixelq.agents.runs.tables import FINAL_EVALUATION
from pixelq.agents.storage.files import replace_file
from pixelq.envs import human_normalized_score

SCORES, TABLE = "scores.json", "scores.csv"
FINAL = "step frames episodes mean median std ci95_low ci95_high human_normalized".split()
LAST = "step episodes mean ci95_low ci95_high human_normalized".split()


def write_scores(sweep: Path, cells: Sequence[Cell]) -> Path:
    """Write the scores of a sweep's cells, and return the path of scores.json.

    Each cell has its final evaluation, of the best checkpoint, and the last one of its training; None before they are
    there. Agents have means over their seeds, and in several Atari games the aggregates of Agarwal et al. 2021.

    Args:
        sweep: Folder of the sweep.
        cells: Its cells.

    Raises:
        OSError: If a file cannot be written.
    """
    rows = [_scores_of(sweep, cell) for cell in cells]
    finished = [sweep / row["run"] for row in rows if row["final"]["mean"] is not None]
    values = {"runs": rows, **(_over_seeds(finished) if finished else {"agents": [], "over_games": {}})}
    replace_file(sweep / SCORES, (json.dumps(values, indent=2) + "\n").encode())
    replace_file(sweep / TABLE, _table(rows).encode())
    return sweep / SCORES


def _scores_of(sweep: Path, cell: Cell) -> dict[str, Any]:
    """Return the scores of a cell as JSON values."""
    path = sweep / cell.name
    found: dict[str, Any] = {
        "run": cell.name,
        "env": cell.env,
        "preset": cell.preset,
        "agent": {name: to_json(value) for name, value in cell.agent.items()},
        "seed": cell.seed,
        "steps": cell.steps,
        "final": dict.fromkeys(FINAL),
        "last": dict.fromkeys(LAST),
    }
    try:
        run = load_run(path)
        if run.last is not None:
            found["last"] = _last(run, run.last)
        if (path / FINAL_EVALUATION).exists():
            final = read_evaluation(path / FINAL_EVALUATION)
            low, high = final["ci95"]
            found["final"] = {name: final.get(name) for name in FINAL} | {"ci95_low": low, "ci95_high": high}
    except (InvalidRun, KeyError, TypeError, ValueError):
        pass  # it has failed, and is named among the failures
    return found


def _last(run: Run, last: MeanReturn) -> dict[str, Any]:
    normalized = human_normalized_score(str(run.config["env"]), last.mean) if math.isfinite(last.mean) else None
    numbers = last.mean, last.low, last.high, normalized
    finite = (None if number is None or not math.isfinite(number) else number for number in numbers)
    return dict(zip(LAST, (last.step, last.episodes, *finite), strict=True))


def _over_seeds(runs: Sequence[Path]) -> dict[str, Any]:
    """Return what the runs say together, by their last evaluations."""
    agents = list[dict[str, Any]]()
    try:
        groups = read_groups(runs)
    except InvalidRun:  # cells whose settings differ in their speed alone
        return {"agents": agents, "over_games": {}}
    for group in groups:
        score = score_of_group(group)
        if score is not None:
            agents.append(
                {
                    "agent": group.agent,
                    "env": group.env,
                    "seeds": [run.config.get("seed") for run in group.runs],
                    "mean": score.mean,
                    "low": score.low,
                    "high": score.high,
                    "frames": score.frames,
                }
            )
    scored = [score for group in groups for score in run_scores(group)]
    try:
        matrices = score_matrices(scored)
    except InvalidRun:  # no Atari games, or some agent lacks a run
        return {"agents": agents, "over_games": {}}
    over_games = {
        name: {metric: estimate._asdict() for metric, estimate in each._asdict().items()}
        | {"games": list(matrices.games), "seeds": list(matrices.seeds[name])}
        for name, each in aggregates(matrices.scores).items()
    }
    return {"agents": agents, "over_games": over_games}


def _table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the scores as CSV, a line for each cell."""
    settings = sorted({name for row in rows for name in row["agent"]})
    columns = ["run", "env", "preset", "seed", "steps", *settings]
    columns += [f"final_{name}" for name in FINAL] + [f"last_{name}" for name in LAST]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        plain = {name: row[name] for name in ("run", "env", "preset", "seed", "steps")} | row["agent"]
        for part in ("final", "last"):
            plain |= {f"{part}_{name}": value for name, value in row[part].items()}
        writer.writerow(plain)
    return text.getvalue()

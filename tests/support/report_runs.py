"""Folders of runs as training leaves them, made from formulas, for tests of the report."""

import csv
import json
from pathlib import Path
from typing import Any

from pixelq.agents import preset
from pixelq.agents.runs.tables import EVALUATIONS, FINAL_EVALUATION, METRICS
from pixelq.envs import human_normalized_score, id_of

STEPS = 500_000
ROWS = 50
EVERY = 100_000
FRAMES_PER_STEP = 4


def level(run_mean: float, step: int) -> float:
    """The return of training episodes: from 0 in a straight line to twice the run's mean at its end."""
    return 2 * run_mean * step / STEPS


def write_run(
    folder: Path,
    name: str = "dqn",
    env: str = "ALE/Pong-v5",
    seed: int = 0,
    mean: float = 10.0,
    *,
    is_finished: bool = True,
    protocol: str = "sticky",
    flicker: float = 0.0,
    **settings: Any,
) -> Path:
    """A run of 500,000 steps whose rows, of 10,000 steps and two episodes each, follow ``level``.

    Evaluations are every 100,000 steps, as high as training; the final one has ``mean``. A keyword changes a setting.
    """
    folder.mkdir(parents=True)
    frames = FRAMES_PER_STEP if env.startswith("ALE/") else 1
    config = {
        "version": "0.2.0",
        "env": env,
        "protocol": protocol,
        "flicker": flicker,
        "seed": seed,
        "steps": STEPS,
        "evaluate_every": EVERY,
        "preset": name,
        "agent": {**preset(name).to_dict(), **settings},
        "hardware": {"cpu": "Test <CPU>", "cores": 2, "device": "cpu", "torch": "2.13.0", "torch_threads": 1},
    }
    (folder / "config.json").write_text(json.dumps(config))
    metrics = []
    for row in range(1, ROWS + 1):
        step = row * STEPS // ROWS
        middle = step - STEPS // ROWS // 2
        filled = {"return_mean": level(mean, middle), "return_median": level(mean, middle), "length_mean": 100}
        counts = {"step": step, "frames": step * frames, "episodes": 2 * row, "updates": step // 4, "restarts": 0}
        speed = {"steps_per_second": 100, "wall_seconds": step / 100}
        metrics.append({**filled, **counts, **speed, "loss": 1 / row, "q_mean": 0.5, "epsilon": 0.01})
    evaluations = []
    for step in range(EVERY, STEPS + 1, EVERY):
        value = level(mean, step)
        normalized = human_normalized_score(env, value)
        interval = {"ci95_low": value - 1, "ci95_high": value + 2}
        row = {"step": step, "episodes": 10, "mean": value, "median": value, "std": 1.0, **interval}
        evaluations.append({**row, "human_normalized": "" if normalized is None else normalized})
    for table, columns, rows in (("metrics", METRICS, metrics), ("evaluations", EVALUATIONS, evaluations)):
        with (folder / f"{table}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    if is_finished:
        final = {
            "env": env,
            "protocol": protocol,
            "checkpoint": str(folder / "checkpoints" / f"step_{STEPS:010d}"),
            "step": STEPS,
            "episodes": 30,
            "mean": mean,
            "ci95": [mean - 1, mean + 1],
        }
        (folder / FINAL_EVALUATION).write_text(json.dumps(final))
    return folder


def write_suite(folder: Path, games: tuple[str, ...], scores: dict[str, list[list[float]]]) -> list[Path]:
    """Finished runs of several agents (presets) on games by ROM name: ``scores[agent][seed][game]``, raw returns of
    their last evaluations."""
    return [
        write_run(folder / f"{agent}-{game}-{seed}", agent, id_of(game), seed, score / 2)
        for agent, matrix in scores.items()
        for seed, row in enumerate(matrix)
        for game, score in zip(games, row, strict=True)
    ]


def recurrent_and_plain_runs(folder: Path) -> list[Path]:
    """Two agents on two environments: the one with an LSTM has two seeds, means 4 and 8; the other one, mean 1."""
    found = []
    for env in ("CartPole-v1", "pixelq/TMaze-v0"):
        name = env.split("/")[-1]
        for seed, mean in enumerate((4.0, 8.0)):
            found.append(write_run(folder / f"{name}-{seed}", "quick_recurrent", env, seed, mean))
        found.append(write_run(folder / f"{name}-plain", "quick_recurrent", env, 0, 1.0, lstm=None, cuda_graph=False))
    return found


def with_cells(run: Path, table: str, cells: dict[str, str], row: int = -1) -> Path:
    """Replace cells of a row of a run's table."""
    path = run / f"{table}.csv"
    header, *rows = [line.split(",") for line in path.read_text().splitlines()]
    for name, cell in cells.items():
        rows[row][header.index(name)] = cell
    path.write_text("\n".join(",".join(line) for line in [header, *rows]) + "\n")
    return run

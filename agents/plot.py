"""The learning curve of a run as a picture."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

from pixelq.envs import reference_score

TRAINING, EVALUATION, REFERENCE = "#7f9fbf", "#b2432f", "#666666"  # told apart by the colour-blind, and in grey


def plot_run(run: str | os.PathLike[str]) -> Path:
    """Draws the returns of training and evaluation episodes of a run's folder into its ``curve.png``.

    Raises:
        OSError: the folder holds no run, or cannot be written.
    """
    from matplotlib.figure import Figure  # half a second to import

    run = Path(run)
    config = json.loads((run / "config.json").read_text())
    metrics = [row for row in _rows(run / "metrics.csv") if row["return_mean"]]
    evaluations = _rows(run / "evaluations.csv")
    reference = reference_score(config["env"])
    frames_per_step = next((int(row["frames"]) // int(row["step"]) for row in metrics), 1)
    unit, scale = ("thousand steps", 1e-3) if frames_per_step == 1 else ("million frames", frames_per_step * 1e-6)

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    steps = [float(row["step"]) * scale for row in metrics]
    axes.plot(steps, [float(row["return_mean"]) for row in metrics], color=TRAINING, lw=1, label="training episodes")
    if evaluations:
        means = [float(row["mean"]) for row in evaluations]
        low = [mean - float(row["ci95_low"]) for mean, row in zip(means, evaluations, strict=True)]
        high = [float(row["ci95_high"]) - mean for mean, row in zip(means, evaluations, strict=True)]
        axes.errorbar(
            [float(row["step"]) * scale for row in evaluations],
            means,
            [low, high],
            fmt="o-",
            color=EVALUATION,
            capsize=3,
            label=f"evaluation, {evaluations[-1]['episodes']} episodes, 95% interval",
        )
    if reference:
        axes.axhline(reference.random, color=REFERENCE, ls=":", lw=1, label=f"random {reference.random:g}")
        axes.axhline(reference.human, color=REFERENCE, ls="--", lw=1, label=f"human {reference.human:g}")
    axes.set(
        xlabel=unit,
        ylabel="mean return",
        title=f"{config['env']} · {config['protocol']} · {config.get('preset', 'custom')}",
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    path = run / "curve.png"
    figure.savefig(path)
    return path


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))

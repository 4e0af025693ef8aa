"""Learning curves as pictures: of one run, and of runs beside the published ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pixelq.agents.results.comparison import MILLION, SPREAD, Comparison, published_beside
from pixelq.agents.results.formatting import rules
from pixelq.agents.runs.tables import read_run
from pixelq.envs import PUBLISHED_SOURCE, PublishedCurve, reference_score

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Told apart by the colour-blind, and in grey.
TRAINING, EVALUATION, REFERENCE, PUBLISHED = "#7f9fbf", "#b2432f", "#666666", "#7a5f9a"
AGENTS = {"DQN": "#0072b2", "C51": "#e69f00", "QR-DQN": "#d55e00", "IQN": "#009e73", "Rainbow": "#cc79a7"}
MARKERS = "osD^v"


def plot_run(run: str | os.PathLike[str]) -> Path:
    """Draws the returns of training and evaluation episodes of a run's folder into its ``curve.png``.

    On Atari games under the protocol ``sticky``, the published curve of its preset, or of DQN, stands beside them.

    Raises:
        InvalidRun: the folder holds no run.
        OSError: it cannot be written.
    """
    from matplotlib.figure import Figure  # half a second to import

    config, metrics, evaluations = read_run(run)
    metrics = [row for row in metrics if row["return_mean"]]
    reference = reference_score(config["env"])
    frames_per_step = next((int(row["frames"]) // max(1, int(row["step"])) for row in metrics), 1)
    unit, scale = ("thousand steps", 1e-3) if frames_per_step == 1 else ("million frames", frames_per_step / MILLION)

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
    played_by = rules(config["protocol"], config.get("flicker", 0.0))
    published = published_beside(config)
    if published is not None and steps:
        _draw_published(axes, published, PUBLISHED, up_to=steps[-1])
    axes.set(
        xlabel=unit,
        ylabel="mean return",
        title=f"{config['env']} · {played_by} · {config.get('preset', 'custom')}",
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    path = Path(run) / "curve.png"
    figure.savefig(path)
    return path


def plot_comparisons(comparisons: Sequence[Comparison], path: Path) -> None:
    """Draws runs over the published curves, a panel for each game and published agent, into a PNG.

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    panels: dict[tuple[str, str], list[Comparison]] = {}
    for comparison in comparisons:
        panels.setdefault((comparison.env, comparison.published.agent), []).append(comparison)
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns + 0.6, 3.6 * rows), dpi=120, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axes, ((env, agent), members) in zip(grid, panels.items(), strict=False):
        up_to = 1 + max(member.millions[-1].frames_millions for member in members)
        _draw_published(axes, members[0].published, AGENTS[agent], up_to)
        for member, marker in zip(members, MARKERS * len(members), strict=False):
            axes.plot(
                [million.frames_millions - 0.5 for million in member.millions],
                [million.mean for million in member.millions],
                marker,
                ms=7,
                color="black",
                mfc="none" if member.differs else "black",
                label=f"{member.run}, other settings" if member.differs else member.run,
            )
        axes.set(xlabel="million frames", ylabel="mean return of training episodes", title=f"{env} · {agent}")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize="small")
    for axes in list(grid)[len(panels) :]:
        axes.remove()
    figure.savefig(path, format="png")


def _draw_published(axes: Axes, curve: PublishedCurve, color: str, up_to: float) -> None:
    """The published mean, in the middle of each of its intervals up to a number of million frames, and its spread."""
    shown = curve.middle_millions <= up_to
    if not shown.any():
        return
    middle, mean, spread = curve.middle_millions[shown], curve.mean[shown], SPREAD * curve.std[shown]
    label = f"{curve.agent}, {PUBLISHED_SOURCE}, ± {SPREAD:g} std over {curve.seeds.max()} seeds"
    axes.plot(middle, mean, "-", marker=".", color=color, lw=1.5, label=label)
    axes.fill_between(middle, mean - spread, mean + spread, color=color, alpha=0.2, lw=0)

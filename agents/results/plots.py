"""PNG pictures of learning curves: one run, runs beside the published curves, and evaluations of several agents."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pixelq.agents.evaluation.limits import evaluation_limit
from pixelq.agents.results.comparison import MILLION, SPREAD, Comparison, published_beside
from pixelq.agents.results.curves import AgentCurve, curves_by_env
from pixelq.agents.results.formatting import describe_rules, pluralize, shortened
from pixelq.agents.results.records import preset_name, published_env
from pixelq.agents.results.style import literal, plain_style
from pixelq.agents.runs.columns import drawable, read_columns
from pixelq.agents.runs.tables import read_config
from pixelq.agents.storage.files import replace_file
from pixelq.envs import PUBLISHED_SOURCE, PublishedCurve, reference_score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that colour-blind readers can tell apart; those of a run's curve also differ in greyscale.
TRAINING, EVALUATION, REFERENCE, PUBLISHED = "#7f9fbf", "#b2432f", "#666666", "#7a5f9a"
PUBLISHED_COLORS = {"DQN": "#0072b2", "C51": "#e69f00", "QR-DQN": "#d55e00", "IQN": "#009e73", "Rainbow": "#cc79a7"}
AGENT_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
MARKERS = "osD^v"
"""Markers of the runs in a panel."""
LABEL = 70
"""Number of characters that fit below a panel."""
COLUMNS = 3
"""Panels side by side."""


class Line(NamedTuple):
    """A known return of an environment, drawn as a horizontal line."""

    env: str
    """Environment id."""
    value: float
    """The return."""
    name: str
    """Text at the line."""


@plain_style()
def plot_run(run: str | os.PathLike[str]) -> Path:
    """Draw the returns of training and evaluation episodes of a run into `curve.png` in its folder.

    On Atari games under the protocol `sticky`, the published curve of the run's preset, or of DQN for other presets,
    is drawn beside them.

    Raises:
        InvalidRun: If there is no run in the folder.
        OSError: If the file cannot be written.
    """
    from matplotlib.figure import Figure  # half a second to import

    run = Path(run)
    config = read_config(run)
    env, preset = shortened(config["env"]), shortened(preset_name(config))
    metrics, evaluations = (read_columns(run, table) for table in ("metrics", "evaluations"))
    is_played = np.isfinite(metrics["return_mean"])
    reference = reference_score(published_env(config))
    frames_per_step = max(1, round(float(metrics["frames"][0] / max(1.0, metrics["step"][0])))) if len(is_played) else 1
    unit, scale = ("thousand steps", 1e-3) if frames_per_step == 1 else ("million frames", frames_per_step / MILLION)
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()

    # The run
    steps, returns = metrics["step"][is_played] * scale, metrics["return_mean"][is_played]
    axes.plot(steps, returns, color=TRAINING, lw=1, label="training episodes")
    if len(evaluations["step"]):
        means, limit = evaluations["mean"], evaluation_limit(config)
        length = "" if limit is None else f" of at most {limit:,} steps"
        ends = [means - evaluations["ci95_low"], evaluations["ci95_high"] - means]
        axes.errorbar(
            evaluations["step"] * scale,
            means,
            [np.maximum(np.nan_to_num(end), 0.0) for end in ends],  # of an interval that its mean lies outside of
            fmt="o-",
            color=EVALUATION,
            capsize=3,
            label=f"evaluation, {int(evaluations['episodes'][-1])} episodes{length}, 95% interval",
        )

    # What it can be compared with
    if reference:
        axes.axhline(reference.random, color=REFERENCE, ls=":", lw=1, label=f"random {reference.random:g}")
        axes.axhline(reference.human, color=REFERENCE, ls="--", lw=1, label=f"human {reference.human:g}")
    published = published_beside(config)
    if published is not None and len(steps):
        _draw_published(axes, published, PUBLISHED, up_to=steps[-1])

    # Nothing of where and when: a run that is resumed or moved has the same picture.
    rules, seed = shortened(describe_rules(str(config["protocol"]))), shortened(config.get("seed", "?"), 40)
    title = f"{env} · {rules} · {preset} · seed {seed}"
    axes.set(xlabel=unit, ylabel="mean return", title=literal(title))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    path = run / "curve.png"
    _save(figure, path)
    return path


@plain_style()
def plot_comparisons(comparisons: Sequence[Comparison], path: Path) -> None:
    """Draw runs over the published curves into a PNG file, with a panel for each game and published agent.

    Raises:
        OSError: If the file cannot be written.
    """
    from matplotlib.figure import Figure

    panels: dict[tuple[str, str], list[Comparison]] = {}
    for comparison in comparisons:
        panels.setdefault((comparison.env, comparison.published.agent), []).append(comparison)
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns + 0.6, 3.6 * rows), dpi=120, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, ((env, agent), members) in zip(grid, panels.items(), strict=False):
        up_to = 1 + max(member.millions[-1].frames_millions for member in members)
        _draw_published(axes, members[0].published, PUBLISHED_COLORS[agent], up_to)
        for member, marker in zip(members, MARKERS * len(members), strict=False):
            axes.plot(
                [million.frames_millions - 0.5 for million in member.millions],
                drawable(np.array([million.mean for million in member.millions])),
                marker,
                ms=7,
                color="black",
                mfc="none" if member.differs else "black",
                label=literal(f"{member.run}, other settings" if member.differs else member.run),
            )
        axes.set(xlabel="million frames", ylabel="mean return of training episodes", title=literal(f"{env} · {agent}"))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize="small")
    for axes in grid[len(panels) :]:
        axes.remove()
    _save(figure, path)


@plain_style()
def plot_evaluations(
    runs: Sequence[str | os.PathLike[str]],
    path: Path,
    lines: Sequence[Line] = (),
    title: str | None = None,
    names: Mapping[str, str] | None = None,
) -> None:
    """Draw mean returns of evaluations into a PNG file: a panel for each environment, a curve for each agent.

    A curve is the mean over seeds, in a band from the lowest to the highest seed.

    Args:
        runs: Run folders.
        path: The PNG file.
        lines: Horizontal lines to draw.
        title: Title of the picture.
        names: Names of agents, as in `curves_by_env`.

    Raises:
        InvalidRun: As in `curves_by_env`.
        OSError: If the file cannot be written.
    """
    from matplotlib.figure import Figure

    panels = curves_by_env(runs, names)
    columns = min(len(panels), COLUMNS)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(6.4 * columns, 4.2 * rows), dpi=120, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.remove()
    for axes, (env, agents) in zip(grid, panels.items(), strict=False):
        _draw_panel(axes, env, agents, [line for line in lines if line.env == env])
    legends = [axes.get_legend_handles_labels() for axes in grid[: len(panels)]]
    if all(labels == legends[0][1] for _, labels in legends):
        figure.legend(*legends[0], frameon=False, fontsize="small", loc="outside lower center", ncols=columns)
    else:
        for axes in grid[: len(panels)]:
            axes.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.14))
    if title is not None:
        figure.suptitle(literal(title))
    _save(figure, path)


def _draw_panel(axes: Axes, env: str, agents: Sequence[AgentCurve], lines: Sequence[Line]) -> None:
    """Draw the curves of agents in an environment, and lines for comparison."""
    for (name, seeds, curve), color in zip(agents, itertools.cycle(AGENT_COLORS), strict=False):
        steps = curve.x / 1e3
        label = literal(fill(f"{name}, {pluralize(seeds, 'seed')}", LABEL))
        axes.plot(steps, curve.mean, color=color, label=label)
        axes.fill_between(steps, curve.low, curve.high, color=color, alpha=0.2, lw=0)
    place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
    for line in lines:
        axes.axhline(line.value, color=REFERENCE, ls=":", lw=1)
        axes.annotate(literal(line.name), (1.0, line.value), **place)
    axes.set(xlabel="thousand steps", ylabel="mean return of evaluations", title=literal(env))
    axes.grid(alpha=0.3)
    axes.margins(y=0.08)  # room for the name of a line


def _save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, not through a link that lies at its path."""
    data = io.BytesIO()
    figure.savefig(data, format="png")
    replace_file(path, data.getvalue())


def _draw_published(axes: Axes, curve: PublishedCurve, color: str, up_to: float) -> None:
    """Draw a published mean and its spread, at the middle of each million frames up to a number of millions."""
    shown = curve.middle_millions <= up_to
    if not shown.any():
        return
    middle, mean, spread = curve.middle_millions[shown], curve.mean[shown], SPREAD * curve.std[shown]
    label = f"{curve.agent}, {PUBLISHED_SOURCE}, ± {SPREAD:g} std over {curve.seeds.max()} seeds"
    axes.plot(middle, mean, "-", marker=".", color=color, lw=1.5, label=label)
    axes.fill_between(middle, mean - spread, mean + spread, color=color, alpha=0.2, lw=0)

"""A race as a table and as a picture of everybody's learning curve over the time that they had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from pixelq.agents.results.plots import AGENT_COLORS, MARKERS, REFERENCE
from pixelq.agents.results.style import literal, plain_style
from pixelq.scripts.benchmarks.race import medians

MOMENTS = 200
"""Number of moments at which a median over seeds is drawn."""


def title(figures: Mapping[str, Any]) -> str:
    """Return the conditions of a race as one line."""
    hardware = figures["hardware"]
    where = hardware["device"] if figures["device"] != "cpu" else f"{hardware['cores']} cores"
    return f"{figures['env']} · protocol {figures['protocol']} · {where}"


def show_race(figures: Mapping[str, Any], console: Console) -> None:
    """Print a table of a race."""
    found = medians(figures)
    ours = list(dict.fromkeys(arrival["entry"] for arrival in figures["arrivals"]))
    seeds = max((each["seeds"] for each in found.values()), default=0)
    over = "; medians over seeds (min–max)" if seeds > 1 else ""
    table = Table(
        title=f"to a score of {figures['to_score']:g} · {title(figures)}",
        caption=f"score: {figures['score']}{over}. Minutes are those of the entry's own turns.",
    )
    table.add_column("entry")
    for heading in ("version", "minutes to score", *(f"score when {name} arrived" for name in ours)):
        table.add_column(heading, justify="right")
    for heading in ("score at the end", "steps/s"):
        table.add_column(heading, justify="right")
    for name, each in found.items():
        if each["seeds"]:
            table.add_row(
                name,
                figures["entries"][name]["version"] or "our writing",
                _minutes(each["to_score"], each["seeds"]),
                *(_number(each["at_arrival"].get(one)) for one in ours),
                _number(each["at_end"]),
                f"{each['steps_per_second']:,.0f}",
            )
    console.print(table)
    hardware = figures["hardware"]
    console.print(f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['device']}", style="dim")


def _number(score: float | None) -> str:
    return "–" if score is None else f"{score:.1f}"


def _minutes(to_score: Sequence[float], seeds: int) -> str:
    """Return the median of times in minutes with their range, and how many seeds they are of where some have none."""
    if not to_score:
        return "not reached"
    text = f"{median(to_score) / 60:.1f}"
    text += f" ({to_score[0] / 60:.1f}–{to_score[-1] / 60:.1f})" if len(to_score) > 1 else ""
    return text if len(to_score) == seeds else f"{text}, {len(to_score)} of {seeds} seeds"


@plain_style()
def draw_race(figures: Mapping[str, Any], path: Path) -> None:
    """Draw the learning curves of a race.

    A line is the median over seeds, as far as all of them raced; each seed has a thin line.

    Args:
        figures: The figures.
        path: The file, which is written.
    """
    from matplotlib.figure import Figure  # half a second to import

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(figures["entries"]):
        curves = [curve_of(run) for run in figures["runs"] if run["entry"] == name]
        curves = [curve for curve in curves if len(curve)]
        if not curves:
            continue
        color, marker = AGENT_COLORS[place % len(AGENT_COLORS)], MARKERS[place % len(MARKERS)]
        if len(curves) > 1:
            for curve in curves:
                axes.plot(curve[:, 0] / 60, curve[:, 1], color=color, lw=0.7, alpha=0.6)
        middle = median_curve(curves) if len(curves) > 1 else curves[0]
        every = (0.05 * (place + 1) / len(figures["entries"]), 0.1)  # as shares of the picture, beside each other
        label = literal(f"{name} {figures['entries'][name]['version'] or '(our writing)'}")
        axes.plot(middle[:, 0] / 60, middle[:, 1], color=color, lw=2, marker=marker, ms=5, markevery=every, label=label)
    for key, style in (("random", ":"), ("human", "--")):
        if figures[key] is not None:
            axes.axhline(figures[key], color=REFERENCE, ls=style, lw=1, label=f"{key} {figures[key]:g}")
    axes.axhline(figures["to_score"], color="black", ls="-.", lw=1, label=f"to reach {figures['to_score']:g}")
    axes.set(xlabel="minutes of training", ylabel=f"mean return of the last {figures['games']} games")
    axes.set_title(literal(title(figures)), fontsize=10)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    figure.savefig(path)


def curve_of(run: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return seconds and scores [points, 2] of a run from its first score on."""
    points = [(seconds, score) for seconds, _, score in run["curve"] if score is not None]
    return np.array(points, dtype=np.float64).reshape(-1, 2)


def median_curve(curves: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the median of curves [points, 2] at moments from the latest of their beginnings to their earliest end.

    Between two points a curve is a straight line. Without a common moment there are no points.
    """
    start, end = max(curve[0, 0] for curve in curves), min(curve[-1, 0] for curve in curves)
    at = np.linspace(start, end, MOMENTS) if start <= end else np.zeros(0)
    scores = np.array([np.interp(at, curve[:, 0], curve[:, 1]) for curve in curves])
    return np.stack([at, np.median(scores, 0)], 1)

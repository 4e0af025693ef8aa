"""The figures of `pixelq benchmark --growth` as tables and as one picture.

`python -m pixelq.scripts.benchmarks.growth_shown FILE.json` prints the tables in Markdown.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from pixelq.agents.results.plots import AGENT_COLORS, MARKERS, REFERENCE
from pixelq.agents.results.style import literal, plain_style
from pixelq.scripts.benchmarks.growth import faster
from pixelq.scripts.benchmarks.growth_points import TITLES

HEADINGS = ("steps/s", "updates", "MFLOP", "MB", "work", "time ÷", "MiB", "store", "rest ÷")
"""Headings of a table after that of the sizes."""
CAPTION = (
    "steps/s: median (min–max) over turns. updates, MFLOP, MB: work of a step. work: that of the kind which grows most "
    "among these and the step itself, relative to the first line. time ÷: time of a step over the work, relative to "
    "the first line. MiB: peak memory of the process. store: the replay or rollout in it. rest ÷: memory besides the "
    "store and the environments, over the bytes that an update and a choice of actions touch, relative to the first "
    "line. * grows faster than the work since an earlier line, by more than 5% and in every turn."
)
LEAST_RANGE = 4.0
"""Least ratio of the ends of a vertical axis."""
PER_ROW = 3
"""Series in a row of the picture."""
ALLOWED: dict[str, Any] = {"ls": "--", "lw": 1}
STORED: dict[str, Any] = {"ls": ":", "lw": 1}
CROSSED: dict[str, Any] = {"ls": "", "marker": "x", "ms": 12, "mew": 2, "zorder": 5}
"""Styles of the lines that every series has."""
OF_ALGORITHM = {"dqn": "DQN", "pqn": "PQN"}


def cells(point: Mapping[str, Any]) -> list[str]:
    """Return the cells of a point, with its size first."""
    work, runs = point["work_per_step"], point["runs"]
    return [
        f"{point['size']:,}",
        f"{point['steps_per_second']:,.0f} ({min(runs):,.0f}–{max(runs):,.0f})",
        f"{work['updates']:.3g}",
        f"{1e3 * work['gflop']:,.0f}",
        f"{1e3 * work['gigabytes']:,.0f}",
        f"{point['relative_work']:.2f}",
        f"{point['growth']:.2f}{' *' if point['faster_since'] else ''}",
        f"{point['peak_memory_mib']:,.0f}",
        f"{point['store_mib']:,.0f}",
        f"{point['memory_growth']:.2f}{' *' if point['memory_faster_since'] else ''}",
    ]


def title(series: Mapping[str, Any]) -> str:
    """Return what a series measures as one line."""
    return f"{OF_ALGORITHM[series['algorithm']]}: {TITLES[series['name']]}"


def _machine(hardware: Mapping[str, Any]) -> str:
    return f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['device']}"


def show_growth(figures: Mapping[str, Any], console: Console) -> None:
    """Print a table of each series, what could not be measured, and where something grows faster than its work."""
    for series in figures["series"]:
        head = f"{title(series)} · {figures['env']} · {figures['device']}"
        table = Table(title=head, box=SIMPLE, collapse_padding=True, pad_edge=False)
        for heading in (series["name"], *HEADINGS):
            table.add_column(heading, justify="right")
        for point in series["points"]:
            table.add_row(*cells(point))
        console.print(table)
        for size, reason in series["left_out"].items():
            console.print(f"{series['name']} {int(size):,} is left out: {reason}")
    console.print(CAPTION, style="dim")
    for sentence in faster(figures) or ["nothing grows faster than its work"]:
        console.print(sentence)


def markdown(figures: Mapping[str, Any]) -> str:
    """Return a page with the tables in Markdown."""
    machine = f"{_machine(figures['hardware'])}, torch {figures['hardware']['torch']}"
    parts = ["# Growth", f"`pixelq benchmark --growth` in {figures['env']} on {machine}."]
    for series in figures["series"]:
        head = (series["name"], *HEADINGS)
        lines = [head, ["---"] * len(head), *(cells(point) for point in series["points"])]
        rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        notes = [f"{int(size):,} is left out: {reason}." for size, reason in series["left_out"].items()]
        parts.append("\n\n".join([f"## {title(series)}", rows, *notes]))
    sentences = faster(figures) or ["nothing grows faster than its work"]
    ends = "\n".join(f"- {sentence[0].upper()}{sentence[1:]}." for sentence in sentences)
    return "\n\n".join([*parts, "## What the columns are", CAPTION, "## What grows faster than its work", ends])


@plain_style()
def draw_growth(figures: Mapping[str, Any], path: Path) -> None:
    """Draw speed and memory of each series over its sizes; dashed is the speed that the work allows.

    Args:
        figures: The figures.
        path: The file, which is written.
    """
    from matplotlib.figure import Figure  # half a second to import

    names = list(dict.fromkeys(series["name"] for series in figures["series"]))
    columns = min(PER_ROW, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(max(4.2 * columns, 8.0), 4.6 * rows + 0.8), dpi=120, layout="constrained")
    grid = figure.subplots(2 * rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_visible(False)
    for place, name in enumerate(names):
        row, column = divmod(place, columns)
        panels = grid[2 * row][column], grid[2 * row + 1][column]
        ticks = set()
        for series in figures["series"]:
            if series["name"] == name and series["points"]:
                _draw_series(panels, series)
                ticks |= {point["size"] for point in series["points"]}
        for axes, label in zip(panels, ("steps/s", "peak MiB"), strict=True):
            _scale(axes, sorted(ticks))
            axes.set(ylabel=label)
        panels[0].set_title(name, fontsize=10)
        panels[1].set(xlabel=TITLES[name])
        panels[1].set_ylim(bottom=max(1.0, panels[1].get_ylim()[0]))  # the rollout of one environment is smaller
    figure.suptitle(literal(f"{figures['env']} · {_machine(figures['hardware'])}"), fontsize=10)
    figure.legend(handles=_legend(figures), loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    figure.savefig(path)


def _draw_series(panels: Sequence[Any], series: Mapping[str, Any]) -> None:
    """Draw a series into its panels of speed and memory."""
    points, style = series["points"], _style(series["algorithm"])
    sizes = [point["size"] for point in points]
    speed, memory = panels
    for axes in panels:
        axes.set_visible(True)
    # Speed, and that of the first point if time grew as the work
    middle = [point["steps_per_second"] for point in points]
    below = [value - min(point["runs"]) for value, point in zip(middle, points, strict=True)]
    above = [max(point["runs"]) - value for value, point in zip(middle, points, strict=True)]
    speed.errorbar(sizes, middle, [below, above], capsize=2, **style)
    allowed = [middle[0] / point["relative_work"] for point in points]
    speed.plot(sizes, allowed, color=style["color"], **ALLOWED)
    # Memory
    peaks = [point["peak_memory_mib"] for point in points]
    memory.plot(sizes, peaks, **style)
    memory.plot(sizes, [point["store_mib"] for point in points], color=style["color"], **STORED)
    # What grows too fast
    for axes, key, values in ((speed, "faster_since", middle), (memory, "memory_faster_since", peaks)):
        crossed = [(size, value) for size, value, point in zip(sizes, values, points, strict=True) if point[key]]
        axes.plot(*zip(*crossed, strict=True) if crossed else ([], []), color=REFERENCE, **CROSSED)


def _style(algorithm: str) -> dict[str, Any]:
    """Return the colour and marker of an algorithm."""
    place = list(OF_ALGORITHM).index(algorithm)
    return {"color": AGENT_COLORS[place], "marker": MARKERS[place]}


def _legend(figures: Mapping[str, Any]) -> list[Any]:
    """Return what explains the lines."""
    from matplotlib.lines import Line2D

    names = dict.fromkeys(series["algorithm"] for series in figures["series"])
    lines = [Line2D([], [], label=OF_ALGORITHM[name], **_style(name)) for name in names]
    return [
        *lines,
        Line2D([], [], color=REFERENCE, label="if time grew as the work", **ALLOWED),
        Line2D([], [], color=REFERENCE, label="replay or rollout alone", **STORED),
        Line2D([], [], color=REFERENCE, label="grows faster than the work", **CROSSED),
    ]


def _scale(axes: Any, ticks: Sequence[int]) -> None:
    """Give axes logarithmic scales, with the sizes as ticks."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(ticks, [_short(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    bottom, top = axes.get_ylim()
    wider = max(1.0, LEAST_RANGE * bottom / top) ** 0.5  # so that noise does not look like growth
    axes.set_ylim(bottom / wider, top * wider)


def _short(size: int) -> str:
    """Return a size as a tick shows it."""
    if size >= 1_000_000:
        return f"{size / 1e6:g}M"
    return f"{size / 1e3:g}k" if size >= 1_000 else str(size)


def main(paths: Sequence[str]) -> int:
    """Print the tables of a file in Markdown; return the exit code."""
    for path in paths:
        print(markdown(json.loads(Path(path).read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

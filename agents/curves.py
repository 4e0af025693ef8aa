"""Evaluations of several runs as one picture: a panel for each environment, a curve for each agent, over its seeds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pixelq.agents.run_log import InvalidRun, RunFiles, read_run

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")  # told apart by the colour-blind
IGNORED = frozenset({"cuda_graph"})
"""Settings that make no other agent."""


class Line(NamedTuple):
    """What is known of an environment's return."""

    env: str
    value: float
    name: str


class Curve(NamedTuple):
    """An agent's evaluations over its seeds, at the E steps that all of them have."""

    name: str
    seeds: int
    steps: np.ndarray[Any, np.dtype[np.int64]]  # [E]
    means: np.ndarray[Any, np.dtype[np.float64]]  # [seeds, E]


def curves_by_env(runs: Sequence[str | os.PathLike[str]]) -> dict[str, list[Curve]]:
    """The curves of runs by environment; agents are called after the settings by which they differ there.

    Raises:
        InvalidRun: a folder holds no run, or one without evaluations.
    """
    read = [read_run(run) for run in runs]
    for run, files in zip(runs, read, strict=True):
        if not files.evaluations:
            raise InvalidRun(f"{run} has not been evaluated yet; let it go on first")
    panels: dict[str, list[RunFiles]] = {}
    for files in read:
        panels.setdefault(str(files.config["env"]), []).append(files)
    return {env: _curves(members) for env, members in panels.items()}


def _curves(members: Sequence[RunFiles]) -> list[Curve]:
    agents = [files.config["agent"] for files in members]
    differing = [name for name in agents[0] if name not in IGNORED and len({str(a.get(name)) for a in agents}) > 1]
    groups: dict[str, list[RunFiles]] = {}
    for files in members:
        groups.setdefault(_name(files.config, differing), []).append(files)
    return [_curve(name, group) for name, group in groups.items()]


def _name(config: Mapping[str, Any], differing: Sequence[str]) -> str:
    settings = [f"{name} {config['agent'].get(name)}" for name in differing]
    return ", ".join(settings) or str(config.get("preset", "custom"))


def _curve(name: str, group: Sequence[RunFiles]) -> Curve:
    by_step = [{int(row["step"]): float(row["mean"]) for row in files.evaluations} for files in group]
    # Steps are multiples of the number of environments, and so a few apart from seed to seed: by place, not by step.
    length = min(map(len, by_step))
    steps = np.array([sorted(values)[:length] for values in by_step]).mean(0).astype(np.int64)
    means = np.array([[values[step] for step in sorted(values)[:length]] for values in by_step])
    return Curve(name, len(group), steps, means)


def plot_evaluations(
    runs: Sequence[str | os.PathLike[str]], path: Path, lines: Sequence[Line] = (), title: str | None = None
) -> None:
    """Draws mean returns of evaluations, the mean over seeds and from the worst to the best, into a PNG.

    Raises:
        InvalidRun: a folder holds no run, or one without evaluations.
        OSError: the file cannot be written.
    """
    from matplotlib.figure import Figure  # half a second to import

    panels = curves_by_env(runs)
    figure = Figure(figsize=(6.4 * len(panels), 4.2), dpi=120, layout="constrained")
    for axes, (env, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for curve, color in zip(curves, COLORS * len(curves), strict=False):
            steps = curve.steps / 1e3
            label = f"{curve.name}, {curve.seeds} seed{'s' * (curve.seeds != 1)}"
            axes.plot(steps, curve.means.mean(0), color=color, label=label)
            axes.fill_between(steps, curve.means.min(0), curve.means.max(0), color=color, alpha=0.2, lw=0)
        for line in lines:
            if line.env == env:
                axes.axhline(line.value, color="#666666", ls=":", lw=1)
                axes.annotate(line.name, (1.0, line.value), xycoords=("axes fraction", "data"), ha="right", va="bottom")
        axes.set(xlabel="thousand steps", ylabel="mean return of evaluations", title=env)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize="small")
    if title is not None:
        figure.suptitle(title)
    figure.savefig(path, format="png")

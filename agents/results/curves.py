"""Evaluations of several runs as one picture: a panel for each environment, a curve for each agent, over its seeds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import numpy as np

from pixelq.agents.errors import InvalidRun
from pixelq.agents.results.records import Group, Run, read_groups
from pixelq.agents.results.scores import SAME_RESULT

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")  # told apart by the colour-blind

LABEL = 70  # characters that fit below a panel


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


def curves_by_env(
    runs: Sequence[str | os.PathLike[str]], names: Mapping[str, str] | None = None
) -> dict[str, list[Curve]]:
    """The curves of runs by environment; agents are called after the settings by which they differ there.

    Which runs are one agent's is as in a report: those that differ in their seed alone.

    Args:
        runs: their folders.
        names: of agents, by the name of the folder of one of their runs.

    Raises:
        InvalidRun: a folder holds no run or one without evaluations, or two are the same agent's with the same seed,
            or an agent's were evaluated at other steps.
    """
    panels: dict[str, list[Group]] = {}
    for group in read_groups(runs):
        for run in group.runs:
            if not len(run.evaluations["step"]):
                raise InvalidRun(f"{run.path} has not been evaluated yet; let it go on first")
        panels.setdefault(group.env, []).append(group)
    return {env: _curves(groups, names or {}) for env, groups in panels.items()}


def _curves(groups: Sequence[Group], given: Mapping[str, str]) -> list[Curve]:
    agents = [group.runs[0].config["agent"] for group in groups]
    differing = [name for name in agents[0] if name not in SAME_RESULT and len({str(a.get(name)) for a in agents}) > 1]
    names = [", ".join(f"{name} {agent.get(name)}" for name in differing) for agent in agents]
    if not all(names) or len(set(names)) < len(names):  # apart by their rules or their length
        names = [group.agent for group in groups]
    if len(groups) == 1:
        names = [groups[0].preset]
    for i, group in enumerate(groups):
        names[i] = next((given[run.name] for run in group.runs if run.name in given), names[i])
    return [_curve(name, group.runs) for name, group in zip(names, groups, strict=True)]


def _curve(name: str, runs: Sequence[Run]) -> Curve:
    # Steps are multiples of the number of environments, and so a few apart from seed to seed: by place, not by step.
    length = min(len(run.evaluations["step"]) for run in runs)
    steps, means = (np.array([run.evaluations[column][:length] for run in runs]) for column in ("step", "mean"))
    if 2 * np.ptp(steps, 0).max() > np.diff(steps, axis=1, prepend=0).min():
        raise InvalidRun(
            f"{' and '.join(str(run.path) for run in runs)} were evaluated at different steps; draw them one by one"
        )
    return Curve(name, len(runs), steps.mean(0).astype(np.int64), means)


def plot_evaluations(
    runs: Sequence[str | os.PathLike[str]],
    path: Path,
    lines: Sequence[Line] = (),
    title: str | None = None,
    names: Mapping[str, str] | None = None,
) -> None:
    """Draws mean returns of evaluations, the mean over seeds and from the worst to the best, into a PNG.

    Agents are called as in ``curves_by_env``.

    Raises:
        InvalidRun: as `curves_by_env`.
        OSError: the file cannot be written.
    """
    from matplotlib.figure import Figure  # half a second to import

    panels = curves_by_env(runs, names)
    figure = Figure(figsize=(6.4 * len(panels), 4.2), dpi=120, layout="constrained")
    for axes, (env, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for curve, color in zip(curves, COLORS * len(curves), strict=False):
            steps = curve.steps / 1e3
            label = f"{curve.name}, {curve.seeds} seed{'s' * (curve.seeds != 1)}"
            axes.plot(steps, curve.means.mean(0), color=color, label=fill(label, LABEL))
            axes.fill_between(steps, curve.means.min(0), curve.means.max(0), color=color, alpha=0.2, lw=0)
        for line in lines:
            if line.env == env:
                axes.axhline(line.value, color="#666666", ls=":", lw=1)
                axes.annotate(line.name, (1.0, line.value), xycoords=("axes fraction", "data"), ha="right", va="bottom")
        axes.set(xlabel="thousand steps", ylabel="mean return of evaluations", title=env)
        axes.grid(alpha=0.3)
        axes.margins(y=0.08)  # room for a line's name
        axes.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.14))
    if title is not None:
        figure.suptitle(title)
    figure.savefig(path, format="png")

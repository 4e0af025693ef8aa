"""What a report is of: runs as arrays, and runs that differ in their seed alone put together."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelq.agents.errors import InvalidRun
from pixelq.agents.results.scores import agent_of, read_evaluation
from pixelq.agents.runs.tables import FINAL_EVALUATION, TABLES, read_run
from pixelq.envs import has_published_rules

_KINDS = {
    "seed": (int, "a whole number"),
    "steps": (int, "a whole number"),
    "num_envs": (int, "a whole number"),
    "hardware": (dict, "an object"),
}
"""Of what a report takes from config.json."""
Columns = dict[str, NDArray[np.float64]]
"""A table by column, [rows] each; NaN where a cell is empty."""


class Score(NamedTuple):
    """The mean raw return of one evaluation."""

    mean: float
    low: float
    """Of the 95% interval over its episodes."""
    high: float
    episodes: int
    step: int
    """Agent steps that the policy had learned for."""


@dataclass(frozen=True)
class Run:
    """One run's folder."""

    path: Path
    config: dict[str, Any]
    metrics: Columns
    """Of metrics.csv, R rows."""
    evaluations: Columns
    """Of evaluations.csv."""
    final: Score | None
    """Of the best checkpoint in games that it was not chosen by; None before the run's end."""

    @property
    def name(self) -> str:
        """Of its folder."""
        return Path(os.path.abspath(self.path)).name

    @property
    def steps(self) -> int:
        """Agent steps so far."""
        return int(self.metrics["step"][-1]) if len(self.metrics["step"]) else 0

    @property
    def frames(self) -> int:
        """Frames of the emulator so far."""
        return int(self.metrics["frames"][-1]) if len(self.metrics["frames"]) else 0

    @property
    def frames_per_step(self) -> float:
        """Frames in an agent step; 1 before the first."""
        return self.frames / self.steps if self.steps else 1.0

    @property
    def seconds(self) -> float:
        """Wall-clock time so far, evaluations among it."""
        return float(self.metrics["wall_seconds"][-1]) if self.steps else 0.0

    @property
    def last(self) -> Score | None:
        """The last evaluation during training."""
        return self._evaluation(-1) if len(self.evaluations["step"]) else None

    @property
    def best(self) -> Score | None:
        """The evaluation by which the best checkpoint was chosen: the greatest of several, so it flatters."""
        means = self.evaluations["mean"]
        return self._evaluation(int(np.nan_to_num(means, nan=-np.inf).argmax())) if len(means) else None

    def _evaluation(self, row: int) -> Score:
        mean, low, high, episodes, step = (
            self.evaluations[name][row] for name in ("mean", "ci95_low", "ci95_high", "episodes", "step")
        )
        return Score(float(mean), float(low), float(high), int(episodes), int(step))


@dataclass(frozen=True)
class Group:
    """Runs of one agent on one environment, each with a seed of its own."""

    agent: str
    """The preset and what differs from it: ``dqn, n_step 3``."""
    env: str
    protocol: str
    runs: tuple[Run, ...]
    """N, by seed."""

    @property
    def preset(self) -> str:
        """The preset's name; ``custom`` without one."""
        return str(self.runs[0].config.get("preset", "custom"))

    @property
    def flicker(self) -> float:
        """Probability that a picture was black."""
        return float(self.runs[0].config.get("flicker", 0.0))

    @property
    def has_published_rules(self) -> bool:
        """Whether the published agents played by the same rules."""
        return has_published_rules(self.protocol, self.flicker)


def read_groups(paths: Iterable[str | os.PathLike[str]]) -> list[Group]:
    """Reads runs' folders, each once, and groups them by environment and agent, in the order of their first run.

    Runs of different protocols are different agents; the protocol is in the name where it is not ``sticky``, and
    flicker where there is any. So are runs of one agent to different numbers of steps, or in different numbers of
    environments at once; these are then in their names.

    Raises:
        InvalidRun: no run is given, or one cannot be read, or two are the same agent's with the same seed.
    """
    folders: dict[Path, Path] = {}  # as they are called, by where they are
    for path in paths:
        folders.setdefault(Path(path).resolve(), Path(path))
    if not folders:
        raise InvalidRun("no run is given; give the folders of one or more")
    found = [load_run(folder) for folder in folders.values()]
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run, agent in zip(found, _names(found), strict=True):
        groups.setdefault((str(run.config["env"]), agent, str(run.config["protocol"])), []).append(run)
    for (env, agent, _), runs in groups.items():
        seen: dict[Any, Run] = {}
        for run in runs:
            twin = seen.setdefault(run.config.get("seed"), run)
            if twin is not run:
                raise InvalidRun(
                    f"{twin.path} and {run.path} are both {agent} on {env} with seed {run.config.get('seed')}; "
                    "give one of them"
                )
    return [
        Group(agent, env, protocol, tuple(sorted(runs, key=lambda run: str(run.config.get("seed")).zfill(20))))
        for (env, agent, protocol), runs in groups.items()
    ]


def _names(runs: Sequence[Run]) -> list[str]:
    """The agent of each run, with what of its training sets it apart from another run of the same agent."""
    agents = [agent_of(run.config) for run in runs]
    names = agents
    for setting, unit in (("steps", "steps"), ("num_envs", "environments at once")):
        values = [run.config.get(setting) for run in runs]
        kinds = Counter(agent for agent, _ in set(zip(agents, values, strict=True)))
        names = [
            name if kinds[agent] == 1 else f"{name}, {'unknown' if value is None else f'{value:,}'} {unit}"
            for name, agent, value in zip(names, agents, values, strict=True)
        ]
    return names


def load_run(folder: Path) -> Run:
    """Reads one run's folder.

    Raises:
        InvalidRun: it holds no run, or a file of it is damaged.
    """
    config, metrics, evaluations = read_run(folder)
    for name, (kind, called) in _KINDS.items():
        value = config.get(name)
        if value is not None and type(value) is not kind:
            raise InvalidRun(f"{folder / 'config.json'} has {name} {value!r:.80}; it must be {called}")
    return Run(folder, config, _columns(metrics, "metrics"), _columns(evaluations, "evaluations"), _final(folder))


def _final(folder: Path) -> Score | None:
    path = folder / FINAL_EVALUATION
    if not path.exists():
        return None
    values = read_evaluation(path)
    try:
        (low, high), episodes = values["ci95"], values["episodes"]
        return Score(float(values["mean"]), float(low), float(high), int(episodes), int(values["step"]))
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise InvalidRun(f"{path} does not describe an evaluation; evaluate the run again") from error


def _columns(rows: list[dict[str, str]], table: str) -> Columns:
    return {name: np.array([float(row.get(name) or "nan") for row in rows], np.float64) for name in TABLES[table]}

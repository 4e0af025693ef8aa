"""A run beside published learning curves: the returns of its training episodes, a million frames at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.config.presets import PRESETS
from pixelq.agents.errors import InvalidRun
from pixelq.agents.runs.tables import read_run
from pixelq.envs import GYMNASIUM, PublishedCurve, has_published_rules, published_curve

PUBLISHED_AS = {"dqn": "DQN", "c51": "C51", "qrdqn": "QR-DQN", "iqn": "IQN", "rainbow_dopamine": "Rainbow"}
"""Presets with the settings of a published agent, and its name; any other preset is laid beside DQN."""
MILLION = 1_000_000
SPREAD = 2.0  # standard deviations over seeds, within which a run is as the published ones


class Million(NamedTuple):
    """One million frames of a run beside the same ones of the published agent."""

    frames_millions: int
    """The million's end."""
    episodes: int
    """Training episodes that ended in it."""
    mean: float
    """Their mean raw return."""
    published_mean: float
    published_std: float
    """Over the published seeds."""

    @property
    def deviations(self) -> float:
        """How many published standard deviations the run lies above the published mean."""
        return deviations(self.mean - self.published_mean, self.published_std)

    @property
    def is_inside(self) -> bool:
        """Whether the run lies within two of them."""
        return abs(self.deviations) <= SPREAD


def deviations(difference: float, std: float) -> float:
    """A difference in standard deviations; infinite where the published seeds all agree and the difference is not 0."""
    if std == 0:
        return math.copysign(math.inf, difference) if difference else 0.0
    return difference / std


@dataclass(frozen=True)
class Comparison:
    """A run beside the curve of a published agent on the same game."""

    run: str
    env: str
    preset: str
    published: PublishedCurve
    differs: tuple[str, ...]
    """Settings in which the run is not the published agent; empty where the two should agree."""
    millions: tuple[Million, ...]
    """The run's whole millions of frames."""


def compare_run(run: str | os.PathLike[str]) -> Comparison:
    """Lays a run's folder beside the published curve of its preset, or of DQN for a preset without one.

    Raises:
        InvalidRun: the folder holds no run, its game has no published curve, or no million frames are whole.
    """
    config, metrics, _ = read_run(run)
    name = str(config.get("preset", "custom"))
    likeness = name if name in PUBLISHED_AS else "dqn"
    curve = published_curve(str(config["env"]), PUBLISHED_AS[likeness])
    if curve is None:
        raise InvalidRun(f"no curve is published for {config['env']}, which {run} plays; give runs of Atari games")
    published = {int(end): row for end, *row in zip(curve.frames_millions, curve.mean, curve.std, strict=True)}
    try:
        returns = returns_by_million(metrics)
    except ValueError as error:
        raise InvalidRun(f"{Path(run) / 'metrics.csv'} is damaged ({error}); give another run's folder") from error
    millions = tuple(
        Million(end, episodes, mean, *map(float, published[end])) for end, episodes, mean in returns if end in published
    )
    if not millions:
        raise InvalidRun(f"{run} has not played a million frames (250,000 steps) yet; let it go on first")
    differs = tuple(differences(config, PRESETS[likeness]()))
    return Comparison(Path(run).name, config["env"], name, curve, differs, millions)


def published_beside(config: Mapping[str, Any]) -> PublishedCurve | None:
    """The published curve of a run's preset, or of DQN; None where there is none, or of other rules than the run's.

    Args:
        config: the run's config.json.
    """
    if not has_published_rules(config["protocol"], config.get("flicker", 0.0)):
        return None
    return published_curve(str(config["env"]), PUBLISHED_AS.get(str(config.get("preset")), "DQN"))


def returns_by_million(metrics: Iterable[Mapping[str, str]]) -> list[tuple[int, int, float]]:
    """End in millions of frames, number and mean return of the episodes that ended in each whole million.

    Args:
        metrics: rows of metrics.csv; one that reaches over a million's end counts where its middle lies.

    Raises:
        ValueError: a cell holds no number.
    """
    episodes: dict[int, int] = {}
    totals: dict[int, float] = {}
    frames_before = episodes_before = 0
    for row in metrics:
        frames, ended = int(row["frames"]), int(row["episodes"]) - episodes_before
        end = (frames_before + frames) // (2 * MILLION) + 1
        if ended and row["return_mean"]:
            episodes[end] = episodes.get(end, 0) + ended
            totals[end] = totals.get(end, 0.0) + ended * float(row["return_mean"])
        frames_before, episodes_before = frames, int(row["episodes"])
    return [
        (end, episodes[end], totals[end] / episodes[end]) for end in sorted(totals) if end * MILLION <= frames_before
    ]


def differences(config: Mapping[str, Any], settings: AgentConfig) -> dict[str, Any]:
    """What a run's config.json has other than these settings, a game's own actions, steady and with sticky ones."""
    agent = config["agent"]
    different = {name: agent[name] for name, value in settings.to_dict().items() if agent.get(name, value) != value}
    if config["protocol"] not in ("sticky", GYMNASIUM.name):
        different["protocol"] = config["protocol"]
    if config.get("full_action_space"):
        different["full_action_space"] = True
    if config.get("flicker"):
        different["flicker"] = config["flicker"]
    return different

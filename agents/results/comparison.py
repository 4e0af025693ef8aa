"""Runs beside published learning curves: returns of training episodes, a million frames at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pixelq.agents.config.presets import PRESETS
from pixelq.agents.errors import InvalidRun
from pixelq.agents.evaluation.limits import is_cut
from pixelq.agents.results.records import differences, preset_name, published_env
from pixelq.agents.runs.tables import read_run
from pixelq.envs import PUBLISHED_SOURCE, PublishedCurve, has_published_rules, published_curve

PUBLISHED_AS = {"dqn": "DQN", "c51": "C51", "qrdqn": "QR-DQN", "iqn": "IQN", "rainbow_dopamine": "Rainbow"}
"""Published agents by the presets with their settings; runs of other presets are compared with DQN."""
MILLION = 1_000_000
"""Frames in a row of a published curve."""
SPREAD = 2.0
"""Standard deviations over seeds within which a run agrees with the published agent."""


class Million(NamedTuple):
    """Training episodes of a run in one million frames, beside the published agent's."""

    frames_millions: int
    """End of the million."""
    episodes: int
    """Number of training episodes that ended in it."""
    mean: float
    """Mean raw return of these episodes."""
    published_mean: float
    """Published mean over seeds."""
    published_std: float
    """Published standard deviation over seeds."""

    @property
    def deviations(self) -> float:
        """Distance of the run above the published mean, in published standard deviations."""
        return deviations(self.mean - self.published_mean, self.published_std)

    @property
    def is_inside(self) -> bool:
        """Whether the run lies within `SPREAD` standard deviations of the published mean."""
        return abs(self.deviations) <= SPREAD


@dataclass(frozen=True)
class Comparison:
    """A run beside the curve of a published agent on the same game.

    Attributes:
        run: Name of the run folder.
        env: Environment id.
        preset: Name of the run's preset; `custom` without one.
        published: Curve of the published agent.
        differs: Settings in which the run differs from the published agent; if there are none, the two should agree.
        millions: Whole millions of frames of the run.
    """

    run: str
    env: str
    preset: str
    published: PublishedCurve
    differs: tuple[str, ...]
    millions: tuple[Million, ...]

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, as `pixelq compare --json` writes them."""
        millions = [
            {
                **million._asdict(),
                "mean": million.mean if math.isfinite(million.mean) else None,
                "deviations": million.deviations if math.isfinite(million.deviations) else None,
                "is_inside": million.is_inside,
            }
            for million in self.millions
        ]
        return {
            "run": self.run,
            "env": self.env,
            "preset": self.preset,
            "published": self.published.agent,
            "source": PUBLISHED_SOURCE,
            "differs": self.differs,
            "millions": millions,
        }


def deviations(difference: float, std: float) -> float:
    """Return a difference in standard deviations; infinite if `std` is 0 and the difference is not."""
    if std == 0:
        return math.copysign(math.inf, difference) if difference else 0.0
    return difference / std


def compare_run(run: str | os.PathLike[str]) -> Comparison:
    """Compare a run folder with the published curve of its preset, or of DQN for other presets.

    Raises:
        InvalidRun: If there is no run in the folder, no curve is published for its game, or it has not completed a
            million frames.
    """
    config, metrics, _ = read_run(run)
    name = preset_name(config)
    published_preset = name if name in PUBLISHED_AS else "dqn"
    curve = published_curve(published_env(config), PUBLISHED_AS[published_preset])
    if curve is None:
        raise InvalidRun(f"no curve is published for {config['env']}, the environment of {run}; give Atari runs")
    published = {int(end): row for end, *row in zip(curve.frames_millions, curve.mean, curve.std, strict=True)}
    try:
        returns = returns_by_million(metrics)
    except ValueError as error:
        raise InvalidRun(f"{Path(run) / 'metrics.csv'} is damaged ({error}); give another run") from error
    millions = tuple(
        Million(end, episodes, mean, *map(float, published[end])) for end, episodes, mean in returns if end in published
    )
    if not millions:
        raise InvalidRun(f"{run} has not played a million frames (250,000 steps) yet; train it further first")
    differs = tuple(differences(config, PRESETS[published_preset]()))
    return Comparison(os.path.basename(os.path.abspath(run)), config["env"], name, curve, differs, millions)


def published_beside(config: Mapping[str, Any]) -> PublishedCurve | None:
    """Return the published curve of a run's preset, or of DQN for other presets.

    Returns None if no curve is published for the game, or the run's rules, time limits or game differ from those of
    the published agents.

    Args:
        config: Contents of the run's config.json.
    """
    if not has_published_rules(config["protocol"]) or is_cut(config):
        return None
    return published_curve(published_env(config), PUBLISHED_AS.get(preset_name(config), "DQN"))


def returns_by_million(metrics: Iterable[Mapping[str, str]]) -> list[tuple[int, int, float]]:
    """Return end (in millions), number and mean return of the episodes that ended in each whole million frames.

    Args:
        metrics: Rows of metrics.csv; a row that reaches over the end of a million counts where its middle lies.

    Raises:
        ValueError: If a cell is not a number.
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

"""What `pixelq benchmark --growth` measures: series of trainings that differ in one size."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from pixelq.agents.config.presets import PRESET_NUM_ENVS, preset
from pixelq.agents.errors import UserError
from pixelq.scripts.benchmarks.work import Work
from pixelq.scripts.command_line import split_names

ALL = "all"
"""Value of `--growth` for every series that can be measured here."""
PRESET = "quick"
"""Preset of the points of PQN."""
TITLES = {
    "envs": "environments",
    "replay": "rows of the replay",
    "batch": "transitions in a batch",
    "cores": "cores",
    "stack": "frames in an observation",
    "frame": "pixels on a side of a frame",
}
"""Series by name, with what their sizes count."""
FIELDS = {
    "envs": "num_envs",
    "replay": "replay_capacity",
    "batch": "batch_size",
    "cores": "cores",
    "stack": "frame_stack",
    "frame": "frame_size",
}
"""Field of a point that is the size, by series."""
SIZES: dict[str, dict[str, tuple[int, ...]]] = {
    "dqn": {
        "envs": (1, 2, 8, 32, 128),
        "replay": (10_000, 100_000, 1_000_000),
        "batch": (32, 64, 128, 256, 512),
        "stack": (1, 2, 4, 8),
        "frame": (42, 84, 126, 168),
    },
    "pqn": {"envs": (1, 2, 8, 32, 128), "frame": (42, 84, 126)},
}
"""Sizes of each series by algorithm, smallest first; those of cores depend on the machine."""
CHOSEN_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables with which a training's threads do not follow its cores."""


@dataclass(frozen=True)
class Point:
    """One training that is measured."""

    algorithm: str
    """`dqn` with the settings of the comparison with other libraries, or `pqn` with the preset `quick`."""
    num_envs: int
    """Number of environments."""
    frame_stack: int
    """Frames in an observation."""
    frame_size: int
    """Pixels on each side of a frame."""
    replay_capacity: int | None = None
    """Rows of the replay, all of which are filled; None without a replay."""
    batch_size: int | None = None
    """Transitions in a batch; None with PQN, whose rollout is cut into minibatches."""
    cores: int | None = None
    """Cores that the process may use; None for all."""


class Series(NamedTuple):
    """Points that differ in one size."""

    name: str
    """Name among `TITLES`."""
    algorithm: str
    """`dqn` or `pqn`."""
    points: dict[int, Point]
    """Points by size, smallest first."""


def usual(algorithm: str) -> Point:
    """Return the point of an algorithm from which its series depart."""
    if algorithm == "dqn":
        work = Work()
        return Point("dqn", work.num_envs, 4, 84, work.replay_capacity, work.batch_size)
    config = preset(PRESET)
    return Point("pqn", PRESET_NUM_ENVS[PRESET], config.frame_stack, config.frame_size)


def why_no_cores(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return why the series of cores cannot be measured, or None."""
    for name in CHOSEN_THREADS:
        if environ.get(name):
            return f"{name} fixes the number of threads; unset it"
    return None if hasattr(os, "sched_setaffinity") else "this system cannot bind a process to cores"


def names_of(text: str) -> list[str]:
    """Return the series that a text names, each once, in the order of `TITLES`.

    Args:
        text: Names with commas between them, or `all`, which leaves out the cores where they cannot be measured.

    Raises:
        UserError: If there is no such series, or it cannot be measured.
    """
    why = why_no_cores()
    if text == ALL:
        return [name for name in TITLES if name != "cores" or why is None]
    chosen = split_names(text)
    for name in chosen:
        if name not in TITLES:
            raise UserError(f"--growth must be names among {', '.join(TITLES)}, got {name!r}")
    if "cores" in chosen and why is not None:
        raise UserError(f"--growth cannot measure cores: {why}, or leave cores out")
    return [name for name in TITLES if name in chosen]


def series_of(name: str, cores: int) -> list[Series]:
    """Return the series with a name, of each algorithm that has it.

    Args:
        name: Name among `TITLES`.
        cores: Number of cores that this process may use.
    """
    found = []
    for algorithm, sizes in SIZES.items():
        own = core_counts(cores) if name == "cores" else sizes.get(name, ())
        changed: list[dict[str, Any]] = [{FIELDS[name]: size} for size in own]
        points = {size: replace(usual(algorithm), **change) for size, change in zip(own, changed, strict=True)}
        if points:
            found.append(Series(name, algorithm, points))
    return found


def core_counts(cores: int) -> list[int]:
    """Return the numbers of cores to measure: 1, 2, 4, … and all."""
    return sorted({cores, *(2**i for i in range(cores.bit_length()) if 2**i <= cores)})

"""The flags of `pixelq acceptance`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pixelq.agents import preset
from pixelq.agents.errors import UserError
from pixelq.scripts.benchmarks.work import LEAST_ROWS, least_capacity
from pixelq.scripts.command_line import check_least, parse


@dataclass(frozen=True)
class AcceptanceArgs:
    """Run the GPU tests, the benchmark and a Pong run, and leave JSON and plots in a folder. Needs no internet."""

    out: Path
    """Folder for the results; it must not hold an earlier acceptance."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to compute on: auto (a GPU if there is one), cpu or cuda."""
    minutes: float = 10.0
    """Minutes in all; Pong has what the other parts leave."""
    against: str = "sb3,pixelq-bfloat16"
    """Entries that the benchmark compares with, as in `pixelq benchmark --against`."""
    num_envs: int = 128
    """Number of environments in the benchmark and in training."""
    replay_capacity: int = 20_000
    """Rows of the replays in the benchmark."""
    rows: int = 1_000_000
    """Rows of the replay (7.1 kB each) from which drawing batches is measured."""
    updates: str = "nature,rainbow,btr"
    """Presets whose update is measured, with commas between them, or all."""
    preset: str = "quick_dqn"
    """Preset of the Pong run."""
    target: float = 18.0
    """Mean return over ten evaluation episodes at which the Pong run ends."""
    evaluate_every: int = 200_000
    """Steps between evaluations of the Pong run."""
    tests: Path = Path("tests")
    """Folder of the tests."""


def read(arguments: Sequence[str]) -> AcceptanceArgs:
    """Return the flags of a command line.

    Raises:
        UserError: If they do not fit.
    """
    args = parse(AcceptanceArgs, "acceptance", arguments)
    if not 0.1 <= args.minutes <= 24 * 60:
        raise UserError(f"--minutes must be in [0.1, {24 * 60}], got {args.minutes}")
    check_least(
        ("--num-envs", args.num_envs, 1),
        ("--replay-capacity", args.replay_capacity, least_capacity(args.num_envs)),
        ("--rows", args.rows, LEAST_ROWS),
        ("--evaluate-every", args.evaluate_every, 1),
    )
    if not math.isfinite(args.target):
        raise UserError(f"--target must be a finite number, got {args.target}")
    preset(args.preset)
    return args

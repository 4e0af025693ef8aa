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
from pixelq.scripts.command_line import check_least, parse, split_names


@dataclass(frozen=True)
class AcceptanceArgs:
    """Run the GPU tests, the benchmarks and training on Pong, and write a table, JSON and plots to a folder.

    No internet connection is needed. If a part fails or hangs, the others still run.
    """

    out: Path
    """Folder for the results; it must not contain the results of an earlier acceptance."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to compute on: auto (a GPU if there is one), cpu or cuda."""
    minutes: float = 10.0
    """Total time in minutes; training uses what the other parts leave."""
    against: str = "sb3,pixelq-bfloat16"
    """Entries that the benchmark compares with, as in `pixelq benchmark --against`; those that are not installed are
    skipped."""
    num_envs: int = 128
    """Number of environments in the benchmarks (except PQN's) and in training DQN; PQN's presets have their own."""
    replay_capacity: int = 20_000
    """Rows of the replays in the benchmark."""
    rows: int = 1_000_000
    """Rows of the replay (7.1 kB each) in the benchmark of drawing batches."""
    updates: str = "nature,rainbow,btr,pqn,quick"
    """Presets whose update is measured, separated by commas, or all."""
    presets: str = "quick,quick_dqn,pqn"
    """Presets to train on Pong, separated by commas; they share the remaining time."""
    target: float = 18.0
    """Mean return over ten evaluation episodes at which a training ends; one must reach it."""
    evaluate_every: int = 50_000
    """Steps between evaluations of a training."""
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
    for name in split_names(args.presets):
        preset(name)
    return args

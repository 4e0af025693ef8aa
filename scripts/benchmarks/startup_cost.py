"""The time that commands and imports take to start, and `pixelq train` up to its first environment step."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from pixelq.agents.runs.machine import hardware

_TO_THE_FIRST_STEP = """
import os, sys
from pixelq.envs import AtariVec
AtariVec.send = lambda self, actions: os._exit(42)
from pixelq.scripts.main import main
sys.exit(main(["train", *sys.argv[1:]]))
"""
_PIXELQ = "import sys; from pixelq.scripts.main import main; sys.exit(main())"
TORCH = "import torch"
IMPORTS = (TORCH, "import pixelq.agents", "from pixelq.agents import DQN")
"""Programs that are timed."""
COMMANDS = {
    "--help": 0,
    "train --help": 0,
    "evaluate --list": 0,
    "presets": 0,
    "status": 2,
    "train --stepz 5": 2,
    "train --env Pong": 2,
    "evaluate nowhere": 2,
}
"""Commands of `pixelq` that are timed in an empty folder, with their exit codes."""


def startup_seconds(env: str, num_envs: int, device: str) -> float:
    """Return the seconds of one start of a training, interpreter and imports included.

    Args:
        env: ID of an Atari environment.
        num_envs: Number of environments.
        device: `cpu` or `cuda`.

    Raises:
        RuntimeError: If the training does not reach its first step.
    """
    flags = {"--device": device, "--env": env, "--num-envs": str(num_envs), "--out": "run"}
    arguments = [word for pair in flags.items() for word in pair]
    return _seconds("pixelq train up to its first step", _TO_THE_FIRST_STEP, arguments, 42)


def starts_seconds() -> dict[str, float]:
    """Return the seconds of one start of the interpreter alone, and of each of `IMPORTS` and `COMMANDS`.

    Raises:
        RuntimeError: If one ends with another exit code than it should.
    """
    starts: list[tuple[str, str, list[str], int]] = [("python", "pass", [], 0)]
    starts += [(program, program, [], 0) for program in IMPORTS]
    starts += [(f"pixelq {words}", _PIXELQ, words.split(), code) for words, code in COMMANDS.items()]
    return {start[0]: _seconds(*start) for start in starts}


def _seconds(name: str, program: str, arguments: Sequence[str], code: int) -> float:
    """Return the seconds that a program takes in an empty folder, interpreter included.

    Args:
        name: What it is called in an error.
        program: Its text.
        arguments: Its command line.
        code: Its exit code.

    Raises:
        RuntimeError: If it ends with another one.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-P", "-c", program, *arguments]
        start = time.perf_counter()
        done = subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        seconds = time.perf_counter() - start
    if done.returncode != code:
        said = done.stderr.decode(errors="replace")[-500:]
        raise RuntimeError(f"{name} ended with exit code {done.returncode} instead of {code}: {said}")
    return seconds


def startup_costs(env: str, num_envs: int, device: torch.device, turns: int) -> dict[str, Any]:
    """Return the figures of several starts of each, in turns, as JSON values.

    Args:
        env: ID of an Atari environment.
        num_envs: Number of environments.
        device: Device of the training.
        turns: Number of starts.
    """
    runs, starts = [], []
    for _ in range(turns):
        starts.append(starts_seconds())
        runs.append(startup_seconds(env, num_envs, device.type))
    figures = {"hardware": hardware(device), "device": device.type, "env": env, "num_envs": num_envs}
    of_each = {what: [turn[what] for turn in starts] for what in starts[0]}
    return figures | {
        "seconds_to_first_step": median(runs),
        "runs": runs,
        "starts": {what: {"seconds": median(found), "runs": found} for what, found in of_each.items()},
    }


def show_startup(figures: dict[str, Any], console: Console) -> None:
    """Print the figures of `startup_costs`."""
    table = Table("start", caption="s: median")
    for title in ("s", "range", f"of {TORCH}"):
        table.add_column(title, justify="right")
    of_torch = figures["starts"][TORCH]["seconds"]
    for what, found in figures["starts"].items():
        low, high = min(found["runs"]), max(found["runs"])
        seconds = found["seconds"]
        table.add_row(
            what,
            f"{seconds:.2f}",
            f"{low:.2f} to {high:.2f}",
            f"{seconds / of_torch:.2f}×",
        )
    console.print(table)
    runs = figures["runs"]
    console.print(
        f"pixelq train --env {figures['env']} --num-envs {figures['num_envs']} takes its first step after "
        f"{figures['seconds_to_first_step']:.1f} s (median of {len(runs)}; {min(runs):.1f} to {max(runs):.1f})"
    )

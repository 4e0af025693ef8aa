"""The time that `pixelq train` takes from its start to its first environment step."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from statistics import median
from typing import Any

import torch
from rich.console import Console

from pixelq.agents.runs.machine import hardware

_TO_THE_FIRST_STEP = """
import os, sys
from pixelq.envs import AtariVec
AtariVec.send = lambda self, actions: os._exit(42)
from pixelq.scripts.main import main
sys.exit(main(["train", *sys.argv[1:]]))
"""


def startup_seconds(env: str, num_envs: int, device: str) -> float:
    """Return the seconds of one start, interpreter and imports included.

    Args:
        env: ID of an Atari environment.
        num_envs: Number of environments.
        device: `cpu` or `cuda`.

    Raises:
        RuntimeError: If the training does not reach its first step.
    """
    with tempfile.TemporaryDirectory() as folder:
        flags = {"--device": device, "--env": env, "--num-envs": str(num_envs), "--out": os.path.join(folder, "run")}
        arguments = [word for pair in flags.items() for word in pair]
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", _TO_THE_FIRST_STEP, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        seconds = time.perf_counter() - start
    if done.returncode != 42:
        raise RuntimeError(f"pixelq train did not reach its first step: {done.stderr.decode()[-500:]}")
    return seconds


def startup_costs(env: str, num_envs: int, device: torch.device, turns: int) -> dict[str, Any]:
    """Return the figures of several starts as JSON values.

    Args:
        env: ID of an Atari environment.
        num_envs: Number of environments.
        device: Device of the training.
        turns: Number of starts.
    """
    runs = [startup_seconds(env, num_envs, device.type) for _ in range(turns)]
    figures = {"hardware": hardware(device), "device": device.type, "env": env, "num_envs": num_envs}
    return figures | {"seconds_to_first_step": median(runs), "runs": runs}


def show_startup(figures: dict[str, Any], console: Console) -> None:
    """Print the figures of `startup_costs`."""
    runs = figures["runs"]
    console.print(
        f"pixelq train --env {figures['env']} --num-envs {figures['num_envs']} takes its first step after "
        f"{figures['seconds_to_first_step']:.1f} s (median of {len(runs)}; {min(runs):.1f} to {max(runs):.1f})"
    )

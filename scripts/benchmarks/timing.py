"""Timing several things in turns, so that what slows the machine down slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch

Name = TypeVar("Name")


def seconds_in_turns(
    ways: Mapping[Name, Callable[[], object]], device: torch.device, turns: int, seconds: float
) -> dict[Name, list[float]]:
    """Seconds of each call of each way, in ``turns`` turns of ``seconds`` and a call at least, without a warm-up."""
    took: dict[Name, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, way in ways.items():
            until = time.perf_counter() + seconds
            while time.perf_counter() < until:
                wait_for(device)
                start = time.perf_counter()
                way()
                wait_for(device)
                took[name].append(time.perf_counter() - start)
    return took


def wait_for(device: torch.device) -> None:
    """Waits until a GPU has done what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)

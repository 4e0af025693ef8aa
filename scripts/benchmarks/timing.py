"""Timing of several ways in turns, so that what slows the machine down slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch

Name = TypeVar("Name")


def seconds_in_turns(
    ways: Mapping[Name, Callable[[], object]], device: torch.device, turns: int, seconds: float
) -> dict[Name, list[float]]:
    """Return the seconds of each call of each way, without a warm-up.

    Args:
        ways: Functions to time, by name.
        device: Device that they compute on; each call is waited for.
        turns: Number of turns of each way.
        seconds: Length of a turn, which has at least one call.
    """
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
    """Wait until a GPU has done all its work; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)

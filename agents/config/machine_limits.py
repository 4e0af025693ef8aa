"""What of the machine this process may use: cores and memory, under the limits of containers too."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from pixelq.agents.errors import InvalidConfig

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
MEMINFO = Path("/proc/meminfo")
UNLIMITED = 2**60
"""Bytes from which on a limit is none: version 1 writes the greatest number of pages instead of `max`."""


def usable_cores() -> int:
    """Return the number of cores that this process may use, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _groups("cpu"):
        quota, *period = _words(folder / "cpu.max") or _words(folder / "cpu.cfs_quota_us") or ["max"]
        if not period:
            period = _words(folder / "cpu.cfs_period_us")
        if quota.isdecimal() and period and period[0].isdecimal() and int(period[0]) > 0:
            cores = min(cores, max(1, int(quota) // int(period[0])))
    return max(1, cores)


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that this process can still take on a device; None if that cannot be found out."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    if device.type != "cpu":
        return None
    found = [_number(line.split()[1:2]) for line in _lines(MEMINFO) if line.startswith("MemAvailable:")]
    limits = [kilobytes * 1024 for kilobytes in found if kilobytes is not None]
    for folder in _groups("memory"):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            most, taken = _number(_words(folder / limit)), _number(_words(folder / used))
            if most is not None and taken is not None and most < UNLIMITED:
                # Cached pages of files count as used, and are given back when memory is needed.
                statistics = dict(words for line in _lines(folder / "memory.stat") if len(words := line.split()) == 2)
                cache = _number([statistics.get("total_inactive_file", statistics.get("inactive_file", ""))]) or 0
                limits.append(max(0, most - taken + cache))
    return min(limits, default=None)


def require_memory(what: str, size: float, device: torch.device, advice: Callable[[int], str], taken: int = 0) -> None:
    """Check that there is memory for something on a device, before any is taken.

    Args:
        what: What the error calls it.
        size: Its bytes.
        device: The device.
        advice: Returns the end of the error's sentence, given the bytes that are free.
        taken: Those of its bytes that it has taken already.

    Raises:
        InvalidConfig: If there is not.
    """
    free = free_memory(device)
    if free is not None and size > free + taken:
        free += taken
        found = f"{size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
        raise InvalidConfig(f"no memory for a {what} of {found}; {advice(free)}")


def _groups(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control groups that may limit a resource, under versions 1 and 2."""
    for line in _lines(OWN_CGROUPS):
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and controller not in controllers.split(","):
            continue
        root = CGROUPS / controllers if controllers else CGROUPS
        if not root.is_dir():
            root = CGROUPS / controller
        own = root / path.lstrip("/")
        # A container sees its own group at the root, under the path that the group has outside.
        yield from (folder for folder in (own, *own.parents) if folder == root or root in folder.parents)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, ValueError):
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _number(words: list[str]) -> int | None:
    return int(words[0]) if words and words[0].isdecimal() else None

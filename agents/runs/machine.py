"""The machine that a run is on: hardware, and what its arithmetic depends on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch


def cpu_name() -> str:
    """Return the processor's name."""
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        if names:
            return names[0].split(":", 1)[1].strip()
    return platform.processor()


def hardware(device: torch.device) -> dict[str, Any]:
    """Return what the speed of a run depends on, as JSON values."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def arithmetic(device: torch.device) -> dict[str, str | int]:
    """Return what the rounding of sums depends on, beside the program, as JSON values."""
    if device.type == "cpu":
        processor = f"{cpu_name()}, {torch.backends.cpu.get_cpu_capability()}"
        return {
            "device": "cpu",
            "processor": processor,
            "PyTorch": torch.__version__,
            "threads": torch.get_num_threads(),
        }
    return {
        "device": torch.cuda.get_device_name(device),
        "PyTorch": torch.__version__,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def changes_of_arithmetic(before: dict[str, Any], device: torch.device) -> list[str]:
    """Return in words why a run that went on here could round otherwise than `before`; empty if it cannot."""
    own = arithmetic(device)
    changes = [
        f"{name} was {before[name]} and is {value}" for name, value in own.items() if before.get(name, value) != value
    ]
    if not own.get("deterministic", True):
        changes.append("a GPU repeats its sums only with deterministic algorithms")
    return changes

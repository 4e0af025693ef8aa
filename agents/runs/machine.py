"""The machine that a run is on: hardware, and what its arithmetic depends on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pixelq.agents.errors import InvalidRun
from pixelq.agents.runs.tables import read_config
from pixelq.agents.storage.json_values import is_count

VARIABLES = "variables"
"""Entry of `arithmetic` with the environment variables of the libraries."""
PREFIXES = (
    *("DNNL_", "ONEDNN_", "MKL_", "OPENBLAS_", "ATEN_", "NPY_", "CUBLAS_", "CUDNN_", "NVIDIA_TF32_"),
    *("TORCH_MKLDNN_", "TORCH_BLAS_", "TORCH_LINALG_", "TORCH_CUDNN_", "TORCH_ALLOW_TF32_"),
)
"""Beginnings of the names of environment variables that may change how sums are rounded."""
HARMLESS = ("VERBOSE", "LOG", "PROFILE", "CACHE", "NUM_THREADS")
"""Parts of such names that change no sum; the number of threads is recorded apart."""


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


def threads_of(run: Path) -> int | None:
    """Return the number of threads that a run on a CPU has had; None if it has not begun, was on a GPU, or is damaged.

    Whoever opens the run says what is wrong with it.
    """
    try:
        recorded = read_config(run)["hardware"]
        threads = recorded["torch_threads"] if recorded["device"] == "cpu" else None
    except (InvalidRun, LookupError, TypeError):
        return None
    return threads if is_count(threads) and threads > 0 else None


def arithmetic(device: torch.device, *, is_compiled: bool = False) -> dict[str, Any]:
    """Return what the rounding of sums and the draws depend on, beside the program, as JSON values.

    Args:
        device: Device of the learner.
        is_compiled: Whether its updates are compiled.
    """
    common = {
        "compile_update": is_compiled,
        "PyTorch": torch.__version__,
        "NumPy": np.__version__,
        "precision of products": torch.get_float32_matmul_precision(),
        VARIABLES: _variables(),
    }
    if device.type == "cpu":
        has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        return {
            "device": "cpu",
            "processor": f"{cpu_name()}, {torch.backends.cpu.get_cpu_capability()}",
            "threads": torch.get_num_threads(),
            "oneDNN": "on" if has_onednn and torch.backends.mkldnn.enabled else "off",
            **common,
        }
    cudnn = torch.backends.cudnn.version() if torch.backends.cudnn.enabled else "off"  # type: ignore[no-untyped-call]
    return {
        "device": torch.cuda.get_device_name(device),
        "cuDNN": cudnn,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        **common,
    }


def changes_of_arithmetic(before: dict[str, Any], device: torch.device, *, is_compiled: bool = False) -> list[str]:
    """Return in words why a run that went on here could round otherwise than `before`; empty if it cannot.

    What an older version did not record counts as unchanged.
    """
    own = arithmetic(device, is_compiled=is_compiled)
    now, then = own.pop(VARIABLES), before.get(VARIABLES)
    changes = [_change(name, before[name], own[name]) for name in own if before.get(name, own[name]) != own[name]]
    if isinstance(then, dict):
        names = sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name))
        changes += [_change(name, then.get(name, "not set"), now.get(name, "not set")) for name in names]
    if not own.get("deterministic", True):
        changes.append("a GPU repeats its sums only with deterministic algorithms")
    return changes


def _change(name: str, before: object, now: object) -> str:
    return f"{name:.80} was {before!s:.80} and is {now!s:.80}"


def _variables() -> dict[str, str]:
    """Return the environment variables that choose how the libraries of linear algebra compute."""
    names = [name for name in os.environ if name.startswith(PREFIXES) and not any(word in name for word in HARMLESS)]
    return {name: os.environ[name][:80] for name in sorted(names)}

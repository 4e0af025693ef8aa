"""Devices by name, and transfers to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelq.agents.errors import InvalidConfig


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the PyTorch device of a name; `auto` is the GPU where there is one, and else the CPU.

    Raises:
        InvalidConfig: If this machine has no such device, or it is not supported.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InvalidConfig(f"unknown device {device!r:.80}; use auto, cpu or cuda") from error
    if resolved.type not in ("cpu", "cuda"):
        raise InvalidConfig(f"device {device!r} is not supported; use auto, cpu or cuda")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count() or "none"
        raise InvalidConfig(f"no CUDA GPU for device {device}, PyTorch finds {found} here; use auto or cpu")
    return resolved


def sent(array: NDArray[Any], device: torch.device) -> Tensor:
    """Return a copy of an array on a device, without waiting for a GPU.

    The copy goes through pinned memory, because a transfer from pageable memory would block the host.
    """
    tensor = torch.from_numpy(np.array(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor

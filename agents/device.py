"""Devices by name."""

from __future__ import annotations

import torch

from pixelq.agents.config import InvalidConfig


def resolve_device(device: str | torch.device) -> torch.device:
    """The PyTorch device of a name; ``auto`` is the GPU where there is one.

    Raises:
        InvalidConfig: there is no such device here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise InvalidConfig(f"unknown device {device!r}; use auto, cpu or cuda") from error
    if resolved.type not in ("cpu", "cuda"):
        raise InvalidConfig(f"device {device!r} is not supported; use auto, cpu or cuda")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise InvalidConfig(
            f"device {device} was asked for, but PyTorch finds no CUDA GPU for it here; use auto or cpu"
        )
    return resolved

"""Putting back what a checkpoint holds: nothing is taken that does not fit what it is meant for."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def fitting(tensors: Mapping[str, Tensor], name: str, like: Tensor) -> Tensor:
    """The tensor of that name, if it has the type and shape of ``like``.

    Raises:
        ValueError: it has not, or is not there.
    """
    tensor = tensors.get(name)
    if tensor is None:
        raise ValueError(f"{name} is missing")
    if (tensor.dtype, tensor.shape) != (like.dtype, like.shape):
        raise ValueError(f"{name} is {tensor.dtype} {[*tensor.shape]}, not {like.dtype} {[*like.shape]}")
    return tensor


def count(values: Mapping[str, Any], name: str, most: int = 2**62) -> int:
    """The JSON value of that name, if it is an integer in [0, most].

    Raises:
        ValueError: it is not, or is not there.
    """
    value = values.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(f"{name} is {value!r}, which is no count")
    return value


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix`` and a dot, by the rest of their names."""
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}


def restore_generator(generator: torch.Generator, tensors: Mapping[str, Tensor], name: str) -> None:
    """Puts back a generator's state; one of another kind of device cannot be, and gives a seed instead.

    Raises:
        ValueError: the tensor of that name is no generator's state, or is not there.
    """
    own, state = generator.get_state(), tensors.get(name, torch.zeros(())).cpu()
    if state.dtype != torch.uint8 or state.dim() != 1:
        raise ValueError(f"{name} is no generator's state")
    if state.numel() != own.numel():
        generator.manual_seed(zlib.crc32(state.numpy().tobytes()))
        return
    try:
        generator.set_state(state)
    except RuntimeError as error:
        raise ValueError(f"{name} is no generator's state ({error})") from error

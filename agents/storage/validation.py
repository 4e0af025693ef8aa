"""Putting back what a checkpoint holds: nothing is taken that does not fit what it is meant for."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

MOST_NUMBERS = 2**24
"""Most numbers in an observation that is read from a checkpoint."""
_DTYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()


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
    if tensor.dtype == torch.bool and (tensor.view(torch.uint8) > 1).any():
        raise ValueError(f"{name} holds bytes that are neither True nor False")
    return tensor


def count(values: Mapping[str, Any], name: str, most: int = 2**62) -> int:
    """The JSON value of that name, if it is an integer in [0, most].

    Raises:
        ValueError: it is not, or is not there.
    """
    value = values.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(f"{name} is {value!r:.80}, which is no count")
    return value


def number(values: Mapping[str, Any], name: str, most: float = 2**62) -> float:
    """The JSON value of that name, if it is a number in [0, most].

    Raises:
        ValueError: it is not, or is not there.
    """
    value = values.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(f"{name} is {value!r:.80}, which is no number from 0 on")
    return float(value)


def flicker_of(values: Mapping[str, Any]) -> float:
    """The probability that a picture was black, which older checkpoints do not have: 0.

    Raises:
        ValueError: it is no such probability.
    """
    return number(values, "flicker", 1.0) if "flicker" in values else 0.0


def observations(values: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of the observations that JSON values describe.

    Raises:
        ValueError: they describe none, or some of more than ``MOST_NUMBERS``.
    """
    shape, dtype = (values.get("shape"), values.get("dtype")) if isinstance(values, dict) else (None, None)
    if dtype not in _DTYPES:
        raise ValueError(f"observations are of type {dtype!r:.80}")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 1 for size in shape):
        raise ValueError(f"observations are of shape {shape!r:.80}")
    if len(shape) > 32 or math.prod(shape) > MOST_NUMBERS:
        raise ValueError(f"observations of shape {shape!r:.80} are more than this version reads")
    return tuple(shape), np.dtype(dtype)


def unbounded_box(shape: tuple[int, ...], dtype: np.dtype[Any]) -> gymnasium.spaces.Box:
    """The space of all observations of a shape and type."""
    low, high = (-np.inf, np.inf) if dtype.kind == "f" else (0, 1)
    if dtype.kind in "iu":
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return gymnasium.spaces.Box(low, high, shape, dtype.type)


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

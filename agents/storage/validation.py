"""Validation: values, tensors and generator states read from files are used only if they fit their purpose."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from pixelq.agents.errors import InvalidCheckpoint, UnregisteredPart, one_line
from pixelq.agents.storage.json_values import MOST_COUNT, is_count, is_number, requirement_message

MOST_NUMBERS = 2**24
"""Most numbers in an observation that is read from a checkpoint."""
_DTYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()


@contextmanager
def describing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn errors about what a checkpoint says of its agent into InvalidCheckpoint while the context lasts."""
    try:
        yield
    except InvalidCheckpoint:
        raise
    except UnregisteredPart as error:
        raise InvalidCheckpoint(f"{path} cannot be loaded: {error}") from error
    except (LookupError, TypeError, ValueError, RuntimeError, ArithmeticError, MemoryError) as error:
        raise InvalidCheckpoint(f"{path} does not describe an agent of this version: {one_line(error)}") from error


def count(values: Mapping[str, Any], name: str, most: int = MOST_COUNT) -> int:
    """Return the JSON value of a name, which must be an integer in [0, most].

    Raises:
        ValueError: If it is missing or anything else.
    """
    value = values.get(name)
    if not is_count(value, most):
        is_greater = isinstance(value, int) and value > most
        raise ValueError(
            requirement_message(name, f"at most {most:,}" if is_greater else "an integer of at least 0", value)
        )
    return value


def number(values: Mapping[str, Any], name: str, most: float = MOST_COUNT) -> float:
    """Return the JSON value of a name, which must be a number in [0, most].

    Raises:
        ValueError: If it is missing or anything else.
    """
    value = values.get(name)
    if not is_number(value, 0, most):
        is_greater = isinstance(value, int | float) and value > most
        raise ValueError(
            requirement_message(name, f"at most {most:,}" if is_greater else "a number of at least 0", value)
        )
    return float(value)


def fitting(tensors: Mapping[str, Tensor], name: str, like: Tensor) -> Tensor:
    """Return the tensor of a name, which must have the type and shape of `like`.

    Raises:
        ValueError: If it is missing, has another type or shape, or holds booleans that are neither True nor False.
    """
    tensor = tensors.get(name)
    if tensor is None:
        raise ValueError(f"{name} is missing")
    if (tensor.dtype, tensor.shape) != (like.dtype, like.shape):
        raise ValueError(f"{name} must be {like.dtype} {[*like.shape]}, got {tensor.dtype} {[*tensor.shape]}")
    if tensor.dtype == torch.bool and (tensor.view(torch.uint8) > 1).any():
        raise ValueError(f"{name} holds bytes that are neither True nor False")
    return tensor


def observations(values: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and type of observations from their JSON description.

    Raises:
        ValueError: If it describes no observations, or some of more than `MOST_NUMBERS` numbers.
    """
    shape, dtype = (values.get("shape"), values.get("dtype")) if isinstance(values, dict) else (None, None)
    if dtype not in _DTYPES:
        raise ValueError(requirement_message("dtype of the observations", "a NumPy type", dtype))
    if not isinstance(shape, list) or not all(type(size) is int and size >= 1 for size in shape):
        raise ValueError(requirement_message("shape of the observations", "a list of positive integers", shape))
    if len(shape) > 32 or math.prod(shape) > MOST_NUMBERS:
        raise ValueError(requirement_message("shape of the observations", f"at most {MOST_NUMBERS:,} numbers", shape))
    return tuple(shape), np.dtype(dtype)


def unbounded_box(shape: tuple[int, ...], dtype: np.dtype[Any]) -> gymnasium.spaces.Box:
    """Return the space of all observations of a shape and type."""
    low, high = (-np.inf, np.inf) if dtype.kind == "f" else (0, 1)
    if dtype.kind in "iu":
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return gymnasium.spaces.Box(low, high, shape, dtype.type)


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix` and a dot, by the rest of their names."""
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}


def restore_generator(generator: torch.Generator, tensors: Mapping[str, Tensor], name: str) -> None:
    """Set a generator to a saved state.

    The state of a generator on another kind of device has another size and cannot be set; it becomes a seed instead.

    Raises:
        ValueError: If the tensor of that name is missing or not the state of a generator.
    """
    own, state = generator.get_state(), tensors.get(name, torch.zeros(())).cpu()
    if state.dtype != torch.uint8 or state.dim() != 1:
        raise ValueError(f"{name} is not the state of a generator")
    if state.numel() != own.numel():
        generator.manual_seed(zlib.crc32(state.numpy().tobytes()))
        return
    try:
        generator.set_state(state)
    except RuntimeError as error:
        raise ValueError(f"{name} is not the state of a generator ({error})") from error

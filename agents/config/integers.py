"""Integers of any kind as Python's own, which files and messages show as numbers."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from pixelq.agents.errors import InvalidConfig

MOST = 10**12
"""Greatest value of every count: beyond it, arithmetic would overflow somewhere before memory runs out."""
MOST_SEED = 2**128
"""Greatest seed of an agent, which is also the greatest that is read from a file."""


def plain(value: Any) -> Any:
    """Return a number of NumPy or PyTorch as Python's own; anything else as it is."""
    return value.item() if isinstance(value, np.generic) or getattr(value, "shape", None) == () else value


def checked_integer(name: str, value: Any, least: int, most: int = MOST) -> int:
    """Check that a value is an integer in [`least`, `most`], of any kind but truth values, and return it as an int.

    Raises:
        InvalidConfig: If it is not.
    """
    value = plain(value)
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise InvalidConfig(f"{name} must be an integer, got {value!r:.80}")
    if number < least:
        raise InvalidConfig(f"{name} must be at least {least}, got {shown(number)}")
    if number > most:
        limit = "2**128" if most == MOST_SEED else f"{most:,}"
        raise InvalidConfig(f"{name} must be at most {limit}, got {shown(number)}")
    return number


def shown(value: Any) -> str:
    """Return a value as text for a message; only the length of a long integer, which Python may refuse to write."""
    is_long = isinstance(value, int) and value.bit_length() > 64
    return f"one of {value.bit_length()} bits" if is_long else f"{value!r:.80}"

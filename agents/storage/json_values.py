"""JSON values and cells of tables read from files, checked without PyTorch."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from types import UnionType
from typing import Any, TypeGuard, get_args

MOST_COUNT = 2**62
"""Greatest count that is read from a file."""
MOST_JSON = 2**22
"""Size of the largest JSON file that is read, in bytes."""
_KIND_NAMES = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "text",
    dict: "an object",
    list: "a list",
    type(None): "null",
}


def check_types(values: Mapping[str, Any], kinds: Mapping[str, type | UnionType]) -> None:
    """Check that JSON values have the types of their names; names without a value are passed over.

    Args:
        values: The values by name.
        kinds: The type of each name, such as `int`, or `int | None` where null is allowed. True and False fit `bool`
            alone.

    Raises:
        ValueError: If a value has another type.
    """
    for name, kind in kinds.items():
        if name not in values:
            continue
        value, allowed = values[name], get_args(kind) or (kind,)
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            requirement = " or ".join(_KIND_NAMES.get(each, each.__name__) for each in allowed)
            raise ValueError(requirement_message(name, requirement, value))


def requirement_message(name: str, requirement: str, value: object) -> str:
    """Return the sentence that a value does not meet a requirement."""
    return f"{name} must be {requirement}, got {value!r:.80}"


def is_count(value: object, most: int = MOST_COUNT) -> TypeGuard[int]:
    """Return whether a value is an integer in [0, most]; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def is_number(value: object, least: float = -sys.float_info.max, most: float = sys.float_info.max) -> TypeGuard[float]:
    """Return whether a value is a finite number in [least, most]; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def count_in(text: str) -> int | None:
    """Return the count that a cell of a table holds, of at most 18 digits, or None if it holds none."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def number_in(text: str) -> float | None:
    """Return the number that a cell of a table holds, perhaps NaN or infinite, or None if it holds none."""
    try:
        return float(text)
    except ValueError:
        return None

"""JSON values read from files, checked without PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Any, get_args

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

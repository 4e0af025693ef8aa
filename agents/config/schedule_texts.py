"""Schedules as the command line has them, such as `linear(1e-3, 1e-5, 100000)`."""

from __future__ import annotations

import ast
import difflib
from typing import Any

from pixelq.agents.config.schedules import KINDS, NamedSchedule, make_schedule
from pixelq.agents.errors import InvalidConfig

EXAMPLE = "linear(1e-3,1e-5,100000)"
"""A schedule for messages."""
LONGEST = 10_000
"""Greatest number of characters of a schedule."""


def parse_schedule(text: str) -> NamedSchedule:
    """Return the schedule that a text describes; nothing is evaluated.

    Args:
        text: A name with arguments, by place or by keyword: `linear(1e-3, end=1e-5, steps=100_000)` or
            `piecewise((0, 1e-3), (50000, cosine(1e-3, 0, 100000)))`.

    Raises:
        InvalidConfig: If it describes none.
    """
    try:
        if len(text) > LONGEST:
            raise SyntaxError
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    if not isinstance(tree, ast.Call):
        raise InvalidConfig(f"must be a number or a schedule such as {EXAMPLE}, got {text!r:.80}")
    schedule: NamedSchedule = _value(tree)
    return schedule


def _value(node: ast.expr) -> Any:
    """Return the value of a part of a schedule's text."""
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return tuple(_value(part) for part in parts)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            if name.lower() not in KINDS:
                near = difflib.get_close_matches(name.lower(), KINDS, n=1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(KINDS)}"
                raise InvalidConfig(f"must be a number or a schedule such as {EXAMPLE}, got {name!r:.80}; {hint}")
            named = {str(keyword.arg): _value(keyword.value) for keyword in keywords}
            return make_schedule(name.lower(), [_value(each) for each in args], named)
    raise InvalidConfig(f"must be a number or a schedule such as {EXAMPLE}, got {ast.unparse(node)!r:.80}")

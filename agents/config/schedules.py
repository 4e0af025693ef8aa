"""Schedules: values that change while an agent learns, such as a learning rate that decays.

A schedule is a function of the number of agent steps since `learning_starts`. Up to `learning_starts` the number is 0,
so all decays begin there. The classes here have names, so they can be written on a command line and in files; any other
function of the number of steps can be given in Python.
"""

from __future__ import annotations

import bisect
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from pixelq.agents.config.integers import checked_integer, plain
from pixelq.agents.errors import InvalidConfig

Schedule = Callable[[int], float]
"""A function of the number of agent steps since `learning_starts`."""

FARTHEST = 1e38
"""Greatest absolute value of every number: float32 ends at 3.4e38."""


@dataclass(frozen=True)
class NamedSchedule:
    """A schedule with a name, under which files and the command line have it; all are frozen dataclasses."""

    def __call__(self, step: int) -> float:
        """Return the value `step` agent steps after `learning_starts`."""
        raise NotImplementedError

    def extremes(self) -> tuple[float, float]:
        """Return the least and the greatest value."""
        raise NotImplementedError

    def arguments(self) -> list[Any]:
        """Return the values of the fields, without those at the end that are the defaults."""
        values = [(getattr(self, field.name), field.default) for field in fields(self)]
        while values and values[-1][0] == values[-1][1]:
            values.pop()
        return [value for value, _ in values]

    def to_dict(self) -> dict[str, Any]:
        """Return the schedule as JSON values."""
        return {"schedule": name_of_kind(self), **{each.name: getattr(self, each.name) for each in fields(self)}}

    def __str__(self) -> str:
        """Return the schedule as the command line takes it, such as `linear(0.001, 0.0, 100000)`."""
        return f"{name_of_kind(self)}({', '.join(map(str, self.arguments()))})"


@dataclass(frozen=True)
class Constant(NamedSchedule):
    """The same value at every step, as a piece of `Piecewise`.

    Raises:
        InvalidConfig: If the value is not a number.
    """

    value: float
    """The value."""

    def __post_init__(self) -> None:
        _set_numbers(self, "value")

    def __call__(self, step: int) -> float:
        """Return the value."""
        return self.value

    def extremes(self) -> tuple[float, float]:
        """See `NamedSchedule`."""
        return self.value, self.value


@dataclass(frozen=True)
class _Ramp(NamedSchedule):
    """A way from one value to another within a number of steps; the value stays there."""

    start: float
    """Value up to `learning_starts`."""
    end: float
    """Value after `steps` steps."""
    steps: int
    """Agent steps from the start to the end."""

    def __post_init__(self) -> None:
        _set_numbers(self, *(field.name for field in fields(self) if field.name != "steps"))
        object.__setattr__(self, "steps", _count("steps", self.steps, 1))

    def __call__(self, step: int) -> float:
        """Return the value `step` agent steps after `learning_starts`; never outside start and end, by rounding."""
        if step <= 0:
            return self.start
        if step >= self.steps:
            return self.end
        low, high = self.extremes()
        return min(max(self._between(step / self.steps), low), high)

    def _between(self, fraction: float) -> float:
        """Return the value after a fraction, in (0, 1), of the steps."""
        raise NotImplementedError

    def extremes(self) -> tuple[float, float]:
        """See `NamedSchedule`."""
        return min(self.start, self.end), max(self.start, self.end)


@dataclass(frozen=True)
class Linear(_Ramp):
    """A straight line: start + f · (end − start), with f = min(step / steps, 1).

    Steps are agent steps, counted from `learning_starts`; before it, the value is `start`.

    Raises:
        InvalidConfig: If a value is not a number, or `steps` is not at least 1.
    """

    def _between(self, fraction: float) -> float:
        return self.start + fraction * (self.end - self.start)


@dataclass(frozen=True)
class Cosine(_Ramp):
    """Half a cosine: end + ½ (start − end) (1 + cos πf), with f = min(step / steps, 1) (Loshchilov & Hutter 2017).

    Steps are agent steps, counted from `learning_starts`; before it, the value is `start`.

    Raises:
        InvalidConfig: If a value is not a number, or `steps` is not at least 1.
    """

    def _between(self, fraction: float) -> float:
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * fraction)) / 2


@dataclass(frozen=True)
class Exponential(_Ramp):
    """A distance from `limit` that changes by the same factor in each step.

    The value is limit + (start − limit) · ((end − limit) / (start − limit))^f, with f = min(step / steps, 1). Steps are
    agent steps, counted from `learning_starts`; before it, the value is `start`.

    With limit 0, the value itself changes by a factor in each step: BBF's n is `Exponential(10, 3, steps)`, rounded.
    With limit 1, the distance from 1 does: BBF's discount is `Exponential(0.97, 0.997, steps, limit=1.0)` (Schwarzer et
    al. 2023). There they begin anew at each reset: as pieces of a `Piecewise` that begin at the steps of the resets.

    Raises:
        InvalidConfig: If a value is not a number, `steps` is not at least 1, or start and end do not lie on the same
            side of the limit.
    """

    limit: float = 0.0
    """Value from which the distance is measured; start and end lie on one side of it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.limit < min(self.start, self.end) or max(self.start, self.end) < self.limit):
            raise InvalidConfig(
                f"the start and the end of an exponential schedule must both be above or both below its limit "
                f"{self.limit}, got {self.start} and {self.end}"
            )

    def _between(self, fraction: float) -> float:
        first, last = self.start - self.limit, self.end - self.limit
        between: float = self.limit + first * (last / first) ** fraction
        return between


@dataclass(frozen=True, init=False)
class Piecewise(NamedSchedule):
    """Pieces one after another, each of which is a number or another schedule, counted from its own beginning.

    `Piecewise((0, 1e-3), (50_000, 1e-4))` falls at one step; `Piecewise((0, Linear(0.0, 1e-3, 1_000)), (1_000,
    Cosine(1e-3, 1e-5, 100_000)))` warms up and decays. The first piece begins at step 0, which is `learning_starts`.

    Args:
        pieces: Pairs of the step at which a piece begins, and a number or a named schedule (but no other `Piecewise`).

    Raises:
        InvalidConfig: If they are no such pairs, or their steps do not increase from 0.
    """

    pieces: tuple[tuple[int, float | NamedSchedule], ...]
    """The step at which each piece begins, and what it is."""

    def __init__(self, *pieces: tuple[int, float | NamedSchedule]) -> None:
        checked = []
        for piece in pieces:
            if not isinstance(piece, tuple | list) or len(piece) != 2:
                raise InvalidConfig(f"a piece must be a pair of a step and a value, got {piece!r:.80}")
            begin, value = _count("the step of a piece", piece[0], 0), piece[1]
            what = "the value of a piece"
            if isinstance(value, Piecewise) or (callable(value) and not isinstance(value, NamedSchedule)):
                raise InvalidConfig(f"{what} must be a number or a simple schedule, got {value!r:.80}")
            checked.append((begin, value if isinstance(value, NamedSchedule) else _number(what, value)))
        begins = [begin for begin, _ in checked]
        if begins[:1] != [0] or begins != sorted(set(begins)):
            raise InvalidConfig(f"the steps of the pieces must increase from 0, got {begins!r:.80}")
        object.__setattr__(self, "pieces", tuple(checked))
        object.__setattr__(self, "_begins", begins)

    def __call__(self, step: int) -> float:
        """Return the value `step` agent steps after `learning_starts`."""
        begin, value = self.pieces[bisect.bisect_right(self._begins, max(step, 0)) - 1]  # type: ignore[attr-defined]
        return value(step - begin) if isinstance(value, NamedSchedule) else value

    def extremes(self) -> tuple[float, float]:
        """See `NamedSchedule`."""
        values = [value.extremes() if isinstance(value, NamedSchedule) else (value, value) for _, value in self.pieces]
        return min(low for low, _ in values), max(high for _, high in values)

    def arguments(self) -> list[Any]:
        """Return the pieces as text."""
        return [f"({begin}, {value})" for begin, value in self.pieces]

    def __repr__(self) -> str:
        """Return the expression that makes the schedule."""
        return f"Piecewise({', '.join(map(repr, self.pieces))})"

    def to_dict(self) -> dict[str, Any]:
        """See `NamedSchedule`."""
        return {"schedule": "piecewise", "pieces": [[begin, to_json(value)] for begin, value in self.pieces]}


@dataclass(frozen=True)
class Missing:
    """A function of the user's own in a file, which keeps at most its name; it must be given again to learn on."""

    name: str | None
    """`MODULE:NAME` of the function; None for one without a name."""

    def __call__(self, step: int) -> float:
        """Refuse.

        Raises:
            InvalidConfig: Always.
        """
        raise InvalidConfig(f"{self} is not at hand")

    def __str__(self) -> str:
        """Return the name."""
        return f"function({self.name})" if self.name else "function without a name"


KINDS: dict[str, type[NamedSchedule]] = {
    kind.__name__.lower(): kind for kind in (Constant, Linear, Cosine, Exponential, Piecewise)
}
"""Named schedules by the names that they have in files and on the command line."""


def name_of_kind(schedule: NamedSchedule) -> str:
    """Return the name that a schedule has in files and on the command line."""
    return type(schedule).__name__.lower()


def name_of_function(function: object) -> str | None:
    """Return `MODULE:NAME` of a function that can be imported by it; None for lambdas and the like.

    It is `pixelq.envs.named.name_of` for functions alone: configurations are read without importing Gymnasium.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    found = sys.modules.get(str(module))
    for part in str(name).split("."):
        found = getattr(found, part, None)
    return f"{module}:{name}" if found is not None and found is function else None


def to_json(value: Any) -> Any:
    """Return the value of a field as JSON values; of a function, its name."""
    if isinstance(value, NamedSchedule):
        return value.to_dict()
    if callable(value):
        return {"schedule": "function", "name": value.name if isinstance(value, Missing) else name_of_function(value)}
    return list(value) if isinstance(value, tuple) else value


def from_json(values: Any) -> Any:
    """Return the value of a field from what `to_json` returned; nothing is imported or called.

    Raises:
        InvalidConfig: If it is no value of ours.
    """
    if not isinstance(values, dict) or "schedule" not in values:
        return values
    arguments = {name: value for name, value in values.items() if name != "schedule"}
    if values["schedule"] == "function" and set(arguments) == {"name"}:
        if isinstance(arguments["name"], str | None):
            return Missing(arguments["name"])
        raise InvalidConfig(f"the name of a function must be text, got {arguments['name']!r:.80}")
    if values["schedule"] == "piecewise" and isinstance(arguments.get("pieces"), list) and len(arguments) == 1:
        pairs = [piece if isinstance(piece, list) and len(piece) == 2 else None for piece in arguments["pieces"]]
        return Piecewise(*(pair if pair is None else (pair[0], from_json(pair[1])) for pair in pairs))  # type: ignore[arg-type]
    return make_schedule(values["schedule"], [], arguments)


def shown_setting(value: Any) -> str:
    """Return the value of a field as text: a schedule as the command line takes it, a function by its name."""
    if isinstance(value, dict) and "schedule" in value:
        try:
            return str(from_json(value))
        except (InvalidConfig, RecursionError):
            return str(value)
    if callable(value) and not isinstance(value, NamedSchedule | Missing):
        return name_of_function(value) or str(getattr(value, "__qualname__", type(value).__name__))
    return str(value)


def make_schedule(name: Any, values: list[Any], keywords: dict[str, Any]) -> NamedSchedule:
    """Return the named schedule with the given arguments.

    Raises:
        InvalidConfig: If there is no such schedule, or it has other arguments.
    """
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise InvalidConfig(f"there is no schedule {name!r:.80}; there are {', '.join(KINDS)}")
    if kind is Piecewise and not keywords:
        return Piecewise(*values)
    try:
        return kind(*values, **keywords)
    except TypeError as error:
        usage = ", ".join(each.name for each in fields(kind))
        raise InvalidConfig(f"the schedule is {name}({usage}), which got other arguments") from error


def _set_numbers(schedule: NamedSchedule, *names: str) -> None:
    """Check that fields are numbers, and make them Python's own."""
    for name in names:
        object.__setattr__(schedule, name, _number(f"{name} of a schedule", getattr(schedule, name)))


def _number(what: str, value: Any) -> float:
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= FARTHEST:
        raise InvalidConfig(f"{what} must be a number within ±{FARTHEST:g}, got {value!r:.80}")
    return value


def _count(what: str, value: Any, least: int) -> int:
    value = plain(value)
    if isinstance(value, float) and value.is_integer():  # 1e5
        value = int(value)
    return checked_integer(what, value, least)


def crossed(every: int, before: int, after: int) -> bool:
    """Return whether a multiple of `every` lies in (before, after]."""
    return after // every > before // every

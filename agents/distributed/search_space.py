"""What a search draws the settings of its trials from: the table [search] of a specification."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pixelq.agents.config.agent_config import check_value, number_kind, search_range
from pixelq.agents.config.search_ranges import Between
from pixelq.agents.distributed.spec import spec_of
from pixelq.agents.errors import InvalidConfig, InvalidSpec
from pixelq.agents.storage.json_values import is_number, requirement_message

SEARCH = "search"
"""Name of the table."""
DIGITS = 4
"""Significant digits of the numbers that are drawn, and more in narrow ranges: short on a command line."""
HOW = "{low = ..., high = ..., log = true} or a list of values"


@dataclass(frozen=True)
class Numbers:
    """A field whose values are numbers in a range."""

    name: str
    low: float
    high: float
    log: bool

    def drawn(self, trial: Any) -> float:
        """Return the value that an Optuna trial has, or which is drawn for it."""
        if isinstance(self.low, int):
            number: float = trial.suggest_int(self.name, self.low, self.high, log=self.log)
        else:
            number = trial.suggest_float(self.name, self.low, self.high, log=self.log)
        return number

    def rounded(self, value: Any) -> Any:
        """Return a drawn value with few digits, inside the range.

        Where the bounds share their first digits, as 0.999 and 0.9999 do, it has as many digits more, so that a narrow
        range has as many values as a wide one.
        """
        if isinstance(self.low, int):
            return value
        same = math.log10(max(1.0, max(abs(self.low), abs(self.high)) / (self.high - self.low)))
        return min(max(float(f"{value:.{DIGITS + round(same)}g}"), self.low), self.high)

    def label(self, value: Any) -> Any:
        """Return what Optuna calls a value of the field; None if it is outside the range."""
        is_kind = is_number(value) and (isinstance(value, int) or not isinstance(self.low, int))
        return type(self.low)(value) if is_kind and self.low <= value <= self.high else None

    def setting(self, label: Any) -> Any:
        """Return the value of that name, as a specification has it."""
        return label

    def record(self) -> Any:
        """Return what identifies the range, as JSON values."""
        return {"low": self.low, "high": self.high, "log": self.log}


@dataclass(frozen=True)
class Choices:
    """A field whose values are some that were named."""

    name: str
    values: tuple[Any, ...]
    """The values, as a specification has them."""
    settings: tuple[Any, ...]
    """The same, as the configuration has them."""

    @property
    def labels(self) -> list[Any]:
        """What Optuna calls the values, which are no lists there."""
        return [json.dumps(value) if isinstance(value, list) else value for value in self.values]

    def drawn(self, trial: Any) -> Any:
        """See `Numbers`."""
        return trial.suggest_categorical(self.name, self.labels)

    def rounded(self, value: Any) -> Any:
        """See `Numbers`."""
        return value

    def label(self, value: Any) -> Any:
        """See `Numbers`."""
        return self.labels[self.settings.index(value)] if value in self.settings else None

    def setting(self, label: Any) -> Any:
        """See `Numbers`."""
        return self.values[self.labels.index(label)]

    def record(self) -> Any:
        """See `Numbers`."""
        return list(self.values)


Dimension = Numbers | Choices


def search_space(values: Mapping[str, Any]) -> tuple[Dimension, ...]:
    """Return what the values of a specification say under [search].

    A field has a table with `low`, `high` and `log`, or a list of values; what a table leaves out comes from the
    metadata of the field. A list of names in place of [search] takes everything from there.

    Raises:
        InvalidSpec: If they do not fit.
        InvalidConfig: If a field does not exist.
    """
    if SEARCH not in values:
        raise InvalidSpec(
            f"{SEARCH} is missing; a search needs a table of fields of the agent, as learning_rate = {{}}"
        )
    given = values[SEARCH]
    if isinstance(given, list | tuple) and given and all(isinstance(name, str) for name in given):
        if len(set(given)) < len(given):
            raise InvalidSpec(f"{SEARCH} must name each field once, got {list(given)!r:.80}")
        given = {name: {} for name in given}
    if not isinstance(given, Mapping) or not given:
        raise InvalidSpec(
            f"{SEARCH} must be a table of fields of the agent, such as learning_rate = {{}}, got {given!r:.80}"
        )
    found = [_range_of(name, each) for name, each in given.items()]
    rest = {key: each for key, each in values.items() if key not in (SEARCH, "agent")}
    choices = {name: list(each) for name, each in found if not isinstance(each, Between)}
    try:
        settings = spec_of({**rest, "agent": choices}).agent
    except InvalidSpec as error:
        raise InvalidSpec(re.sub(r"^agent\.", f"{SEARCH}.", str(error))) from error
    return tuple(_dimension(name, each, settings.get(name, ())) for name, each in found)


def _range_of(name: str, given: Any) -> tuple[str, Between | tuple[Any, ...]]:
    """Return the range of a field, with what is missing from its metadata."""
    usual = search_range(name)
    if isinstance(given, list | tuple):
        return name, tuple(given)
    if not isinstance(given, Mapping):
        raise InvalidSpec(requirement_message(f"{SEARCH}.{name}", HOW, given))
    for key in given:
        if key not in ("low", "high", "log"):
            raise InvalidSpec(f"unknown entry {key!r:.80} of {SEARCH}.{name}; there are low, high and log")
    if not given and usual is not None:
        return name, usual
    if number_kind(name) is None:
        raise InvalidSpec(f"{SEARCH}.{name} must be a list of values, got {_shown(given)}")
    own = {"low": usual.low, "high": usual.high, "log": usual.log} if isinstance(usual, Between) else {"log": False}
    whole = own | dict(given)
    if not {"low", "high"} <= whole.keys():
        raise InvalidSpec(f"{SEARCH}.{name} must be {HOW}, as the field has no range of its own, got {_shown(given)}")
    return name, Between(whole["low"], whole["high"], whole["log"])


def _dimension(name: str, given: Between | tuple[Any, ...], settings: Sequence[Any]) -> Dimension:
    """Return a dimension of the search, checked."""
    if isinstance(given, Between):
        return _numbers(name, given)
    values = tuple(list(value) if isinstance(value, tuple) else value for value in given)
    if len({repr(setting) for setting in settings}) != len(settings) or len(settings) < 2:
        raise InvalidSpec(f"{SEARCH}.{name} must have two values or more, each once, got {list(values)!r:.80}")
    for setting in settings:
        _check(name, setting)
    return Choices(name, values, tuple(tuple(each) if isinstance(each, list) else each for each in settings))


def _numbers(name: str, given: Between) -> Numbers:
    whole = f"{SEARCH}.{name}"
    low, high = given.low, given.high
    if not isinstance(given.log, bool):
        raise InvalidSpec(requirement_message(f"{whole}.log", "true or false", given.log))
    for bound, value in (("low", low), ("high", high)):
        if not is_number(value):
            raise InvalidSpec(requirement_message(f"{whole}.{bound}", "a finite number", value))
    if number_kind(name) is int:
        if low != int(low) or high != int(high):
            raise InvalidSpec(f"{whole} must have an integer as low and as high, got {low:g} and {high:g}")
        low, high = int(low), int(high)
    else:
        low, high = float(low), float(high)
    if low >= high:
        raise InvalidSpec(f"{whole}.low must be less than its high, got {low:g} and {high:g}")
    if given.log and low <= 0:
        raise InvalidSpec(f"{whole}.low must be greater than 0 with log, got {low:g}")
    _check(name, low)
    _check(name, high)
    return Numbers(name, low, high, given.log)


def _check(name: str, value: Any) -> None:
    try:
        check_value(name, value)
    except InvalidConfig as error:
        raise InvalidSpec(f"{SEARCH}.{error}") from error


def _shown(given: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{key} = {value!r:.40}" for key, value in given.items()) + "}"


def check_only_searched(values: Mapping[str, Any], space: Sequence[Dimension]) -> None:
    """Check that no field of a search has a value in the specification, too.

    Raises:
        InvalidSpec: If one has.
    """
    of_presets = values.get("preset", {})
    for dimension in space:
        for table in (values.get("agent", {}), *of_presets.values()):
            if dimension.name in table:
                raise InvalidSpec(f"{dimension.name} must have a value or a range under [{SEARCH}], not both")

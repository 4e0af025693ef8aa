"""Which values from files are taken for counts, numbers, types and rules."""

import math
from typing import Any

import pytest

from pixelq.agents.storage.json_values import check_types, count_in, is_count, is_number, number_in
from pixelq.agents.storage.validation import count, number

NEITHER: tuple[Any, ...] = (True, False, None, "1", [1], {}, math.nan, math.inf, -math.inf, -(10**400), 10**400)


@pytest.mark.parametrize("value", NEITHER)
def test_what_is_neither_a_count_nor_a_number(value: Any) -> None:
    assert not is_count(value)
    assert not is_number(value)
    for read, kind in ((count, "an integer"), (number, "a number")):
        with pytest.raises(ValueError, match=f"^x must be ({kind} of at least 0|at most 4,611[0-9,]*), got "):
            read({"x": value}, "x")


def test_counts_and_numbers_and_their_limits() -> None:
    assert [value for value in (-1, 0, 1.0, 3, 4, 2**62) if is_count(value, most=3)] == [0, 3]
    assert is_count(2**62)
    assert not is_count(2**62 + 1)
    assert [value for value in (-2, -0.5, 0, 1.5, 2) if is_number(value, -1, 1.5)] == [-0.5, 0, 1.5]
    assert is_number(-1e308)
    assert (count({"x": 3}, "x", most=3), number({"x": 3}, "x")) == (3, 3.0)
    assert type(number({"x": 3}, "x")) is float
    with pytest.raises(ValueError, match=r"^x must be at most 1,000, got 1001$"):
        count({"x": 1001}, "x", most=1000)
    with pytest.raises(ValueError, match=r"^x must be at most 1\.0, got 1\.5$"):
        number({"x": 1.5}, "x", most=1.0)
    with pytest.raises(ValueError, match=r"^y must be an integer of at least 0, got None$"):
        count({"x": 1}, "y")


def test_types() -> None:
    kinds = {"seed": int, "name": str, "price": float | int, "agent": dict, "last": int | None, "fast": bool}
    check_types({"seed": 1, "name": "a", "price": 2, "agent": {}, "last": None, "fast": True}, kinds)
    check_types({}, kinds)
    for values, message in (
        ({"seed": 1.0}, "seed must be an integer, got 1.0"),
        ({"seed": True}, "seed must be an integer, got True"),
        ({"seed": None}, "seed must be an integer, got None"),
        ({"name": 1}, "name must be text, got 1"),
        ({"price": "1"}, "price must be a number or an integer, got '1'"),
        ({"agent": []}, "agent must be an object, got []"),
        ({"last": False}, "last must be an integer or null, got False"),
        ({"fast": 1}, "fast must be true or false, got 1"),
    ):
        with pytest.raises(ValueError, match="must be") as error:
            check_types(values, kinds)
        assert str(error.value) == message


def test_cells_of_tables() -> None:
    assert [count_in(cell) for cell in ("0", "007", "9" * 18)] == [0, 7, 10**18 - 1]
    assert [count_in(cell) for cell in ("", "-1", "1.0", " 1", "1e3", "²", "9" * 19)] == [None] * 7
    assert [number_in(cell) for cell in ("1", "-2.5e3", "inf")] == [1.0, -2500.0, math.inf]
    assert math.isnan(number_in("nan") or 0.0)
    assert [number_in(cell) for cell in ("", "one", "1,5")] == [None] * 3

"""Representative cases: which of a test's cases run every time, and which only in `make test-slow`."""

import itertools
import os
from collections.abc import Container, Iterable
from typing import Any

import pytest

IS_FULL = bool(os.environ.get("PIXELQ_FULL"))
"""Whether every test runs in its full form, as in `make test-slow`."""


def representative(cases: Iterable[Any], keep: Container[Any]) -> list[Any]:
    """Return all cases as parameters, with those that are not in `keep` marked `slow`."""
    return [case if case in keep else _slow(case) for case in cases]


def covering_pairs(*factors: Iterable[Any]) -> list[Any]:
    """Return all combinations of the factors' values as parameters, with those marked `slow` that are not needed.

    The others hold every pair of values of every two factors at least once. They are chosen greedily, so the same
    factors always give the same choice.
    """
    combinations = list(itertools.product(*(tuple(factor) for factor in factors)))
    pairs = {combination: _pairs(combination) for combination in combinations}
    missing = set().union(*pairs.values())
    kept = set()
    while missing:
        best = max(combinations, key=lambda combination: len(pairs[combination] & missing))
        kept.add(best)
        missing -= pairs[best]
    return representative(combinations, kept)


def examples(count: int) -> int:
    """Return the number of examples that Hypothesis draws: all in the full form, else a tenth."""
    return count if IS_FULL else max(5, count // 10)


def _pairs(combination: tuple[Any, ...]) -> set[Any]:
    return set(itertools.combinations(enumerate(combination), 2))


def _slow(case: Any) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)

"""Ranges in which a search of hyperparameters draws the values of a field."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Between:
    """Numbers from `low` to `high`, both included; docs/tuning.md says why the fields have theirs."""

    low: float
    """Smallest value."""
    high: float
    """Greatest value."""
    log: bool = False
    """Whether their logarithms are drawn uniformly, and not the numbers."""


SearchRange = Between | tuple[float | str | bool, ...]
"""What a search draws from: numbers in a range, or one of some values."""

"""Numbers and rules as pages and terminals say them."""

from __future__ import annotations

import math


def number(value: float | None) -> str:
    """A score: a decimal below a thousand, and none above."""
    if value is None or not math.isfinite(value):
        return "–"
    return (f"{value:,.1f}" if abs(value) < 1000 else f"{value:,.0f}").replace("-", "−")


def interval(value: float, low: float, high: float) -> str:
    """``15.3 (14.0 to 16.5)``; the value alone where an end of the interval is not known."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return number(value)
    return f"{number(value)} ({number(low)} to {number(high)})"


def signed(value: float) -> str:
    """With its sign, even above 0."""
    return f"{value:+,.1f}".replace("-", "−").replace("inf", "∞")


def percent(share: float | None) -> str:
    """A share of 1 in percent."""
    return "–" if share is None or not math.isfinite(share) else f"{100 * share:.0f}%".replace("-", "−")


def count(value: float) -> str:
    """A count: ``4.0 million`` from a million on."""
    return f"{value / 1e6:,.1f} million" if value >= 1e6 else f"{value:,.0f}"


def counted(number: int, thing: str) -> str:
    """``1 episode``, ``2 episodes``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def rules(protocol: str, flicker: float) -> str:
    """What was played by: ``sticky``, and how many pictures were black where some were."""
    return f"{protocol} with {100 * flicker:g}% of the pictures black" if flicker else protocol


def hours(seconds: float) -> str:
    """A time: ``2 h 21 min``, ``4 min 48 s``, ``12 s``."""
    whole = round(seconds)
    if whole >= 3600:
        minutes = round(seconds / 60)
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"

"""Numbers and rules as text for pages and terminals."""

from __future__ import annotations

import hashlib
import math

from pixelq.agents.storage.rules import split_rules

LONGEST = 1e12
"""Score from which on not all digits are written."""


def format_score(value: float | None) -> str:
    """Return a score as text: one decimal below a thousand, none above, and three digits from 10¹² on."""
    if value is None or not math.isfinite(value):
        return "–"
    return (f"{value:,.1f}" if abs(value) < 1000 else plain_score(value, 0)).replace("-", "−")


def plain_score(value: float, decimals: int = 1) -> str:
    """Return a score in ASCII, as for terminals: its decimals, or three digits and an exponent from 10¹² on."""
    return f"{value:,.{decimals}f}" if abs(value) < LONGEST else f"{value:.3g}"


def format_interval(value: float, low: float, high: float) -> str:
    """Return a score and its interval as text, as in `15.3 (14.0 to 16.5)`; the score alone if an end is not finite."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return format_score(value)
    return f"{format_score(value)} ({format_score(low)} to {format_score(high)})"


def format_signed(value: float) -> str:
    """Return a number as text with its sign, also if it is positive."""
    return f"{value:+,.1f}".replace("-", "−").replace("inf", "∞")


def format_percent(fraction: float | None) -> str:
    """Return a fraction as a percentage."""
    if fraction is None or not math.isfinite(fraction):
        return "–"
    return f"{round(100 * fraction) + 0}%".replace("-", "−")


def format_count(value: float) -> str:
    """Return a count as text: `149,999`, or `4.0 million` from a million on."""
    if not math.isfinite(value):
        return "–"
    return f"{value / 1e6:,.1f} million" if value >= 1e6 else f"{value:,.0f}"


def format_duration(seconds: float) -> str:
    """Return a duration as text: `2 h 21 min`, `4 min 48 s`, `12 s`; a dash if it is not finite."""
    if not math.isfinite(seconds):
        return "–"
    whole = round(seconds)
    if whole >= 3600:
        minutes = round(seconds / 60)
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def shortened(text: object, most: int = 80) -> str:
    """Return a text from a file in one printable line of at most `most` characters, cut off with `…`."""
    start = str(text)[: most + 1]
    line = "".join(letter if letter.isprintable() else "?" for letter in start)
    return line if len(line) <= most else f"{line[: most - 1]}…"


def identified(text: object, most: int = 80) -> str:
    """Return a text as `shortened` does, with a digest if something is missing, so that other texts stay others."""
    whole = str(text)
    if shortened(whole, most) == whole:
        return whole
    digest = hashlib.sha256(whole.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{shortened(whole, most - 9)}-{digest}"


def pluralize(number: int, noun: str) -> str:
    """Return a number with its noun: `1 episode`, `2 episodes`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def describe_rules(rules: str) -> str:
    """Return rules such as `sticky+flicker=0.5` as text: `sticky with 50% of the frames black`."""
    name, flicker = split_rules(rules)
    return f"{name} with {100 * flicker:g}% of the frames black" if flicker else name

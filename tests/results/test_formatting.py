"""Numbers and rules as text."""

import pytest

from pixelq.agents.results.formatting import (
    describe_rules,
    format_count,
    format_duration,
    format_interval,
    format_percent,
    format_score,
    format_signed,
    identified,
    plain_score,
    pluralize,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (format_score(-3.14), "−3.1"),
        (format_score(12345.6), "12,346"),
        (format_score(None), "–"),
        (format_score(-1e308), "−1e+308"),
        (format_score(999_999_999_999.0), "999,999,999,999"),
        (plain_score(-12345.67), "-12,345.7"),
        (plain_score(1.25e12), "1.25e+12"),
        (format_interval(1, float("nan"), 2), "1.0"),
        (format_percent(1.018), "102%"),
        (format_percent(None), "–"),
        (format_percent(float("nan")), "–"),
        (format_count(149_999), "149,999"),
        (format_count(4_000_012), "4.0 million"),
        (pluralize(1, "episode"), "1 episode"),
        (pluralize(0, "episode"), "0 episodes"),
        (pluralize(1000, "episode"), "1,000 episodes"),
        (format_duration(59.6), "1 min 00 s"),
        (format_duration(3599.7), "1 h 00 min"),
        (format_duration(8460), "2 h 21 min"),
        (format_signed(-2.04), "−2.0"),
        (format_signed(float("inf")), "+∞"),
        (identified("x" * 80), "x" * 80),
        (identified("x" * 81), "x" * 70 + "…-4d1f7bb8"),
        (identified("a\ud800"), "a?-25819b9b"),
        (describe_rules("nature"), "nature"),
        (describe_rules("sticky+flicker=0.125"), "sticky with 12.5% of the frames black"),
        (describe_rules("ours+flicker=often"), "ours+flicker=often"),
    ],
)
def test_numbers(text: str, expected: str) -> None:
    assert text == expected

"""What presets demand: the page of the docs has what the command prints."""

import re
from pathlib import Path

import pytest

from pixelq.agents import PRESETS
from pixelq.scripts.benchmarks.demands import demands_of, row_of, step_flop

PAGE = Path(__file__).parents[2] / "docs" / "agents.md"


def test_the_page_has_the_demands_of_every_preset() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if re.match(r"\| `\w+` \| \d+ \|", line)]
    assert len(rows) == len(PRESETS)
    for row, name in zip(rows, PRESETS, strict=True):
        assert row.startswith(row_of(name, demands_of(name)))


@pytest.mark.parametrize("name", ["quick", "minatar_pqn"])
def test_the_page_has_the_arithmetic(name: str) -> None:
    (row,) = (line for line in PAGE.read_text().splitlines() if re.match(rf"\| `{name}` \| \d+ \|", line))
    assert float(row.split("|")[7]) == float(f"{step_flop(name) / step_flop('dqn'):.2g}")

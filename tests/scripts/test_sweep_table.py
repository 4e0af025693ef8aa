"""The table of a sweep's runs."""

import io

import pytest
from rich.console import Console

from pixelq.agents.distributed.states import CellState
from pixelq.agents.runs.status import MeanAt
from pixelq.scripts.sweep_table import table_of

NAME = "Breakout-v5-rainbow-learning_rate=0.0001-n_step=5-seed12"


@pytest.mark.parametrize("width", [72, 80, 200])
def test_figures_are_whole_on_any_terminal(width: int) -> None:
    cells = [
        CellState(NAME, "training", 123_456, 2_000_000, 431.2, 3.5, MeanAt(100_000, 12.25), 4_352.0),
        CellState("Pong-v5-quick-seed0", "finished", 2_000_007, 2_000_000, None, 20.0),
    ]
    console = Console(file=io.StringIO(), width=width)
    console.print(table_of(cells))
    assert isinstance(console.file, io.StringIO)
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert lines[0] == ["run", "state", "step", "of", "%", "steps/s", "score", "left"]
    assert lines[1][1:7] == ["training", "123,456", "2,000,000", "6%", "431", "12.2"]
    assert ["finished", "2,000,007", "2,000,000", "100%", "-", "20.0", "-"] in [line[1:] for line in lines]
    assert "".join(line[0] for line in lines[1:]).startswith(NAME)

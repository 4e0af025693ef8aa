"""What presets demand: the page of the docs has what the command prints, and LSTMs are counted."""

import re
from pathlib import Path

import pytest
from torch.utils.flop_counter import FlopCounterMode

from pixelq.agents import DQN, PRESETS
from pixelq.agents.experience.batches import Sequences
from pixelq.scripts.benchmarks.demands import CPU, demands_of, flop_of, made_for, row_of, step_flop
from pixelq.scripts.benchmarks.update_cost import lstm_flop, random_batch

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


def test_lstms_are_counted() -> None:
    config, observations, actions = made_for("quick_recurrent")
    agent, batch = DQN(observations, actions, config, device="cpu"), random_batch(config, CPU, observations, 2)
    assert isinstance(batch, Sequences)
    with FlopCounterMode(display=False) as counter:
        agent.learner.update(batch)
    counted = flop_of(lambda: agent.learner.update(batch))
    assert counted - counter.get_total_flops() == lstm_flop(agent.network, batch) > 0

"""What one update of each preset costs: milliseconds, and the arithmetic of its matrix products and convolutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import gymnasium
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from pixelq.agents import DQN, Batch, preset
from pixelq.agents.description import hardware
from pixelq.agents.learner import Learner, Update
from pixelq.agents.updates import EAGER_UPDATES, CapturedUpdate
from pixelq.scripts.timing import seconds_in_turns

OBSERVATIONS = gymnasium.spaces.Box(0, 255, (4, 84, 84), np.uint8)
ACTIONS = gymnasium.spaces.Discrete(6)  # Pong's


def random_batch(size: int, device: torch.device) -> Batch:
    """Transitions of random pixels on the device."""
    generator = torch.Generator().manual_seed(0)
    obs, next_obs = torch.randint(256, (2, size, 4, 84, 84), dtype=torch.uint8, generator=generator)
    action = torch.randint(int(ACTIONS.n), (size,), generator=generator)
    reward = torch.randn(size, generator=generator).clamp(-1, 1)
    tensors = (obs, action, reward, torch.full((size,), 0.99), next_obs)
    return Batch(*(tensor.to(device) for tensor in tensors))


def update_costs(names: Sequence[str], device: torch.device, turns: int, seconds: float) -> dict[str, Any]:
    """Measures the presets in turn, ``turns`` times for ``seconds`` and an update at least; medians are over all."""
    agents = {name: DQN(OBSERVATIONS, ACTIONS, preset(name), device=device, seed=0) for name in names}
    batches = {name: random_batch(agent.config.batch_size, device) for name, agent in agents.items()}
    flop: dict[str, int] = {}
    for name, agent in agents.items():
        with FlopCounterMode(display=False) as counter:  # the first update, which also warms up
            agent.learner.update(batches[name])
        flop[name] = counter.get_total_flops()
    ways = {name: _way(agent.learner, batches[name]) for name, agent in agents.items()}
    took = seconds_in_turns(ways, device, turns, seconds)
    results = []
    for name, agent in agents.items():
        config, typical = agent.config, median(took[name])
        results.append(
            {
                "preset": name,
                "head": config.head,
                "batch_size": config.batch_size,
                "precision": config.precision,
                "parameters": sum(p.numel() for p in agent.network.parameters()),
                "milliseconds_per_update": typical * 1e3,
                "gflop_per_update": flop[name] / 1e9,
                "gflop_per_second": flop[name] / 1e9 / typical,
                "updates": len(took[name]),
            }
        )
    return {"hardware": hardware(device), "device": device.type, "turns": turns, "updates": results}


def _way(learner: Learner, batch: Batch) -> Callable[[], Update]:
    """The update as training runs it: on a GPU as a graph, which is captured here."""
    update = partial(learner.update, batch)
    if learner.device.type != "cuda":
        return update
    captured = CapturedUpdate(update, (learner.generator,), learner.device)
    for _ in range(EAGER_UPDATES + 1):
        captured()
    return captured


def show_costs(figures: dict[str, Any], console: Console) -> None:
    """Prints a table of the figures."""
    table = Table(
        title=f"one update of 84×84×4 observations and {int(ACTIONS.n)} actions · {figures['device']}",
        caption="ms: median. GFLOP: multiplications and additions of matrix products and convolutions, as counted by "
        "PyTorch; forward, backward and target passes.",
    )
    table.add_column("preset")
    table.add_column("head")
    for title in ("batch", "parameters", "ms", "GFLOP", "GFLOP/s"):
        table.add_column(title, justify="right")
    for result in figures["updates"]:
        table.add_row(
            result["preset"],
            result["head"],
            str(result["batch_size"]),
            f"{result['parameters']:,}",
            f"{result['milliseconds_per_update']:.1f}",
            f"{result['gflop_per_update']:.2f}",
            f"{result['gflop_per_second']:,.0f}",
        )
    console.print(table)

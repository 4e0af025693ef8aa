"""The cost of one update of each preset: milliseconds, and the arithmetic of matrix products and convolutions."""

from __future__ import annotations

import dataclasses
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

from pixelq.agents import DQN, PRESETS, AgentConfig, Batch, InvalidConfig, preset
from pixelq.agents.config.at_step import longest_return
from pixelq.agents.experience.batches import Sequences
from pixelq.agents.experience.replay import make_replay
from pixelq.agents.learning.cuda_graph import EAGER_UPDATES, CapturedUpdate
from pixelq.agents.learning.gradient import Update
from pixelq.agents.learning.learner import Learner
from pixelq.agents.results.formatting import format_percent
from pixelq.agents.runs.machine import hardware
from pixelq.networks import QNetwork
from pixelq.scripts.benchmarks.timing import seconds_in_turns
from pixelq.scripts.command_line import split_names

OBSERVATIONS = gymnasium.spaces.Box(0, 255, (4, 84, 84), np.uint8)
ACTIONS = gymnasium.spaces.Discrete(6)  # Pong's


def presets_of(names: str) -> list[str]:
    """Return the presets that a text names.

    Args:
        names: Names with commas between them, or `all`, which leaves out `classic` because it is for vectors, and those
            that learn from rollouts.

    Raises:
        InvalidConfig: If there is no preset with one of the names, or it learns from rollouts.
    """
    if names == "all":
        return [name for name in PRESETS if name != "classic" and preset(name).algorithm == "dqn"]
    chosen = split_names(names)
    for name in chosen:
        if preset(name).algorithm != "dqn":
            raise InvalidConfig(f"the presets must learn from a replay, got {name!r}")
    return chosen


def random_batch(
    config: AgentConfig,
    device: torch.device,
    space: gymnasium.spaces.Box | None = None,
    num_actions: int = int(ACTIONS.n),
) -> Batch | Sequences:
    """Return a batch of transitions, or sequences, of random observations, as a replay draws it.

    Args:
        config: Configuration of the agent.
        device: Device of the batch.
        space: Space of the observations, with `config.frame_stack` frames; None for pixels 84×84.
        num_actions: Number of actions.
    """
    stack, num_envs = config.frame_stack, config.batch_size
    shape, dtype = ((stack, 84, 84), np.dtype(np.uint8)) if space is None else (space.shape, space.dtype)
    steps = stack + longest_return(config) + 1
    if config.lstm is not None:
        steps = config.sequence_length + longest_return(config) + 2 * config.sequence_period + 2
    small = dataclasses.replace(config, replay_capacity=(steps + config.sequence_period) * num_envs)
    replay = make_replay(
        shape,
        dtype,
        small,
        num_envs=num_envs,
        frame_stack=stack,
        device=device,
        seed=0,
    )
    rng, never = np.random.default_rng(0), np.zeros(num_envs, dtype=bool)
    for _ in range(steps):
        obs = rng.integers(256, size=(num_envs, *shape)).astype(dtype)
        replay.add(obs, rng.integers(num_actions, size=num_envs), rng.normal(size=num_envs), never, never)
    return replay.sample(config.batch_size)


def lstm_flop(network: QNetwork, batch: Sequences) -> int:
    """Return the multiplications and additions of an LSTM's matrix products in an update.

    PyTorch's counter does not see them. A step of one environment takes 2 · 4H · (D + H), and its backward pass as much
    for the inputs and as much for the weights. The target network and the online network go through all W steps, and
    the backward pass through the steps after the burn-in.
    """
    assert network.lstm is not None
    cell = network.lstm.cell
    forward = 2 * 4 * cell.hidden_size * (cell.input_size + cell.hidden_size)
    steps, batch_size = batch.stretch.episode_start.shape
    return forward * batch_size * (steps + steps + 2 * (steps - batch.burn_in))


def update_costs(names: Sequence[str], device: torch.device, turns: int, seconds: float) -> dict[str, Any]:
    """Return the cost of an update of each preset as JSON values; milliseconds are medians over all turns.

    Args:
        names: Names of the presets.
        device: Device to compute on.
        turns: Number of turns of each preset.
        seconds: Length of a turn, which has at least one update.
    """
    agents = {name: _agent(preset(name), device) for name in names}
    batches = {name: random_batch(agent.config, device) for name, agent in agents.items()}
    flop: dict[str, int] = {}
    of_lstm = dict.fromkeys(names, 0)
    for name, agent in agents.items():
        with FlopCounterMode(display=False) as counter:  # the first update, which also warms up
            agent.learner.update(batches[name])
        batch = batches[name]
        if isinstance(batch, Sequences):
            of_lstm[name] = lstm_flop(agent.network, batch)
        flop[name] = counter.get_total_flops() + of_lstm[name]
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
                "lstm_share_of_gflop": of_lstm[name] / flop[name],
                "drawn_per_second": config.batch_size / typical,
                "updates": len(took[name]),
            }
        )
    return {"hardware": hardware(device), "device": device.type, "turns": turns, "updates": results}


def _agent(config: AgentConfig, device: torch.device) -> DQN:
    observations = gymnasium.spaces.Box(0, 255, (config.frame_stack, 84, 84), np.uint8)
    return DQN(observations, ACTIONS, config, device=device, seed=0)


def _way(learner: Learner, batch: Batch | Sequences) -> Callable[[], Update]:
    """Return the update as training runs it: on a GPU a graph, which is captured here."""
    update = partial(learner.update, batch)
    if learner.device.type != "cuda":
        return update
    captured = CapturedUpdate(update, (learner.generator,), learner.device)
    for _ in range(EAGER_UPDATES + 1):
        captured()
    return captured


def show_costs(figures: dict[str, Any], console: Console) -> None:
    """Print a table of the figures of `update_costs`."""
    table = Table(
        title=f"one update of 84×84 pictures and {int(ACTIONS.n)} actions · {figures['device']}",
        caption="ms: median. GFLOP: multiplications and additions of matrix products and convolutions, as counted by "
        "PyTorch, and of an LSTM; forward, backward and target passes. drawn: transitions, or sequences, per second.",
    )
    table.add_column("preset")
    table.add_column("head")
    for title in ("batch", "parameters", "ms", "drawn", "GFLOP", "GFLOP/s", "LSTM"):
        table.add_column(title, justify="right")
    for result in figures["updates"]:
        table.add_row(
            result["preset"],
            result["head"],
            str(result["batch_size"]),
            f"{result['parameters']:,}",
            f"{result['milliseconds_per_update']:.1f}",
            f"{result['drawn_per_second']:,.0f}",
            f"{result['gflop_per_update']:.2f}",
            f"{result['gflop_per_second']:,.0f}",
            format_percent(result["lstm_share_of_gflop"]) if result["lstm_share_of_gflop"] else "",
        )
    console.print(table)

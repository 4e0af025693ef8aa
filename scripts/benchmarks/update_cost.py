"""The cost of one update of each preset: milliseconds, and the arithmetic of matrix products and convolutions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pixelq.agents import DQN, PQN, PRESETS, AgentConfig, Batch, preset
from pixelq.agents.config.at_step import longest_return
from pixelq.agents.config.presets import PRESET_NUM_ENVS
from pixelq.agents.experience.batches import Sequences
from pixelq.agents.experience.replay import Replay, make_replay
from pixelq.agents.experience.rollout import Minibatch, Rollout, make_rollout
from pixelq.agents.learning.cuda_graph import EAGER_UPDATES, CapturedUpdate
from pixelq.agents.learning.gradient import Update
from pixelq.agents.results.formatting import format_percent
from pixelq.agents.runs.machine import hardware
from pixelq.scripts.benchmarks.timing import seconds_in_turns
from pixelq.scripts.command_line import split_names

OBSERVATIONS = gymnasium.spaces.Box(0, 255, (4, 84, 84), np.uint8)
ACTIONS = gymnasium.spaces.Discrete(6)  # Pong's
AnyBatch = Batch | Sequences | Minibatch


def presets_of(names: str) -> list[str]:
    """Return the presets that a text names.

    Args:
        names: Names with commas between them, or `all`, which leaves out `classic` because it is for vectors.

    Raises:
        InvalidConfig: If there is no preset with one of the names.
    """
    if names == "all":
        return [name for name in PRESETS if name != "classic"]
    chosen = split_names(names)
    for name in chosen:
        preset(name)
    return chosen


def pictures(config: AgentConfig) -> gymnasium.spaces.Box:
    """Return the space of an agent's observations on Atari."""
    size = config.frame_size
    return gymnasium.spaces.Box(0, 255, (config.frame_stack, *((size, size) if size else (84, 84))), np.uint8)


def random_replay(
    config: AgentConfig,
    device: torch.device,
    space: gymnasium.spaces.Box | None = None,
    num_actions: int = int(ACTIONS.n),
) -> Replay:
    """Return a replay of random observations that is just large enough for a batch.

    Args:
        config: Configuration of the agent.
        device: Device of the replay.
        space: Space of the observations, with `config.frame_stack` frames; None for Atari's.
        num_actions: Number of actions.
    """
    stack, num_envs = config.frame_stack, config.batch_size
    space = space or pictures(config)
    shape, dtype = space.shape, space.dtype
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
    return replay


def random_batch(
    config: AgentConfig,
    device: torch.device,
    space: gymnasium.spaces.Box | None = None,
    num_actions: int = int(ACTIONS.n),
) -> Batch | Sequences:
    """Return a batch of transitions, or sequences, of `random_replay`, whose arguments these are."""
    return random_replay(config, device, space, num_actions).sample(config.batch_size)


def random_rollout(config: AgentConfig, num_envs: int, device: torch.device) -> Rollout:
    """Return a rollout of random Atari observations that is complete.

    Args:
        config: Configuration of the agent.
        num_envs: Number of environments.
        device: Device of the rollout.
    """
    space = pictures(config)
    rollout = make_rollout(
        space.shape, space.dtype, config, num_envs=num_envs, frame_stack=config.frame_stack, device=device, seed=0
    )
    rng, never = np.random.default_rng(0), np.zeros(num_envs, dtype=bool)
    for step in range(config.rollout_length + 1):
        rollout.observe(rng.integers(256, size=(num_envs, *space.shape)).astype(np.uint8))
        rollout.keep_values(rollout.latest(), torch.rand((num_envs, 1), device=device))
        if step < config.rollout_length:
            rollout.complete(rng.integers(ACTIONS.n, size=num_envs), rng.normal(size=num_envs), never, never)
    return rollout


def random_minibatch(config: AgentConfig, num_envs: int, device: torch.device) -> Minibatch:
    """Return a minibatch of `random_rollout`."""
    rollout = random_rollout(config, num_envs, device)
    target = rollout.targets(0.99, config.td_lambda, config.reward_clip)
    return rollout.gather(next(rollout.draw(target, config.minibatches, 1)))


class Flop(NamedTuple):
    """Multiplications and additions of matrix products, convolutions and LSTMs."""

    total: int
    """All of them."""
    of_lstm: int
    """Those of LSTMs."""


def flop_of(call: Callable[[], object]) -> Flop:
    """Return the arithmetic of a call: PyTorch's count, and that of LSTMs, which it leaves out.

    A step of an LSTM takes 2 · 4H · (D + H), and its backward pass as much for the inputs and as much for the weights.
    """
    of_lstm = 0

    def count(module: nn.Module, inputs: tuple[Any, ...], _: Any) -> None:
        nonlocal of_lstm
        if isinstance(module, nn.LSTM):
            rows = inputs[0].shape[0] * inputs[0].shape[1]
            forward = 2 * 4 * module.hidden_size * (module.input_size + module.hidden_size) * rows
            of_lstm += forward * (3 if torch.is_grad_enabled() else 1)

    hook = nn.modules.module.register_module_forward_hook(count)
    try:
        with FlopCounterMode(display=False) as counter:
            call()
    finally:
        hook.remove()
    return Flop(int(counter.get_total_flops()) + of_lstm, of_lstm)


def update_costs(
    names: Sequence[str],
    device: torch.device,
    turns: int,
    seconds: float,
    keep: Callable[[dict[str, Any]], None] = lambda figures: None,
) -> dict[str, Any]:
    """Return the cost of an update of each preset as JSON values; milliseconds are medians over all turns.

    Args:
        names: Names of the presets.
        device: Device to compute on.
        turns: Number of turns of each preset.
        seconds: Length of a turn, which has at least one update.
        keep: Told the figures so far after each turn of all presets.
    """
    agents = {name: _agent(preset(name), device) for name in names}
    batches: dict[str, AnyBatch] = {name: _batch(name, device) for name in names}
    # Of the first update, which also warms up
    flop = {name: flop_of(partial(_update, agent, batches[name])) for name, agent in agents.items()}
    ways = {name: _way(agent, batches[name]) for name, agent in agents.items()}
    took: dict[str, list[float]] = {name: [] for name in names}
    figures: dict[str, Any] = {"hardware": hardware(device), "device": device.type, "turns": turns}
    for _ in range(turns):
        for name, new in seconds_in_turns(ways, device, 1, seconds).items():
            took[name] += new
        results = []
        for name, agent in agents.items():
            config, typical, drawn = agent.config, median(took[name]), _drawn(agent.config, batches[name])
            results.append(
                {
                    "preset": name,
                    "head": config.head,
                    "batch_size": drawn,
                    "precision": config.precision,
                    "parameters": sum(p.numel() for p in agent.network.parameters()),
                    "milliseconds_per_update": typical * 1e3,
                    "gflop_per_update": flop[name].total / 1e9,
                    "gflop_per_second": flop[name].total / 1e9 / typical,
                    "lstm_share_of_gflop": flop[name].of_lstm / flop[name].total,
                    "drawn_per_second": drawn / typical,
                    "updates": len(took[name]),
                }
            )
        figures["updates"] = results
        keep(figures)
    return figures


def _agent(config: AgentConfig, device: torch.device) -> DQN | PQN:
    kind = DQN if config.algorithm == "dqn" else PQN
    return kind(pictures(config), ACTIONS, config, device=device, seed=0)


def _batch(name: str, device: torch.device) -> AnyBatch:
    config = preset(name)
    if config.algorithm == "dqn":
        return random_batch(config, device)
    return random_minibatch(config, PRESET_NUM_ENVS[name], device)


def _drawn(config: AgentConfig, batch: AnyBatch) -> int:
    """Return the number of transitions or sequences in a batch, or of steps in a minibatch."""
    return len(batch.action) if isinstance(batch, Minibatch) else config.batch_size


def _update(agent: DQN | PQN, batch: AnyBatch) -> Update:
    if isinstance(batch, Minibatch):
        assert isinstance(agent, PQN)
        return agent.learner.update(batch)
    assert isinstance(agent, DQN)
    return agent.learner.update(batch)


def _way(agent: DQN | PQN, batch: AnyBatch) -> Callable[[], Update]:
    """Return the update as training runs it: on a GPU a graph, which is captured here."""
    learner, update = agent.learner, partial(_update, agent, batch)
    if learner.device.type != "cuda":
        return update
    captured = CapturedUpdate(learner, update, (learner.generator,))
    for _ in range(EAGER_UPDATES + 1):
        captured()
    return captured


def show_costs(figures: dict[str, Any], console: Console) -> None:
    """Print a table of the figures of `update_costs`."""
    table = Table(
        title=f"one update with {int(ACTIONS.n)} actions · {figures['device']}",
        caption="ms: median. GFLOP: multiplications and additions of matrix products and convolutions, as counted by "
        "PyTorch, and of an LSTM; forward, backward and target passes. drawn: transitions, or sequences, per second. "
        "Pictures of 84×84, or of the preset's size.",
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

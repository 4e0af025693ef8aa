"""The cost of drawing a batch from a full replay, beside that of a plain gather of the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import gymnasium
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from pixelq.agents import Replay
from pixelq.agents.experience.samplers import PrioritizedSampler
from pixelq.agents.runs.machine import hardware
from pixelq.scripts.benchmarks.timing import seconds_in_turns
from pixelq.scripts.benchmarks.update_cost import OBSERVATIONS

BATCH_SIZES = (32, 256)
N_STEP = 3
"""Steps of the return."""
EPISODE = 1_000
"""Mean number of steps in an episode."""


def filled_replay(rows: int, num_envs: int, device: torch.device) -> Replay:
    """Return a full replay of random pixels, with prioritised sampling and random priorities.

    Args:
        rows: Rows of the replay.
        num_envs: Number of environments.
        device: Device of the replay.
    """
    replay = Replay(
        OBSERVATIONS.shape,
        np.dtype(np.uint8),
        capacity=rows,
        num_envs=num_envs,
        frame_stack=OBSERVATIONS.shape[0],
        n_step=N_STEP,
        reward_clip=1.0,
        prioritized=True,
        device=device,
    )
    fill(replay, OBSERVATIONS)
    everything = torch.arange(replay.rows, device=device)
    replay.sampler.update(everything, torch.rand(replay.rows, device=device))
    return replay


def fill(replay: Replay, space: gymnasium.spaces.Box) -> None:
    """Write all rows of a replay, with random pixels, one action, rewards of 1 and episodes of random lengths.

    Args:
        replay: The replay.
        space: Space of the observations.
    """
    rng, num_envs = np.random.default_rng(0), replay.num_envs
    obs = rng.integers(256, size=(num_envs, *space.shape), dtype=np.uint8)
    action, reward, never = np.zeros(num_envs, np.int64), np.ones(num_envs, np.float32), np.zeros(num_envs, bool)
    for _ in range(replay.length):
        replay.add(obs, action, reward, rng.random(num_envs) < 1 / EPISODE, never)


def sampling_costs(rows: int, num_envs: int, device: torch.device, turns: int, seconds: float) -> dict[str, Any]:
    """Return the cost of each way of drawing as JSON values; milliseconds are medians over all turns.

    Args:
        rows: Rows of the replay.
        num_envs: Number of environments.
        device: Device of the replay.
        turns: Number of turns of each way.
        seconds: Length of a turn of all ways together.
    """
    replay = filled_replay(rows, num_envs, device)
    ways = {(batch_size, name): way for batch_size in BATCH_SIZES for name, way in _ways(replay, batch_size).items()}
    for way in ways.values():
        way()
    took = seconds_in_turns(ways, device, turns, seconds / len(ways))
    return {
        "hardware": hardware(device),
        "device": device.type,
        "rows": replay.rows,
        "replay_gigabytes": replay.nbytes / 1e9,
        "turns": turns,
        "milliseconds": {
            str(batch_size): {name: 1e3 * median(took[batch_size, name]) for size, name in ways if size == batch_size}
            for batch_size in BATCH_SIZES
        },
    }


def _ways(replay: Replay, batch_size: int) -> dict[str, Callable[[], object]]:
    """Return the functions to measure, by name."""
    prioritized = replay.sampler
    assert isinstance(prioritized, PrioritizedSampler)
    uniform = prioritized.uniform_sampler
    generator = torch.Generator(replay.device).manual_seed(0)
    frames = 2 * batch_size * replay.frame_stack  # in a batch's observations and next observations

    def plain_gather() -> object:
        index = torch.randint(replay.rows, (frames,), generator=generator, device=replay.device)
        return replay.ring.frames.index_select(0, index)

    def update() -> None:
        rows, _ = prioritized.sample(batch_size)
        prioritized.update(rows, torch.rand(batch_size, device=replay.device))

    def batch_from(sampler: Any) -> Callable[[], object]:
        def sample() -> object:
            replay.sampler = sampler
            return replay.sample(batch_size)

        return sample

    return {
        "plain index_select of as many frames": plain_gather,
        "rows, uniform": lambda: uniform.sample(batch_size),
        "rows, prioritised": lambda: prioritized.sample(batch_size),
        "rows, prioritised, and new priorities": update,
        "batch, uniform": batch_from(uniform),
        "batch, prioritised": batch_from(prioritized),
    }


def show_sampling(figures: dict[str, Any], console: Console) -> None:
    """Print a table of the figures of `sampling_costs`."""
    table = Table(
        title=f"{figures['rows']:,} rows of 84×84 frames, {figures['replay_gigabytes']:.2f} GB · {figures['device']}",
        caption=f"Median ms. A batch has stacks of 4 frames, {N_STEP}-step returns and next stacks.",
    )
    table.add_column("")
    for batch_size in BATCH_SIZES:
        table.add_column(f"batch of {batch_size}", justify="right")
    for name in figures["milliseconds"][str(BATCH_SIZES[0])]:
        table.add_row(name, *(f"{figures['milliseconds'][str(size)][name]:.3f}" for size in BATCH_SIZES))
    console.print(table)

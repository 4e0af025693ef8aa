"""The cost of the checkpoints of a long run: seconds for each, bytes on disk, and seconds to read one back."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from rich.console import Console

from pixelq.agents import DQN, Replay, preset
from pixelq.agents.config.schedules import crossed
from pixelq.agents.runs.checkpoints import RunCheckpoints
from pixelq.agents.runs.machine import hardware
from pixelq.envs import make_vec

EVERY = 50_000
"""Steps between checkpoints, the default of `pixelq train`."""
KEEP = 3
"""Number of newest checkpoints to keep."""
SHARE = 0.02
"""Largest share of the training's time that checkpoints are meant to take."""


def checkpoint_costs(env: str, rows: int, num_envs: int, device: torch.device) -> dict[str, Any]:
    """Play at random until a replay is full, and half as long again, and return what the checkpoints meanwhile cost.

    The agent is that of the preset `rainbow`, whose priorities are in each checkpoint too.

    Args:
        env: ID of the environment.
        rows: Rows of the replay.
        num_envs: Number of environments.
        device: Device of the agent.

    Returns:
        The figures as JSON values.
    """
    envs = make_vec(env, num_envs, seed=0)
    config = dataclasses.replace(preset("rainbow"), replay_capacity=rows)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device=device)
    replay, rng = agent.make_replay(num_envs, envs.frame_stack), np.random.default_rng(0)
    assert isinstance(replay, Replay)
    written: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        checkpoints = RunCheckpoints(Path(name), replay, KEEP)
        obs, _ = envs.reset()
        while agent.step < 1.5 * rows:
            actions = rng.integers(agent.num_actions, size=num_envs)
            next_obs, reward, terminated, truncated, info = envs.step(actions)
            replay.add(obs, actions, reward, terminated, truncated, info.get("life_lost"))
            obs, agent.step = next_obs, agent.step + num_envs
            if crossed(EVERY, agent.step - num_envs, agent.step) or agent.step >= 1.5 * rows:
                games = {f"games.{key}": torch.from_numpy(value) for key, value in envs.get_state().items()}
                start = time.perf_counter()
                checkpoints.write(agent.step, agent.checkpoint(), {}, games)
                seconds = time.perf_counter() - start
                written.append({"step": agent.step, "seconds": seconds, "bytes": _bytes(Path(name))})
        start = time.perf_counter()
        checkpoints.read(agent.step)
        reading = time.perf_counter() - start
    envs.close()
    typical = median(entry["seconds"] for entry in written)
    return {
        "hardware": hardware(agent.device),
        "device": agent.device.type,
        "env": env,
        "rows": replay.rows,
        "num_envs": num_envs,
        "replay_bytes": replay.nbytes,
        "checkpoint_every": EVERY,
        "keep": KEEP,
        "seconds": typical,
        "bytes": written[-1]["bytes"],
        "seconds_to_read": reading,
        "steps_per_second_at_2_percent": SHARE * EVERY / typical,
        "checkpoints": written,
    }


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def show_checkpoints(figures: dict[str, Any], console: Console) -> None:
    """Print the figures of `checkpoint_costs`."""
    seconds = [entry["seconds"] for entry in figures["checkpoints"]]
    console.print(
        f"{figures['env']} · replay of {figures['rows']:,} rows, {figures['replay_bytes'] / 1e9:.2f} GB · "
        f"a checkpoint every {figures['checkpoint_every']:,} steps\n"
        f"  to write   {figures['seconds']:.2f} s (median; {min(seconds):.2f} to {max(seconds):.2f}), "
        f"2% of training at {figures['steps_per_second_at_2_percent']:,.0f} steps/s\n"
        f"  on disk    {figures['bytes'] / 1e6:,.0f} MB with {figures['keep']} checkpoints kept\n"
        f"  to read    {figures['seconds_to_read']:.1f} s, without the games"
    )

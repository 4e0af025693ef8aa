"""Agents of small pixels with full replays, for tests of the update."""

import dataclasses
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from pixelq.agents import DQN, AgentConfig
from pixelq.agents.storage.files import CHECKSUMS, digest

PIXELS = gymnasium.spaces.Box(0, 255, (4, 44, 44), np.uint8)
ACTIONS = gymnasium.spaces.Discrete(3)
SMALL: dict[str, Any] = {"replay_capacity": 400, "batch_size": 8, "hidden": 16, "learning_starts": 8}

OF_PQN: dict[str, Any] = {"hidden": 16, "rollout_length": 4, "minibatches": 2}


def small(config: AgentConfig, **fields: Any) -> AgentConfig:
    """The same with its parts in small; of a DQN with memory, sequences that fit the replay of ``filled``."""
    if config.algorithm == "pqn":
        memory = {} if config.lstm is None else {"lstm": 8}
        return dataclasses.replace(config, **(OF_PQN | memory | fields))
    if config.lstm is not None:
        period, burn_in = min(config.sequence_period, 6), min(config.burn_in, 4)
        fields = {"lstm": 8, "sequence_length": 12, "sequence_period": period, "burn_in": burn_in} | fields
    return dataclasses.replace(config, **(SMALL | fields))


def filled(config: AgentConfig, seed: int = 0, device: str = "cpu") -> DQN:
    """An agent whose replay is full of random steps."""
    agent = DQN(PIXELS, ACTIONS, config, device=device, seed=seed)
    agent.make_replay(2, 4)
    step_on(agent, 250, np.random.default_rng(seed))
    return agent


def step_on(agent: DQN, steps: int, rng: np.random.Generator) -> None:
    assert agent.replay is not None
    for _ in range(steps):
        obs = rng.integers(256, size=(2, *PIXELS.shape), dtype=np.uint8)
        ended = rng.random((2, 2)) < 0.05
        agent.replay.add(obs, rng.integers(3, size=2), rng.normal(size=2), ended[0], ended[1] & ~ended[0])


def seal(checkpoint: Path) -> None:
    """Gives a checkpoint's files, which a test has changed, the checksums that they would have."""
    path = checkpoint / CHECKSUMS
    names = [line.split("  ")[1] for line in path.read_text().splitlines()]
    found = [name for name in names if (checkpoint / name).is_file()]
    path.write_text("".join(f"{digest((checkpoint / name).read_bytes())}  {name}\n" for name in found))

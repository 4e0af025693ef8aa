"""CleanRL's DQN for Atari in a race, with the defaults of its script."""

from __future__ import annotations

from typing import Any

import torch

from pixelq.agents.config.machine_limits import free_memory
from pixelq.envs.protocols import resolve_protocol
from pixelq.scripts.benchmarks.peer_cleanrl import DQNScript
from pixelq.scripts.benchmarks.racing import Clock, Conditions
from pixelq.scripts.benchmarks.work import Work

TOTAL_STEPS = 10_000_000
BUFFER_SIZE = 1_000_000
LEARNING_RATE = 1e-4
GAMMA = 0.99
BATCH_SIZE = 32
LEARNING_STARTS = 80_000
TRAIN_FREQUENCY = 4
TARGET_NETWORK_FREQUENCY = 1_000
START_E, END_E, EXPLORATION_FRACTION = 1.0, 0.01, 0.1
ROW_BYTES = 4 * 84 * 84
MEMORY_SHARE = 0.5
"""Greatest share of the free memory that the replay may come to."""
SOURCE = "https://github.com/vwxyzjn/cleanrl/blob/fe8d8a0/cleanrl/dqn_atari.py, its defaults; the loop is our writing"


class CleanRL(DQNScript):
    """One game in stable-baselines3's wrappers, as in the script.

    Args:
        conditions: What is the same for all entries.
        seed: Seed of the weights, the games and every random choice.
    """

    def __init__(self, conditions: Conditions, seed: int) -> None:
        self.rows = most_rows(free_memory(torch.device("cpu")))
        work = Work(
            env=conditions.env,
            num_envs=1,
            replay_capacity=self.rows,
            batch_size=BATCH_SIZE,
            gamma=GAMMA,
            learning_rate=LEARNING_RATE,
            seed=seed,
        )
        super().__init__(work, conditions.device, resolve_protocol(conditions.protocol))

    def settings(self) -> dict[str, Any]:
        """Return the settings, and where they are from."""
        found: dict[str, Any] = {"source": SOURCE}
        if self.rows < BUFFER_SIZE:
            found["differences"] = (
                f"buffer_size is {self.rows:,} in place of {BUFFER_SIZE:,}, half the free memory, which changes "
                "nothing until so many steps are taken"
            )
        return found | {
            "num_envs": 1,
            "frame_stack": 4,
            "total_timesteps": TOTAL_STEPS,
            "learning_rate": LEARNING_RATE,
            "buffer_size": self.rows,
            "gamma": GAMMA,
            "target_network_frequency": TARGET_NETWORK_FREQUENCY,
            "batch_size": BATCH_SIZE,
            "start_e": START_E,
            "end_e": END_E,
            "exploration_fraction": EXPLORATION_FRACTION,
            "learning_starts": LEARNING_STARTS,
            "train_frequency": TRAIN_FREQUENCY,
        }

    def train(self, clock: Clock) -> None:
        """Train for the steps of the source."""
        for step in range(TOTAL_STEPS):
            ended = self.play(epsilon_at(step))
            if step > LEARNING_STARTS:
                if step % TRAIN_FREQUENCY == 0:
                    self.update()
                if step % TARGET_NETWORK_FREQUENCY == 0:
                    self.sync_target()
            clock.tick(step + 1, ended)


def epsilon_at(step: int) -> float:
    """Return the probability of a random action at a step."""
    return max(START_E + (END_E - START_E) * step / (EXPLORATION_FRACTION * TOTAL_STEPS), END_E)


def most_rows(free: int | None) -> int:
    """Return the rows of the replay, as many as the script has where memory allows.

    Args:
        free: Bytes of free memory; None if that is not known.
    """
    return BUFFER_SIZE if free is None else min(BUFFER_SIZE, int(MEMORY_SHARE * free / ROW_BYTES))

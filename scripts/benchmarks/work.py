"""The work that `pixelq benchmark` gives to all, and what an agent must say of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Work:
    """What every entry does; counts are agent steps, summed over environments."""

    env: str = "ALE/Pong-v5"
    """An Atari id."""
    num_envs: int = 8
    """Environments played at once."""
    replay_capacity: int = 20_000
    """Rows in the replay; all are filled before the first update."""
    protocol: str = "nature"
    """The game's rules: no sticky actions, up to 30 no-ops at the start, a lost life ends the return."""
    network: str = "nature"
    """The convolutions of Mnih et al. 2015, without padding."""
    hidden: int = 512
    """Units in the layer between the convolutions and the values."""
    precision: str = "float32"
    batch_size: int = 32
    train_every: int = 4
    """Steps for each update."""
    target_update_every: int = 10_000
    n_step: int = 1
    gamma: float = 0.99
    loss: str = "huber"
    """But cleanrl's, which is the squared error."""
    optimizer: str = "adam"
    learning_rate: float = 1e-4
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 10.0
    """Only pixelq and sb3 clip the gradient."""
    epsilon: float = 0.01
    """Probability of a random action, so that nearly all actions come from the network."""
    seed: int = 0


class Trainer(Protocol):
    """An agent of some library with its environments."""

    def learn(self, steps: int) -> None:
        """Goes on for ``steps`` steps, rounded up to whole steps of all environments; random ones fill the replay."""

    def counts(self) -> tuple[int, int]:
        """Steps taken and updates made so far, as the agent counts them."""


def least_capacity(num_envs: int) -> int:
    """Rows that a replay of so many environments needs: a batch, and some time steps of each."""
    return max(Work.batch_size, 8 * num_envs)


def update_ratio(num_envs: int, train_every: int) -> tuple[int, int]:
    """The fewest steps of all environments together, and their updates, that give an update per ``train_every``."""
    common = math.gcd(num_envs, train_every)
    return train_every // common, num_envs // common

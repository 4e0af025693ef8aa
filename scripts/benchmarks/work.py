"""The work that `pixelq benchmark` gives to all entries, and the interface of an entry's agent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

LEAST_ROWS = 10_000
"""Fewest rows of the replay that batches are drawn from."""


@dataclass(frozen=True)
class Work:
    """The work of every entry; counts are agent steps, summed over environments."""

    env: str = "ALE/Pong-v5"
    """ID of an Atari environment, or of one whose observations are vectors."""
    num_envs: int = 8
    """Number of environments played at once."""
    replay_capacity: int = 20_000
    """Rows in the replay; all are filled before the first update."""
    protocol: str = "nature"
    """Rules of the game: no sticky actions, up to 30 no-ops at the start, a lost life ends the return."""
    network: str = "nature"
    """Convolutions of Mnih et al. 2015, without padding; or `mlp`, one layer of `hidden` units."""
    hidden: int = 512
    """Units in the layer between the encoder and the values."""
    precision: str = "float32"
    """Precision of an update's products."""
    batch_size: int = 32
    """Transitions in a batch."""
    train_every: int = 4
    """Steps for each update."""
    target_update_every: int = 10_000
    """Steps between updates of the target network."""
    n_step: int = 1
    """Steps of the return."""
    gamma: float = 0.99
    """Discount of one step."""
    reward_clip: float | None = 1.0
    """Limit to which rewards are clipped on either side, here or in the environments; None for raw rewards."""
    loss: str = "huber"
    """Loss of the value; cleanrl's is the squared error."""
    optimizer: str = "adam"
    """Optimiser."""
    learning_rate: float = 1e-4
    """Step size."""
    adam_epsilon: float = 1e-8
    """ε of Adam."""
    max_grad_norm: float = 10.0
    """Norm to which gradients are clipped; only pixelq and sb3 clip them."""
    epsilon: float = 0.01
    """Probability of a random action, so that nearly all actions come from the network."""
    seed: int = 0
    """Seed of the weights, the games and every random choice."""


ATARI = Work()
"""The work on Atari."""
SMALL = Work(
    env="CartPole-v1",
    num_envs=1,
    network="mlp",
    hidden=256,
    batch_size=64,
    train_every=2,
    target_update_every=256,
    reward_clip=None,
    learning_rate=1e-3,
)
"""The work of our preset `classic` on CartPole, with one-step returns and clipped gradients, as sb3 has them."""


class Trainer(Protocol):
    """An agent of some library with its environments."""

    def learn(self, steps: int) -> None:
        """Train for `steps` more steps, rounded up to whole steps of all environments; random steps fill the replay."""

    def counts(self) -> tuple[int, int]:
        """Return the numbers of steps taken and updates made so far, as the agent counts them."""


def least_capacity(num_envs: int) -> int:
    """Return the rows that a replay of N environments needs: a batch, and some time steps of each environment."""
    return max(Work.batch_size, 8 * num_envs)


def update_ratio(num_envs: int, train_every: int) -> tuple[int, int]:
    """Return the fewest steps of all environments together, and their updates, for one update per `train_every`."""
    common = math.gcd(num_envs, train_every)
    return train_every // common, num_envs // common

"""The work that `pixelq benchmark --algorithm pqn` gives to all entries."""

from __future__ import annotations

from dataclasses import dataclass, field

PQN_ENVS = 128
"""Environments of purejaxql."""


@dataclass(frozen=True)
class PQNWork:
    """The work of every entry, purejaxql's; counts are agent steps, summed over environments.

    All play on our environments, since EnvPool, on which both programs play, is not always there.
    """

    env: str = "ALE/Pong-v5"
    """ID of an Atari environment."""
    num_envs: int = PQN_ENVS
    """Number of environments played at once."""
    rollout_length: int = 32
    """Steps of each environment in a rollout."""
    minibatches: int = 32
    """Minibatches in an epoch."""
    epochs: int = 2
    """Epochs for each rollout."""
    protocol: str = "nature"
    """Rules of the game: no sticky actions, up to 30 no-ops at the start, a lost life ends the return."""
    network: str = "nature"
    """Convolutions of Mnih et al. 2015, without padding."""
    hidden: int = 512
    """Units in the layer between the convolutions and the values."""
    norm: str = "layer"
    """Norm before each ReLU: over channels in pixelq, over all of an image with weights for each element in cleanrl."""
    precision: str = "float32"
    """Precision of an update's products."""
    td_lambda: float = 0.65
    """λ of the returns."""
    gamma: float = 0.99
    """Discount of one step."""
    optimizer: str = "radam"
    """Optimiser."""
    learning_rate: float = 2.5e-4
    """Step size."""
    max_grad_norm: float = 10.0
    """Norm to which gradients are clipped."""
    epsilon: float = 0.01
    """Probability of a random action, so that nearly all actions come from the network."""
    seed: int = 0
    """Seed of the weights, the games and every random choice."""
    batch_size: int = field(init=False)
    """Steps in a minibatch."""
    train_every: int = field(init=False)
    """Steps for each update."""
    replay_capacity: int = field(init=False)
    """Steps in a rollout, with which an entry warms up."""

    def __post_init__(self) -> None:
        steps = self.num_envs * self.rollout_length
        object.__setattr__(self, "batch_size", steps // self.minibatches)
        object.__setattr__(self, "train_every", max(1, steps // (self.minibatches * self.epochs)))
        object.__setattr__(self, "replay_capacity", steps)

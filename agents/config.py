"""The configuration of an agent: one frozen dataclass, one field per fact."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, fields
from math import inf
from typing import Any, Literal, get_args, get_type_hints

Encoder = Literal["auto", "mlp", "nature", "dopamine", "impala", "minatar"]


class InvalidConfig(ValueError):
    """A configuration that cannot be run; the message says which field, and what would be right."""


@dataclass(frozen=True)
class AgentConfig:
    """Hyperparameters of a DQN agent; all counts are agent steps, summed over environments.

    An Atari agent step is four frames. ``dataclasses.replace`` changes a field; every value is checked when the
    object is built.

    Raises:
        InvalidConfig: a value outside its range, or a combination that makes no sense.
    """

    gamma: float = 0.99
    """Discount of one agent step, in [0, 1]."""
    n_step: int = 1
    """Rewards summed before bootstrapping (Sutton 1988); never across an episode's end."""
    batch_size: int = 32
    """Transitions in an update."""
    replay_capacity: int = 1_000_000
    """Rows in the replay, summed over environments; a row is one step (7.06 kB on Atari)."""
    learning_starts: int = 50_000
    """Steps taken before the first update; ε decays from here on."""
    train_every: int = 4
    """Steps for each update."""
    target_update_every: int = 10_000
    """Steps between two copies of the online network to the target network."""
    learning_rate: float = 2.5e-4
    """Step size of the optimiser."""
    optimizer: Literal["adam", "rmsprop"] = "adam"
    """Adam (Kingma & Ba 2015), or the centred RMSProp of Mnih et al. 2015."""
    adam_epsilon: float = 1e-8
    """Adam's ε, added to the root of the second moment."""
    rmsprop_decay: float = 0.95
    """Decay of both running moments of the centred RMSProp."""
    rmsprop_epsilon: float = 0.01 / 32**2
    """ε of the centred RMSProp, under the root, for gradients that are means over a batch."""
    max_grad_norm: float | None = None
    """The gradient's Euclidean norm is scaled down to this; None for no limit."""
    loss: Literal["huber", "squared"] = "huber"
    """Loss of a TD error δ: Huber with threshold 1 (½δ² inside), or δ²."""
    epsilon_start: float = 1.0
    """Probability of a random action up to learning_starts."""
    epsilon_end: float = 0.1
    """Probability of a random action at the end of the decay and after it."""
    epsilon_steps: int = 1_000_000
    """Steps, counted from learning_starts, in which ε goes from its start to its end, linearly."""
    reward_clip: float | None = 1.0
    """Rewards are clipped to ± this for learning only; None for raw rewards."""
    double: bool = False
    """The online network selects the next action, the target network values it (van Hasselt et al. 2016)."""
    dueling: bool = False
    """Separate streams for the state's value and the actions' advantages (Wang et al. 2016)."""
    noisy: bool = False
    """Noisy layers in place of ε-greedy (not in this version: only False)."""
    head: Literal["scalar"] = "scalar"
    """What the network predicts of the return: its mean."""
    prioritized: bool = False
    """Prioritised replay (not in this version: only False)."""
    priority_alpha: float = 0.5
    """Exponent of the priorities (no effect while prioritized is False)."""
    priority_beta: float = 0.4
    """Initial exponent of the importance weights (no effect while prioritized is False)."""
    munchausen: bool = False
    """Munchausen targets (not in this version: only False)."""
    encoder: Encoder = "auto"
    """Network from observation to features; auto takes mlp for vectors, nature for images, minatar for small ones."""
    hidden: int = 512
    """Units in the hidden layer of the head, and of the MLP encoder."""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """Arithmetic of an update's matrix products; auto takes bfloat16 where the hardware computes in it."""

    def __post_init__(self) -> None:
        for name in _COUNTS:
            self._require(name, _is_count(value := getattr(self, name)) and value >= 1, "an integer of at least 1")
        for name in ("learning_rate", "adam_epsilon", "rmsprop_epsilon"):
            self._require(name, _is_number(value := getattr(self, name)) and 0 < value < inf, "a positive number")
        for name in ("gamma", "epsilon_start", "epsilon_end", "rmsprop_decay", "priority_alpha", "priority_beta"):
            self._require(name, _is_number(value := getattr(self, name)) and 0 <= value <= 1, "in [0, 1]")
        for name in ("max_grad_norm", "reward_clip"):
            value = getattr(self, name)
            self._require(name, value is None or (_is_number(value) and 0 < value < inf), "a positive number or None")
        for name in ("double", "dueling"):
            self._require(name, isinstance(getattr(self, name), bool), "True or False")
        hints = get_type_hints(type(self))
        for name in ("optimizer", "loss", "head", "encoder", "precision"):
            choices = get_args(hints[name])
            self._require(name, getattr(self, name) in choices, f"one of {', '.join(choices)}")
        for name in ("noisy", "prioritized", "munchausen"):
            self._require(name, getattr(self, name) is False, "False: this version does not have it yet")
        self._require("epsilon_end", self.epsilon_end <= self.epsilon_start, "at most epsilon_start")
        self._require("batch_size", self.batch_size <= self.replay_capacity, "at most replay_capacity")

    def _require(self, name: str, condition: bool, requirement: str) -> None:
        if not condition:
            raise InvalidConfig(f"{name} is {getattr(self, name)!r}; it must be {requirement}")

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> AgentConfig:
        """The configuration that ``to_dict`` gave.

        Raises:
            InvalidConfig: an unknown field, or a value that is out of its range.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise InvalidConfig(f"unknown field {unknown[0]!r} of the agent's configuration")
        return cls(**values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_COUNTS = (
    "n_step",
    "batch_size",
    "replay_capacity",
    "learning_starts",
    "train_every",
    "target_update_every",
    "epsilon_steps",
    "hidden",
)

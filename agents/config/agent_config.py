"""The configuration of an agent: one frozen dataclass, one field per fact."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, fields
from math import inf
from typing import Any, Literal, get_args, get_type_hints

import numpy as np

from pixelq.agents.errors import InvalidConfig

Encoder = Literal["auto", "mlp", "nature", "dopamine", "impala", "minatar", "der"]
Head = Literal["scalar", "categorical", "quantile", "implicit", "fqf"]


MOST = 10**12
"""No count may be greater: beyond it arithmetic would overflow somewhere before memory ends."""


FARTHEST = 1e38
"""No number may lie farther from 0: float32 ends at 3.4e38."""


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
    """Transitions in an update; with an LSTM, sequences."""
    replay_capacity: int = 1_000_000
    """Rows in the replay, summed over environments; a row is one step (7.06 kB on Atari)."""
    learning_starts: int = 50_000
    """Steps taken before the first update; ε decays from here on."""
    train_every: int = 4
    """Steps between one occasion to update and the next."""
    gradient_steps: int = 1
    """Updates on each occasion; gradient_steps / train_every is the replay ratio."""
    target_update_every: int = 10_000
    """Steps between two copies of the online network to the target network."""
    learning_rate: float = 2.5e-4
    """Step size of the optimiser."""
    learning_rate_end: float = 0.0
    """Step size at the end of its decay (no effect while learning_rate_steps is None)."""
    learning_rate_steps: int | None = None
    """Steps, counted from learning_starts, in which the step size goes to its end, linearly; None keeps it."""
    weight_decay: float = 0.0
    """Decoupled weight decay of Adam (Loshchilov & Hutter 2019); 0 for none."""
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
    epsilon_ladder: bool = False
    """Environment i of N has its own ε, 0.4^(1 + 7i/(N − 1)), in place of the schedule, until epsilon_off (R2D2)."""
    epsilon_off: int | None = None
    """Step from which on ε is 0, as noisy layers explore by themselves; None: never."""
    reward_clip: float | None = 1.0
    """Rewards are clipped to ± this for learning only; None for raw rewards."""
    double: bool = False
    """The online network selects the next action, the target network values it (van Hasselt et al. 2016)."""
    dueling: bool = False
    """Separate streams for the state's value and the actions' advantages (Wang et al. 2016)."""
    noisy: bool = False
    """Noisy layers in the head, with noise for acting and for each update (Fortunato et al. 2018)."""
    noisy_sigma: float = 0.5
    """Initial scale σ₀ of the noise (no effect while noisy is False)."""
    head: Head = "scalar"
    """What is predicted of the return: mean, categorical (C51), quantile (QR-DQN), implicit (IQN), or fqf."""
    atoms: int = 51
    """Atoms of the categorical head."""
    v_min: float = -10.0
    """Least return of the categorical head's support."""
    v_max: float = 10.0
    """Greatest return of the categorical head's support."""
    quantiles: int = 200
    """Quantiles of the quantile head; fractions that the fqf head proposes."""
    tau_samples: int = 64
    """Fractions drawn for the online network in a loss of the implicit head, N."""
    tau_samples_target: int = 64
    """Fractions drawn for the target in it, N'."""
    tau_samples_policy: int = 32
    """Fractions behind a q-value of the implicit head, K."""
    cosines: int = 64
    """Width of the cosine embedding of the implicit and fqf heads."""
    kappa: float = 1.0
    """Threshold of the quantile Huber loss; 0 for the plain quantile loss."""
    fraction_learning_rate: float = 2.5e-9
    """Step size of the RMSProp that learns the fqf head's fractions (Yang et al. 2019)."""
    fraction_entropy: float = 0.0
    """Coefficient of the entropy that keeps the fqf head's fractions apart."""
    prioritized: bool = False
    """Proportional prioritised replay (Schaul et al. 2016)."""
    priority_alpha: float = 0.5
    """Exponent of the priorities (no effect while prioritized is False, like all that begin with priority)."""
    priority_beta: float = 0.4
    """Initial exponent of the importance weights."""
    priority_beta_end: float = 1.0
    """Exponent of the importance weights at the end of its growth (no effect while priority_beta_steps is None)."""
    priority_beta_steps: int | None = None
    """Steps, counted from learning_starts, in which that exponent goes to its end, linearly; None keeps it."""
    priority_epsilon: float = 1e-6
    """Added to every priority, so that none is 0."""
    priority_uniform: float = 0.0
    """Share of uniform draws that is mixed in."""
    munchausen: bool = False
    """Scaled log-policy in the reward, soft maximum in the target (Vieillard et al. 2020)."""
    munchausen_alpha: float = 0.9
    """Scale of the log-policy in the reward (no effect while munchausen is False, like the next two)."""
    munchausen_temperature: float = 0.03
    """Temperature τ of the softmax policy, in units of the (clipped) return."""
    munchausen_clip: float = -1.0
    """Least value of τ log π in the reward, l₀."""
    value_rescaling: bool = False
    """The scalar head learns h(return), h(x) = sign(x)(√(|x| + 1) − 1) + 0.001x (Kapturowski et al. 2019)."""
    lstm: int | None = None
    """Units of an LSTM between encoder and head; None: no memory, and sequence_length to burn_in have no effect."""
    lstm_last_action: bool = False
    """The LSTM also reads the last action."""
    lstm_last_reward: bool = False
    """The LSTM also reads the last reward, through tanh; ``predict`` wants it raw."""
    sequence_length: int = 80
    """Steps of a sequence that is drawn from the replay, burn-in included; its last return reaches n_step further."""
    sequence_period: int = 40
    """Steps of an environment between the starts of two sequences; less than sequence_length and they overlap."""
    sequence_state: Literal["stored", "zero"] = "stored"
    """State at a sequence's start: the one that acting had there, or zeros (Kapturowski et al. 2019, section 3)."""
    burn_in: int = 40
    """First steps of a sequence, from which only the LSTM's state is taken; 0 for none."""
    priority_eta: float = 0.9
    """Priority of a sequence: η · max + (1 − η) · mean of its steps' (no effect without an LSTM)."""
    frame_stack: int = 4
    """Frames in an observation of an Atari game, for whoever makes the environments; learning sets it to theirs."""
    reset_every: int | None = None
    """Updates between resets: a new head, the encoder shrunk towards a new one (Schwarzer et al. 2023); None: never."""
    reset_shrink: float = 0.5
    """Share of the encoder's weights that a reset keeps (BBF 0.5, SR-SPR 0.8); the rest comes from a new encoder."""
    encoder: Encoder = "auto"
    """Network from observation to features; auto takes mlp for vectors, nature for images, minatar for small ones."""
    encoder_width: int = 1
    """Multiplies the channels of the impala encoder."""
    spectral_norm: bool = False
    """Spectral normalisation of the impala encoder's residual blocks (Miyato et al. 2018)."""
    adaptive_pool: int | None = None
    """The impala encoder ends with a max-pool to this many pixels a side (6 in Clark et al. 2025); None for none."""
    layer_norm: bool = False
    """Layer normalisation before each ReLU of encoder and head (Ba et al. 2016)."""
    hidden: int = 512
    """Units in the hidden layer of the head, and of the MLP encoder; 0 leaves both out."""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """Arithmetic of an update's matrix products; auto takes bfloat16 where the hardware computes in it."""
    cuda_graph: bool = True
    """On a GPU, launch an update as one captured graph (no effect on a CPU)."""

    def __post_init__(self) -> None:
        self._check_values()
        self._check_combinations()

    def _check_values(self) -> None:
        hints = get_type_hints(type(self))
        for name, hint in hints.items():
            value = getattr(self, name)
            if value is None and hint in (int | None, float | None):
                continue
            if hint in (int, int | None):
                least = _LEAST.get(name, 1)
                self._require(name, _is_count(value) and value >= least, f"an integer of at least {least}", hint)
                self._require(name, value <= MOST, f"at most {MOST:,}", hint)
            elif hint is bool:
                self._require(name, isinstance(value, bool), "True or False")
            elif hint in (float, float | None):
                condition, requirement = _RANGES[name]
                self._require(name, _is_number(value) and condition(value), requirement, hint)
                self._require(name, abs(value) <= FARTHEST, f"within ±{FARTHEST:g}", hint)
            else:
                self._require(name, value in get_args(hint), f"one of {', '.join(get_args(hint))}")

    def _check_combinations(self) -> None:
        self._require("epsilon_end", self.epsilon_end <= self.epsilon_start, "at most epsilon_start")
        self._require("batch_size", self.batch_size <= self.replay_capacity, "at most replay_capacity")
        self._require("v_min", bool(np.float32(self.v_min) < np.float32(self.v_max)), "less than v_max")
        self._require("burn_in", self.burn_in < self.sequence_length, "less than sequence_length")
        self._require("sequence_period", self.sequence_period <= self.sequence_length, "at most sequence_length")
        self._require("frame_stack", self.frame_stack <= 16, "at most 16")
        for name in ("lstm_last_action", "lstm_last_reward"):
            self._require(name, self.lstm is not None or not getattr(self, name), "False without an lstm")
        scalar = self.head == "scalar"
        self._require("loss", scalar or self.loss == "huber", "huber: squared errors are for the scalar head")
        self._require("value_rescaling", scalar or not self.value_rescaling, "False: it is for the scalar head")
        self._require(
            "double",
            not (self.double and self.munchausen),
            "False with munchausen, whose soft maximum selects no action",
        )
        self._require(
            "weight_decay",
            self.weight_decay == 0 or self.optimizer == "adam",
            "0 with rmsprop; take the optimizer adam",
        )
        for name, default in (("encoder_width", 1), ("spectral_norm", False), ("adaptive_pool", None)):
            is_default = getattr(self, name) == default
            self._require(name, is_default or self.encoder == "impala", f"{default}, or the encoder impala")

    def _require(self, name: str, condition: bool, requirement: str, hint: object = None) -> None:
        if not condition:
            also = " or None" if hint in (int | None, float | None) else ""
            raise InvalidConfig(f"{name} is {getattr(self, name)!r:.80}; it must be {requirement}{also}")

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
            raise InvalidConfig(f"unknown field {unknown[0]!r:.80} of the agent's configuration")
        return cls(**values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_LEAST = {"atoms": 2, "burn_in": 0, "hidden": 0}
"""The least value of those counts that are not at least 1."""
_Range = tuple[Callable[[float], bool], str]
_POSITIVE: _Range = (lambda x: 0 < x < inf, "a positive number")
_AT_LEAST_0: _Range = (lambda x: 0 <= x < inf, "a number of at least 0")
_FRACTION: _Range = (lambda x: 0 <= x <= 1, "in [0, 1]")
_RANGES: dict[str, _Range] = {
    "gamma": _FRACTION,
    "learning_rate": _POSITIVE,
    "learning_rate_end": _AT_LEAST_0,
    "weight_decay": _AT_LEAST_0,
    "adam_epsilon": _POSITIVE,
    "rmsprop_decay": _FRACTION,
    "rmsprop_epsilon": _POSITIVE,
    "max_grad_norm": _POSITIVE,
    "epsilon_start": _FRACTION,
    "epsilon_end": _FRACTION,
    "reward_clip": _POSITIVE,
    "noisy_sigma": _AT_LEAST_0,
    "v_min": (lambda x: -inf < x < inf, "a finite number"),
    "v_max": (lambda x: -inf < x < inf, "a finite number"),
    "kappa": _AT_LEAST_0,
    "fraction_learning_rate": _POSITIVE,
    "fraction_entropy": _AT_LEAST_0,
    "priority_alpha": _FRACTION,
    "priority_beta": _FRACTION,
    "priority_beta_end": _FRACTION,
    "priority_epsilon": _AT_LEAST_0,
    "priority_uniform": _FRACTION,
    "priority_eta": _FRACTION,
    "munchausen_alpha": _FRACTION,
    "munchausen_temperature": _POSITIVE,
    "munchausen_clip": (lambda x: -inf < x <= 0, "a finite number of at most 0"),
    "reset_shrink": _FRACTION,
}

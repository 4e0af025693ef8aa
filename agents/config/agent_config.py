"""The configuration of an agent: one frozen dataclass with one field per hyperparameter."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from pixelq.agents.config.field_texts import show_fields
from pixelq.agents.config.integers import MOST, plain, shown
from pixelq.agents.config.parts import BUILT_IN, check_name, is_handed_over, is_own
from pixelq.agents.config.schedules import (
    FARTHEST,
    Missing,
    NamedSchedule,
    Schedule,
    from_json,
    shown_setting,
    to_json,
)
from pixelq.agents.config.search_ranges import Between, SearchRange
from pixelq.agents.errors import InvalidConfig

Group = Literal[
    "returns and targets",
    "replay and updates",
    "rollouts",
    "optimiser",
    "exploration",
    "head",
    "prioritised replay",
    "memory",
    "encoder",
    "resets",
    "arithmetic",
]
"""Subject of a field; `pixelq train --help` shows the fields of one group together."""

READ_AT_EACH_STEP = frozenset(
    "learning_rate learning_rate_end learning_rate_steps train_every gradient_steps target_update_every "
    "epsilon epsilon_start epsilon_end epsilon_steps epsilon_ladder epsilon_off evaluation_epsilon evaluation_noise "
    "priority_beta priority_beta_end priority_beta_steps reset_every reset_shrink minibatches epochs "
    "past_rollouts td_lambda".split()
)
"""Changeable fields from which nothing is built: they are read when they are needed."""

CHANGEABLE = READ_AT_EACH_STEP | frozenset(
    "gamma n_step batch_size target_tau reward_clip double munchausen munchausen_alpha munchausen_temperature "
    "munchausen_clip target loss kappa tau_samples tau_samples_target tau_samples_policy fraction_entropy "
    "fraction_learning_rate fraction_epsilon clip_weighted max_grad_norm adam_epsilon rmsprop_decay "
    "rmsprop_epsilon weight_decay priority_alpha priority_epsilon priority_uniform priority_eta precision "
    "cuda_graph compile_update".split()
)
"""Fields that may be changed in an agent that exists. The others say what its network and its replay are built from."""

SPEED_ONLY = frozenset({"cuda_graph", "compile_update"})
"""Fields that change how fast an update is, but not what it computes, except for rounding."""

NEWER = ("encoder_layers",)
"""Fields whose default is None and that files leave out then, as older versions did not know them."""

SCHEDULED = ("learning_rate", "gamma", "n_step", "epsilon", "priority_beta", "epochs", "past_rollouts")
"""Fields that may be schedules."""

OF_ROLLOUTS = ("rollout_length", "minibatches", "epochs", "kept_rollouts", "past_rollouts", "td_lambda", "overlap")
"""Fields that only the algorithm pqn reads."""
OF_REPLAY = (
    "n_step batch_size replay_capacity train_every gradient_steps target_update_every target_tau double prioritized "
    "clip_weighted munchausen target reset_every sequence_length sequence_period sequence_state burn_in"
).split()
"""Fields that it does not read: it has neither a replay nor a target network."""


def setting(
    default: Any,
    group: Group,
    unit: str = "",
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    search: SearchRange | None = None,
) -> Any:
    """Return a dataclass field whose metadata holds its group, unit, range and range of search.

    Counts are also limited by `MOST`, and all other numbers by `FARTHEST`.

    Args:
        default: Default value.
        group: Subject, under which command-line help lists the field.
        unit: What the value is counted or measured in; empty for a pure number.
        least: Smallest allowed value.
        above: Lower bound that is itself not allowed.
        most: Greatest allowed value.
        search: What a search draws its values from unless it is told otherwise; None where that depends on the task.
    """
    metadata = {"group": group, "unit": unit, "least": least, "above": above, "most": most, "search": search}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class AgentConfig:
    """Hyperparameters of an agent; all counts of steps are agent steps, summed over environments.

    One agent step is four frames on Atari. Use `dataclasses.replace` to change a field; every value is checked when
    the object is built. The metadata of each field holds its group, unit, range and range of search; see `setting`.

    Where a field may be a schedule, it takes `Linear(start, end, steps)`, another schedule of `pixelq.agents`, or a
    function of the number of agent steps since `learning_starts` (not for counts, such as `n_step`). Configurations
    with functions are equal if these are the same objects. A file keeps no more of a function than its name.

    Raises:
        InvalidConfig: If a value is outside its range, or a combination of values makes no sense.
    """

    gamma: float | Schedule = setting(
        0.99, "returns and targets", least=0.0, most=1.0, search=(0.9, 0.95, 0.97, 0.99, 0.995, 0.997, 0.999)
    )
    """Discount per agent step, in [0, 1], or a schedule as for `learning_rate`."""
    n_step: int | Schedule = setting(1, "returns and targets", "steps", least=1, search=Between(1, 20, log=True))
    """Number of rewards summed before bootstrapping (Sutton 1988), never across the end of an episode; or a schedule as
    for `learning_rate`, whose values are rounded."""
    batch_size: int = setting(32, "replay and updates", "transitions", least=1, search=(16, 32, 64, 128, 256))
    """Transitions per update; with an LSTM, sequences."""
    replay_capacity: int = setting(1_000_000, "replay and updates", "rows", least=1)
    """Rows in the replay, summed over environments; a row is one step (7.07 kB on Atari)."""
    learning_starts: int = setting(50_000, "replay and updates", "steps", least=1)
    """Steps taken before the first update; ε decays from here on."""
    train_every: int = setting(4, "replay and updates", "steps", least=1, search=(1, 2, 4, 8, 16))
    """Steps between the times when updates are made."""
    gradient_steps: int = setting(1, "replay and updates", "updates", least=1, search=(1, 2, 4, 8))
    """Updates made each time; `gradient_steps` / `train_every` is the replay ratio."""
    algorithm: Literal["dqn", "pqn"] = setting("dqn", "rollouts")
    """How the agent learns: from a replay (dqn), or from rollouts (pqn), which are discarded after their updates unless
    `kept_rollouts` says otherwise."""
    rollout_length: int = setting(32, "rollouts", "steps", least=1, search=(8, 16, 32, 64, 128))
    """Steps of each environment in a rollout (all settings of rollouts apply only to the algorithm pqn)."""
    minibatches: int = setting(32, "rollouts", "minibatches", least=1, search=(4, 8, 16, 32))
    """Number of minibatches into which the rollout's steps are shuffled in each epoch; with an LSTM, its
    environments. Each of the `past_rollouts` adds as many."""
    epochs: int | Schedule = setting(2, "rollouts", "epochs", least=1, search=Between(1, 4))
    """Number of times that each step of a rollout is learned from when it is new; or a schedule, as for `n_step`."""
    kept_rollouts: int = setting(0, "rollouts", "rollouts", least=0)
    """Number of earlier rollouts that are kept for `past_rollouts`, in memory and in checkpoints."""
    past_rollouts: int | Schedule = setting(0, "rollouts", "rollouts", least=0)
    """Number of earlier rollouts, drawn anew for each epoch, from which the network learns together with the new one;
    their λ-returns are computed with the current weights (Daley & Amato 2019); or a schedule, as for `n_step`."""
    td_lambda: float = setting(0.65, "rollouts", least=0.0, most=1.0, search=Between(0.0, 1.0))
    """λ of the λ-returns: 0 for one-step targets, 1 for whole returns up to the rollout's end."""
    overlap: bool = setting(False, "rollouts")
    """Spread a rollout's updates over the steps of the next one, so that emulation and learning each use a CPU core (no
    effect with actors)."""
    target_update_every: int = setting(
        10_000, "returns and targets", "steps", least=1, search=Between(100, 50_000, log=True)
    )
    """Steps between copies of the online network to the target network (no effect with `target_tau`)."""
    target_tau: float | None = setting(
        None, "returns and targets", above=0.0, most=1.0, search=Between(1e-3, 0.1, log=True)
    )
    """Fraction τ by which the target network moves towards the online one after each update; None for whole copies."""
    learning_rate: float | Schedule = setting(2.5e-4, "optimiser", above=0.0, search=Between(1e-5, 1e-2, log=True))
    """Step size of the optimiser, or a schedule: `linear(start, end, steps)`, `cosine(start, end, steps)`,
    `exponential(start, end, steps, limit=0)` or `piecewise((0, value), (step, value), …)` with numbers or schedules as
    values, in steps from `learning_starts` on."""
    learning_rate_end: float = setting(0.0, "optimiser", least=0.0)
    """Step size at the end of its decay (no effect while `learning_rate_steps` is None)."""
    learning_rate_steps: int | None = setting(None, "optimiser", "steps", least=1)
    """Steps of the linear decay to `learning_rate_end`, counted from `learning_starts`; None for a constant rate."""
    weight_decay: float = setting(0.0, "optimiser", least=0.0, search=Between(1e-5, 0.1, log=True))
    """Decoupled weight decay of Adam and RAdam (Loshchilov & Hutter 2019); 0 for none."""
    optimizer: Literal["adam", "rmsprop", "radam"] = setting("adam", "optimiser")
    """Adam (Kingma & Ba 2015), the centred RMSProp of Mnih et al. 2015, or RAdam (Liu et al. 2020)."""
    adam_epsilon: float = setting(1e-8, "optimiser", above=0.0, search=Between(1e-8, 1e-3, log=True))
    """ε of Adam and RAdam, added to the square root of the second moment."""
    rmsprop_decay: float = setting(0.95, "optimiser", least=0.0, most=1.0)
    """Decay of both running moments of the centred RMSProp."""
    rmsprop_epsilon: float = setting(0.01 / 32**2, "optimiser", above=0.0)
    """ε of the centred RMSProp, inside the square root, for gradients that are means over a batch."""
    max_grad_norm: float | None = setting(None, "optimiser", above=0.0, search=Between(0.5, 40.0, log=True))
    """Euclidean norm to which larger gradients are scaled down; None for no limit."""
    loss: Literal["huber", "squared"] = setting("huber", "returns and targets")
    """Loss of a TD error δ: Huber with threshold 1 (½δ² inside), or δ²."""
    epsilon: float | Schedule | None = setting(None, "exploration", least=0.0, most=1.0)
    """Probability of a random action, or a schedule as for `learning_rate`; None for the linear decay of the next
    three."""
    epsilon_start: float = setting(1.0, "exploration", least=0.0, most=1.0)
    """Probability of a random action up to `learning_starts`."""
    epsilon_end: float = setting(0.1, "exploration", least=0.0, most=1.0, search=Between(1e-3, 0.2, log=True))
    """Probability of a random action at the end of the decay and after it."""
    epsilon_steps: int = setting(1_000_000, "exploration", "steps", least=1)
    """Steps of the linear decay of ε from its start to its end, counted from `learning_starts`."""
    evaluation_epsilon: float | None = setting(None, "exploration", least=0.0, most=1.0)
    """Probability of a random action in evaluations in Atari games; None for the protocol's."""
    evaluation_noise: bool = setting(False, "exploration")
    """Also use noisy layers in evaluations, with new noise for each step (no effect while `noisy` is False)."""
    epsilon_ladder: bool = setting(False, "exploration")
    """Give environment i of N a constant ε of 0.4^(1 + 7i/(N − 1)), until `epsilon_off`, and no schedule (R2D2)."""
    epsilon_off: int | None = setting(None, "exploration", "steps", least=1)
    """Step from which ε is 0, because noisy layers explore by themselves; None for never."""
    reward_clip: float | None = setting(1.0, "returns and targets", above=0.0)
    """Limit c of the range [−c, c] to which rewards are clipped, for learning only; None for raw rewards."""
    double: bool = setting(False, "returns and targets")
    """Select the next action with the online network, and value it with the target network (van Hasselt et al.
    2016)."""
    dueling: bool = setting(False, "head")
    """Separate streams for the state's value and the actions' advantages (Wang et al. 2016)."""
    noisy: bool = setting(False, "exploration")
    """Noisy layers in the head, with new noise for acting and for each update (Fortunato et al. 2018)."""
    noisy_sigma: float = setting(0.5, "exploration", least=0.0, search=Between(0.1, 1.0))
    """Initial scale σ₀ of the noise (no effect while `noisy` is False)."""
    head: Literal["scalar", "categorical", "quantile", "implicit", "fqf"] | str = setting("scalar", "head")
    """What the network predicts of the return: scalar (the mean), categorical (C51), quantile (QR-DQN), implicit (IQN)
    or fqf; or a registered head."""
    atoms: int = setting(51, "head", least=2)
    """Number of atoms of the categorical head."""
    v_min: float = setting(-10.0, "head")
    """Smallest return of the categorical head's support."""
    v_max: float = setting(10.0, "head")
    """Largest return of the categorical head's support."""
    categorical_loss: Literal["projection", "hl_gauss"] = setting("projection", "head")
    """Target of the categorical head: a projected distribution (C51), or a smoothed number (Farebrother et al.
    2024)."""
    hl_gauss_sigma: float = setting(0.75, "head", above=0.0)
    """Standard deviation of a smoothed target, in widths of an atom's bin (no effect with projection)."""
    quantiles: int = setting(200, "head", least=1, search=(25, 50, 100, 200))
    """Number of quantiles of the quantile head, or of fractions that the fqf head proposes."""
    tau_samples: int = setting(64, "head", least=1, search=(8, 16, 32, 64))
    """Number N of fractions drawn for the online network in a loss of the implicit head."""
    tau_samples_target: int = setting(64, "head", least=1, search=(8, 16, 32, 64))
    """Number N' of fractions drawn for the target in a loss of the implicit head."""
    tau_samples_policy: int = setting(32, "head", least=1)
    """Number K of fractions from which the implicit head computes a q-value."""
    cosines: int = setting(64, "head", least=1)
    """Width of the cosine embedding of the implicit and fqf heads."""
    kappa: float = setting(1.0, "head", least=0.0)
    """Threshold of the quantile Huber loss; 0 for the plain quantile loss."""
    fraction_learning_rate: float = setting(2.5e-9, "head", above=0.0)
    """Step size of the RMSProp that learns the fqf head's fractions (Yang et al. 2019)."""
    fraction_epsilon: float = setting(1e-5, "head", above=0.0)
    """ε of that RMSProp, inside the square root, for gradients that are means over a batch."""
    fraction_entropy: float = setting(0.0, "head", least=0.0)
    """Coefficient of the entropy that keeps the fqf head's fractions apart."""
    prioritized: bool = setting(False, "prioritised replay")
    """Proportional prioritised replay (Schaul et al. 2016)."""
    priority_alpha: float = setting(0.5, "prioritised replay", least=0.0, most=1.0, search=Between(0.0, 1.0))
    """Exponent of the priorities (like all `priority` settings, no effect while `prioritized` is False)."""
    priority_beta: float | Schedule = setting(0.4, "prioritised replay", least=0.0, most=1.0, search=Between(0.0, 1.0))
    """Initial exponent of the importance weights, or a schedule for all steps, as for `learning_rate`."""
    priority_beta_end: float = setting(1.0, "prioritised replay", least=0.0, most=1.0)
    """Exponent of the importance weights at the end of its increase (no effect while `priority_beta_steps` is None)."""
    priority_beta_steps: int | None = setting(None, "prioritised replay", "steps", least=1)
    """Steps of the exponent's linear increase, counted from `learning_starts`; None for a constant exponent."""
    priority_epsilon: float = setting(1e-6, "prioritised replay", least=0.0)
    """Constant added to every priority, so that none is 0."""
    priority_uniform: float = setting(0.0, "prioritised replay", least=0.0, most=1.0)
    """Fraction of rows that are drawn uniformly instead."""
    clip_weighted: bool = setting(False, "prioritised replay")
    """Clip w·δ instead of δ to ±1 in the Huber loss of the scalar head, where w is the importance weight (DQN Zoo)."""
    munchausen: bool = setting(False, "returns and targets")
    """Add the scaled log-policy to the reward, and use a soft maximum in the target (Vieillard et al. 2020)."""
    target: str | None = setting(None, "returns and targets")
    """Registered target rule, instead of `double` and `munchausen`; None for the rule that these select."""
    munchausen_alpha: float = setting(0.9, "returns and targets", least=0.0, most=1.0, search=Between(0.0, 1.0))
    """Scale of the log-policy in the reward (no effect while `munchausen` is False, like the next two)."""
    munchausen_temperature: float = setting(
        0.03, "returns and targets", "return", above=0.0, search=Between(3e-3, 0.3, log=True)
    )
    """Temperature τ of the softmax policy, in units of the (clipped) return."""
    munchausen_clip: float = setting(-1.0, "returns and targets", most=0.0)
    """Lower bound l₀ of τ log π in the reward."""
    value_rescaling: bool = setting(False, "returns and targets")
    """Let the scalar head learn h(return), h(x) = sign(x)(√(|x| + 1) − 1) + 0.001x (Kapturowski et al. 2019)."""
    lstm: int | None = setting(None, "memory", "units", least=1, search=(128, 256, 512))
    """Units of an LSTM between encoder and head; None for no LSTM, in which case the settings of sequences have no
    effect."""
    lstm_last_action: bool = setting(False, "memory")
    """Let the LSTM also read the last action."""
    lstm_last_reward: bool = setting(False, "memory")
    """Let the LSTM also read the last reward, through tanh; `predict` takes it raw."""
    sequence_length: int = setting(80, "memory", "steps", least=1)
    """Steps of a sequence drawn from the replay, including burn-in; its last return reaches `n_step` steps further."""
    sequence_period: int = setting(40, "memory", "steps", least=1)
    """Steps of an environment between the starts of two sequences; if less than `sequence_length`, they overlap."""
    sequence_state: Literal["stored", "zero"] = setting("stored", "memory")
    """LSTM state at the start of a sequence: the stored one from acting, or zeros (Kapturowski et al. 2019, section
    3)."""
    burn_in: int = setting(40, "memory", "steps", least=0)
    """First steps of a sequence, which only warm up the LSTM's state and are not learned from; 0 for none."""
    priority_eta: float = setting(0.9, "prioritised replay", least=0.0, most=1.0)
    """Weight η in the priority of a sequence, η · max + (1 − η) · mean over its steps (no effect without an LSTM)."""
    frame_stack: int = setting(4, "encoder", "frames", least=1, most=16)
    """Number of frames in an image observation, used to create environments; otherwise taken from the environments."""
    frame_size: int = setting(84, "encoder", "pixels", least=1, most=512)
    """Height and width of an Atari game's frames, used to create environments; otherwise taken from the
    environments."""
    reset_every: int | None = setting(None, "resets", "updates", least=1)
    """Updates between resets, each with a new head and an encoder shrunk towards a new one (Schwarzer et al. 2023);
    None for no resets."""
    reset_shrink: float = setting(0.5, "resets", least=0.0, most=1.0)
    """Fraction of the encoder's weights that a reset keeps (BBF 0.5, SR-SPR 0.8); the rest comes from a new encoder."""
    encoder: (
        Literal["auto", "mlp", "nature", "dopamine", "impala", "minatar", "der", "compact", "hadamax", "hadamax_deep"]
        | str
    ) = setting("auto", "encoder")
    """Network from observations to features, built-in or registered; auto is mlp for vectors, nature for images, and
    minatar for small images."""
    encoder_width: int = setting(1, "encoder", least=1, search=(1, 2, 4))
    """Factor by which the impala encoder has more channels."""
    spectral_norm: bool = setting(False, "encoder")
    """Spectral normalisation of the impala encoder's residual blocks (Miyato et al. 2018)."""
    adaptive_pool: int | None = setting(None, "encoder", "pixels", least=1)
    """Height and width of the max-pooled image at the end of the impala encoder (6 in Clark et al. 2025); None for no
    pooling."""
    layer_norm: bool = setting(False, "encoder")
    """Layer normalisation before each activation of encoder and head, over channels and pixels (Ba et al. 2016)."""
    channel_norm: bool = setting(False, "encoder")
    """Layer normalisation over channels only, with ε 1e-6 (Gallici et al. 2025); both hadamax encoders always have
    it."""
    contrast_norm: bool = setting(False, "encoder")
    """Standardise each image by its own mean and standard deviation before a built-in encoder; no effect on vectors."""
    activation: Literal["relu", "gelu"] = setting("relu", "encoder")
    """Activation of encoder and head; gelu is the tanh approximation, which both hadamax encoders always use."""
    initialization: Literal["auto", "torch", "he", "orthogonal"] = setting("auto", "encoder")
    """Initial weights: the encoder's own (auto), PyTorch's, He-normal, or orthogonal with gain √2; the last two set
    biases to 0."""
    hidden: int = setting(512, "encoder", "units", least=0, search=(64, 128, 256, 512, 1024))
    """Units in the hidden layer of the head and of the MLP encoder; 0 for no hidden layer."""
    encoder_layers: tuple[int, ...] | None = setting(None, "encoder", "units", least=1)
    """Widths of dense layers appended to a built-in encoder; they replace the MLP's own. None for no additional
    layers."""
    precision: Literal["float32", "bfloat16", "auto"] = setting("float32", "arithmetic")
    """Precision of the matrix products of an update; auto is bfloat16 if the hardware supports it."""
    cuda_graph: bool = setting(True, "arithmetic")
    """On a GPU, launch an update as one captured graph (no effect on a CPU, or with your own parts)."""
    compile_update: bool = setting(False, "arithmetic")
    """Compile passes and loss of an update (torch.compile), which takes 10 to 60 s for each batch size and needs a C++
    compiler; not for an LSTM."""

    def __post_init__(self) -> None:
        hints = _hints()
        for field in fields(self):
            value = plain(getattr(self, field.name))
            value = tuple(map(plain, value)) if isinstance(value, list | tuple) else value  # JSON has lists
            object.__setattr__(self, field.name, value)
            hint = hints[field.name]
            if field.name in BUILT_IN:  # names of parts, which are checked below
                continue
            if callable(value) and field.name in SCHEDULED:
                self._check_schedule(field, value, hint)
            else:
                requirement = _violated(value, hint, field.metadata)
                self._require(field.name, requirement is None, str(requirement))
        for kind in BUILT_IN:
            check_name(kind, getattr(self, kind))
        self._check_combinations()

    def _check_schedule(self, field: dataclasses.Field[Any], schedule: Schedule, hint: Any) -> None:
        """Check the values of a schedule: all of a named one, the first of a function."""
        name, is_count = field.name, int in get_args(hint)
        if isinstance(schedule, Missing):
            return
        if not isinstance(schedule, NamedSchedule):
            self._require(name, not is_count, "an integer or a named schedule, whose greatest value is known")
            self._called(name, 0)
            return
        # A schedule may reach a bound that a number may not, such as a learning rate of 0, but not stay there.
        limits, above = {**field.metadata, "above": None}, field.metadata["above"]
        if above is not None:
            limits["least"] = above
        for value in schedule.extremes():
            requirement = _violated(round(value) if is_count else value, int if is_count else float, limits)
            self._require(name, requirement is None, f"{requirement} at every step")
        self._require(
            name, above is None or schedule.extremes()[1] > above, f"{_range(None, above, None)} at some step"
        )

    @property
    def has_own_parts(self) -> bool:
        """Whether it names an encoder, a head or a target rule of the user's own."""
        return any(is_own(kind, getattr(self, kind)) for kind in BUILT_IN)

    def _called(self, name: str, steps: int) -> float:
        """Return the value of a function of the user's own, after a number of steps, and check it."""
        function = getattr(self, name)
        try:
            value = plain(function(steps))
        except Exception as error:
            raise InvalidConfig(
                f"{name} must be a function of the number of steps, but {shown_setting(function)}({steps}) raised "
                f"{type(error).__name__}: {error!s:.200}"
            ) from error
        metadata = self.__dataclass_fields__[name].metadata
        requirement = _violated(value, float, metadata)
        if requirement is not None:
            raise InvalidConfig(
                f"{name} must be {requirement}, but {shown_setting(function)}({steps}) returned {shown(value)}"
            )
        return float(value)

    def value_at(self, name: str, step: int) -> float:
        """Return the value of a field at an agent step, which may be a schedule's.

        Args:
            name: The field.
            step: The agent step; up to `learning_starts`, a schedule has its first value.

        Raises:
            InvalidConfig: If the value comes from a function of the user's own, which fails, or which a file has lost.
        """
        value = getattr(self, name)
        if not callable(value):
            return value  # type: ignore[no-any-return]
        steps = max(step - self.learning_starts, 0)
        if isinstance(value, NamedSchedule):
            return value(steps)
        self.check_given([name])
        return self._called(name, steps)

    def greatest(self, name: str) -> int:
        """Return the greatest value that a count, which may be a schedule, ever has.

        Raises:
            InvalidConfig: If it comes from a function of the user's own.
        """
        value = getattr(self, name)
        if isinstance(value, NamedSchedule):
            return round(value.extremes()[1])
        self.check_given([name])
        assert isinstance(value, int)
        return value

    def check_given(self, names: Iterable[str] | None = None) -> None:
        """Check that no field (or none of `names`) is a function of which a file has kept only the name.

        Raises:
            InvalidConfig: If one is.
        """
        for name in SCHEDULED if names is None else names:
            value = getattr(self, name)
            if isinstance(value, Missing):
                named = f" ({value.name})" if value.name else ""
                raise InvalidConfig(
                    f"{name} was a function of your own{named}, which a file does not hold; give it again, or another "
                    f"value, as in `DQN.load(path, {name}=function)`"
                )

    def _check_combinations(self) -> None:
        self._require("epsilon_end", self.epsilon_end <= self.epsilon_start, "at most epsilon_start")
        for name in ("learning_rate", "priority_beta"):
            is_plain = not callable(getattr(self, name))
            alone = f"None with a schedule as {name}, which says it all"
            self._require(f"{name}_steps", is_plain or getattr(self, f"{name}_steps") is None, alone)
        alone = "None with epsilon_ladder, which gives each environment its own"
        self._require("epsilon", self.epsilon is None or not self.epsilon_ladder, alone)
        self._require("batch_size", self.batch_size <= self.replay_capacity, "at most replay_capacity")
        self._require("v_min", bool(np.float32(self.v_min) < np.float32(self.v_max)), "less than v_max")
        self._require("burn_in", self.burn_in < self.sequence_length, "less than sequence_length")
        self._require("sequence_period", self.sequence_period <= self.sequence_length, "at most sequence_length")
        for name in ("lstm_last_action", "lstm_last_reward"):
            self._require(name, self.lstm is not None or not getattr(self, name), "False without an lstm")
        self._require("compile_update", self.lstm is None or not self.compile_update, "False with an lstm")
        self._require("channel_norm", not (self.channel_norm and self.layer_norm), "False with layer_norm")
        self._require(
            "initialization", self.initialization == "auto" or not self.spectral_norm, "auto with spectral_norm"
        )
        # An own head may read what it likes.
        is_projection = self.categorical_loss == "projection" or is_own("head", self.head)
        self._require(
            "categorical_loss", is_projection or self.head == "categorical", "projection unless the head is categorical"
        )
        is_scalar = self.head == "scalar" or is_own("head", self.head)
        self._require("loss", is_scalar or self.loss == "huber", "huber unless the head is scalar")
        self._require("value_rescaling", is_scalar or not self.value_rescaling, "False unless the head is scalar")
        self._require(
            "double",
            not (self.double and self.munchausen),
            "False with munchausen, whose soft maximum selects no action",
        )
        self._require(
            "weight_decay", self.weight_decay == 0 or self.optimizer != "rmsprop", "0 with the optimizer rmsprop"
        )
        self._check_algorithm()
        for name, default in (("encoder_width", 1), ("spectral_norm", False), ("adaptive_pool", None)):
            is_fine = getattr(self, name) == default or self.encoder == "impala" or is_own("encoder", self.encoder)
            self._require(name, is_fine, f"{default} unless the encoder is impala")
        for name in ("double", "munchausen"):
            self._require(name, self.target is None or not getattr(self, name), "False with a target rule of your own")
        self._require(
            "reset_every",
            self.reset_every is None or not is_handed_over(self.encoder),
            "None with an encoder that was handed over, of which no new one can be made; register a factory for it",
        )

    def _check_algorithm(self) -> None:
        """Check that no field is set that the algorithm does not read."""
        is_pqn = self.algorithm == "pqn"
        for field in fields(self):
            if field.name in (OF_REPLAY if is_pqn else OF_ROLLOUTS):
                where = "with the algorithm pqn, which has neither" if is_pqn else "unless the algorithm is pqn"
                where += " a replay nor a target network (the preset quick_dqn has both)" if is_pqn else ""
                is_default = getattr(self, field.name) == field.default
                self._require(field.name, is_default, f"{shown(field.default)} {where}")
        if is_pqn:
            self._require("overlap", self.lstm is None or not self.overlap, "False with an lstm")
            self._require("kept_rollouts", self.lstm is None or not self.kept_rollouts, "0 with an lstm")
            is_kept = isinstance(self.past_rollouts, Missing) or self.greatest("past_rollouts") <= self.kept_rollouts
            self._require("past_rollouts", is_kept, f"at most kept_rollouts, {self.kept_rollouts}")
            learns_numbers = self.head in ("scalar", "categorical")
            self._require("head", learns_numbers, "scalar or categorical with the algorithm pqn")

    def _require(self, name: str, condition: bool, requirement: str) -> None:
        if not condition:
            value = getattr(self, name)
            text = shown_setting(value) if callable(value) else shown(value)
            raise InvalidConfig(f"{name} must be {requirement}, got {text}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; a field of `NEWER` only if it has another value than its default."""
        values = {field.name: to_json(getattr(self, field.name)) for field in fields(self)}
        return {name: value for name, value in values.items() if name not in NEWER or value is not None}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> AgentConfig:
        """Return the configuration whose `to_dict` gave these values; missing fields take their defaults.

        A function is not found by its name: nothing is imported. It must be given again before it is needed.

        Raises:
            InvalidConfig: If a field is unknown, or a value is outside its range.
        """
        _check_known(values)
        return cls(**{name: from_json(value) if name in SCHEDULED else value for name, value in values.items()})


@functools.cache
def _hints() -> Mapping[str, Any]:
    """Return the types of the fields. To find them takes most of the time of a check."""
    return get_type_hints(AgentConfig)


def _check_known(names: Iterable[str]) -> None:
    """Check that all names are fields of the configuration."""
    known = [field.name for field in fields(AgentConfig)]
    unknown = sorted(set(names) - set(known))
    if unknown:
        near = difflib.get_close_matches(str(unknown[0]), known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InvalidConfig(f"unknown field {unknown[0]!r:.80} of the agent's configuration{hint}")


def _refuse_unknown(kind: type[AgentConfig]) -> None:
    """Let the configuration say which unknown field it is given, in place of Python's own error."""
    init = kind.__init__

    @functools.wraps(init)
    def checked(self: AgentConfig, *values: Any, **named: Any) -> None:
        _check_known(named)
        init(self, *values, **named)

    kind.__init__ = checked  # type: ignore[method-assign]


_refuse_unknown(AgentConfig)
show_fields(AgentConfig)


def replaced(config: AgentConfig, changes: Mapping[str, Any]) -> AgentConfig:
    """Return a configuration with other values of some fields.

    Raises:
        InvalidConfig: If a field does not exist, or a value does not fit.
    """
    _check_known(changes)
    return dataclasses.replace(config, **changes)


def search_range(name: str) -> SearchRange | None:
    """Return what a search draws the values of a field from: what its metadata has, or all names and both truth values.

    Raises:
        InvalidConfig: If there is no such field.
    """
    _check_known([name])
    hint = _hints()[name]
    named = next((each for each in (hint, *get_args(hint)) if get_origin(each) is Literal), None)
    found: SearchRange | None = AgentConfig.__dataclass_fields__[name].metadata["search"]
    return found or (get_args(named) if named is not None else (False, True) if hint is bool else None)


def number_kind(name: str) -> type[int] | type[float] | None:
    """Return whether a field holds integers or floats, besides what else it may hold; None if no numbers.

    Raises:
        InvalidConfig: If there is no such field.
    """
    _check_known([name])
    hint = _hints()[name]
    kinds = get_args(hint) or (hint,)
    return int if int in kinds else float if float in kinds else None


def check_value(name: str, value: Any) -> None:
    """Check that a field may have a value, whatever the other fields have.

    Raises:
        InvalidConfig: If there is no such field, or it may not.
    """
    _check_known([name])
    if name in BUILT_IN:
        return check_name(name, value)
    if callable(value) and name in SCHEDULED:  # the configuration checks its values
        return None
    value = tuple(map(plain, value)) if isinstance(value, list | tuple) else plain(value)
    requirement = _violated(value, _hints()[name], AgentConfig.__dataclass_fields__[name].metadata)
    if requirement is not None:
        raise InvalidConfig(f"{name} must be {requirement}, got {shown(value)}")
    return None


def check_changeable(old: AgentConfig, new: AgentConfig, kind: str) -> None:
    """Check that two configurations differ in nothing from which an agent is built.

    Args:
        old: Configuration of the agent.
        new: Another configuration.
        kind: Name of the agent's class, for the error.

    Raises:
        InvalidConfig: If they do.
    """
    for field in fields(new):
        name, before, after = field.name, getattr(old, field.name), getattr(new, field.name)
        if after != before and name not in CHANGEABLE:
            raise InvalidConfig(
                f"{name} must stay {before!r}, from which this {kind} was built, got {after!r}; "
                f"make a new one: {kind}(observation_space, action_space, config)"
            )


def _violated(value: Any, hint: Any, metadata: Mapping[str, Any]) -> str | None:
    """Return the requirement of a field that a value does not meet, or None if it meets all."""
    if hint is bool:
        return None if isinstance(value, bool) else "True or False"
    if get_origin(hint) is Literal:
        return None if value in get_args(hint) else f"one of {', '.join(get_args(hint))}"
    kinds = get_args(hint) or (hint,)
    is_optional, is_count = type(None) in kinds, int in kinds
    if value is None and is_optional:
        return None
    if any(get_origin(kind) is tuple for kind in kinds):
        is_fine = isinstance(value, tuple) and all(_violated(each, int, metadata) is None for each in value)
        return None if is_fine else f"integers from {metadata['least']} to {MOST:,}, or None"
    requirement = None
    least, above, most = metadata["least"], metadata["above"], metadata["most"]
    if not isinstance(value, int if is_count else int | float) or isinstance(value, bool):
        requirement = "an integer" if is_count else "a number"
        if Schedule in kinds:
            requirement += ", a schedule" if is_optional else " or a schedule"
    elif not _is_in_range(value, least, above, most):
        requirement = _range(least, above, most)
    elif is_count and value > MOST:
        requirement = f"at most {MOST:,}"
    elif not is_count and not abs(value) <= FARTHEST:  # NaN too
        requirement = f"within ±{FARTHEST:g}"
    return f"{requirement} or None" if requirement and is_optional else requirement


def _is_in_range(value: float, least: float | None, above: float | None, most: float | None) -> bool:
    return (least is None or value >= least) and (above is None or value > above) and (most is None or value <= most)


def _range(least: float | None, above: float | None, most: float | None) -> str:
    """Return a range as it stands after "must be"."""
    if least is not None and most is not None:
        return f"in [{least:g}, {most:g}]"
    limits = (("at least", least), ("greater than", above), ("at most", most))
    return " and ".join(f"{words} {limit:g}" for words, limit in limits if limit is not None)

"""Evaluation protocols: which Atari game exactly is being played, as the papers define it."""

from dataclasses import dataclass

from pixelq.envs.errors import InvalidEnv

NO_LIMIT = 1_000_000_000  # frames; 193 days of play at 60 Hz, and still safe in the emulator's 32-bit counters


@dataclass(frozen=True)
class Protocol:
    """What makes two scores in the same game comparable.

    Raises:
        InvalidEnv: when a field is outside its range.
    """

    name: str
    """What runs and reports call it."""
    repeat_action_probability: float
    """Probability, per frame, that the emulator repeats the previous action instead of the one given; in [0, 1)."""
    noop_max: int
    """An episode starts with 1 to this many frames without input, drawn uniformly; 0 for none."""
    life_loss_ends_return: bool
    """Whether a lost life counts as the end of the return while learning; the game itself goes on."""
    evaluation_epsilon: float
    """Probability, per agent step, of a uniformly random action during evaluation; in [0, 1]."""
    max_frames: int
    """Emulator frames after the no-ops at which an episode is truncated."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.repeat_action_probability < 1.0:
            raise InvalidEnv(f"repeat_action_probability must be in [0, 1), not {self.repeat_action_probability}")
        if self.noop_max < 0:
            raise InvalidEnv(f"noop_max must be 0 or more, not {self.noop_max}")
        if not 0.0 <= self.evaluation_epsilon <= 1.0:
            raise InvalidEnv(f"evaluation_epsilon must be in [0, 1], not {self.evaluation_epsilon}")
        if not 1 <= self.max_frames <= NO_LIMIT:
            raise InvalidEnv(f"max_frames must be from 1 to {NO_LIMIT}, not {self.max_frames}")


PROTOCOLS: dict[str, Protocol] = {
    # Machado et al. 2018, "Revisiting the Arcade Learning Environment", with Dopamine's evaluation epsilon.
    "sticky": Protocol("sticky", 0.25, 0, False, 0.001, 108_000),
    # Mnih et al. 2015, "Human-level control through deep reinforcement learning".
    "nature": Protocol("nature", 0.0, 30, True, 0.05, 108_000),
    # 100,000 agent steps, then 100 episodes of the last policy: van Hasselt et al. 2019 (DER) and Schwarzer et al. 2023
    # (BBF); settings as in Dopamine's labs/atari_100k.
    "100k": Protocol("100k", 0.0, 30, True, 0.001, 108_000),
}

GYMNASIUM = Protocol("gymnasium", 0.0, 0, False, 0.0, NO_LIMIT)
"""What every environment other than Atari runs under: as Gymnasium registered it, evaluated greedily."""


def resolve_protocol(protocol: str | Protocol) -> Protocol:
    """The protocol of that name, or the one given.

    Raises:
        InvalidEnv: when no protocol bears the name.
    """
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise InvalidEnv(f"unknown protocol {protocol!r}; the protocols are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[protocol]

"""Evaluation protocols: the rules under which an Atari game is played, as the papers define them."""

import re
from dataclasses import dataclass, replace

import numpy as np

from pixelq.envs.errors import InvalidEnv

NO_LIMIT = 1_000_000_000
"""Frame limit that no episode reaches: 193 days of play at 60 Hz, and still safe in the emulator's 32-bit counters."""

_RULES = re.compile(r"(.*)\+flicker=([0-9]*\.?[0-9]+(?:e-?[0-9]+)?)")


@dataclass(frozen=True)
class Protocol:
    """Rules that two scores in the same game must share to be comparable.

    Raises:
        InvalidEnv: If a field is outside its range.
    """

    name: str
    """Name of the protocol in runs and reports."""
    repeat_action_probability: float
    """Probability, per frame, that the emulator repeats the previous action instead of the given one; in [0, 1)."""
    noop_max: int
    """Largest number of frames without input at the start of an episode, drawn uniformly from 1; 0 for none."""
    life_loss_ends_return: bool
    """Whether a lost life counts as the end of the return while learning; the game itself continues."""
    evaluation_epsilon: float
    """Probability, per agent step, of a uniformly random action during evaluation; in [0, 1]."""
    max_frames: int
    """Number of emulator frames after the no-ops at which an episode is truncated."""
    flicker: float = 0.0
    """Probability, per agent step, that the newest frame is black; in [0, 1).

    These are the flickering games of Hausknecht and Stone 2015, "Deep Recurrent Q-Learning for Partially Observable
    MDPs".
    """
    fire_at_start: bool = False
    """Whether FIRE is pressed for one frame after the no-ops, in games that have it among their actions."""

    def __post_init__(self) -> None:
        if "+flicker=" in self.name:
            raise InvalidEnv(f"name must not contain '+flicker=', got {self.name!r}; use the field flicker")
        if not 0.0 <= self.repeat_action_probability < 1.0:
            raise InvalidEnv(f"repeat_action_probability must be in [0, 1), got {self.repeat_action_probability}")
        if self.noop_max < 0:
            raise InvalidEnv(f"noop_max must be at least 0, got {self.noop_max}")
        if not 0.0 <= self.evaluation_epsilon <= 1.0:
            raise InvalidEnv(f"evaluation_epsilon must be in [0, 1], got {self.evaluation_epsilon}")
        if not 1 <= self.max_frames <= NO_LIMIT:
            raise InvalidEnv(f"max_frames must be in [1, {NO_LIMIT}], got {self.max_frames}")
        is_number = isinstance(self.flicker, int | float | np.number) and not isinstance(self.flicker, bool)
        if not is_number or not 0.0 <= self.flicker < 1.0:
            raise InvalidEnv(f"flicker must be a probability in [0, 1), got {self.flicker!r}")
        object.__setattr__(self, "flicker", float(self.flicker))  # a plain float, so that it can be written as JSON

    @property
    def rules(self) -> str:
        """Name of the protocol and, where frames flicker, the probability: `sticky`, `sticky+flicker=0.5`."""
        return f"{self.name}+flicker={self.flicker}" if self.flicker else self.name


PROTOCOLS: dict[str, Protocol] = {
    # Machado et al. 2018, "Revisiting the Arcade Learning Environment", with Dopamine's evaluation epsilon.
    "sticky": Protocol("sticky", 0.25, 0, False, 0.001, 108_000),
    # Mnih et al. 2015, "Human-level control through deep reinforcement learning".
    "nature": Protocol("nature", 0.0, 30, True, 0.05, 108_000),
    # 100,000 agent steps, then 100 episodes of the last policy: van Hasselt et al. 2019 (DER) and Schwarzer et al. 2023
    # (BBF); settings as in Dopamine's labs/atari_100k.
    "100k": Protocol("100k", 0.0, 30, True, 0.001, 108_000),
    # Gallici et al. 2025, "Simplifying Deep Temporal Difference Learning" (PQN): EnvPool (Weng et al. 2022) as
    # purejaxql's pqn_atari.yaml sets it, with greedy test games. Left out is what EnvPool's `episodic_life` does at a
    # lost life besides ending the return: it plays no-ops again and presses FIRE, in test games too. Its
    # `info["terminated"]` does not tell of the time limit, so programs that rely on it add games together; ours do not.
    # Where EnvPool presses FIRE, it plays one no-op less.
    "envpool": Protocol("envpool", 0.0, 30, True, 0.0, 108_000, fire_at_start=True),
}
"""Protocols by name."""

GYMNASIUM = Protocol("gymnasium", 0.0, 0, False, 0.0, NO_LIMIT)
"""Protocol of every environment other than Atari: as Gymnasium registered it, evaluated greedily."""


def resolve_protocol(protocol: str | Protocol) -> Protocol:
    """Return the protocol with the given name or rules.

    Args:
        protocol: A name of `PROTOCOLS`; the rules of one with flicker, as in `sticky+flicker=0.5`; or a `Protocol`,
            which is returned unchanged.

    Raises:
        InvalidEnv: If no protocol has that name, or the flicker is not a probability in [0, 1).
    """
    if isinstance(protocol, Protocol):
        return protocol
    name, flicker = split_rules(protocol) if isinstance(protocol, str) else (protocol, 0.0)
    if name in PROTOCOLS:
        return with_flicker(PROTOCOLS[name], flicker)
    if isinstance(name, str) and name.partition("+")[0] in PROTOCOLS:
        name = name.partition("+")[0]
        raise InvalidEnv(f"protocol must be a name or NAME+flicker=P, such as '{name}+flicker=0.5', got {protocol!r}")
    raise InvalidEnv(f"unknown protocol {name!r}; the protocols are {', '.join(PROTOCOLS)}")


def split_rules(rules: str) -> tuple[str, float]:
    """Return the name and the flicker of a protocol's rules; without `+flicker=P` at its end, all text is the name."""
    found = _RULES.fullmatch(rules)
    return (rules, 0.0) if found is None else (found[1], float(found[2]))


def with_flicker(protocol: str | Protocol, flicker: float) -> Protocol:
    """Return the protocol with another probability of black frames.

    Args:
        protocol: A protocol, or its name or rules.
        flicker: Probability in [0, 1) that a frame is black, in place of the protocol's own.

    Raises:
        InvalidEnv: If no protocol has that name, or `flicker` is out of range.
    """
    resolved = resolve_protocol(protocol)
    changed = replace(resolved, flicker=flicker)
    return resolved if changed == resolved else changed

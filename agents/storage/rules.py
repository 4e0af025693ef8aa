"""Rules of play as configurations and checkpoints store them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pixelq.agents.storage.json_values import requirement_message

LIMIT = 27_000
"""Agent steps after which an episode is cut off in an evaluation of environments without a time limit, as on Atari."""
_RULES = re.compile(r"(.*)\+flicker=([0-9]*\.?[0-9]+(?:e-?[0-9]+)?)")


def rules_of(values: Mapping[str, Any]) -> str | None:
    """Return the rules that JSON values name under `protocol`, such as `sticky` or `sticky+flicker=0.5`.

    Older runs and checkpoints store the probability that a frame is black apart, under `flicker`; it is joined to
    the protocol's name as `pixelq.envs.Protocol.rules` has it.

    Raises:
        KeyError: If there is no `protocol`.
        ValueError: If `flicker` is not a probability in [0, 1), or `protocol` is no text.
    """
    protocol, flicker = values["protocol"], values.get("flicker", 0.0)
    if not isinstance(flicker, int | float) or isinstance(flicker, bool) or not 0 <= flicker < 1:
        raise ValueError(f"flicker must be in [0, 1), got {flicker!r:.80}")
    if protocol is not None and not isinstance(protocol, str):
        raise ValueError(f"protocol must be text, got {protocol!r:.80}")
    if protocol is None or not flicker or "+flicker=" in protocol:
        return protocol
    return f"{protocol}+flicker={float(flicker)}"


def with_rules(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON values with `rules_of` them under `protocol`, and without `flicker`; errors as there."""
    return {name: value for name, value in values.items() if name != "flicker"} | {"protocol": rules_of(values)}


def time_limit(values: Mapping[str, Any]) -> int | None:
    """Return the steps after which episodes are cut off, which JSON values may have under `max_episode_steps`.

    Raises:
        ValueError: If it is anything but an integer of at least 1, or null.
    """
    limit = values.get("max_episode_steps")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise ValueError(requirement_message("max_episode_steps", "an integer of at least 1 or null", limit))
    return limit


def split_rules(rules: str) -> tuple[str, float]:
    """Return the name and the flicker of what `rules_of` returned, as `pixelq.envs.split_rules` does."""
    found = _RULES.fullmatch(rules)
    return (rules, 0.0) if found is None else (found[1], float(found[2]))

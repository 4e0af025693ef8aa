"""How long games of evaluations are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pixelq.agents.storage.environments import env_arguments
from pixelq.agents.storage.rules import LIMIT
from pixelq.envs import is_atari


def evaluation_limit(config: Mapping[str, Any]) -> int | None:
    """Return the agent steps after which a run's evaluations cut off games that training plays further; None if none.

    Only Atari games have such a limit of their own. Whether a game has reached it is not known of every evaluation, so
    that all of them count as cut off.

    Args:
        config: Contents of config.json, or flags of `pixelq train`.
    """
    limit, own = config.get("evaluation_episode_steps"), _own_limit(config) or LIMIT
    return limit if type(limit) is int and limit < own and is_atari(str(config["env"])) else None


def is_cut(config: Mapping[str, Any]) -> bool:
    """Return whether games of a run's training or evaluations are cut off before the end that published agents have.

    Args:
        config: Contents of config.json.
    """
    return _own_limit(config) is not None or evaluation_limit(config) is not None


def _own_limit(config: Mapping[str, Any]) -> int | None:
    """Return the agent steps after which the environments end all games; None for the games' own limit."""
    limit: int | None = env_arguments(config).get("max_episode_steps")
    return limit

"""How the environments of a training were made, as configurations and checkpoints store it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pixelq.agents.storage.json_values import check_types
from pixelq.agents.storage.rules import time_limit

ARGUMENTS = "env_arguments"
"""Entry for the arguments of `pixelq.envs.make_vec`, which only older runs and agents without any leave out."""
OLDER = frozenset({"full_action_space", "frame_stack", "max_episode_steps"})
"""Arguments that runs and checkpoints without that entry may have had too."""


class FromFile(str):
    """A text read from a file; `pixelq.envs` follows a name in it only if the user has named the module."""

    is_from_file = True


def env_arguments(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `make_vec` that JSON values of an agent or a run hold, with the names as `FromFile`.

    Of an older run, they are the entries that the command line wrote.

    Raises:
        ValueError: If they are no object, or the time limit is no number of steps.
    """
    check_types(values, {ARGUMENTS: dict})
    arguments = dict(values.get(ARGUMENTS, {}))
    if values.get("full_action_space") is True:
        arguments.setdefault("full_action_space", True)
    if time_limit(values) is not None:
        arguments.setdefault("max_episode_steps", time_limit(values))
    time_limit(arguments)
    wrappers = arguments.get("wrappers")
    if isinstance(wrappers, list):
        arguments["wrappers"] = [FromFile(name) if isinstance(name, str) else name for name in wrappers]
    return arguments


def are_same_arguments(config: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Return whether a run goes on in its own environments, as far as is known of an older run.

    Args:
        config: Contents of the run's config.json; empty if there is none.
        new: Arguments with which it goes on.
    """
    own = config.get(ARGUMENTS)
    if isinstance(own, dict) and "frame_size" not in new and (new.get("env_kwargs") or {}).get("obs_type") == "ram":
        own = {name: value for name, value in own.items() if name != "frame_size"}  # which older runs noted for it too
    return bool(own == new) if ARGUMENTS in config else not config or new.keys() <= OLDER


def is_same_environment(own: object, new: object) -> bool:
    """Return whether two ids may be of the same environment: older runs had no names for classes and functions."""
    return own == new or (own is None and isinstance(new, str) and ":" in new)

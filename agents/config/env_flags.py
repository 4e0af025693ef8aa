"""How environments are made, by the flags of a training and the settings of its agent."""

from __future__ import annotations

from typing import Any

from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.config.presets import PRESETS

AS_GIVEN = ("full_action_space", "grayscale", "flicker", "max_episode_steps", "env_kwargs")
"""Flags that `make_vec` takes as they are."""


def env_arguments(flags: Any, config: AgentConfig, preset: str, *, is_game: bool) -> dict[str, Any]:
    """Return the keyword arguments of `make_vec` for the environments of a training.

    Args:
        flags: An object with the flags of `pixelq train` that concern environments; `protocol` may be None.
        config: Settings of the agent.
        preset: Name of the preset from which they started.
        is_game: Whether the environment is an Atari game.
    """
    is_game = is_game and flags.env_kwargs.get("obs_type") != "ram"  # whose observations are no pictures
    stack, size = _pictures(config, preset, is_game=is_game, frame_size=flags.frame_size, grayscale=flags.grayscale)
    return {
        **({} if flags.protocol is None else {"protocol": flags.protocol}),
        **{name: getattr(flags, name) for name in AS_GIVEN},
        "frame_stack": stack,
        "frame_size": size,
        "wrappers": list(flags.wrappers),
    }


def _pictures(
    config: AgentConfig, preset: str, *, is_game: bool, frame_size: int | None, grayscale: bool
) -> tuple[int | None, int | None]:
    """Return how many pictures are stacked, and their size, None for the environment's own.

    Outside Atari both are for those who ask: by a size, by grey pictures, or by a setting of the agent that is neither
    its default nor, for the size, the preset's.
    """
    usual, of_preset, size = AgentConfig(), PRESETS.get(preset, AgentConfig)(), frame_size
    if size is None and (is_game or config.frame_size not in (usual.frame_size, of_preset.frame_size)):
        size = config.frame_size
    stack = config.frame_stack
    is_asked_for = is_game or size is not None or grayscale or stack != usual.frame_stack
    return stack if is_asked_for else None, size

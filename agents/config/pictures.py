"""Which pictures environments are asked for, by the flags of a training and the settings of its agent."""

from __future__ import annotations

from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.config.presets import PRESETS


def pictures_asked_for(
    config: AgentConfig, preset: str, *, is_game: bool, frame_size: int | None, grayscale: bool
) -> tuple[int | None, int | None]:
    """Return how many pictures are stacked, and their size, None for the environment's own.

    Outside Atari both are for those who ask: by a size, by grey pictures, or by a setting of the agent that is neither
    its default nor, for the size, the preset's.

    Args:
        config: Settings of the agent.
        preset: Name of the preset from which they started.
        is_game: Whether the environment is an Atari game.
        frame_size: The size that was asked for; None if none was.
        grayscale: Whether pictures are to be grey.
    """
    usual, of_preset, size = AgentConfig(), PRESETS.get(preset, AgentConfig)(), frame_size
    if size is None and (is_game or config.frame_size not in (usual.frame_size, of_preset.frame_size)):
        size = config.frame_size
    stack = config.frame_stack
    is_asked_for = is_game or size is not None or grayscale or stack != usual.frame_stack
    return stack if is_asked_for else None, size

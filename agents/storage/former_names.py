"""Names that older runs have for what is called otherwise today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def current_preset(name: str, settings: Mapping[str, Any]) -> str:
    """Return today's name of the preset that a run recorded; the preset `quick` of DQN is `quick_dqn` now.

    Args:
        name: The recorded name.
        settings: The agent's settings in the run's config.json.
    """
    return "quick_dqn" if name == "quick" and settings.get("algorithm", "dqn") == "dqn" else name

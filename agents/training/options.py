"""What surrounds learning: where a run is written, and how often."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gymnasium.vector import VectorEnv

from pixelq.agents.errors import InvalidConfig


@dataclass(frozen=True)
class LearnOptions:
    """What surrounds learning; counts are agent steps, and nothing here changes what is learned.

    Raises:
        InvalidConfig: a count is less than 1.
    """

    out: Path | None = None
    """The run's folder; None writes nothing."""
    evaluation_envs: VectorEnv | None = None
    """Environments of their own for the evaluations; None for no evaluations."""
    evaluate_every: int = 50_000
    """Steps between evaluations; the last step is always evaluated."""
    evaluation_episodes: int = 10
    """Episodes of each."""
    checkpoint_every: int = 50_000
    """Steps between checkpoints; there is also one at each evaluation and at the last step."""
    keep: int = 3
    """Newest checkpoints to keep, besides the best."""
    log_every: int = 1_000
    """Steps between rows of metrics.csv."""
    progress: bool = False
    """Show a progress line on stderr."""
    resume: bool = False
    """Go on exactly with the run in out, one of whose checkpoints the agent was loaded from."""
    description: dict[str, Any] = field(default_factory=dict)
    """More for config.json."""

    def __post_init__(self) -> None:
        for name in ("evaluate_every", "evaluation_episodes", "checkpoint_every", "keep", "log_every"):
            if getattr(self, name) < 1:
                raise InvalidConfig(f"{name} is {getattr(self, name)}; it must be at least 1")

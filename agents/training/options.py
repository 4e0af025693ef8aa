"""What surrounds learning: where a run is written, and how often."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from gymnasium.vector import VectorEnv

from pixelq.agents.config.integers import checked_integer
from pixelq.agents.errors import InvalidConfig, one_line
from pixelq.agents.storage.files import user_path
from pixelq.agents.training.ranks import Ranks

ProgressStyle = Literal["auto", "bar", "line", "none"]
"""How progress is shown; see `ProgressLine`."""


@dataclass(frozen=True)
class LearnOptions:
    """The keyword arguments of `DQN.learn`, which explains them.

    Raises:
        InvalidConfig: If a count is no integer or less than 1, there is no such style of progress, there is no run to
            resume, or the description is not JSON.
    """

    out: Path | None = None
    evaluation_envs: VectorEnv | None = None
    evaluate_every: int = 50_000
    evaluation_episodes: int = 10
    checkpoint_every: int = 50_000
    keep: int = 3
    log_every: int = 1_000
    progress: bool | ProgressStyle = False
    resume: bool = False
    description: dict[str, Any] = field(default_factory=dict)
    ranks: Ranks | None = None

    def __post_init__(self) -> None:
        if self.out is not None:
            object.__setattr__(self, "out", user_path(self.out))
        if not isinstance(self.resume, bool):
            raise InvalidConfig(f"resume must be True or False, got {self.resume!r:.80}")
        if self.resume and self.out is None:
            raise InvalidConfig("resume must be False without out, the folder of the run to resume")
        if not (self.ranks is None or isinstance(self.ranks, Ranks)):
            raise InvalidConfig(f"ranks must be a Ranks or None, got {self.ranks!r:.80}")
        self._check_description()
        for name in ("evaluate_every", "evaluation_episodes", "checkpoint_every", "keep", "log_every"):
            object.__setattr__(self, name, checked_integer(name, getattr(self, name), 1))
        if not isinstance(self.progress, bool) and self.progress not in get_args(ProgressStyle):
            styles = ", ".join(get_args(ProgressStyle))
            raise InvalidConfig(f"progress must be True, False or one of {styles}, got {self.progress!r:.80}")

    def _check_description(self) -> None:
        """Check that config.json can hold the description."""
        try:
            if not isinstance(self.description, dict):
                raise TypeError(f"got {self.description!r:.80}")
            json.dumps(self.description)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidConfig(f"description must be a dict of JSON values: {one_line(error)}") from error

    @property
    def progress_style(self) -> ProgressStyle:
        """How progress is shown."""
        if isinstance(self.progress, bool):
            return "auto" if self.progress else "none"
        return self.progress

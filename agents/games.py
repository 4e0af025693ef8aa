"""A step of the environments in two halves, so that there is time to learn in between."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray


class Games:
    """Vector environments that play in the background from ``send`` to ``recv``; those that cannot step in ``recv``.

    So both are the same training, number for number.
    """

    def __init__(self, envs: VectorEnv) -> None:
        self.envs = envs
        # Asked of the class: a wrapper that hands its environments' methods on would be left out of the step.
        self.in_background = hasattr(type(envs), "send")
        self.actions: NDArray[np.int64] | None = None  # sent and not received

    def send(self, actions: NDArray[np.int64]) -> None:
        """Begins a step with actions [N]."""
        if self.in_background:
            self.envs.send(actions)  # type: ignore[attr-defined]
        self.actions = actions

    def recv(self) -> tuple[Any, ...]:
        """What ``step`` returns."""
        actions, self.actions = self.actions, None
        return self.envs.recv() if self.in_background else self.envs.step(actions)  # type: ignore[attr-defined]

    def settle(self) -> None:
        """Waits for a step that is under way, so that the environments can be reset."""
        if self.actions is not None and self.in_background:
            self.recv()

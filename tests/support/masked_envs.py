"""Small environments with action masks."""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray


class Corridor(gymnasium.Env[NDArray[np.float32], int]):
    """Four places in a row, from the first to the last; forbidden actions raise an error.

    Of four actions, one or two lead on, others wait, and the rest is forbidden: which is which differs by place. Each
    step costs 1, so the best return is −3. Longer than 30 steps, an episode is truncated.
    """

    LENGTH = 4
    NUM_ACTIONS = 4
    BEST = -3.0

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (LENGTH,), np.float32)
    action_space = gymnasium.spaces.Discrete(NUM_ACTIONS)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  # as Gymnasium has it

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.place = self.steps = 0

    def allowed(self) -> NDArray[np.int8]:
        """Two or three of the actions, int8 [4]; at the end none."""
        mask = np.zeros(self.NUM_ACTIONS, np.int8)
        if self.place < self.LENGTH - 1:
            mask[[(self.place + 1) % 4, (self.place + 2) % 4]] = 1
            mask[self.place % 4] = self.place % 2
        return mask

    def _shown(self) -> tuple[NDArray[np.float32], dict[str, Any]]:
        observation = np.zeros(self.LENGTH, np.float32)
        observation[self.place] = 1.0
        return observation, {"action_mask": self.allowed()}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self.place = self.steps = 0
        return self._shown()

    def step(self, action: int) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        if not self.allowed()[action]:
            raise RuntimeError(f"action {action} is forbidden at place {self.place}")
        self.place += int(action == (self.place + 1) % 4)
        self.steps += 1
        observation, info = self._shown()
        return observation, -1.0, self.place == self.LENGTH - 1, self.steps == 30, info

    def render(self) -> NDArray[np.uint8]:  # type: ignore[override]
        picture = np.zeros((32, 96, 3), np.uint8)
        picture[:, 16 * self.place : 16 * self.place + 16] = 255
        return picture


class UnmaskedCorridor(Corridor):
    """The same without masks, in which forbidden actions wait."""

    def step(self, action: int) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        return super().step(action if self.allowed()[action] else (self.place + 2) % 4)

    def _shown(self) -> tuple[NDArray[np.float32], dict[str, Any]]:
        return super()._shown()[0], {}


gymnasium.register("tests/Corridor-v0", entry_point=Corridor)
gymnasium.register("tests/UnmaskedCorridor-v0", entry_point=UnmaskedCorridor)

"""An environment and wrappers of a user's own, with arguments."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray


class Line(gymnasium.Env[NDArray[np.float32], np.int64]):
    """A line of cells with a goal at its end; each start is drawn, and so is whether a step slips."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, size: int = 4, prize: float = 1.0, render_mode: str | None = None) -> None:
        self.size, self.prize, self.render_mode = size, prize, render_mode
        self.observation_space = Box(0.0, 1.0, (size,), np.float32)
        self.action_space = Discrete(2)

    @classmethod
    def long(cls) -> "Line":
        return cls(9)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.place, self.steps = int(self.np_random.integers(self.size - 1)), 0
        return self._shown(), {}

    def step(self, action: np.int64) -> Any:
        slips = self.np_random.random() < 0.25
        self.steps += 1
        self.place = max(0, self.place + (1 if action and not slips else -1))
        done = self.place == self.size - 1
        return self._shown(), self.prize if done else 0.0, done, self.steps == 12 and not done, {}

    def render(self) -> Any:
        picture = np.zeros((16, 16 * self.size, 3), np.uint8)
        picture[:, 16 * self.place : 16 * self.place + 16] = 255
        return picture

    def _shown(self) -> NDArray[np.float32]:
        return np.eye(self.size, dtype=np.float32)[self.place]


class Times(gymnasium.RewardWrapper[NDArray[np.float32], np.int64]):
    """Rewards times a number."""

    def __init__(self, env: gymnasium.Env[Any, Any], by: float = 2.0) -> None:
        super().__init__(env)
        self.by = by

    def reward(self, reward: Any) -> float:
        return float(reward) * self.by


class Plus(Times):
    """Rewards plus a number."""

    def reward(self, reward: Any) -> float:
        return float(reward) + self.by


class Twice(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Each action is played twice."""

    def step(self, action: Any) -> Any:
        first = self.env.step(action)
        return first if first[2] or first[3] else self.env.step(action)


def nothing(env: gymnasium.Env[Any, Any]) -> None:
    """No wrapper: it returns no environment."""

"""Catch: a game of pixels that is small enough to be solved in seconds."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from pixelq.envs.checks import checked_render_mode
from pixelq.envs.errors import InvalidEnv

LEFT, STAY, RIGHT = 0, 1, 2


class Catch(gymnasium.Env[NDArray[np.uint8], np.signedinteger[Any]]):
    """A ball falls from a random column, one row per step; a paddle on the bottom row must catch it.

    After Osband et al. 2020, "Behaviour Suite for Reinforcement Learning". The observation is uint8
    [1, rows, columns]: 255 at ball and paddle, 0 elsewhere. The paddle starts in the middle; the actions are LEFT,
    STAY and RIGHT. An episode takes rows − 1 steps; the last gives +1 for a catch and −1 for a miss, the others 0.
    The optimal return is exactly +1, because the paddle has time to reach every column.

    Args:
        rows: Height, including the paddle's row.
        columns: Width, at most 2 · rows − 1, so that every ball can be caught.
        render_mode: `rgb_array` or None.

    Raises:
        InvalidEnv: If some ball could not be caught, or the render mode is invalid.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012  (Gymnasium's attribute)

    def __init__(self, rows: int = 10, columns: int = 5, render_mode: str | None = None) -> None:
        if rows < 2:
            raise InvalidEnv(f"rows must be at least 2, got {rows}")
        if not 1 <= columns <= 2 * rows - 1:
            raise InvalidEnv(f"columns must be in [1, {2 * rows - 1}] (at most 2 · rows − 1), got {columns}")
        self.rows, self.columns, self.render_mode = rows, columns, checked_render_mode(render_mode)
        self.observation_space = Box(0, 255, (1, rows, columns), np.uint8)
        self.action_space = Discrete(3)
        self._ball_row = self._ball_column = self._paddle = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Start an episode with a ball on the top row, in a column drawn from `np_random`."""
        super().reset(seed=seed)
        self._ball_row = 0
        self._ball_column = int(self.np_random.integers(self.columns))
        self._paddle = self.columns // 2
        return self._observe(), {}

    def step(self, action: int | np.signedinteger[Any]) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Move the paddle, which stops at the walls, and then the ball."""
        self._paddle = min(max(self._paddle + int(action) - STAY, 0), self.columns - 1)
        self._ball_row += 1
        terminated = self._ball_row == self.rows - 1
        reward = 0.0 if not terminated else 1.0 if self._ball_column == self._paddle else -1.0
        return self._observe(), reward, terminated, False, {}

    def render(self) -> NDArray[np.uint8]:
        """Return the observation in white on black, uint8 [16 · rows, 16 · columns, 3]."""
        grey = np.kron(self._observe()[0], np.ones((16, 16), np.uint8))
        return np.repeat(grey[..., None], 3, axis=-1)

    def _observe(self) -> NDArray[np.uint8]:
        observation = np.zeros((1, self.rows, self.columns), np.uint8)
        observation[0, self._ball_row, self._ball_column] = 255
        observation[0, -1, self._paddle] = 255
        return observation


gymnasium.register("pixelq/Catch-v0", entry_point="pixelq.envs.catch:Catch")

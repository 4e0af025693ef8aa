"""Games that only an agent with memory can win, small enough to be solved in minutes."""

from collections import deque
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from pixelq.envs.checks import checked_count, checked_render_mode
from pixelq.envs.errors import InvalidEnv

NORTH, EAST, SOUTH, WEST = 0, 1, 2, 3
CUE_UP, CUE_DOWN, CORRIDOR, JUNCTION = 0, 1, 2, 3

Vector = NDArray[np.float32]
Action = int | np.signedinteger[Any]

_WHITE, _GREY, _GREEN, _RED = (255, 255, 255), (64, 64, 64), (0, 160, 0), (192, 0, 0)
_PIXELS = 16  # width and height of a cell in pictures


class TMaze(gymnasium.Env[Vector, np.signedinteger[Any]]):
    """A cue at the start of a corridor tells which way to turn at its end.

    After Bakker 2001, "Reinforcement Learning with Long Short-Term Memory". As in the passive T-maze of Ni et al. 2023,
    "When Do Transformers Shine in RL?", every action that does not lead along the corridor has a negative reward.

    The observation is float32 [4], one-hot: cue up, cue down, corridor, junction. The cue is shown only at the first
    step of an episode; an agent that returns to the first cell sees corridor. The actions are NORTH, EAST, SOUTH and
    WEST. In the corridor EAST moves on with reward 0. WEST moves back, except in the first cell, and NORTH and SOUTH
    stay, all with −0.1. At the junction NORTH or SOUTH ends the episode, with +4 in the direction of the cue and −0.1
    otherwise; EAST stays and WEST moves back, with −0.1. After 3 · length steps the episode is truncated.

    The optimal return is exactly 4, in length + 1 steps. Without memory, going straight on and guessing has an expected
    return of 1.95.

    Args:
        length: Number of corridor cells, and of steps east from the first cell to the junction.
        render_mode: `rgb_array` or None.

    Raises:
        InvalidEnv: If the length is below 1 or not an integer, or the render mode is invalid.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012  (Gymnasium's attribute)

    def __init__(self, length: int = 50, render_mode: str | None = None) -> None:
        self.length = checked_count("length", length, least=1)
        self.render_mode = checked_render_mode(render_mode)
        self.observation_space = Box(0.0, 1.0, (4,), np.float32)
        self.action_space = Discrete(4)
        self._cell = self._steps = 0
        self._is_up = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, dict[str, Any]]:
        """Start an episode in the first cell, with a cue drawn from `np_random`."""
        super().reset(seed=seed)
        self._cell = self._steps = 0
        self._is_up = bool(self.np_random.integers(2))
        return self._observe(), {}

    def step(self, action: Action) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        """Move along the corridor, or turn at the junction."""
        self._steps += 1
        terminated, reward = False, -0.1
        if self._cell == self.length and action in (NORTH, SOUTH):
            terminated = True
            reward = 4.0 if (action == NORTH) == self._is_up else -0.1
        elif action == WEST:
            self._cell = max(self._cell - 1, 0)
        elif action == EAST and self._cell < self.length:
            self._cell += 1
            reward = 0.0
        truncated = not terminated and self._steps >= 3 * self.length
        return self._observe(), reward, terminated, truncated, {}

    def render(self) -> NDArray[np.uint8]:
        """Return the maze from above, uint8 [48, 16 · (length + 1), 3]: the agent white, the correct turn green."""
        cells = np.zeros((3, self.length + 1, 3), np.uint8)
        cells[1] = cells[:, -1] = _GREY
        cells[0 if self._is_up else 2, -1] = _GREEN
        cells[1, self._cell] = _WHITE
        return _enlarged(cells)

    def _observe(self) -> Vector:
        if self._steps == 0:
            return _one_hot(CUE_UP if self._is_up else CUE_DOWN, 4)
        return _one_hot(JUNCTION if self._cell == self.length else CORRIDOR, 4)


class RepeatPrevious(gymnasium.Env[Vector, np.signedinteger[Any]]):
    """A symbol is shown at each step; the action must name the one that was shown `delay` steps before.

    After Morad et al. 2023, "POPGym: Benchmarking Partially Observable Reinforcement Learning".
    The symbols are drawn independently and uniformly; the observation is the newest, float32 [num_values], one-hot.
    An episode takes `length` steps and ends terminated. The first `delay` answers have reward 0; after that a right one
    has 1 and a wrong one −1 / (num_values − 1). (POPGym scales the rewards so that the optimal return is 1. They would
    then be smaller than the random differences between the initial values of a network.)

    The optimal return is length − delay, 56 by default. Without memory every policy has an expected return of 0, unless
    the delay is 0.

    Args:
        num_values: Number of different symbols, at least 2.
        delay: Number of steps since the symbol to name was shown; 0 for the symbol being shown.
        length: Number of steps in an episode, greater than the delay.
        render_mode: `rgb_array` or None.

    Raises:
        InvalidEnv: If a number is out of range or not an integer, or the render mode is invalid.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012  (Gymnasium's attribute)

    def __init__(self, num_values: int = 4, delay: int = 8, length: int = 64, render_mode: str | None = None) -> None:
        self.num_values = checked_count("num_values", num_values, least=2)
        self.delay = checked_count("delay", delay, least=0)
        self.length = checked_count("length", length, least=1)
        if length <= delay:
            raise InvalidEnv(f"length must be greater than delay, which is {delay}, got {length}")
        self.render_mode = checked_render_mode(render_mode)
        self.observation_space = Box(0.0, 1.0, (num_values,), np.float32)
        self.action_space = Discrete(num_values)
        self._shown: deque[int] = deque(maxlen=delay + 1)  # once full, the oldest is the symbol to name
        self._steps = 0
        self._answer: tuple[int, tuple[int, int, int]] | None = None  # the latest one and its colour

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, dict[str, Any]]:
        """Start an episode with a symbol drawn from `np_random`."""
        super().reset(seed=seed)
        self._shown.clear()
        self._steps = 0
        self._answer = None
        return self._draw(), {}

    def step(self, action: Action) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        """Reward the answer, and show the next symbol."""
        self._steps += 1
        reward, colour = 0.0, _GREY
        if len(self._shown) > self.delay:
            is_right = self._shown[0] == action
            reward = 1.0 if is_right else -1.0 / (self.num_values - 1)
            colour = _GREEN if is_right else _RED
        self._answer = int(action), colour
        return self._draw(), reward, self._steps >= self.length, False, {}

    def render(self) -> NDArray[np.uint8]:
        """Return a picture of the current symbol, white, above the latest answer, uint8 [32, 16 · num_values, 3].

        The answer is green if it was right, red if it was wrong, and grey if it came too early to count.
        """
        cells = np.zeros((2, self.num_values, 3), np.uint8)
        cells[0, self._shown[-1]] = _WHITE
        if self._answer is not None:
            place, colour = self._answer
            cells[1, place] = colour
        return _enlarged(cells)

    def _draw(self) -> Vector:
        self._shown.append(int(self.np_random.integers(self.num_values)))
        return _one_hot(self._shown[-1], self.num_values)


def _one_hot(place: int, size: int) -> Vector:
    vector = np.zeros(size, np.float32)
    vector[place] = 1.0
    return vector


def _enlarged(cells: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture of cells, uint8 [rows, columns, 3], enlarged by `_PIXELS`."""
    return cells.repeat(_PIXELS, axis=0).repeat(_PIXELS, axis=1)


gymnasium.register("pixelq/TMaze-v0", entry_point="pixelq.envs.memory_tasks:TMaze")
gymnasium.register("pixelq/RepeatPrevious-v0", entry_point="pixelq.envs.memory_tasks:RepeatPrevious")

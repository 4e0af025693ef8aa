"""Games that only a player with memory can win, small enough to be solved in minutes."""

from collections import deque
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from pixelq.envs.checks import checked_count
from pixelq.envs.errors import InvalidEnv

NORTH, EAST, SOUTH, WEST = 0, 1, 2, 3
CUE_UP, CUE_DOWN, CORRIDOR, JUNCTION = 0, 1, 2, 3

Vector = NDArray[np.float32]
Action = int | np.signedinteger[Any]

_WHITE, _GREY, _GREEN, _RED = (255, 255, 255), (64, 64, 64), (0, 160, 0), (192, 0, 0)
_PIXELS = 16  # a cell's width and height in pictures


class TMaze(gymnasium.Env[Vector, np.signedinteger[Any]]):
    """A cue at the start of a corridor says which way to turn at its end.

    After Bakker 2001, "Reinforcement Learning with Long Short-Term Memory"; as in the passive T-maze of Ni et al. 2023,
    "When Do Transformers Shine in RL?", whatever does not lead on along the corridor costs.

    The observation is float32 [4], one-hot: cue up, cue down, corridor, junction. A cue is seen at the episode's first
    step alone; who comes back to the first cell sees corridor. The actions are NORTH, EAST, SOUTH and WEST.
    In the corridor EAST moves on with reward 0; WEST moves back, unless at the first cell, and NORTH and SOUTH stay,
    all with −0.1. At the junction NORTH or SOUTH ends the episode, with +4 where the cue said so and −0.1 otherwise;
    EAST stays and WEST moves back with −0.1. After 3 · length steps the episode is truncated.

    The optimal return is exactly 4, in length + 1 steps. Without memory, going straight on and guessing has 1.95.

    Args:
        length: cells of the corridor, which is as many steps east from the first cell to the junction.
        render_mode: `rgb_array` or None.

    Raises:
        InvalidEnv: when the length is below 1 or not an integer, or the render mode is another.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012  (Gymnasium's attribute)

    def __init__(self, length: int = 50, render_mode: str | None = None) -> None:
        self.length = checked_count("length", length, least=1)
        self.render_mode = _checked_render_mode("TMaze", render_mode)
        self.observation_space = Box(0.0, 1.0, (4,), np.float32)
        self.action_space = Discrete(4)
        self._cell = self._steps = 0
        self._is_up = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, dict[str, Any]]:
        """A player in the first cell, and a cue drawn from `np_random`."""
        super().reset(seed=seed)
        self._cell = self._steps = 0
        self._is_up = bool(self.np_random.integers(2))
        return self._observe(), {}

    def step(self, action: Action) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        """Moves the player, or turns at the junction."""
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
        """The maze from above, uint8 [48, 16 · (length + 1), 3]: the player white, the right way green."""
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
    """At each step a symbol is shown; the action names the one that was shown `delay` steps before.

    After Morad et al. 2023, "POPGym: Benchmarking Partially Observable Reinforcement Learning".
    The symbols are drawn independently and uniformly; the observation is the newest, float32 [num_values], one-hot.
    An episode takes `length` steps and ends terminated. The first `delay` answers bring 0; from then on a right one
    brings 1 and a wrong one −1 / (num_values − 1). (POPGym divides them so that the optimum is 1; then they would be
    smaller than what a network's first values are apart by chance.)

    The optimal return is length − delay, 56. Without memory every policy has 0 in expectation, if the delay is not 0.

    Args:
        num_values: how many symbols there are, 2 or more.
        delay: how many steps before the symbol was shown that the action names; 0 for the one being shown.
        length: steps of an episode, more than the delay.
        render_mode: `rgb_array` or None.

    Raises:
        InvalidEnv: when a number is out of range or not an integer, or the render mode is another.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012  (Gymnasium's attribute)

    def __init__(self, num_values: int = 4, delay: int = 8, length: int = 64, render_mode: str | None = None) -> None:
        self.num_values = checked_count("num_values", num_values, least=2)
        self.delay = checked_count("delay", delay, least=0)
        self.length = checked_count("length", length, least=1)
        if length <= delay:
            raise InvalidEnv(f"RepeatPrevious needs a length greater than its delay, not {length} and {delay}")
        self.render_mode = _checked_render_mode("RepeatPrevious", render_mode)
        self.observation_space = Box(0.0, 1.0, (num_values,), np.float32)
        self.action_space = Discrete(num_values)
        self._shown: deque[int] = deque(maxlen=delay + 1)  # the oldest is what to name, once there are so many
        self._steps = 0
        self._answer: tuple[int, tuple[int, int, int]] | None = None  # of the last step, and its colour

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, dict[str, Any]]:
        """The first symbol, drawn from `np_random`."""
        super().reset(seed=seed)
        self._shown.clear()
        self._steps = 0
        self._answer = None
        return self._draw(), {}

    def step(self, action: Action) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        """Judges the answer, and shows the next symbol."""
        self._steps += 1
        reward, colour = 0.0, _GREY
        if len(self._shown) > self.delay:
            is_right = self._shown[0] == action
            reward = 1.0 if is_right else -1.0 / (self.num_values - 1)
            colour = _GREEN if is_right else _RED
        self._answer = int(action), colour
        return self._draw(), reward, self._steps >= self.length, False, {}

    def render(self) -> NDArray[np.uint8]:
        """The symbol that is shown, white, above the last answer, uint8 [32, 16 · num_values, 3].

        The answer is green if it was right, red if it was wrong, and grey if it brought nothing.
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


def _checked_render_mode(name: str, render_mode: str | None) -> str | None:
    if render_mode not in (None, "rgb_array"):
        raise InvalidEnv(f"{name} renders as 'rgb_array', not {render_mode!r}")
    return render_mode


def _one_hot(place: int, size: int) -> Vector:
    vector = np.zeros(size, np.float32)
    vector[place] = 1.0
    return vector


def _enlarged(cells: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture of cells [rows, columns, 3]."""
    return cells.repeat(_PIXELS, axis=0).repeat(_PIXELS, axis=1)


gymnasium.register("pixelq/TMaze-v0", entry_point="pixelq.envs.memory_tasks:TMaze")
gymnasium.register("pixelq/RepeatPrevious-v0", entry_point="pixelq.envs.memory_tasks:RepeatPrevious")

"""MinAtar's games (Young and Tian 2019), which the package `minatar` brings, as agents need them."""

import importlib
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from pixelq.envs.errors import InvalidEnv, quoted, reason
from pixelq.envs.failures import Failures

_PREFIX = "MinAtar/"
_CELL = 16  # pixels of a film on a side of a cell
_COLOURS = np.array(
    [
        *((0, 0, 0), (90, 160, 255), (255, 255, 255), (120, 120, 120), (220, 60, 50), (250, 200, 60), (60, 180, 75)),
        *((170, 80, 200), (255, 140, 40), (70, 210, 200), (250, 150, 190)),
    ],
    np.uint8,
)
"""Colours of a cell without an object, and of MinAtar's up to ten kinds of objects, the channels."""


def is_minatar(env_id: str) -> bool:
    """Return whether an id is one of MinAtar's."""
    return env_id.startswith(_PREFIX)


def register_minatar(env_id: str) -> None:
    """Register MinAtar's ids, which its package does only when it is told to.

    Args:
        env_id: The id that is asked for, for the error.

    Raises:
        InvalidEnv: If the package is not installed or cannot be imported.
    """
    if f"{_PREFIX}Breakout-v1" in gymnasium.registry:
        return
    with Failures(lambda error: InvalidEnv(f"{quoted(env_id)} {_missing(error)}")):
        importlib.import_module("minatar.gym").register_envs()


def _missing(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name in ("minatar", "minatar.gym"):
        return "needs the package minatar; pip install 'pixelq[minatar]', or pip install '.[minatar]' in a checkout"
    return f"needs the package minatar, which cannot be imported: {reason(error)}"


class MinAtarGame(gymnasium.Wrapper[NDArray[np.uint8], Any, Any, Any]):
    """A game of MinAtar whose observations are pictures, uint8 [C, 10, 10] of 0 and 255, a channel a kind of object.

    MinAtar has bool [10, 10, C], which Seaquest's ten channels make ambiguous. The rules stay MinAtar's own: an action
    is repeated with probability 0.1, and the games become harder, unless `sticky_action_prob` and
    `difficulty_ramping` are given. A reset with a seed also forgets the last action, which may be repeated, so that the
    seed and the actions determine the game. Films are drawn in our colours, since MinAtar's pictures are no uint8.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        shape: tuple[int, ...] = env.observation_space.shape or ()
        height, width, channels = shape
        self.observation_space = Box(0, 255, (channels, height, width), np.uint8)
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
        self._shown: NDArray[Any] = np.zeros((height, width, channels), np.bool_)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Start an episode; see `gymnasium.Env`."""
        self._shown, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self.get_wrapper_attr("game").last_action = 0
        return self._picture(), info

    def step(self, action: Any) -> tuple[NDArray[np.uint8], Any, bool, bool, dict[str, Any]]:
        """Play an action; see `gymnasium.Env`."""
        self._shown, reward, terminated, truncated, info = self.env.step(action)
        return self._picture(), reward, terminated, truncated, info

    def render(self) -> NDArray[np.uint8]:
        """Return the picture in colour, uint8 [160, 160, 3]."""
        channels = self._shown.shape[-1]
        cells = (self._shown * np.arange(1, channels + 1)).max(-1)  # the last of several objects, as MinAtar shows it
        picture: NDArray[np.uint8] = _COLOURS[cells].repeat(_CELL, 0).repeat(_CELL, 1)
        return picture

    def _picture(self) -> NDArray[np.uint8]:
        cells: NDArray[np.uint8] = np.ascontiguousarray(self._shown.transpose(2, 0, 1), np.uint8)
        picture: NDArray[np.uint8] = cells * np.uint8(255)
        return picture

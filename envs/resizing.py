"""Pictures of another size, whose pixels are means over areas of the old ones."""

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

LARGEST_FRAME = 512
"""Greatest height and width of a picture that is to be resized."""

Taps = tuple[NDArray[np.intp], NDArray[np.float32]]


class Resizing:
    """Function that maps pictures uint8 [height, width, ...] to uint8 [size, size, ...] by means over areas.

    Smaller pictures are those of `cv2.resize(..., interpolation=cv2.INTER_AREA)`, which the native Atari environment
    calls: its sums are in the same order, and so are equal to the bit unless one size divides the other.

    Args:
        height: Height of a picture.
        width: Width of a picture.
        size: Height and width of the results.
    """

    def __init__(self, height: int, width: int, size: int) -> None:
        self._rows, self._columns = _taps(height, size), _taps(width, size)

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the picture in the new size."""
        columns, weights = self._columns
        by_channel = weights[..., None] if picture.ndim == 3 else weights
        wide = sum(picture[:, columns[k]] * by_channel[k] for k in range(len(columns)))  # [height, size, ...]
        rows, weights = self._rows
        shape = (-1,) + (1,) * (picture.ndim - 1)
        mean = sum(wide[rows[k]] * weights[k].reshape(shape) for k in range(len(rows)))  # [size, size, ...]
        resized: NDArray[np.uint8] = np.rint(mean).astype(np.uint8)
        return resized


class ResizeObservation(gymnasium.ObservationWrapper[NDArray[Any], Any, NDArray[Any]], RecordConstructorArgs):
    """Wrapper that shows pictures in another size; Gymnasium's of this name needs OpenCV.

    Args:
        env: An environment whose observations are pictures uint8 [height, width] or [height, width, channels].
        size: Height and width of the new observations.
    """

    def __init__(self, env: gymnasium.Env[NDArray[Any], Any], size: int) -> None:
        RecordConstructorArgs.__init__(self, size=size)
        super().__init__(env)
        assert env.observation_space.shape is not None
        height, width, *channels = env.observation_space.shape
        self.observation_space = Box(0, 255, (size, size, *channels), np.uint8)
        self._resized = Resizing(height, width, size)

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        """Return the picture in the new size."""
        return self._resized(observation)


def _taps(old: int, new: int) -> Taps:
    """Return which of `old` pixels in a line, and with which weights, make each of `new`: two arrays [K, new]."""
    scale = old / new
    indices, weights = [list[int]() for _ in range(new)], [list[float]() for _ in range(new)]
    for i in range(new):
        begin, end = i * scale, min((i + 1) * scale, old)
        for k in range(math.floor(begin), min(math.ceil(end), old)):
            share = min(end, k + 1) - max(begin, k)
            if share > 1e-3:  # less is rounding, as in OpenCV
                indices[i].append(k)
                weights[i].append(share / (end - begin))
    count = max(map(len, indices))
    padded = [(line + [0] * count)[:count] for line in indices], [(line + [0.0] * count)[:count] for line in weights]
    return np.array(padded[0], np.intp).T, np.array(padded[1], np.float32).T

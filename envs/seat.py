"""What surrounds each Gymnasium environment of a vector of them."""

from typing import Any

import gymnasium
import numpy as np

Env = gymnasium.Env[Any, np.int64]


class Seat(gymnasium.Wrapper[Any, np.int64, Any, np.int64]):
    """An environment whose next reset, whoever calls it, has a seed, and that can be left out of steps.

    Gymnasium's vector environment resets by itself and without seeds.

    Args:
        env: the environment.
    """

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.seed: int | None = None  # of the next reset alone
        self.is_idle = False
        self._observation: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets with the seed that was set; the arguments are not read."""
        seed, self.seed = self.seed, None
        self._observation, info = self.env.reset(seed=seed)
        return self._observation, info

    def step(self, action: np.int64) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """A step of the environment; of an idle one, what it showed last."""
        if self.is_idle:
            return self._observation, 0.0, False, False, {}
        result = self.env.step(action)
        self._observation = result[0]
        return result

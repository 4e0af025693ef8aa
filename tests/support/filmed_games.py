"""A game whose pictures say which step it is, so that a film can be read; and a policy for it."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from pixelq.agents import DQN, AgentConfig

COUNTED = "tests/Counted-v0"
BITS = 8
BLOCK = 16  # pixels of a bit in a picture
FPS = 20
LENGTH = 60
SIDE = 12


class Counted(gymnasium.Env[Any, Any]):
    """Its picture is the step's number in bits, white for 1, the least bit first; a dot wanders in its observation.

    Each 10th step has reward 1, each 25th −2.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": FPS}  # noqa: RUF012  (Gymnasium's attribute)
    observation_space = Box(0, 255, (2, SIDE, SIDE), np.uint8)
    action_space = Discrete(3)
    length = LENGTH

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.steps, self.place = 0, int(self.np_random.integers(SIDE * SIDE))
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        self.place = (self.place + (1, SIDE, SIDE + 1)[int(action)]) % (SIDE * SIDE)
        reward = float(self.steps % 10 == 0) - 2 * float(self.steps % 25 == 0)
        return self._observe(), reward, self.steps == self.length, False, {}

    def render(self) -> Any:
        bits = np.array([self.steps >> bit & 1 for bit in range(BITS)], np.uint8) * 255
        return np.repeat(np.kron(bits[None], np.ones((BLOCK, BLOCK), np.uint8))[..., None], 3, -1)

    def _observe(self) -> NDArray[np.uint8]:
        dots = np.zeros((2, SIDE * SIDE), np.uint8)
        dots[0, self.place] = dots[1, -1 - self.place] = 255
        return dots.reshape(2, SIDE, SIDE)


class Undrawn(Counted):
    """The same without pictures."""

    metadata = {"render_modes": []}  # noqa: RUF012  (Gymnasium's attribute)


gymnasium.register(COUNTED, Counted)
gymnasium.register("tests/Undrawn-v0", Undrawn)


def agent_for(env_id: str, shape: tuple[int, ...], actions: int, dtype: Any = np.uint8, **config: Any) -> DQN:
    """An untrained agent that says it was trained in an environment."""
    space = Box(0, 255, shape, dtype)
    agent = DQN(space, Discrete(actions), AgentConfig(**{"hidden": 16, **config}), device="cpu", seed=1)
    agent.env_id, agent.protocol = env_id, "sticky" if env_id.startswith("ALE/") else "gymnasium"
    return agent


def counting_agent(**config: Any) -> DQN:
    """An untrained agent for the counted game."""
    return agent_for(COUNTED, (2, SIDE, SIDE), 3, **config)

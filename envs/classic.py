"""Any Gymnasium environment with Discrete actions and Box observations, in the shape that Atari has here."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from pixelq.envs.checks import checked_actions, checked_count, checked_options, spread_seeds
from pixelq.envs.errors import InvalidEnv
from pixelq.envs.protocols import GYMNASIUM, Protocol

Step = tuple[NDArray[Any], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]


class ClassicVec(VectorEnv[NDArray[Any], NDArray[np.int64], NDArray[Any]]):
    """N copies of one Gymnasium environment, stepped in turn in this process, restarting as `AtariVec` does.

    Observations are [N, *shape] as the environment gives them, rewards float32 [N], flags bool [N].

    Args:
        env_id: a Gymnasium id.
        num_envs: how many copies, N.
        seed: non-negative.
        render_mode: `rgb_array` for `frame`.

    Raises:
        InvalidEnv: when an argument is out of range, or the environment's spaces or dependencies are not there.
    """

    frame_stack: int = 1
    frames_per_step: int = 1
    protocol: Protocol = GYMNASIUM

    def __init__(self, env_id: str, num_envs: int, seed: int, *, render_mode: str | None = None) -> None:
        self.env_id = env_id
        self.num_envs = checked_count("num_envs", num_envs, least=1)
        self._seeds: list[int] | None = spread_seeds(seed, self.num_envs).tolist()
        # Not every constructor takes a render mode.
        drawing: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
        try:
            self._envs = gymnasium.make_vec(
                env_id,
                self.num_envs,
                vectorization_mode="sync",
                vector_kwargs={"autoreset_mode": AutoresetMode.NEXT_STEP},
                **drawing,
            )
        except (gymnasium.error.Error, ImportError, TypeError, ValueError) as error:
            raise InvalidEnv(f"{env_id!r} cannot be made: {reason(error)}") from error
        self.spec = self._envs.spec
        self.render_mode = render_mode
        self.metadata = {**self._envs.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.single_observation_space = self._envs.single_observation_space
        self.single_action_space = self._envs.single_action_space
        self.observation_space = self._envs.observation_space
        self.action_space = self._envs.action_space
        actions, observations = self.single_action_space, self.single_observation_space
        if not isinstance(actions, Discrete):
            raise InvalidEnv(f"{env_id!r} has actions {actions}; give an environment with Discrete actions")
        if not isinstance(observations, Box):
            raise InvalidEnv(f"{env_id!r} has observations {observations}; give an environment with a Box of them")
        self._num_actions, self._first_action = int(actions.n), int(actions.start)
        if self._first_action != 0:  # agents count actions from 0
            self.single_action_space = Discrete(self._num_actions)
            self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.action_meanings = tuple(str(action) for action in range(self._num_actions))
        self._is_reset = False
        self._sent: NDArray[np.int64] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Starts a new episode in every environment, with the constructor's seed the first time.

        Raises:
            InvalidEnv: when the seed is negative.
            ValueError: when there are options.
            RuntimeError: between `send` and `recv`, or after `close`.
        """
        checked_options(options)
        self._require_open()
        if self._sent is not None:
            raise RuntimeError("reset was called between send and recv; call recv first")
        seeds = self._seeds if seed is None else spread_seeds(seed, self.num_envs).tolist()
        observations, info = self._envs.reset(seed=seeds)  # type: ignore[arg-type]  # Gymnasium takes a list
        self._seeds = None
        self._is_reset = True
        return observations, info

    def step(self, actions: NDArray[np.int64]) -> Step:
        """One step with `actions` [N]; errors as in `send`."""
        self.send(actions)
        return self.recv()

    def send(self, actions: NDArray[np.int64]) -> None:
        """Keeps `actions`, integers [N], for `recv`.

        Raises:
            ValueError: when the actions have the wrong type, shape or range.
            RuntimeError: before the first `reset`, twice in a row, or after `close`.
        """
        checked = checked_actions(actions, self.num_envs, self._num_actions)
        self._require_open()
        if not self._is_reset:
            raise RuntimeError("the environment was not reset; call reset first")
        if self._sent is not None:
            raise RuntimeError("send was called twice; call recv in between")
        self._sent = checked

    def recv(self) -> Step:
        """Plays what was sent.

        Raises:
            RuntimeError: without a `send` before it, or after `close`.
        """
        self._require_open()
        if self._sent is None:
            raise RuntimeError("recv was called without send; call send first")
        observations, rewards, terminated, truncated, info = self._envs.step(self._sent + self._first_action)
        self._sent = None
        return observations, rewards.astype(np.float32), terminated, truncated & ~terminated, info

    def frame(self) -> NDArray[np.uint8]:
        """The first environment's picture, uint8 [height, width, 3].

        Raises:
            RuntimeError: without a render mode, before the first `reset`, or after `close`.
        """
        self._require_open()
        if self.render_mode is None:
            raise RuntimeError("there is no picture; make the environment with make_filmed")
        if not self._is_reset:
            raise RuntimeError("there is no picture yet; call reset first")
        pictures = self._envs.render()
        return np.asarray(pictures[0] if pictures else None, np.uint8)

    def close_extras(self, **kwargs: Any) -> None:
        """Closes the environments."""
        self._envs.close(**kwargs)

    def _require_open(self) -> None:
        if self.closed:
            raise RuntimeError("the environment is closed; make a new one")


def reason(error: Exception) -> str:
    """The first line of an error that Gymnasium or an environment raised."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)

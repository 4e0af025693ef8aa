"""Colour pictures of an Atari game that an agent plays in grey."""

from typing import Any

import numpy as np
from gymnasium.vector import VectorWrapper
from numpy.typing import NDArray

from pixelq.envs.atari import ATARI_SIZE, ATARI_STACK, AtariVec, Observations, Step
from pixelq.envs.protocols import Protocol


class FilmedAtari(VectorWrapper[Observations, NDArray[np.int64], Observations, NDArray[np.int64], NDArray[Any]]):
    """One game, played twice in lockstep: in grey for the agent, and in colour for the film.

    It returns the same as an `AtariVec` of one environment. `frame` is the same moment in colour, without flicker.

    The native environment draws either grey or colour, so a second one with the same seed gets the same actions.

    Args:
        env_id: A Gymnasium id `ALE/*-v5`.
        seed: Non-negative seed.
        protocol: As in `AtariVec`.
        full_action_space: As in `AtariVec`.
        frame_stack: As in `AtariVec`.
        frame_size: As in `AtariVec`.

    Raises:
        InvalidEnv: If an argument is out of range or the game has no single-player mode.
    """

    def __init__(
        self,
        env_id: str,
        seed: int,
        protocol: Protocol,
        *,
        full_action_space: bool = False,
        frame_stack: int = ATARI_STACK,
        frame_size: int = ATARI_SIZE,
    ) -> None:
        self._grey, self._colour = (
            AtariVec(
                env_id,
                1,
                seed,
                protocol,
                full_action_space=full_action_space,
                num_threads=1,
                frame_stack=frame_stack,
                frame_size=frame_size,
                colour=colour,
            )
            for colour in (False, True)
        )
        super().__init__(self._grey)
        self.env_id = env_id
        self.protocol = protocol
        self.frame_stack = self._grey.frame_stack
        self.frames_per_step = self._grey.frames_per_step
        self.action_meanings = self._grey.action_meanings
        self._frame: NDArray[np.uint8] | None = None

    @property
    def flicker(self) -> float:
        """Probability, per agent step, that the newest frame of the agent's observation is black."""
        return self.protocol.flicker

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start a new episode; see `AtariVec.reset`."""
        result = self._grey.reset(seed=seed, options=options)
        self._frame = self._colour.reset(seed=seed)[0][0, 0]
        return result

    def step(self, actions: NDArray[np.int64]) -> Step:
        """Play actions [1] for four frames; see `AtariVec.step`."""
        self.send(actions)
        return self.recv()

    def send(self, actions: NDArray[np.int64]) -> None:
        """Start playing actions [1]; see `AtariVec.send`."""
        self._grey.send(actions)
        self._colour.send(actions)

    def recv(self) -> Step:
        """Wait for the step that `send` started, and return its results; see `AtariVec.recv`.

        Raises:
            RuntimeError: If the two games are no longer the same, and where `AtariVec.recv` raises it.
        """
        result = self._grey.recv()
        observations, *outcome, _ = self._colour.recv()
        self._frame = observations[0, 0]
        if _outcome(result[1:4]) != _outcome(outcome):
            raise RuntimeError("the film is no longer of the game being played; report it with the seed and the game")
        return result

    def frame(self) -> NDArray[np.uint8]:
        """Return the current picture, uint8 [height, width, 3]; 210×160 for most games.

        Raises:
            RuntimeError: Before the first `reset`.
        """
        if self._frame is None:
            raise RuntimeError("there is no picture yet; call reset first")
        return self._frame

    def close(self, **kwargs: Any) -> None:
        """Close both games."""
        self._colour.close(**kwargs)
        super().close(**kwargs)


def _outcome(arrays: Any) -> tuple[float, bool, bool]:
    rewards, terminated, truncated = arrays
    return float(rewards[0]), bool(terminated[0]), bool(truncated[0])

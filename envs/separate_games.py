"""Atari games side by side, each in a native environment of its own, so that some can rest."""

from collections.abc import Callable
from typing import Any

import numpy as np
from ale_py.vector_env import AtariVectorEnv
from numpy.typing import NDArray

Outcome = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, NDArray[Any]]]


class SeparateGames:
    """N native environments of one game each, with the interface of one `AtariVectorEnv` of N games.

    A batch of the native environment is always stepped as a whole. These can be left out one by one, and each step of
    all of them costs a little more.

    Args:
        make: Makes a native environment of one game.
        num_envs: Number of games N.

    Attributes:
        is_resting: Whether each game is left out of the steps, bool [N]. Its rows then repeat its last observation,
            with reward 0 and no flag.
    """

    def __init__(self, make: Callable[[], AtariVectorEnv], num_envs: int) -> None:
        self._games = [make() for _ in range(num_envs)]
        self._latest: list[Outcome] = []
        self.is_resting = np.zeros(num_envs, np.bool_)

    def reset(
        self, *, seed: NDArray[np.int64] | None = None, options: dict[str, NDArray[np.bool_]] | None = None
    ) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        """Reset the games in `options["reset_mask"]` with a seed for each, or all; see `AtariVectorEnv.reset`."""
        mask = np.ones_like(self.is_resting) if options is None else options["reset_mask"]
        seeds = np.full(len(mask), -1)
        if seed is not None:
            seeds[mask] = seed
        latest = []
        for k, game in enumerate(self._games):
            if mask[k]:
                observation, info = game.reset(seed=seeds[k : k + 1])
                latest.append(_still(observation, info))
            else:
                latest.append(self._latest[k])
        self._latest = latest
        observations, _, _, _, info = self._joined()
        return observations, info

    def send(self, actions: NDArray[np.int64]) -> None:
        """Start a step of the games that do not rest with actions [N]."""
        for k in np.flatnonzero(~self.is_resting):
            self._games[k].send(actions[k : k + 1])

    def recv(self) -> Outcome:
        """Wait for the step, and return its results as `AtariVectorEnv.recv` does."""
        for k, game in enumerate(self._games):
            self._latest[k] = _still(self._latest[k][0], self._latest[k][4]) if self.is_resting[k] else game.recv()
        return self._joined()

    def _joined(self) -> Outcome:
        """Return the latest results of all games as arrays [N, ...]."""
        observations, rewards, terminated, truncated, infos = zip(*self._latest, strict=True)
        info = {name: np.concatenate([each[name] for each in infos]) for name in infos[0]}
        info["env_id"] = np.arange(len(infos), dtype=info["env_id"].dtype)
        arrays = (np.concatenate(parts) for parts in (observations, rewards, terminated, truncated))
        return (*arrays, info)  # type: ignore[return-value]


def _still(observation: NDArray[Any], info: dict[str, NDArray[Any]]) -> Outcome:
    """Return the results of a step that changes nothing."""
    return observation, np.zeros(1, np.int32), np.zeros(1, np.bool_), np.zeros(1, np.bool_), info

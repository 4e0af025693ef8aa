"""Recorded episodes: observations, pictures, q-values, actions and rewards as arrays, and a film."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelq.agents.acting.memory import Memory
from pixelq.agents.acting.policy import Policy
from pixelq.agents.evaluation.episode import Game, PlayedStep, frames_per_second, play_episode
from pixelq.agents.evaluation.evaluate import evaluate
from pixelq.envs import make_filmed, make_vec

MOST_STATES = 1000
"""Number of states that are kept, of one episode or of several together."""
TALLEST = 256
"""Height of a kept picture in pixels; of higher ones only every 2nd, 3rd, … row and column is kept."""


@dataclass(frozen=True)
class RecordedEpisode:
    """One episode of T agent steps and A actions, with S of its states, evenly spaced."""

    video: Path | None
    """Path of the mp4 with T + 1 pictures at `fps`; picture t is the state before step t. None without a film."""
    fps: float
    """Agent steps, and so pictures, per second."""
    seed: int
    """Seed of the game and of the random actions."""
    action_names: tuple[str, ...]
    """Names of the A actions, such as `NOOP`; numbers if the environment has no names."""
    q_values: NDArray[np.float32]
    """[T, A], before each step; −∞ for actions that are not allowed."""
    actions: NDArray[np.int64]
    """[T], the actions that were taken, which are not always the greedy ones."""
    rewards: NDArray[np.float64]
    """[T], raw rewards."""
    states: NDArray[np.int64]
    """[S], the steps before which `observations` and `pictures` were taken, in increasing order."""
    observations: NDArray[Any]
    """[S, *observation], as the policy reads them."""
    pictures: NDArray[np.uint8]
    """[S, height, width, 3], the screen in colour, at most `TALLEST` pixels high."""
    memories: tuple[Memory, ...] | None = None
    """[S], the LSTM state before each observation; None without an LSTM."""

    @property
    def values(self) -> NDArray[np.float32]:
        """Greatest q-value before each step, [T]."""
        values: NDArray[np.float32] = self.q_values.max(1)
        return values

    @property
    def gaps(self) -> NDArray[np.float32]:
        """Difference between the two greatest q-values before each step, [T]; 0 where one action alone is allowed."""
        if self.q_values.shape[1] == 1:
            return np.zeros_like(self.q_values[:, 0])
        best = np.sort(self.q_values, 1)
        gaps: NDArray[np.float32] = np.where(np.isfinite(best[:, -2]), best[:, -1] - best[:, -2], 0.0)
        return gaps

    @property
    def total(self) -> float:
        """Raw return of the episode."""
        return float(self.rewards.sum())


def record_episode(
    policy: Policy, game: Game, path: Path | None = None, *, most_states: int = MOST_STATES
) -> RecordedEpisode:
    """Play one episode as `film_episode` does, and record it.

    Args:
        policy: The policy, whose greedy actions are played.
        game: The environment, its rules and the seed.
        path: Path of the mp4; None films nothing.
        most_states: Greatest S; a longer episode keeps every 2nd, 4th, … of its states.

    Raises:
        InvalidEnv: If the environment draws no pictures.
        InvalidRun: If the film cannot be written.
        ValueError: If `most_states` is less than 1.
    """
    envs = make_filmed(game.env_id, **game.arguments)
    try:
        steps = play_episode(policy, envs, path, epsilon=game.epsilon, seed=game.seed)
        q_values, actions, rewards, kept = _collect(steps, most_states)
        fps, action_names = frames_per_second(envs), tuple(envs.action_meanings)
    finally:
        envs.close()
    return RecordedEpisode(
        video=path,
        fps=fps,
        seed=game.seed,
        action_names=action_names,
        q_values=np.stack(q_values),
        actions=np.array(actions, np.int64),
        rewards=np.array(rewards, np.float64),
        states=np.array(list(kept), np.int64),
        observations=np.stack([state.observation for state in kept.values()]),
        pictures=np.stack([state.picture for state in kept.values()]),
        memories=_all_of(state.memory for state in kept.values()),
    )


def best_seed(policy: Policy, game: Game, episodes: int) -> tuple[int, tuple[float, ...]]:
    """Play episodes with consecutive seeds, without pictures, and return the seed with the greatest return.

    `record_episode` with that seed plays the same episode again if the environment is determined by its seed and the
    actions, as Atari is. On a GPU the last digits of q-values may differ between two calls, so there the second
    episode can differ from the first.

    Args:
        policy: The policy, whose greedy actions are played.
        game: The environment, its rules and the first seed.
        episodes: Number of episodes.

    Returns:
        The seed, the smallest if several are equally good, and the returns [episodes] in the order of the seeds.

    Raises:
        InvalidEnv: If there is no such environment.
        ValueError: If `episodes` is less than 1.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    returns: list[float] = []
    for seed in range(game.seed, game.seed + episodes):
        envs = make_vec(game.env_id, 1, **(game.arguments | {"seed": seed}), num_threads=1)
        try:
            returns += evaluate(policy, envs, 1, epsilon=game.epsilon, seed=seed).returns
        finally:
            envs.close()
    return game.seed + int(np.argmax(returns)), tuple(returns)


class States(NamedTuple):
    """N states of one or more episodes."""

    observations: NDArray[Any]  # [N, *observation]
    pictures: NDArray[np.uint8]  # [N, height, width, 3]
    memories: tuple[Memory, ...] | None  # [N]


def states_of(episodes: Iterable[RecordedEpisode], most: int = MOST_STATES) -> States:
    """Return the states of episodes that one policy played in one game.

    Args:
        episodes: The recorded episodes.
        most: Greatest N. If there are more states, evenly spaced ones are taken, in order.

    Raises:
        ValueError: If there is no episode, or `most` is less than 1.
    """
    episodes = list(episodes)
    if not episodes:
        raise ValueError("episodes must hold at least 1 episode, got 0")
    if most < 1:
        raise ValueError(f"most must be at least 1, got {most}")
    count = sum(len(episode.states) for episode in episodes)
    chosen = np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)  # [N]
    observations = np.concatenate([episode.observations for episode in episodes])
    pictures = np.concatenate([episode.pictures for episode in episodes])
    memories = [memory for episode in episodes for memory in episode.memories or ()]
    return States(observations[chosen], pictures[chosen], tuple(memories[i] for i in chosen) if memories else None)


def _all_of(memories: Iterable[Memory | None]) -> tuple[Memory, ...] | None:
    """Return the memories; None if the policy has no LSTM."""
    return tuple(memory for memory in memories if memory is not None) or None


_Kept = dict[int, PlayedStep]


def _collect(steps: Iterable[PlayedStep], most: int) -> tuple[list[NDArray[np.float32]], list[int], list[float], _Kept]:
    """Return the q-values, actions and rewards of all steps, and evenly spaced steps with smaller pictures.

    Args:
        steps: The steps of an episode.
        most: Greatest number of steps that are kept.

    Raises:
        ValueError: If `most` is less than 1.
    """
    if most < 1:
        raise ValueError(f"most_states must be at least 1, got {most}")
    q_values: list[NDArray[np.float32]] = []
    actions: list[int] = []
    rewards: list[float] = []
    kept: _Kept = {}
    apart = 1  # doubles while the episode goes on, as its length is not known in advance
    for t, step in enumerate(steps):
        q_values.append(step.q_values)
        actions.append(step.action)
        rewards.append(step.reward)
        if t % apart:
            continue
        if len(kept) == most:
            apart *= 2
            kept = {earlier: state for earlier, state in kept.items() if earlier % apart == 0}
            if t % apart:
                continue
        factor = -(-step.picture.shape[0] // TALLEST)
        kept[t] = step._replace(picture=step.picture[::factor, ::factor].copy())
    return q_values, actions, rewards, kept

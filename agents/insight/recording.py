"""A whole episode as arrays: what the agent saw, expected, did and got, beside its film."""

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
TALLEST = 256  # pixels; pictures that are higher are thinned by a whole factor


@dataclass(frozen=True)
class RecordedEpisode:
    """One episode of T agent steps and A actions, with S of its states, evenly spaced."""

    video: Path | None
    """The mp4, T + 1 pictures at ``fps``: picture t is the moment before step t. None if it was not filmed."""
    fps: float
    """Agent steps, and pictures, in a second."""
    seed: int
    """Of the game and of the random actions."""
    action_names: tuple[str, ...]
    """A names, such as NOOP; numbers where the environment has no names."""
    q_values: NDArray[np.float32]
    """[T, A]"""
    actions: NDArray[np.int64]
    """[T], those taken: not always the greedy ones."""
    rewards: NDArray[np.float64]
    """[T], raw."""
    states: NDArray[np.int64]
    """[S], the steps before which ``observations`` and ``pictures`` were taken, rising."""
    observations: NDArray[Any]
    """[S, *observation], as the agent is given them."""
    pictures: NDArray[np.uint8]
    """[S, height, width, 3], the screen in colour, at most 256 pixels high."""
    memories: tuple[Memory, ...] | None = None
    """[S], what the agent remembered before each of the observations; None without an LSTM."""

    @property
    def values(self) -> NDArray[np.float32]:
        """Max over actions of the q-values, [T]."""
        values: NDArray[np.float32] = self.q_values.max(1)
        return values

    @property
    def total(self) -> float:
        """The episode's raw return."""
        return float(self.rewards.sum())


def record_episode(
    policy: Policy, game: Game, path: Path | None = None, *, most_states: int = MOST_STATES
) -> RecordedEpisode:
    """Plays one episode as ``film_episode`` does, and records it.

    Args:
        policy: its greedy policy is played.
        game: what is played.
        path: of the mp4; None films nothing.
        most_states: S is at most this; an episode that is longer keeps every 2nd, 4th, … of its states.

    Raises:
        InvalidEnv: the environment draws no pictures.
        InvalidRun: the file cannot be written.
        ValueError: most_states is less than 1.
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
    """Plays the game with the seeds from its own on, without pictures, and says which had the greatest return.

    ``record_episode`` of the same game with that seed plays the same episode again, if the environment is
    determined by its seed and actions, as Atari is. On a GPU q-values may differ in their last digits from one time to
    the next, so there the second episode can be another.

    Returns:
        the seed, the least of several that are equally good; and the returns [episodes] of all, in order.

    Raises:
        InvalidEnv: there is no such environment.
        ValueError: episodes is less than 1.
    """
    if episodes < 1:
        raise ValueError(f"episodes is {episodes}; it must be at least 1")
    returns: list[float] = []
    for seed in range(game.seed, game.seed + episodes):
        envs = make_vec(game.env_id, 1, **(game.arguments | {"seed": seed}), num_threads=1)
        try:
            returns += evaluate(policy, envs, 1, epsilon=game.epsilon, seed=seed).returns
        finally:
            envs.close()
    return game.seed + int(np.argmax(returns)), tuple(returns)


class States(NamedTuple):
    """States of one or more episodes."""

    observations: NDArray[Any]  # [N, *observation]
    pictures: NDArray[np.uint8]  # [N, height, width, 3]
    memories: tuple[Memory, ...] | None  # [N]


def states_of(episodes: Iterable[RecordedEpisode], most: int = MOST_STATES) -> States:
    """The states of one agent's episodes of one game, at most N = ``most``.

    Where there are more, they are taken evenly over all, in order.

    Raises:
        ValueError: there is no episode, or most is less than 1.
    """
    episodes = list(episodes)
    if not episodes or most < 1:
        raise ValueError(f"states_of needs an episode and most of at least 1, but has {len(episodes)} and {most}")
    count = sum(len(episode.states) for episode in episodes)
    chosen = np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)  # [N]
    observations = np.concatenate([episode.observations for episode in episodes])
    pictures = np.concatenate([episode.pictures for episode in episodes])
    memories = [memory for episode in episodes for memory in episode.memories or ()]
    return States(observations[chosen], pictures[chosen], tuple(memories[i] for i in chosen) if memories else None)


def _all_of(memories: Iterable[Memory | None]) -> tuple[Memory, ...] | None:
    """The memories, if the agent has any."""
    return tuple(memory for memory in memories if memory is not None) or None


_Kept = dict[int, PlayedStep]


def _collect(steps: Iterable[PlayedStep], most: int) -> tuple[list[NDArray[np.float32]], list[int], list[float], _Kept]:
    """Q-values, actions and rewards of all steps, and at most so many of the steps, with smaller pictures."""
    if most < 1:
        raise ValueError(f"most_states is {most}; it must be at least 1")
    q_values: list[NDArray[np.float32]] = []
    actions: list[int] = []
    rewards: list[float] = []
    kept: _Kept = {}
    apart = 1  # an episode's length is not known before, so the distance doubles as it goes on
    for t, step in enumerate(steps):
        q_values.append(step.q_values)
        actions.append(step.action)
        rewards.append(step.reward)
        if t % apart:
            continue
        if len(kept) == most:
            apart *= 2
            kept = {t_before: state for t_before, state in kept.items() if t_before % apart == 0}
            if t % apart:
                continue
        thin = -(-step.picture.shape[0] // TALLEST)
        kept[t] = step._replace(picture=step.picture[::thin, ::thin].copy())
    return q_values, actions, rewards, kept

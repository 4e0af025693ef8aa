"""Section of the best episode: its film, and the q-values, value, reward and return of each step beside it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from pixelq.agents.evaluation.episode import Game
from pixelq.agents.insight.recording import RecordedEpisode
from pixelq.agents.report.page import Section
from pixelq.agents.report.pictures import bounded_film
from pixelq.agents.results.formatting import describe_rules, format_score
from pixelq.envs import is_atari

NAME = "episode"
MOST_FILM = 8_000_000
"""Greatest number of bytes of a film, before base64 adds a third."""


def episode_section(game: Game, episode: RecordedEpisode, returns: Sequence[float], policy: str) -> Section:
    """Return the section of the episode with the greatest return.

    Args:
        game: The game with the seed of the episode.
        episode: The recorded episode.
        returns: Returns of all episodes that were played.
        policy: The policy as text, as in `The policy of pong after 1,000,000 steps`.
    """
    film = None if episode.video is None else bounded_film(episode.video, episode.fps, MOST_FILM)
    steps, count = len(episode.actions), len(returns)
    values = {
        "problem": None,
        "policy": policy,
        "steps": steps,
        "seconds": round(steps / episode.fps),
        "total": format_score(episode.total),
        "returns": [format_score(value) for value in sorted(returns)],
        "rules": describe_game(game),
        "has_film": film is not None,
        "start": clearest_choice(episode),
    }
    data: dict[str, Any] = {
        "fps": episode.fps,
        "start": clearest_choice(episode),
        "film": None if film is None else base64.b64encode(film).decode(),
        "names": list(episode.action_names),
        "q_values": base64.b64encode(episode.q_values.astype("<f4").tobytes()).decode(),  # [T, A]
        "actions": episode.actions.tolist(),
        "rewards": [int(reward) if reward.is_integer() else reward for reward in episode.rewards.tolist()],
    }
    return Section(NAME, "An episode" if count == 1 else f"The best of {count} episodes", values, data)


def clearest_choice(episode: RecordedEpisode) -> int:
    """Return the step with the widest gap between the two best actions in the episode's first half.

    The film opens there. At step 0 many games show nothing yet, such as Pong, whose ball is not on the screen.
    """
    return int(episode.gaps[: max(1, len(episode.q_values) // 2)].argmax())


def no_episode_section(problem: str) -> Section:
    """Return the section that says why no episode is shown."""
    return Section(NAME, "An episode", {"problem": problem})


def describe_game(game: Game) -> str:
    """Return a game as text: its environment, rules and seed."""
    chance = f"ε = {game.epsilon:g}" if game.epsilon else "greedy"
    protocol = f"protocol {describe_rules(game.protocol)}, " if is_atari(game.env_id) else ""
    return f"{game.env_id}, {protocol}{chance}, seed {game.seed}"

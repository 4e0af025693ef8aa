"""The best episode: its film, and in step with it q-values, value, reward and return."""

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
MOST_FILM = 8_000_000  # bytes, before base64 adds a third


def episode_section(game: Game, episode: RecordedEpisode, returns: Sequence[float], policy: str) -> Section:
    """The section of an episode, which had the greatest of these returns; ``policy`` says in words whose it is."""
    film = None if episode.video is None else bounded_film(episode.video, episode.fps, MOST_FILM)
    steps, count = len(episode.actions), len(returns)
    values = {
        "problem": None,
        "policy": policy,
        "steps": steps,
        "seconds": round(steps / episode.fps),
        "total": format_score(episode.total),
        "returns": [format_score(value) for value in sorted(returns)],
        "rules": rules_of(game),
        "has_film": film is not None,
    }
    data: dict[str, Any] = {
        "fps": episode.fps,
        "film": None if film is None else base64.b64encode(film).decode(),
        "names": list(episode.action_names),
        "q_values": base64.b64encode(episode.q_values.astype("<f4").tobytes()).decode(),  # [T, A]
        "actions": episode.actions.tolist(),
        "rewards": [int(reward) if reward.is_integer() else reward for reward in episode.rewards.tolist()],
    }
    return Section(NAME, "An episode" if count == 1 else f"The best of {count} episodes", values, data)


def no_episode_section(problem: str) -> Section:
    """The section that says why there is no episode to see."""
    return Section(NAME, "An episode", {"problem": problem})


def rules_of(game: Game) -> str:
    """By what rules it was played, for people."""
    chance = f"ε = {game.epsilon:g}" if game.epsilon else "greedy"
    protocol = f"protocol {describe_rules(game.protocol)}, " if is_atari(game.env_id) else ""
    return f"{game.env_id}, {protocol}{chance}, seed {game.seed}"

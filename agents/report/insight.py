"""A policy at play and from inside: from a checkpoint to the page's sections."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from pixelq.agents.dqn import DQN
from pixelq.agents.errors import InvalidCheckpoint
from pixelq.agents.evaluation.episode import evaluation_game
from pixelq.agents.insight.recording import best_seed, record_episode
from pixelq.agents.report.episode import episode_section, no_episode_section
from pixelq.agents.report.inside import inside_section
from pixelq.agents.report.page import Section
from pixelq.envs import EnvironmentFailed, InvalidEnv, make_filmed

EPISODES = 10
CHECKPOINTS = "checkpoints"


def insight_sections(
    path: str | os.PathLike[str],
    *,
    episodes: int = EPISODES,
    protocol: str | None = None,
    epsilon: float | None = None,
    seed: int = 0,
    device: str = "auto",
) -> list[Section]:
    """The best of some episodes of a saved policy, and what its network computes in it; a sentence where none is drawn.

    Args:
        path: a run (its best checkpoint, or else its latest), or a checkpoint.
        episodes: how many are played, in games that neither training nor the choice of the best checkpoint has seen.
        protocol: Atari rules; None for those of the training, or ``sticky`` where these have no name.
        epsilon: probability of a random action; None for the protocol's in evaluations.
        seed: of the games and of the random actions.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        InvalidCheckpoint: it is missing or damaged, does not say in which environment it was trained, or its
            environment is not here what it was.
        MissingExtra: scikit-learn is not there.
        ValueError: episodes is less than 1.
    """
    agent = DQN.load(path, device)
    if agent.env_id is None:
        raise InvalidCheckpoint(f"{path} does not say which environment it was trained in; train it from an id")
    game = evaluation_game(agent, agent.env_id, protocol, epsilon, seed)
    try:
        envs = make_filmed(game.env_id, **game.arguments)
    except InvalidEnv as error:
        return [no_episode_section(str(error))]
    fits = agent.fits(envs)
    envs.close()
    if not fits:
        raise InvalidCheckpoint(f"{path} was trained on other observations or actions than {game.env_id} has here")
    try:
        best, returns = best_seed(agent, game, episodes)
        game = replace(game, seed=best)
        with TemporaryDirectory() as folder:
            episode = record_episode(agent, game, Path(folder) / "film.mp4")
            return [episode_section(game, episode, returns, policy_of(path, agent)), inside_section(agent, episode)]
    except EnvironmentFailed as error:
        return [no_episode_section(str(error))]
    except OSError as error:  # as of a full disk
        return [no_episode_section(f"the film cannot be written ({error.strerror or error})")]


def policy_of(path: str | os.PathLike[str], agent: DQN) -> str:
    """Which policy it is, for people: the name of its run or of its folder, and how long it had learned."""
    folder = Path(path).absolute()
    name = f"{folder.parent.parent.name}, {folder.name}" if folder.parent.name == CHECKPOINTS else folder.name
    return f"The policy of {name} after {agent.step:,} steps"

"""Sections about a policy: its best episode, and what its network computes in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from pixelq.agents.acting.policy import Policy
from pixelq.agents.errors import InvalidCheckpoint, RunFailed, printable
from pixelq.agents.evaluation.episode import evaluation_game, evaluation_rules, make_arguments
from pixelq.agents.insight.recording import best_seed, record_episode
from pixelq.agents.report.episode import episode_section, no_episode_section
from pixelq.agents.report.inside import inside_section
from pixelq.agents.report.page import Section
from pixelq.agents.results.formatting import pluralize
from pixelq.agents.storage.pointers import run_of
from pixelq.agents.storage.pretrained import find_policy
from pixelq.envs import EnvironmentFailed, InvalidEnv, make_filmed

EPISODES = 10
"""Number of episodes that are played, of which the best is shown."""


def insight_sections(
    path: str | os.PathLike[str],
    *,
    episodes: int = EPISODES,
    protocol: str | None = None,
    epsilon: float | None = None,
    seed: int = 0,
    device: str = "auto",
    tell: Callable[[str], None] = lambda _: None,
) -> list[Section]:
    """Return the sections of the best of several episodes of a saved policy, and of what its network computes in it.

    If its environment draws no pictures or fails, or is in a module that has not been imported, there is only one
    section, which says so.

    Args:
        path: A run (its best checkpoint, or else its latest), a checkpoint, or the name of a pretrained policy.
        episodes: Number of episodes, in games that neither training nor the choice of the best checkpoint has seen.
        protocol: Name of an Atari protocol; None for that of the training, or for `sticky` if its name is unknown.
        epsilon: Probability of a random action; None for that of the agent's evaluations.
        seed: Seed of the games and of the random actions.
        device: `auto`, `cpu` or `cuda`.
        tell: Function that is called with a line of text before the episodes are played, or if they cannot be.

    Raises:
        InvalidCheckpoint: If it is missing or damaged, does not say in which environment it was trained, or has other
            observations or actions than that environment.
        MissingExtra: If scikit-learn is missing.
        ValueError: If `episodes` is less than 1.
    """
    policy = Policy.load(path, device)
    if policy.env_id is None:
        raise InvalidCheckpoint(
            f"{path} does not say which environment it was trained in; train it from an ID or a name"
        )
    rules = evaluation_rules(policy.protocol, protocol)
    shape = policy.observation_space.shape
    try:
        arguments = make_arguments(find_policy(path), policy.env_id, policy.env_arguments, policy.num_actions, shape)
        game = evaluation_game(policy, policy.env_id, rules, epsilon, seed, arguments)
        envs = make_filmed(game.env_id, **game.arguments)
    except InvalidEnv as error:
        return no_episode(str(error), tell)
    fits = policy.fits(envs)
    envs.close()
    if not fits:
        raise InvalidCheckpoint(f"{path} was trained on other observations or actions than {game.env_id} has here")
    tell(printable(f"playing {pluralize(episodes, 'episode')} with {path} ..."))
    try:
        best, returns = best_seed(policy, game, episodes)
        game = replace(game, seed=best)
        with TemporaryDirectory() as folder:
            episode = record_episode(policy, game, Path(folder) / "film.mp4")
            name = describe_policy(path, policy)
            return [episode_section(game, episode, returns, name), inside_section(policy, episode)]
    except EnvironmentFailed as error:
        return no_episode(str(error), tell)
    except OSError as error:
        return no_episode(f"the film cannot be written ({error.strerror or error})", tell)
    except RunFailed as error:  # such as a full disk
        return no_episode(str(error), tell)


def no_episode(problem: str, tell: Callable[[str], None]) -> list[Section]:
    """Return the one section that says why no episode is shown, and tell it."""
    tell(printable(f"no episode is shown: {problem}"))
    return [no_episode_section(problem)]


def describe_policy(path: str | os.PathLike[str], policy: Policy) -> str:
    """Return a policy as text: the name of its run or of its folder, and the steps of its training."""
    folder = Path(path).absolute()
    run = run_of(folder)
    name = folder.name if run is None else f"{run.name}, {folder.name}"
    return f"The policy of {name} after {policy.step:,} steps"

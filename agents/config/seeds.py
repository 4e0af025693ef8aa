"""Seeds: those of an agent's random generators, and those of the environments it plays in."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

PURPOSES = ("training", "resumed training", "choice of the best", "evaluation", "actor", "learner")
Purpose = Literal["resumed training", "choice of the best", "evaluation"]


class AgentSeeds(NamedTuple):
    """Seeds of an agent's random generators, all derived from one seed."""

    network: int
    """Seed of the initial weights."""
    actions: int
    """Seed of random actions."""
    replay: int
    """Seed of the draws from the replay."""
    noise: int
    """Seed of the noise that noisy layers draw for acting."""
    learner: int
    """Seed of the noise and fractions that updates draw."""
    resets: int
    """Seed of the weights to which resets move the network."""


def agent_seeds(seed: int) -> AgentSeeds:
    """Return the seeds of an agent's random generators."""
    return AgentSeeds(*np.random.SeedSequence(seed).generate_state(6, np.uint32).tolist())


def derived_seed(seed: int, purpose: Purpose, part: int = 0) -> int:
    """Return the seed of environments for another purpose than training.

    Training takes `seed` itself. No two purposes share a seed, so that games played for one are not played for
    another.

    Args:
        seed: Seed of the run.
        purpose: What the environments are for.
        part: Number that tells several sets of environments for one purpose apart.
    """
    return int(np.random.SeedSequence([seed, PURPOSES.index(purpose), part]).generate_state(1, np.uint32)[0])


def actor_seed(seed: int, actor: int, starts: int, step: int) -> int:
    """Return the seed of an actor's environments, or of its exploration, which no other actor has.

    Args:
        seed: Seed of the environments or of the agent.
        actor: Number of the actor.
        starts: How often the actor has been started before.
        step: Agent step at which the training began or was resumed.
    """
    words = np.random.SeedSequence([seed, PURPOSES.index("actor"), actor, starts, step])
    return int(words.generate_state(1, np.uint32)[0])


def learner_seed(seed: int, rank: int) -> int:
    """Return the seed of the random numbers of one of several learners, which no other learner has.

    Args:
        seed: Seed of the agent.
        rank: Number of the learner, at least 1; the first one has the agent's own.
    """
    words = np.random.SeedSequence([seed, PURPOSES.index("learner"), rank])
    return int(words.generate_state(1, np.uint32)[0])

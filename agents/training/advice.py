"""Advice on a training that can be seen to go wrong before it begins."""

from __future__ import annotations

from pixelq.agents.agent import Agent
from pixelq.agents.config.presets import ATARI_PRESETS, PRESET_PROTOCOLS, preset, preset_of
from pixelq.envs import PROTOCOLS, split_rules

FOR_VECTORS = "classic"
"""Preset for vectors."""


def advice(
    agent: Agent, steps: int, preset_name: str | None = None, *, resume: bool = False, num_envs: int = 1
) -> list[str]:
    """Return sentences about a training that learns nothing, or plays by other rules than its preset's source.

    Args:
        agent: The agent, which has been told its environments.
        steps: Number of steps of the training.
        preset_name: Preset from which the settings started; None for the one that has them, if there is one.
        resume: Whether a run goes on with its own replay.
        num_envs: Number of environments, of all learners.
    """
    sentences = []
    config, name = agent.config, preset_name or preset_of(agent.config)
    rollout = config.rollout_length * num_envs if config.algorithm == "pqn" else 0
    begins = config.learning_starts + (agent.step if agent.replay is None and not resume else 0)
    if agent.step + steps <= begins:
        sentence = (
            f"nothing is learned up to step {agent.step + steps:,}, since learning starts after step {begins:,}; take "
            "more steps, or set a smaller learning_starts"
        )
        starts = preset(FOR_VECTORS).learning_starts
        if len(agent.observation_space.shape) == 1 and starts < config.learning_starts:
            sentence += f"; the preset '{FOR_VECTORS}', made for vectors such as these, starts after step {starts:,}"
        sentences.append(sentence)
    elif 2 * steps <= rollout and not resume:  # at most every second step only resets, and is not counted
        sentences.append(
            f"no rollout is complete after {steps:,} steps, so nothing is learned yet; a rollout takes {rollout:,} "
            "steps: take more, use fewer environments, or set a smaller rollout_length"
        )
    rules = split_rules(agent.protocol or "")[0]
    own = PRESET_PROTOCOLS[name] if name in ATARI_PRESETS else rules
    if rules in PROTOCOLS and rules != own:
        sentences.append(
            f"the games are played by the protocol '{rules}', the source of the preset '{name}' by '{own}'; scores are "
            "not comparable with its scores"
        )
    return sentences

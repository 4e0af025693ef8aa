"""Presets: functions that return a configuration with the settings of a source."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from pixelq.agents.config import AgentConfig, InvalidConfig


def nature() -> AgentConfig:
    """DQN, Mnih et al. 2015 (doi:10.1038/nature14236), Extended Data Table 1; run it with the protocol ``nature``.

    The table counts the target network's period, 10,000, in updates; the authors' program counts agent steps, and
    so does this preset. ε decays after learning_starts, as in that program. RMSProp's 0.01 applies to gradients
    summed over the batch; ours are means, hence 0.01/32².
    """
    return AgentConfig(
        optimizer="rmsprop",
        learning_rate=2.5e-4,
        rmsprop_decay=0.95,
        rmsprop_epsilon=0.01 / 32**2,
        loss="huber",
        replay_capacity=1_000_000,
        learning_starts=50_000,
        train_every=4,
        target_update_every=10_000,
        epsilon_end=0.1,
        epsilon_steps=1_000_000,
        encoder="nature",
    )


def dqn() -> AgentConfig:
    """DQN with Adam as the Dopamine baselines run it (Castro et al. 2018, arXiv:1812.06110); protocol ``sticky``.

    Its encoder pads as TensorFlow's SAME and starts Xavier-uniform, its loss is the squared TD error. The published
    curves of this configuration are what a run is compared with.
    """
    return AgentConfig(
        optimizer="adam",
        learning_rate=6.25e-5,
        adam_epsilon=1.5e-4,
        loss="squared",
        replay_capacity=1_000_000,
        learning_starts=20_000,
        train_every=4,
        target_update_every=8_000,
        epsilon_end=0.01,
        epsilon_steps=250_000,
        encoder="dopamine",
    )


def quick() -> AgentConfig:
    """DQN for a first result on small hardware: three-step returns, a faster rate, earlier targets, a small replay.

    Ours.
    """
    return AgentConfig(
        n_step=3,
        learning_rate=1e-4,
        adam_epsilon=2e-5,
        replay_capacity=100_000,
        learning_starts=10_000,
        train_every=4,
        target_update_every=1_000,
        epsilon_end=0.01,
        epsilon_steps=90_000,
        encoder="auto",
    )


def classic() -> AgentConfig:
    """DQN for vectors and short episodes, such as CartPole: a small network that learns fast from raw rewards.

    Ours, from the settings of rl-baselines3-zoo (Raffin 2020) with three-step returns, a slower rate and
    a smaller replay, since returns over old random actions mislead.
    """
    return AgentConfig(
        n_step=3,
        batch_size=64,
        learning_rate=1e-3,
        replay_capacity=20_000,
        learning_starts=1_000,
        train_every=2,
        target_update_every=256,
        epsilon_end=0.04,
        epsilon_steps=7_000,
        reward_clip=None,
        hidden=256,
    )


PRESETS: dict[str, Callable[[], AgentConfig]] = {
    function.__name__: function for function in (nature, dqn, quick, classic)
}


def preset(name: str) -> AgentConfig:
    """The configuration of the preset of that name.

    Raises:
        InvalidConfig: there is no such preset.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(PRESETS)}"
        raise InvalidConfig(f"unknown preset {name!r}; {hint}")
    return PRESETS[name]()

"""Presets: functions that return a configuration with the settings of a source."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.config.recurrent_presets import drqn, quick_recurrent, r2d2
from pixelq.agents.errors import InvalidConfig


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

    That is the repository's JAX program; the paper itself has RMSProp and the Huber loss. Its encoder pads as
    TensorFlow's SAME and starts Xavier-uniform, its loss is the squared TD error. ``pixelq compare`` lays a run
    beside its published curve.
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


def double() -> AgentConfig:
    """Double DQN, van Hasselt et al. 2016 (arXiv:1509.06461), with DQN's settings unchanged; protocol ``nature``.

    Their tuned version copies the target every 30,000 steps, ends at ε 0.01 and shares one bias among the actions.
    """
    return replace(nature(), double=True)


def dueling() -> AgentConfig:
    """Dueling Double DQN, Wang et al. 2016 (arXiv:1511.06581), section 4.2; protocol ``nature``.

    The paper calls its rate slightly lower than 2.5e-4 without a number; this is the one that it gives for dueling
    with prioritised replay. Its scaling of the gradient into the encoder by 1/√2 is left out.
    """
    return replace(double(), dueling=True, learning_rate=6.25e-5, max_grad_norm=10.0)


def per() -> AgentConfig:
    """Prioritised Double DQN, proportional, Schaul et al. 2016 (arXiv:1511.05952), appendix B.2; protocol ``nature``.

    On the tuned Double DQN (target every 30,000 steps, ε to 0.01), whose one bias for all actions is left out. A
    quarter of its rate; α 0.6, β from 0.4 to 1 at step 50M.
    """
    tuned = replace(double(), target_update_every=30_000, epsilon_end=0.01)
    config = replace(tuned, learning_rate=2.5e-4 / 4, prioritized=True, priority_alpha=0.6)
    return replace(config, priority_beta=0.4, priority_beta_steps=50_000_000 - config.learning_starts)


def c51() -> AgentConfig:
    """C51, Bellemare et al. 2017 (arXiv:1707.06887), as the Dopamine baselines run it; protocol ``sticky``.

    The paper has the same rate and Adam ε, but starts at step 50,000, copies the target every 10,000 and lets ε fall
    over 1M steps, without sticky actions. The published curve is probably one of DQN's slower rate (6.25e-5, Adam ε
    1.5e-4), which Dopamine's JAX program had until January 2024: it learns half as fast as their curve before it.
    """
    return replace(dqn(), loss="huber", head="categorical", learning_rate=2.5e-4, adam_epsilon=0.01 / 32)


def qrdqn() -> AgentConfig:
    """QR-DQN, Dabney et al. 2018 (arXiv:1710.10044), as the Dopamine baselines run it; protocol ``sticky``.

    The paper has one-step returns and uniform replay. Dopamine's program computes importance weights only after the
    update, so that none reaches the loss: hence β 0.
    """
    config = replace(dqn(), loss="huber", head="quantile", quantiles=200, n_step=3, **_DOPAMINE_PRIORITIES)
    return replace(config, priority_beta=0.0, learning_rate=5e-5, adam_epsilon=0.01 / 32)


def iqn() -> AgentConfig:
    """IQN, Dabney et al. 2018 (arXiv:1806.06923), as the Dopamine baselines run it; protocol ``sticky``.

    The paper has one-step returns, starts at step 50,000, copies the target every 10,000 and lets ε fall over 1M
    steps, without sticky actions.
    """
    config = replace(dqn(), loss="huber", head="implicit", n_step=3, learning_rate=5e-5, adam_epsilon=0.01 / 32)
    return replace(config, tau_samples=64, tau_samples_target=64, tau_samples_policy=32)


def fqf() -> AgentConfig:
    """FQF, Yang et al. 2019 (arXiv:1911.02140), section 4.2, as the authors' program runs it; protocol ``nature``.

    It is built on Dopamine's IQN. The program's fractions learn at 5e-11 or 5e-10, the paper's at 2.5e-9.
    """
    config = replace(dqn(), loss="huber", head="fqf", quantiles=32, fraction_learning_rate=2.5e-9)
    config = replace(config, learning_rate=5e-5, adam_epsilon=0.01 / 32)
    return replace(config, learning_starts=50_000, target_update_every=10_000, epsilon_steps=1_000_000)


def munchausen() -> AgentConfig:
    """Munchausen DQN, Vieillard et al. 2020 (arXiv:2007.14430), α 0.9, τ 0.03, l₀ −1; protocol ``sticky``."""
    return replace(dqn(), loss="huber", munchausen=True, learning_rate=5e-5, adam_epsilon=0.01 / 32)


def munchausen_iqn() -> AgentConfig:
    """Munchausen IQN, Vieillard et al. 2020 (arXiv:2007.14430), one-step returns; protocol ``sticky``."""
    return replace(iqn(), munchausen=True, n_step=1)


def rainbow() -> AgentConfig:
    """Rainbow, Hessel et al. 2018 (arXiv:1710.02298), table 1; protocol ``nature``.

    Frames of the table are given as steps here: four to one. β reaches 1 at the paper's last step, 50M. DQN Zoo and
    Dopamine start the noise at σ₀ 0.1; DQN Zoo limits the gradient's norm to 10.
    """
    return AgentConfig(
        head="categorical",
        double=True,
        dueling=True,
        noisy=True,
        noisy_sigma=0.5,
        n_step=3,
        prioritized=True,
        priority_alpha=0.5,
        priority_beta=0.4,
        priority_beta_steps=50_000_000 - 20_000,
        learning_rate=6.25e-5,
        adam_epsilon=1.5e-4,
        learning_starts=20_000,
        target_update_every=8_000,
        epsilon_start=0.0,
        epsilon_end=0.0,
        encoder="nature",
    )


def rainbow_dopamine() -> AgentConfig:
    """Rainbow without double, dueling and noise, as the Dopamine baselines run it (Castro et al. 2018); ``sticky``."""
    return replace(dqn(), loss="huber", head="categorical", n_step=3, **_DOPAMINE_PRIORITIES)


def der() -> AgentConfig:
    """Data-efficient Rainbow, van Hasselt et al. 2019 (arXiv:1906.05243); protocol ``nature``.

    For 100,000 steps: an update each step, twenty-step returns and a small encoder. σ₀ and the limit of the
    gradient's norm are those of a public program (Kaixhin/Rainbow).
    """
    return replace(
        rainbow(),
        n_step=20,
        learning_rate=1e-4,
        max_grad_norm=10.0,
        noisy_sigma=0.1,
        replay_capacity=100_000,
        learning_starts=1_600,
        train_every=1,
        target_update_every=2_000,
        priority_beta_steps=100_000 - 1_600,
        encoder="der",
        hidden=256,
    )


def btr() -> AgentConfig:
    """Beyond The Rainbow, Clark et al. 2025 (arXiv:2411.03820); run it with 64 environments and protocol ``sticky``.

    As the paper says it, and Rainbow's β, of which it says nothing, to 1 at step 50M (200M frames). ε is off from step
    25M. Its program takes α in place of β in the weights, log π(a|s) from the online network, cosines from i = 0, and
    an exponential decay of ε from step 0.
    """
    return AgentConfig(
        head="implicit",
        tau_samples=8,
        tau_samples_target=8,
        tau_samples_policy=8,
        cosines=64,
        dueling=True,
        noisy=True,
        noisy_sigma=0.5,
        munchausen=True,
        n_step=3,
        gamma=0.997,
        batch_size=256,
        train_every=64,
        target_update_every=500 * 64,
        learning_rate=1e-4,
        adam_epsilon=0.005 / 256,
        max_grad_norm=10.0,
        prioritized=True,
        priority_alpha=0.2,
        priority_beta=0.4,
        priority_beta_steps=50_000_000 - 200_000,
        replay_capacity=2**20,
        learning_starts=200_000,
        epsilon_end=0.01,
        epsilon_steps=2_000_000,
        epsilon_off=25_000_000,
        encoder="impala",
        encoder_width=2,
        spectral_norm=True,
        adaptive_pool=6,
    )


def quick() -> AgentConfig:
    """DQN for a first result on small hardware: three-step returns, a faster rate, earlier targets, a small replay.

    Ours; Pong in a million steps is in docs/results.
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


# Priorities are the roots of the losses, and the weights the roots of the inverse probabilities.
_DOPAMINE_PRIORITIES: dict[str, Any] = {
    "prioritized": True,
    "priority_alpha": 0.5,
    "priority_beta": 0.5,
    "priority_epsilon": 1e-10,
}

PRESETS: dict[str, Callable[[], AgentConfig]] = {
    function.__name__: function
    for function in (
        *(nature, dqn, double, dueling, per, c51, qrdqn, iqn, fqf, munchausen, munchausen_iqn),
        *(rainbow, rainbow_dopamine, der, btr, quick, classic),
        *(drqn, r2d2, quick_recurrent),
    )
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

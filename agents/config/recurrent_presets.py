"""Presets of agents with memory: functions that return a configuration with the settings of a source."""

from __future__ import annotations

from pixelq.agents.config.agent_config import AgentConfig


def drqn() -> AgentConfig:
    """DRQN, Hausknecht & Stone 2015 (arXiv:1507.06527): one frame, an LSTM in place of the hidden layer; ``nature``.

    Sequences of 10 steps from random places, which start with a state of zeros and all of which are learned from, out
    of 400,000 rows. Unlike in the paper, all places are equally likely, where it draws an episode first; a sequence
    goes on through an episode's end with a new state; the gradient is clipped by its norm, at 10; and in place of
    ADADELTA at a rate of 0.1 stands Adam at DQN's. The rest is DQN's.
    """
    return AgentConfig(
        lstm=512,
        hidden=0,
        frame_stack=1,
        sequence_length=10,
        sequence_period=1,
        sequence_state="zero",
        burn_in=0,
        learning_rate=2.5e-4,
        max_grad_norm=10.0,
        replay_capacity=400_000,
        learning_starts=50_000,
        train_every=4,
        target_update_every=10_000,
        epsilon_end=0.1,
        epsilon_steps=1_000_000,
        encoder="nature",
    )


def r2d2() -> AgentConfig:
    """R2D2, Kapturowski et al. 2019 (openreview r1lyTjAqYX), table 2, for any number of environments; ``sticky``.

    The paper has 256 environments at 260 frames a second each (so we read its "steps") and 5 updates a second: one for
    3,328 agent steps. Its 100,000 sequences overlap by half and hold 4M steps, which with the states are 29 GB; the
    first update waits for 5,000 of them. A sequence is 40 steps of burn-in and 80 that are learned from. The loss is
    the mean of δ² over these, where its authors' Acme sums ½δ² (Hoffman et al. 2020), 40 times as much; Adam's ε, 1e-3,
    and the norm at which gradients are clipped, 40 as in Ape-X, are divided by that.
    Unlike in the paper, there is one frame, not four; a game has its own actions unless all 18 are asked for; sequences
    go on through an episode's end with a new state; a new sequence has the greatest priority so far, where the paper's
    actors, which lag, work out its own; and the last reward is read through tanh. Importance weights have table 2's
    exponent, though section 2.3 says that they were left out.
    """
    train_every = 3_328
    acme_to_ours = 80 / 2  # of the losses, and so of the gradients
    return AgentConfig(
        lstm=512,
        lstm_last_action=True,
        lstm_last_reward=True,
        frame_stack=1,
        sequence_length=120,
        sequence_period=40,
        sequence_state="stored",
        burn_in=40,
        double=True,
        dueling=True,
        value_rescaling=True,
        reward_clip=None,
        loss="squared",
        n_step=5,
        gamma=0.997,
        prioritized=True,
        priority_alpha=0.9,
        priority_beta=0.6,
        priority_eta=0.9,
        batch_size=64,
        learning_rate=1e-4,
        adam_epsilon=1e-3 / acme_to_ours,
        max_grad_norm=40.0 / acme_to_ours,
        replay_capacity=4_000_000,
        learning_starts=200_000,
        train_every=train_every,
        target_update_every=2_500 * train_every,
        epsilon_ladder=True,
        encoder="nature",
    )


def quick_recurrent() -> AgentConfig:
    """R2D2's parts for a first result on small hardware: a small memory that reads the last action; 16 environments.

    Ours. What it learns from is mostly new, as an LSTM that goes over the same few episodes again and again learns them
    by heart. The streams of a dueling head keep what an action is worth apart from what the rest of an episode brings.
    Its rate is for vectors: on Pong's pixels all units of an encoder fell silent at 3e-4 already. For pixels take
    ``quick``, whose rate is 1e-4, with an LSTM and layer_norm; docs/results has its run.
    """
    return AgentConfig(
        lstm=128,
        lstm_last_action=True,
        hidden=128,
        frame_stack=1,
        sequence_length=80,
        sequence_period=40,
        sequence_state="stored",
        burn_in=8,
        double=True,
        dueling=True,
        gamma=0.95,
        batch_size=8,
        learning_rate=2e-3,
        learning_rate_end=1e-4,
        learning_rate_steps=400_000,
        max_grad_norm=10.0,
        reward_clip=None,
        replay_capacity=100_000,
        learning_starts=2_000,
        train_every=64,
        target_update_every=8_000,
        epsilon_end=0.02,
        epsilon_steps=50_000,
    )

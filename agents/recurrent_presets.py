"""Presets of agents with memory: functions that return a configuration with the settings of a source."""

from __future__ import annotations

from pixelq.agents.config import AgentConfig


def drqn() -> AgentConfig:
    """DRQN, Hausknecht & Stone 2015 (arXiv:1507.06527): one frame, an LSTM in place of the hidden layer; ``nature``.

    Sequences of 10 steps from random places, which start with a state of zeros and all of which are learned from, out
    of 400,000 rows. Other than there: all places are as probable, where the paper draws an episode first; a sequence
    goes on through an episode's end with a new state; it is the gradient's norm that is held to 10; and ADADELTA at a
    rate of 0.1 is Adam at DQN's rate. The rest is DQN's.
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

    The paper has 256 environments that each play 260 steps a second, which we take for frames, and 5 updates in it: an
    update for 3,328 of our steps. Its 100,000 sequences overlap by half and hold 4M steps, which are 28 GB; the first
    update waits for 5,000 of them. A sequence is 40 steps of burn-in and 80 that are learned from. The loss is a mean
    over these of δ², where its authors' code in Acme sums ½δ² (Hoffman et al. 2020): Adam's ε, 1e-3, and the norm to
    which gradients are clipped, 40 as in Ape-X, are divided by what lies between.
    Other than there: one frame, where the paper still stacks four; a game's own actions unless all 18 are asked for;
    sequences go on through an episode's end with a new state; a new sequence has the greatest priority so far, where
    the paper's actors, which lag, work out its own; and the last reward is read as its hyperbolic tangent. Importance
    weights have table 2's exponent, though section 2.3 says that they were left out.
    """
    train_every = 3_328
    smaller = 80 / 2  # a loss than Acme's, and its gradient
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
        adam_epsilon=1e-3 / smaller,
        max_grad_norm=40.0 / smaller,
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
    Its rate is for vectors: on Pong's pixels all units of an encoder fell silent at 3e-4 already. There take ``quick``
    with an LSTM, layer_norm and a rate of 1e-4, as docs/results does.
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

"""Presets: functions that return a configuration with the settings of a source, and the protocol of its games.

The first line of each docstring is what `pixelq presets` prints.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pixelq.agents.config.agent_config import SPEED_ONLY, AgentConfig
from pixelq.agents.config.schedules import Linear, Piecewise
from pixelq.agents.errors import InvalidConfig

Make = Callable[[], AgentConfig]

PRESETS: dict[str, Make] = {}
"""Presets by name: the functions that make their configurations."""
PRESET_PROTOCOLS: dict[str, str] = {}
"""Names of the protocols by which the presets' sources play Atari games, by preset; see `pixelq.envs.PROTOCOLS`."""
PRESET_NUM_ENVS: dict[str, int] = {}
"""Numbers of environments that `pixelq train` plays at once, by preset."""
ATARI_PRESETS: set[str] = set()
"""Names of the presets for Atari games, where alone the protocol matters."""

_NOT_LEARNING = SPEED_ONLY | {"evaluation_epsilon", "evaluation_noise", "frame_stack", "frame_size"}
"""Fields that do not tell presets apart: they concern evaluations, the environments or the speed."""


def _preset(protocol: str, num_envs: int = 8, *, is_for_atari: bool = True) -> Callable[[Make], Make]:
    """Return a decorator that lists a function in `PRESETS`, with its protocol and its number of environments."""

    def listed(function: Make) -> Make:
        name = function.__name__
        PRESETS[name], PRESET_PROTOCOLS[name], PRESET_NUM_ENVS[name] = function, protocol, num_envs
        if is_for_atari:
            ATARI_PRESETS.add(name)
        return function

    return listed


# Dopamine: priorities are the square roots of the losses, weights those of the inverse probabilities.
_DOPAMINE_PRIORITIES: dict[str, Any] = {
    "prioritized": True,
    "priority_alpha": 0.5,
    "priority_beta": 0.5,
    "priority_epsilon": 1e-10,
}


@_preset("nature")
def nature() -> AgentConfig:
    """DQN, Mnih et al. 2015 (doi:10.1038/nature14236), Extended Data Table 1.

    The table counts the period of the target network, 10,000, in updates. The authors' program counts agent steps,
    and so does this preset. ε decays after `learning_starts`, as in that program. The table's 0.01 of RMSProp is for
    gradients summed over the batch; ours are means, hence 0.01/32².

    Two things of the authors' Lua program are left out: it blanks the older frames of a stack that reach back over a
    lost life, and it plays the random no-ops again after each lost life.
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
        evaluation_epsilon=0.05,
        encoder="nature",
    )


@_preset("sticky")
def dqn() -> AgentConfig:
    """DQN with Adam as the Dopamine baselines run it (Castro et al. 2018, arXiv:1812.06110).

    The settings are those of Dopamine's JAX program; the paper itself has RMSProp and the Huber loss. The encoder
    pads like TensorFlow's SAME and is initialised Xavier-uniform; the loss is the squared TD error. `pixelq compare`
    plots a run beside the published curve.
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
        evaluation_epsilon=0.001,
        encoder="dopamine",
    )


@_preset("nature")
def double() -> AgentConfig:
    """Double DQN, van Hasselt et al. 2016 (arXiv:1509.06461), with DQN's settings unchanged.

    The paper's tuned version copies the target every 30,000 steps, ends at ε 0.01, shares one bias among the actions
    and is evaluated with a smaller ε (0.01 in DQN Zoo). `per` has the tuned settings, but for the bias.
    """
    return replace(nature(), double=True)


@_preset("nature")
def dueling() -> AgentConfig:
    """Dueling Double DQN, Wang et al. 2016 (arXiv:1511.06581), section 4.2.

    The paper calls its learning rate slightly lower than Double DQN's 2.5e-4, without a number: 2e-4 is our reading
    of that. The only rate that it states, 6.25e-5, is for dueling with prioritised replay, and a quarter of 2.5e-4.
    Its scaling of the gradient into the encoder by 1/√2 is left out: RMSProp divides by the gradient's own size.
    """
    return replace(double(), dueling=True, learning_rate=2e-4, max_grad_norm=10.0)


@_preset("nature")
def per() -> AgentConfig:
    """Prioritised Double DQN, proportional, Schaul et al. 2016 (arXiv:1511.05952), appendix B.2.

    It is based on the tuned Double DQN (target every 30,000 steps, ε to 0.01), without the one bias for all actions.
    α is 0.6, and β grows from 0.4 to 1 at step 50M. The learning rate is a quarter of Double DQN's. As in DeepMind's
    DQN Zoo (Quan & Ostrovski 2020), so is the root of RMSProp's ε, without which the steps would be four times
    smaller still; the TD error is clipped after it is multiplied by its importance weight; and evaluations have ε 0.01.
    DQN Zoo also draws one row in a thousand uniformly, which is left out.
    """
    tuned = replace(double(), target_update_every=30_000, epsilon_end=0.01, evaluation_epsilon=0.01)
    config = replace(tuned, prioritized=True, priority_alpha=0.6, clip_weighted=True)
    config = replace(config, learning_rate=2.5e-4 / 4, rmsprop_epsilon=0.01 / 32**2 / 4**2)
    return replace(config, priority_beta=0.4, priority_beta_steps=50_000_000 - config.learning_starts)


@_preset("sticky")
def c51() -> AgentConfig:
    """C51, Bellemare et al. 2017 (arXiv:1707.06887), as the Dopamine baselines run it.

    The paper has the same learning rate and Adam ε, but starts at step 50,000, copies the target every 10,000 steps
    and decays ε over 1M steps, without sticky actions. The published curve is probably that of DQN's slower rate
    (6.25e-5, Adam ε 1.5e-4), which Dopamine's JAX program had until January 2024: it learns half as fast as their
    earlier curve.
    """
    return replace(dqn(), loss="huber", head="categorical", learning_rate=2.5e-4, adam_epsilon=0.01 / 32)


@_preset("sticky")
def qrdqn() -> AgentConfig:
    """QR-DQN, Dabney et al. 2018 (arXiv:1710.10044), as the Dopamine baselines run it.

    The paper has one-step returns and uniform replay. Dopamine's program computes importance weights only after the
    update, so that none reaches the loss: hence β 0.
    """
    config = replace(dqn(), loss="huber", head="quantile", quantiles=200, n_step=3, **_DOPAMINE_PRIORITIES)
    return replace(config, priority_beta=0.0, learning_rate=5e-5, adam_epsilon=0.01 / 32)


@_preset("sticky")
def iqn() -> AgentConfig:
    """IQN, Dabney et al. 2018 (arXiv:1806.06923), as the Dopamine baselines run it.

    The paper has one-step returns, starts at step 50,000, copies the target every 10,000 steps and decays ε over 1M
    steps, without sticky actions.
    """
    config = replace(dqn(), loss="huber", head="implicit", n_step=3, learning_rate=5e-5, adam_epsilon=0.01 / 32)
    return replace(config, tau_samples=64, tau_samples_target=64, tau_samples_policy=32)


@_preset("nature")
def fqf() -> AgentConfig:
    """FQF, Yang et al. 2019 (arXiv:1911.02140), section 4.2, as the authors' program runs it.

    It is built on Dopamine's IQN. The fractions learn at 2.5e-9, as in the paper; the program has 5e-11 or 5e-10. The
    program sums their gradient over the batch before an RMSProp with ε 1e-5; ours is a mean, hence 1e-5/32². The
    target's quantiles are those at the state's fractions, as in the paper's Algorithm 1; the program takes them at
    the fractions that the target network proposes for the next state. The program plays without no-ops.
    """
    config = replace(dqn(), loss="huber", head="fqf", quantiles=32)
    config = replace(config, fraction_learning_rate=2.5e-9, fraction_epsilon=1e-5 / 32**2)
    config = replace(config, learning_rate=5e-5, adam_epsilon=0.01 / 32)
    return replace(config, learning_starts=50_000, target_update_every=10_000, epsilon_steps=1_000_000)


@_preset("sticky")
def munchausen() -> AgentConfig:
    """Munchausen DQN, Vieillard et al. 2020 (arXiv:2007.14430), α 0.9, τ 0.03, l₀ −1."""
    return replace(dqn(), loss="huber", munchausen=True, learning_rate=5e-5, adam_epsilon=0.01 / 32)


@_preset("sticky")
def munchausen_iqn() -> AgentConfig:
    """Munchausen IQN, Vieillard et al. 2020 (arXiv:2007.14430), one-step returns."""
    return replace(iqn(), munchausen=True, n_step=1)


@_preset("nature")
def rainbow() -> AgentConfig:
    """Rainbow, Hessel et al. 2018 (arXiv:1710.02298), table 1.

    The table counts frames; four frames are one step here. β reaches 1 at the paper's last step, 50M. DQN Zoo and
    Dopamine start the noise at σ₀ 0.1; DQN Zoo limits the gradient norm to 10. Evaluations have ε 0 and draw the noise
    at every step, as in DQN Zoo.
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
        evaluation_epsilon=0.0,
        evaluation_noise=True,
        encoder="nature",
    )


@_preset("sticky")
def rainbow_dopamine() -> AgentConfig:
    """Rainbow without double, dueling and noise, as the Dopamine baselines run it (Castro et al. 2018)."""
    return replace(dqn(), loss="huber", head="categorical", n_step=3, **_DOPAMINE_PRIORITIES)


@_preset("100k")
def der() -> AgentConfig:
    """Data-efficient Rainbow, van Hasselt et al. 2019 (arXiv:1906.05243).

    It is for 100,000 steps: an update each step, twenty-step returns and a small encoder. σ₀, the limit of the gradient
    norm, and evaluations with ε 0.001 and without noise are those of a public program (Kaixhin/Rainbow).
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
        evaluation_epsilon=0.001,
        evaluation_noise=False,
        encoder="der",
        hidden=256,
    )


@_preset("sticky", num_envs=64)
def btr() -> AgentConfig:
    """Beyond The Rainbow, Clark et al. 2025 (arXiv:2411.03820); 64 environments.

    The settings are the paper's. It does not give β, which is Rainbow's and reaches 1 at step 50M (200M frames). ε is
    off from step 25M. The authors' program differs: it takes α instead of β in the weights, log π(a|s) from the online
    network, cosines from i = 0, and an exponential decay of ε from step 0. Its environments start with no-ops, besides
    their sticky actions, all its actors share one draw of the noise, and its evaluations have ε 0.01 up to 125M frames;
    ours have the protocol's.
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


@_preset("envpool", num_envs=16)
def quick() -> AgentConfig:
    """PQN (Gallici et al. 2025) for a first result in minutes on two CPU cores: small frames; 16 environments.

    The settings are our own, found on Pong by trying. Normalised contrast shows a ball that is smaller than a pixel of
    these frames. λ 0.95 over 64 steps carries a point back to the strokes that won it. ε falls to 0.1 at once and then
    slowly to 0.01: with less sooner, a policy without a replay sees nothing but its own mistakes, and with more later,
    long rallies are lost by chance. The learning rate is constant up to 200,000 steps, with which Pong is learned
    sooner, and then falls, with which longer trainings go on improving. From then on, half of what is learned from is
    drawn from the last 100 rollouts: two epochs, each with one of them, take the place of four. Evaluations have
    ε 0.01, because a greedy policy can wait forever where nothing happens, as in Breakout before the ball is launched.
    """
    return AgentConfig(
        algorithm="pqn",
        rollout_length=64,
        minibatches=16,
        epochs=Piecewise((0, 4), (200_000, 2)),
        kept_rollouts=100,
        past_rollouts=Piecewise((0, 0), (200_000, 1)),
        td_lambda=0.95,
        overlap=True,
        optimizer="radam",
        learning_rate=Piecewise((0, 5e-4), (200_000, Linear(5e-4, 1e-4, 500_000))),
        max_grad_norm=10.0,
        loss="squared",
        learning_starts=1,
        epsilon=Piecewise((0, Linear(1.0, 0.1, 20_000)), (20_000, Linear(0.1, 0.01, 100_000))),
        evaluation_epsilon=0.01,
        encoder="compact",
        contrast_norm=True,
        channel_norm=True,
        initialization="he",
        hidden=256,
        frame_size=42,
    )


@_preset("sticky")
def quick_dqn() -> AgentConfig:
    """DQN (Mnih et al. 2015) for small hardware: 3-step returns, faster learning, a small replay.

    The settings are our own: a higher learning rate, and more frequent updates of the target network. docs/results
    shows Pong in a million steps.
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


@_preset("sticky", is_for_atari=False)
def classic() -> AgentConfig:
    """DQN (Mnih et al. 2015) for vectors and short episodes, such as CartPole: a small network, raw rewards.

    The settings are our own, from those of rl-baselines3-zoo (Raffin 2020) with three-step returns, a slower rate and
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


@_preset("nature")
def drqn() -> AgentConfig:
    """DRQN, Hausknecht & Stone 2015 (arXiv:1507.06527): one frame, an LSTM in place of the hidden layer.

    Sequences of 10 steps are drawn from random places in 400,000 rows. They start with a state of zeros, and all their
    steps are learned from. Differences from the paper: all places are equally likely, where the paper draws an episode
    first; a sequence continues past the end of an episode with a new state; the gradient is clipped to a norm of 10;
    and Adam at DQN's learning rate replaces ADADELTA at a rate of 0.1. The other settings are DQN's.
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
        evaluation_epsilon=0.05,
        encoder="nature",
    )


@_preset("sticky")
def r2d2() -> AgentConfig:
    """R2D2, Kapturowski et al. 2019 (openreview r1lyTjAqYX), table 2, for any number of environments.

    The paper has 256 environments at 260 frames a second each (as we read its "steps") and 5 updates a second, which
    is one update for 3,328 agent steps. Its 100,000 sequences overlap by half and hold 4M steps, which take 29 GB with
    the states; the first update waits for 5,000 of them. A sequence is 40 steps of burn-in and 80 that are learned
    from. The loss is the mean of δ² over these, where the authors' Acme sums ½δ² (Hoffman et al. 2020), 40 times as
    much; Adam's ε, 1e-3, and the gradient norm limit, 40 as in Ape-X, are divided by that.

    Differences from the paper: there is one frame, not four; the LSTM reads the encoder's features, without the dense
    layer that Acme and SEED RL (512 units; Espeholt et al. 2020) have between them; a game has its own actions unless
    all 18 are asked for; sequences continue past the end of an episode with a new state; a new sequence has the
    greatest priority so far, where the paper's actors, which lag behind, compute its own; and the last reward is read
    through tanh. Importance weights have table 2's exponent, though section 2.3 says that they were left out.
    """
    train_every = 3_328
    acme_to_ours = 80 / 2  # ratio of the losses, and so of the gradients
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


@_preset("sticky", num_envs=16, is_for_atari=False)
def quick_recurrent() -> AgentConfig:
    """Parts of R2D2 (Kapturowski et al. 2019) for small hardware: a small LSTM, the last action; 16 environments.

    The settings are our own. The replay is small, so that most of what is learned from is new: an LSTM that sees the
    same few episodes again and again learns them by heart. The streams of a dueling head separate what an action is
    worth from what the rest of an episode brings. The learning rate is for vectors: on Pong's pixels, all units of an
    encoder fell silent already at 3e-4. For pixels, use `quick_dqn`, whose rate is 1e-4, with an LSTM and `layer_norm`;
    docs/results shows its run.
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


@_preset("envpool", num_envs=128)
def pqn() -> AgentConfig:
    """PQN, Gallici et al. 2025 (arXiv:2407.04811): λ-returns of rollouts, no replay; 128 environments.

    The settings are those of the authors' program, purejaxql, with ε over the first tenth of 200M frames. Its loss is
    ½(q − G)², and ours twice that, so RAdam's ε and the limit of the gradient norm are twice as large, too.

    Differences from the program: a truncated episode bootstraps from its last observation, where the program counts it
    as terminated; the step that only resets an environment is not learned from; the first step of a rollout is taken
    with the weights before the updates, which run while it is played; and the protocol `envpool` leaves out the no-ops
    and the press of FIRE that EnvPool plays after each lost life.
    """
    program_to_ours = 2  # ratio of the losses, and so of the gradients
    return AgentConfig(
        algorithm="pqn",
        rollout_length=32,
        minibatches=32,
        epochs=2,
        td_lambda=0.65,
        gamma=0.99,
        loss="squared",
        optimizer="radam",
        learning_rate=2.5e-4,
        adam_epsilon=1e-8 * program_to_ours,
        max_grad_norm=10.0 * program_to_ours,
        learning_starts=1,
        epsilon_end=0.001,
        epsilon_steps=5_000_000,
        evaluation_epsilon=0.0,
        channel_norm=True,
        initialization="he",
        encoder="auto",
    )


@_preset("envpool", num_envs=128)
def pqn_hadamax() -> AgentConfig:
    """PQN with the Hadamax encoder, Kooi et al. 2025 (arXiv:2505.15345); 128 environments.

    Products of two convolutions, max-pooled, with GELU throughout, take 17 times the arithmetic of `pqn`. All else, and
    what differs from the authors' program, is that of `pqn`.
    """
    return replace(pqn(), encoder="hadamax", activation="gelu", initialization="auto")


@_preset("envpool", num_envs=128)
def pqn_hl_gauss() -> AgentConfig:
    """PQN with a deeper Hadamax, HL-Gauss (Farebrother et al. 2024) and dueling; 128 environments.

    The parts are those that the program aftab combines (github.com/tahashieenavaz/aftab); 51 bins on ±10 and σ of 0.75
    bins are those of "Stop Regressing" (arXiv:2403.03950). Its loss is no square, so RAdam's ε and the limit of the
    gradient norm are PQN's own. All else is as in `pqn_hadamax`; other settings of aftab are not taken over.
    """
    return replace(
        pqn_hadamax(),
        encoder="hadamax_deep",
        head="categorical",
        categorical_loss="hl_gauss",
        hl_gauss_sigma=0.75,
        atoms=51,
        v_min=-10.0,
        v_max=10.0,
        loss="huber",
        dueling=True,
        adam_epsilon=1e-8,
        max_grad_norm=10.0,
    )


@_preset("envpool", num_envs=128)
def pqn_lstm() -> AgentConfig:
    """PQN with an LSTM that reads the last action and one frame, after Gallici et al. 2025; 128 environments.

    A rollout begins with the state that acting had, and is read whole: 4 minibatches of a quarter of the environments,
    as in the authors' recurrent program, which plays Craftax. From there are also the size of the LSTM, 512, and the
    last action; its batch normalisation and its longer rollouts are not taken over. All else is as in `pqn`.
    """
    return replace(pqn(), lstm=512, lstm_last_action=True, frame_stack=1, minibatches=4)


@_preset("sticky", is_for_atari=False)
def minatar_dqn() -> AgentConfig:
    """DQN for MinAtar's 10×10 games, Young & Tian 2019 (arXiv:1903.03176), with one update per step.

    The settings are those of the authors' program, examples/dqn.py of kenjyoung/MinAtar. It adds 0.01 to the root in
    RMSProp; ours is 0.01² under the root, so that the longest step is the same.
    """
    return AgentConfig(
        optimizer="rmsprop",
        learning_rate=2.5e-4,
        rmsprop_decay=0.95,
        rmsprop_epsilon=0.01**2,
        loss="huber",
        reward_clip=None,
        replay_capacity=100_000,
        learning_starts=5_000,
        train_every=1,
        target_update_every=1_000,
        epsilon_end=0.1,
        epsilon_steps=100_000,
        encoder="minatar",
        hidden=128,
    )


@_preset("sticky", is_for_atari=False)
def minatar_rainbow() -> AgentConfig:
    """Rainbow for MinAtar's games, after Obando-Ceron & Castro 2021 (arXiv:2011.14826), with MinAtar's network.

    The settings are those of their program, revisiting_rainbow, the parts those of `rainbow`. Differences: it has no
    hidden layer, decays an ε besides the noise, clips rewards, and takes priorities and weights as Dopamine does.
    """
    return replace(
        rainbow(),
        v_min=-100.0,
        v_max=100.0,
        learning_rate=1e-4,
        adam_epsilon=0.01 / 32,
        reward_clip=None,
        replay_capacity=100_000,
        learning_starts=1_000,
        train_every=4,
        target_update_every=1_000,
        priority_beta_steps=10_000_000 - 1_000,
        encoder="minatar",
        hidden=128,
    )


@_preset("sticky", num_envs=128, is_for_atari=False)
def minatar_pqn() -> AgentConfig:
    """PQN for MinAtar's games, Gallici et al. 2025 (arXiv:2407.04811); 128 environments.

    The settings are those of the authors' program, config/alg/pqn_minatar.yaml of purejaxql, for ten million steps:
    for fewer, shorten `learning_rate_steps`, and `epsilon_steps` to a tenth. It divides MinAtar's zeros and ones by
    255, and ours are zeros and ones. All else, and what differs, is that of `pqn`.
    """
    return replace(
        pqn(),
        learning_rate=5e-4,
        learning_rate_end=0.0,
        learning_rate_steps=10_000_000,
        epsilon_end=0.05,
        epsilon_steps=1_000_000,
        reward_clip=None,
        encoder="minatar",
        hidden=128,
    )


def preset(name: str) -> AgentConfig:
    """Return the configuration of the preset with a name.

    Raises:
        InvalidConfig: If there is no such preset.
    """
    if not isinstance(name, str) or name not in PRESETS:
        near = difflib.get_close_matches(str(name), PRESETS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(PRESETS)}"
        raise InvalidConfig(f"unknown preset {name!r:.80}; {hint}")
    return PRESETS[name]()


def preset_of(config: AgentConfig) -> str | None:
    """Return the name of the preset whose settings a configuration has; None if it is no preset's.

    Settings of evaluations, of the speed, and of the frames may differ.
    """
    settings = _learning(config)
    return next((name for name, of_preset in _settings().items() if of_preset == settings), None)


@functools.cache
def _settings() -> dict[str, dict[str, Any]]:
    """Return the settings of all presets that tell them apart."""
    return {name: _learning(make()) for name, make in PRESETS.items()}


def _learning(config: AgentConfig) -> dict[str, Any]:
    """Return the settings that tell presets apart."""
    return {name: value for name, value in config.to_dict().items() if name not in _NOT_LEARNING}


def config_of(config: AgentConfig | str | None) -> AgentConfig:
    """Return a configuration; that of the preset for a name, and the defaults for None.

    Raises:
        InvalidConfig: If there is no such preset, or it is something else.
    """
    if config is None:
        return AgentConfig()
    if isinstance(config, str):
        return preset(config)
    if not isinstance(config, AgentConfig):
        raise InvalidConfig(
            f"config must be an AgentConfig, the name of a preset or None, got {type(config).__name__:.80}"
        )
    return config

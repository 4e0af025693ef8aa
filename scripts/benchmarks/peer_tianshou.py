"""tianshou's DQN, with its collector, replay, network and environment processes."""

from __future__ import annotations

from typing import Any

import ale_py  # noqa: F401  # registers the games
import gymnasium
import numpy as np
import torch
from gymnasium import wrappers
from stable_baselines3.common.atari_wrappers import AtariWrapper
from tianshou.algorithm.modelfree.dqn import DQN, DiscreteQLearningPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, CollectStats, VectorReplayBuffer
from tianshou.env import SubprocVectorEnv
from tianshou.env.atari.atari_network import DQNet, ScaledObsInputActionReprNet
from tianshou.utils.torch_utils import policy_within_training_step

from pixelq.scripts.benchmarks.work import Work, update_ratio


class Tianshou:
    """tianshou's DQN; a process plays each game, over shared memory, as in its Atari examples.

    It cannot clip the gradient. Its Atari wrappers fail with NumPy 2.4, which makes no dtype of `np.integer`; the same
    wrappers of stable-baselines3 take their place. Its trainer looks for NaN in the whole replay, all frames stacked,
    at each step; so collector and updates are called in turn here, as it allows. The memory of the games' processes is
    not counted.

    Args:
        work: The work to do.
        device: `cpu` or `cuda`.
    """

    def __init__(self, work: Work, device: str) -> None:
        np.random.seed(work.seed)  # noqa: NPY002  # it draws from it
        torch.manual_seed(work.seed)
        self.work = work
        self.envs = SubprocVectorEnv(
            [lambda: game(work.env) for _ in range(work.num_envs)], share_memory=True, context="fork"
        )
        self.envs.seed(work.seed)
        actions = self.envs.action_space[0]
        assert isinstance(actions, gymnasium.spaces.Discrete)
        network = ScaledObsInputActionReprNet(DQNet(4, 84, 84, int(actions.n))).to(device)
        policy = DiscreteQLearningPolicy(model=network, action_space=actions, eps_training=work.epsilon)
        self.algorithm = DQN(
            policy=policy,
            optim=AdamOptimizerFactory(lr=work.learning_rate, eps=work.adam_epsilon),
            gamma=work.gamma,
            n_step_return_horizon=work.n_step,
            target_update_freq=max(1, work.target_update_every // work.train_every),  # it counts updates
            is_double=False,
            huber_loss_delta=1.0,
        )
        self.replay = VectorReplayBuffer(
            work.replay_capacity, work.num_envs, stack_num=4, ignore_obs_next=True, save_only_last_obs=True
        )
        self.collector: Collector[CollectStats] = Collector(
            self.algorithm, self.envs, self.replay, exploration_noise=True
        )
        self.collector.reset()
        train_freq, self.gradient_steps = update_ratio(work.num_envs, work.train_every)
        self.collected_steps = train_freq * work.num_envs

    def learn(self, steps: int) -> None:
        """Train on, without a reset of the environments."""
        end = self.collector.collect_step + steps
        while (done := self.collector.collect_step) < end:
            if (missing := self.work.replay_capacity - done) > 0:
                whole = -(-min(missing, end - done) // self.work.num_envs) * self.work.num_envs
                self.collector.collect(n_step=whole, random=True)
                continue
            with policy_within_training_step(self.algorithm.policy):
                self.collector.collect(n_step=self.collected_steps)
                for _ in range(self.gradient_steps):
                    self.algorithm.update(self.replay, self.work.batch_size)

    def counts(self) -> tuple[int, int]:
        """Return the numbers of steps and updates."""
        return self.collector.collect_step, self.algorithm._iter


def game(env_id: str) -> gymnasium.Env[Any, Any]:
    """Return one game under the protocol `nature`, with four frames stacked."""
    env: gymnasium.Env[Any, Any] = gymnasium.make(env_id, frameskip=1, repeat_action_probability=0.0)
    space = gymnasium.spaces.Box(0, 255, (84, 84), dtype=np.uint8)
    env = AtariWrapper(env)
    env = wrappers.TransformObservation(env, lambda frame: frame[:, :, 0], space)
    return wrappers.FrameStackObservation(env, 4)

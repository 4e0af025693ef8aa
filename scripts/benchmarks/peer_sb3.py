"""stable-baselines3's DQN on its own environments."""

from __future__ import annotations

import sys
from typing import Any

import ale_py  # noqa: F401  # registers the games
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack

from pixelq.envs import is_atari
from pixelq.scripts.benchmarks.work import Work, update_ratio


class StableBaselines3:
    """stable-baselines3's DQN; its environments step one after another in one process, as its users run it.

    Args:
        work: The work to do.
        device: `cpu` or `cuda`.
    """

    def __init__(self, work: Work, device: str) -> None:
        # AtariWrapper skips frames itself, and by default plays by the protocol "nature".
        rules = {"frameskip": 1, "repeat_action_probability": 0.0}
        policy: tuple[str, dict[str, Any]] = ("CnnPolicy", {})
        envs: VecEnv
        if is_atari(work.env):
            envs = VecFrameStack(make_atari_env(work.env, work.num_envs, seed=work.seed, env_kwargs=rules), 4)
        else:
            envs = make_vec_env(work.env, work.num_envs, seed=work.seed)
            policy = ("MlpPolicy", {"net_arch": [work.hidden, work.hidden]})
        train_freq, gradient_steps = update_ratio(work.num_envs, work.train_every)
        self.model = DQN(  # convolutions, n_step, loss, optimiser with its ε, and precision are its defaults
            policy[0],
            envs,
            policy_kwargs=policy[1],
            learning_rate=work.learning_rate,
            buffer_size=work.replay_capacity,
            learning_starts=work.replay_capacity,
            batch_size=work.batch_size,
            gamma=work.gamma,
            train_freq=(train_freq, "step"),
            gradient_steps=gradient_steps,
            target_update_interval=work.target_update_every,
            exploration_initial_eps=work.epsilon,
            exploration_final_eps=work.epsilon,
            max_grad_norm=work.max_grad_norm,
            seed=work.seed,
            device=device,
        )

    def learn(self, steps: int) -> None:
        """Train on, without a reset of the environments."""
        self.model.learn(steps, log_interval=sys.maxsize, reset_num_timesteps=False)

    def counts(self) -> tuple[int, int]:
        """Return the numbers of steps and updates."""
        return self.model.num_timesteps, self.model._n_updates

"""stable-baselines3's DQN in a race, with the settings of rl-baselines3-zoo for Atari games."""

from __future__ import annotations

import sys
from typing import Any

import ale_py  # noqa: F401  # registers the games
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecFrameStack

from pixelq.envs.protocols import resolve_protocol
from pixelq.scripts.benchmarks.racing import Clock, Conditions

TOTAL_STEPS = 10_000_000
"""`n_timesteps`, of which ε decays over a share."""
SETTINGS: dict[str, Any] = {
    "policy": "CnnPolicy",
    "buffer_size": 100_000,
    "learning_rate": 1e-4,
    "batch_size": 32,
    "learning_starts": 100_000,
    "target_update_interval": 1_000,
    "train_freq": 4,
    "gradient_steps": 1,
    "exploration_fraction": 0.1,
    "exploration_final_eps": 0.01,
}
SOURCE = (
    "https://github.com/DLR-RM/rl-baselines3-zoo/blob/22e3ff2/hyperparams/dqn.yml, atari; all else is "
    "stable-baselines3's default"
)
DIFFERENCES = (
    "optimize_memory_usage=True in place of False keeps each observation once and not twice (2.8 GB); without "
    "handle_timeout_termination, which that excludes, the time limit of a game counts as its end"
)


class StableBaselines3:
    """One game in stable-baselines3's own wrappers, as its users train it.

    Args:
        conditions: What is the same for all entries.
        seed: Seed of the weights, the games and every random choice.
    """

    def __init__(self, conditions: Conditions, seed: int) -> None:
        rules = resolve_protocol(conditions.protocol)
        envs = make_atari_env(
            conditions.env,
            1,
            seed=seed,
            env_kwargs={"frameskip": 1, "repeat_action_probability": rules.repeat_action_probability},
            wrapper_kwargs={"noop_max": rules.noop_max, "terminal_on_life_loss": rules.life_loss_ends_return},
        )
        self.model = DQN(
            env=VecFrameStack(envs, 4),
            seed=seed,
            device=conditions.device,
            optimize_memory_usage=True,
            replay_buffer_kwargs={"handle_timeout_termination": False},
            **SETTINGS,
        )

    def settings(self) -> dict[str, Any]:
        """Return the settings, and where they are from."""
        own = {"num_envs": 1, "frame_stack": 4, "n_timesteps": TOTAL_STEPS, **SETTINGS}
        return {"source": SOURCE, "differences": DIFFERENCES, **own}

    def train(self, clock: Clock) -> None:
        """Train for the steps of the source."""
        self.model.learn(TOTAL_STEPS, _Ticks(clock), log_interval=sys.maxsize)


class _Ticks(BaseCallback):
    """Lets a clock tick after each step of a training."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def _on_step(self) -> bool:
        # Its monitor lies inside the wrappers: these are raw returns of whole games.
        ended = [info["episode"]["r"] for info in self.locals["infos"] if "episode" in info]
        self.clock.tick(self.num_timesteps, ended)
        return True

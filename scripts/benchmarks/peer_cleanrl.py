"""CleanRL's DQN for Atari, which is a script and no package: its loop, written from its published description."""

from __future__ import annotations

import random
from typing import Any

import ale_py  # noqa: F401  # registers the games
import gymnasium
import numpy as np
import torch
from gymnasium import wrappers
from stable_baselines3.common import atari_wrappers
from stable_baselines3.common.buffers import ReplayBuffer
from torch import nn
from torch.nn import functional as F

from pixelq.envs.protocols import PROTOCOLS, Protocol
from pixelq.scripts.benchmarks.work import Work, update_ratio


class DQNScript:
    """The parts of the loop of `dqn_atari.py`, with Gymnasium's vector environment and stable-baselines3's replay.

    Its loss is the mean squared error, and its gradient is not clipped. Its replay keeps next observations in the same
    array.

    Args:
        work: Environments, replay, network and step size.
        device: `cpu` or `cuda`.
        rules: Protocol of the games.
    """

    def __init__(self, work: Work, device: str, rules: Protocol) -> None:
        random.seed(work.seed)
        np.random.seed(work.seed)  # noqa: NPY002  # the replay draws from it
        torch.manual_seed(work.seed)
        self.work, self.device = work, device
        self.envs = gymnasium.vector.SyncVectorEnv(
            [lambda: game(work.env, rules) for _ in range(work.num_envs)],
            autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP,  # the only one when the script was written
        )
        observations, actions = self.envs.single_observation_space, self.envs.single_action_space
        assert isinstance(actions, gymnasium.spaces.Discrete)
        self.network = q_network(int(actions.n)).to(device)
        self.target = q_network(int(actions.n)).to(device)
        self.target.load_state_dict(self.network.state_dict())
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=work.learning_rate, eps=work.adam_epsilon)
        self.replay = ReplayBuffer(
            work.replay_capacity,
            observations,
            actions,
            device,
            n_envs=work.num_envs,
            optimize_memory_usage=True,
            handle_timeout_termination=False,
        )
        actions.seed(work.seed)
        self.observations, _ = self.envs.reset(seed=work.seed)

    def play(self, epsilon: float) -> list[float]:
        """Write one step of all games into the replay, and return the raw returns of the whole games that it ended.

        All games act at random or none, as in the script.
        """
        if random.random() < epsilon:
            actions = np.array([self.envs.single_action_space.sample() for _ in range(self.envs.num_envs)])
        else:
            with torch.no_grad():
                values = self.network(torch.tensor(self.observations, device=self.device) / 255.0)
            actions = values.argmax(1).cpu().numpy()
        following, rewards, terminated, truncated, infos = self.envs.step(actions)
        last, ended = following.copy(), list[float]()
        for env in np.flatnonzero(terminated | truncated):
            last[env] = infos["final_obs"][env]
            final = infos["final_info"]
            if "episode" in final and final["_episode"][env]:  # the game is over, and not only a life lost
                ended.append(float(final["episode"]["r"][env]))
        self.replay.add(self.observations, last, actions, rewards, terminated, [{}] * self.envs.num_envs)
        self.observations = following
        return ended

    def update(self) -> None:
        """Learn from one batch."""
        batch = self.replay.sample(self.work.batch_size)
        # Target
        with torch.no_grad():
            best = self.target(batch.next_observations / 255.0).max(1).values
            target = batch.rewards.flatten() + self.work.gamma * best * (1 - batch.dones.flatten())
        # Loss and gradient step
        value = self.network(batch.observations / 255.0).gather(1, batch.actions).squeeze(1)
        loss = F.mse_loss(value, target)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def sync_target(self) -> None:
        """Copy the network to the target network."""
        self.target.load_state_dict(self.network.state_dict())


class CleanRL(DQNScript):
    """The script at equal work. It plays one game; here several games make as many updates for each of their steps.

    Args:
        work: The work to do.
        device: `cpu` or `cuda`.
    """

    def __init__(self, work: Work, device: str) -> None:
        super().__init__(work, device, PROTOCOLS["nature"])
        self.train_freq, self.gradient_steps = update_ratio(work.num_envs, work.train_every)
        self.steps = self.trained_steps = self.updates = 0

    def learn(self, steps: int) -> None:
        """Train on, without a reset of the environments."""
        work, end = self.work, self.steps + steps
        while self.steps < end:
            filled = self.steps >= work.replay_capacity
            self.play(work.epsilon if filled else 1.0)
            self.steps += work.num_envs
            if not filled:
                continue
            self.trained_steps += 1
            if self.trained_steps % self.train_freq == 0:
                for _ in range(self.gradient_steps):
                    self.update()
                    self.updates += 1
            if self.steps % work.target_update_every < work.num_envs:
                self.sync_target()

    def counts(self) -> tuple[int, int]:
        """Return the numbers of steps and updates."""
        return self.steps, self.updates


def q_network(actions: int) -> nn.Module:
    """Return the network of Mnih et al. 2015, for pixels from 0 to 1.

    Args:
        actions: Number of actions.
    """
    return nn.Sequential(
        nn.Conv2d(4, 32, 8, stride=4),
        nn.ReLU(),
        nn.Conv2d(32, 64, 4, stride=2),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(3136, 512),
        nn.ReLU(),
        nn.Linear(512, actions),
    )


def game(env_id: str, rules: Protocol) -> gymnasium.Env[Any, Any]:
    """Return one game in the script's wrappers, which play by the protocol `nature`, as far as other rules need them.

    Args:
        env_id: ID of an Atari environment.
        rules: Protocol of the game.
    """
    sticky = rules.repeat_action_probability
    env: gymnasium.Env[Any, Any] = gymnasium.make(env_id, frameskip=1, repeat_action_probability=sticky)
    meanings = env.unwrapped.get_action_meanings()  # type: ignore[attr-defined]
    env = wrappers.RecordEpisodeStatistics(env)
    if rules.noop_max:
        env = atari_wrappers.NoopResetEnv(env, noop_max=rules.noop_max)
    env = atari_wrappers.MaxAndSkipEnv(env, skip=4)
    if rules.life_loss_ends_return:
        env = atari_wrappers.EpisodicLifeEnv(env)
    if "FIRE" in meanings:
        env = atari_wrappers.FireResetEnv(env)
    env = atari_wrappers.ClipRewardEnv(env)
    env = wrappers.ResizeObservation(env, (84, 84))
    env = wrappers.GrayscaleObservation(env)
    return wrappers.FrameStackObservation(env, 4)

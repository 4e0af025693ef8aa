"""CleanRL's PQN for Atari, which is a script and no package: its loop, written from its published description."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelq.envs import AtariVec, make_vec
from pixelq.scripts.benchmarks.pqn_work import PQNWork


class CleanRLPQN:
    """The loop of `pqn_atari_envpool.py`: a rollout in float32 tensors on the device, its returns, and its epochs.

    The script plays on EnvPool. Here it plays on our environments, which reset as EnvPool does, by a step of their
    own, that the script learns from as from any other. Its rewards are clipped by its hands.

    Args:
        work: The work to do.
        device: `cpu` or `cuda`.
    """

    def __init__(self, work: PQNWork, device: str) -> None:
        torch.manual_seed(work.seed)
        self.work, self.device, self.rng = work, device, np.random.default_rng(work.seed)
        envs = make_vec(work.env, work.num_envs, work.seed, work.protocol)
        assert isinstance(envs, AtariVec)
        self.envs, self.actions = envs, len(envs.action_meanings)
        self.network = q_network(self.actions).to(device)
        self.optimizer = torch.optim.RAdam(self.network.parameters(), lr=work.learning_rate)
        rows = (work.rollout_length, work.num_envs)
        self.obs = torch.zeros((*rows, 4, 84, 84), device=device)
        self.action, self.reward, self.done, self.value = (torch.zeros(rows, device=device) for _ in range(4))
        self.next_obs = torch.Tensor(envs.reset()[0]).to(device)
        self.next_done = torch.zeros(work.num_envs, device=device)
        self.steps = self.updates = 0

    def learn(self, steps: int) -> None:
        """Train on for whole rollouts, without a reset of the environments."""
        end = self.steps + steps
        while self.steps < end:
            for step in range(self.work.rollout_length):
                self._play(step)
            self._update(self._returns())

    def counts(self) -> tuple[int, int]:
        """Return the numbers of steps and updates."""
        return self.steps, self.updates

    def _play(self, step: int) -> None:
        """Play one step of all games into the rollout."""
        work, device = self.work, self.device
        self.obs[step], self.done[step] = self.next_obs, self.next_done
        random = torch.randint(0, self.actions, (work.num_envs,)).to(device)
        with torch.no_grad():
            q = self.network(self.next_obs)
            greedy = q.argmax(1)
            self.value[step] = q[torch.arange(work.num_envs), greedy].flatten()
        explores = torch.rand(work.num_envs).to(device) < work.epsilon
        action = torch.where(explores, random, greedy)
        self.action[step] = action
        obs, reward, terminated, truncated, info = self.envs.step(action.cpu().numpy())
        done = terminated | truncated | info.get("life_lost", False)
        self.reward[step] = torch.tensor(np.sign(reward)).to(device).view(-1)
        self.next_obs, self.next_done = torch.Tensor(obs).to(device), torch.Tensor(done).to(device)
        self.steps += work.num_envs

    def _returns(self) -> Tensor:
        """Return the λ-returns [T, N] as the script computes them.

        It multiplies the bootstrapped value by 1 − done, and the λ-return of the next step not.
        """
        work = self.work
        with torch.no_grad():
            returns = torch.zeros_like(self.reward)
            last = self.network(self.next_obs).max(1).values
            returns[-1] = self.reward[-1] + work.gamma * last * (1 - self.next_done)
            for t in reversed(range(work.rollout_length - 1)):
                bootstrap = (1 - work.td_lambda) * self.value[t + 1] * (1 - self.done[t + 1])
                returns[t] = self.reward[t] + work.gamma * (work.td_lambda * returns[t + 1] + bootstrap)
        return returns

    def _update(self, returns: Tensor) -> None:
        """Learn from the rollout for some epochs."""
        work = self.work
        obs, action, target = self.obs.flatten(0, 1), self.action.flatten(), returns.flatten()
        order = np.arange(len(target))
        for _ in range(work.epochs):
            self.rng.shuffle(order)
            for start in range(0, len(order), work.batch_size):
                rows = order[start : start + work.batch_size]
                value = self.network(obs[rows]).gather(1, action[rows].unsqueeze(-1).long()).squeeze()
                loss = F.mse_loss(target[rows], value)
                self.optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(self.network.parameters(), work.max_grad_norm)
                self.optimizer.step()
                self.updates += 1


class _Scaled(nn.Module):
    """Pixels from 0 to 255 as numbers from 0 to 1."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels / 255.0


def q_network(actions: int) -> nn.Module:
    """Return the network of Mnih et al. 2015 with the script's layer norms and initialisation.

    Args:
        actions: Number of actions.
    """
    layers: list[Any] = [
        *(nn.Conv2d(4, 32, 8, stride=4), nn.LayerNorm([32, 20, 20]), nn.ReLU()),
        *(nn.Conv2d(32, 64, 4, stride=2), nn.LayerNorm([64, 9, 9]), nn.ReLU()),
        *(nn.Conv2d(64, 64, 3), nn.LayerNorm([64, 7, 7]), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(3136, 512), nn.LayerNorm(512), nn.ReLU(), nn.Linear(512, actions)),
    ]
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.orthogonal_(layer.weight, 2**0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return nn.Sequential(_Scaled(), *layers)

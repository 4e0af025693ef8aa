"""CleanRL's DQN for Atari in a race, with the defaults of its script: its loop, written from its description."""

from __future__ import annotations

import random
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.buffers import ReplayBuffer
from torch.nn import functional as F

from pixelq.agents.config.machine_limits import free_memory
from pixelq.envs.protocols import resolve_protocol
from pixelq.scripts.benchmarks.peer_cleanrl import game, q_network
from pixelq.scripts.benchmarks.racing import Clock, Conditions

TOTAL_STEPS = 10_000_000
BUFFER_SIZE = 1_000_000
LEARNING_RATE = 1e-4
GAMMA = 0.99
BATCH_SIZE = 32
LEARNING_STARTS = 80_000
TRAIN_FREQUENCY = 4
TARGET_NETWORK_FREQUENCY = 1_000
START_E, END_E, EXPLORATION_FRACTION = 1.0, 0.01, 0.1
ROW_BYTES = 4 * 84 * 84
MEMORY_SHARE = 0.5
"""Greatest share of the free memory that the replay may come to."""
SOURCE = "https://github.com/vwxyzjn/cleanrl/blob/fe8d8a0/cleanrl/dqn_atari.py, its defaults; the loop is our writing"


class CleanRL:
    """One game in stable-baselines3's wrappers, as in the script.

    Args:
        conditions: What is the same for all entries.
        seed: Seed of the weights, the games and every random choice.
    """

    def __init__(self, conditions: Conditions, seed: int) -> None:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  # the replay draws from it
        torch.manual_seed(seed)
        self.device = conditions.device
        rules = resolve_protocol(conditions.protocol)
        self.envs = gymnasium.vector.SyncVectorEnv(
            [lambda: game(conditions.env, rules)],
            autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP,  # the only one when the script was written
        )
        observations, actions = self.envs.single_observation_space, self.envs.single_action_space
        assert isinstance(actions, gymnasium.spaces.Discrete)
        self.network = q_network(int(actions.n)).to(self.device)
        self.target = q_network(int(actions.n)).to(self.device)
        self.target.load_state_dict(self.network.state_dict())
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=LEARNING_RATE)
        self.rows = most_rows(free_memory(torch.device("cpu")))
        self.replay = ReplayBuffer(
            self.rows,
            observations,
            actions,
            self.device,
            optimize_memory_usage=True,
            handle_timeout_termination=False,
        )
        actions.seed(seed)
        self.observations, _ = self.envs.reset(seed=seed)

    def settings(self) -> dict[str, Any]:
        """Return the settings, and where they are from."""
        found: dict[str, Any] = {"source": SOURCE}
        if self.rows < BUFFER_SIZE:
            found["differences"] = (
                f"buffer_size is {self.rows:,} in place of {BUFFER_SIZE:,}, half the free memory, which changes "
                "nothing until so many steps are taken"
            )
        return found | {
            "num_envs": 1,
            "frame_stack": 4,
            "total_timesteps": TOTAL_STEPS,
            "learning_rate": LEARNING_RATE,
            "buffer_size": self.rows,
            "gamma": GAMMA,
            "target_network_frequency": TARGET_NETWORK_FREQUENCY,
            "batch_size": BATCH_SIZE,
            "start_e": START_E,
            "end_e": END_E,
            "exploration_fraction": EXPLORATION_FRACTION,
            "learning_starts": LEARNING_STARTS,
            "train_frequency": TRAIN_FREQUENCY,
        }

    def train(self, clock: Clock) -> None:
        """Train for the steps of the source."""
        for step in range(TOTAL_STEPS):
            ended = self._play(epsilon_at(step))
            if step > LEARNING_STARTS:
                if step % TRAIN_FREQUENCY == 0:
                    self._update()
                if step % TARGET_NETWORK_FREQUENCY == 0:
                    self.target.load_state_dict(self.network.state_dict())
            clock.tick(step + 1, ended)

    def _play(self, epsilon: float) -> list[float]:
        """Write one step into the replay, and return the raw return of the whole game that it ended, if any."""
        if random.random() < epsilon:
            actions = np.array([self.envs.single_action_space.sample()])
        else:
            with torch.no_grad():
                values = self.network(torch.tensor(self.observations, device=self.device) / 255.0)
            actions = values.argmax(1).cpu().numpy()
        following, rewards, terminated, truncated, infos = self.envs.step(actions)
        last, ended = following.copy(), list[float]()
        if terminated[0] or truncated[0]:
            last[0] = infos["final_obs"][0]
            if "episode" in infos["final_info"]:  # the game is over, and not only a life lost
                ended.append(float(infos["final_info"]["episode"]["r"][0]))
        self.replay.add(self.observations, last, actions, rewards, terminated, [{}])
        self.observations = following
        return ended

    def _update(self) -> None:
        batch = self.replay.sample(BATCH_SIZE)
        with torch.no_grad():
            best = self.target(batch.next_observations / 255.0).max(1).values
            target = batch.rewards.flatten() + GAMMA * best * (1 - batch.dones.flatten())
        value = self.network(batch.observations / 255.0).gather(1, batch.actions).squeeze(1)
        loss = F.mse_loss(value, target)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()


def epsilon_at(step: int) -> float:
    """Return the probability of a random action at a step."""
    return max(START_E + (END_E - START_E) * step / (EXPLORATION_FRACTION * TOTAL_STEPS), END_E)


def most_rows(free: int | None) -> int:
    """Return the rows of the replay, as many as the script has where memory allows.

    Args:
        free: Bytes of free memory; None if that is not known.
    """
    return BUFFER_SIZE if free is None else min(BUFFER_SIZE, int(MEMORY_SHARE * free / ROW_BYTES))

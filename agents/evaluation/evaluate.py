"""Evaluation: full episodes of a fixed policy, every environment with the same quota."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from pixelq.agents.acting.exploration import epsilon_greedy
from pixelq.agents.errors import InvalidConfig
from pixelq.envs import fact, human_normalized_score

if TYPE_CHECKING:
    from pixelq.agents.dqn import DQN


@dataclass(frozen=True)
class Evaluation:
    """Raw returns and lengths (agent steps) of evaluation episodes, and their statistics."""

    env: str
    returns: tuple[float, ...]
    lengths: tuple[int, ...]

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return len(self.returns)

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))

    @property
    def median(self) -> float:
        """Median return."""
        return float(np.median(self.returns))

    @property
    def std(self) -> float:
        """Standard deviation of the returns (divisor: episodes)."""
        return float(np.std(self.returns))

    @property
    def ci95(self) -> tuple[float, float]:
        """Percentile bootstrap interval of the mean, 10,000 resamples with a fixed seed (Efron 1979)."""
        returns = np.asarray(self.returns)
        picks = np.random.default_rng(0).integers(returns.size, size=(10_000, returns.size))
        low, high = np.percentile(returns[picks].mean(1), [2.5, 97.5])
        return float(low), float(high)

    @property
    def human_normalized(self) -> float | None:
        """(mean − random) / (human − random); None outside the 57 games."""
        return human_normalized_score(self.env, self.mean)


def evaluate(
    agent: DQN,
    envs: VectorEnv,
    episodes: int,
    *,
    epsilon: float = 0.0,
    seed: int = 0,
    games_seed: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    played: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Plays ``episodes`` full episodes and returns them in the order: environment by environment.

    Each environment plays a quota fixed beforehand, so that short episodes, which end first, are not counted more
    often than long ones.

    Args:
        agent: its greedy policy is played.
        envs: next-step-autoreset environments; reset here.
        episodes: how many.
        epsilon: probability of a random action.
        seed: of the random actions.
        games_seed: of the games; None: the environments go on with their own generators.
        should_stop: asked at every step.
        played: called after each episode that counts.

    Raises:
        ValueError: episodes is less than 1, or the environments have no next-step autoreset.
        InterruptedError: ``should_stop`` said so.
    """
    if episodes < 1:
        raise ValueError(f"episodes is {episodes}; it must be at least 1")
    check_resets(envs)
    num_envs = envs.num_envs
    quota = np.full(num_envs, episodes // num_envs)
    quota[: episodes % num_envs] += 1
    rng = np.random.default_rng(seed)
    finished: list[list[tuple[float, int]]] = [[] for _ in range(num_envs)]
    returns, lengths = np.zeros(num_envs), np.zeros(num_envs, dtype=np.int64)
    done: NDArray[np.bool_] = np.zeros(num_envs, dtype=bool)
    num_actions = agent.num_actions
    memory = agent.make_memory(num_envs)
    obs, _ = envs.reset(seed=games_seed)
    while any(len(episodes_of) < n for episodes_of, n in zip(finished, quota, strict=True)):
        if should_stop():
            raise InterruptedError("the evaluation was stopped")
        actions = epsilon_greedy(agent.act(obs, 0.0, memory), num_actions, epsilon, rng)
        obs, reward, terminated, truncated, _ = envs.step(actions)
        lengths += ~done  # the step after an end only resets
        returns += reward
        done = terminated | truncated
        if memory is not None:
            memory.step(actions, reward, done)
        for i in np.flatnonzero(done):
            finished[i].append((float(returns[i]), int(lengths[i])))
            if len(finished[i]) <= quota[i]:
                played()
            returns[i], lengths[i] = 0.0, 0
    counted = [episode for episodes_of, n in zip(finished, quota, strict=True) for episode in episodes_of[:n]]
    return Evaluation(fact(envs, "env_id", ""), tuple(r for r, _ in counted), tuple(n for _, n in counted))


def check_resets(envs: VectorEnv) -> None:
    """Sees that environments show the observation that ends an episode, and are reset by the step after it.

    Raises:
        InvalidConfig: they reset in another way.
    """
    mode = envs.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
    if mode != AutoresetMode.NEXT_STEP:
        raise InvalidConfig(f"the environments reset with {mode}; they must be made with AutoresetMode.NEXT_STEP")

"""Full episodes of a fixed policy, with the same quota for every environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from pixelq.agents.acting.exploration import epsilon_greedy
from pixelq.agents.acting.policy import Policy
from pixelq.agents.errors import InvalidConfig
from pixelq.envs import human_normalized_score
from pixelq.envs.interface import env_id


@dataclass(frozen=True)
class Evaluation:
    """Raw returns and lengths of evaluation episodes, and their statistics."""

    env: str
    """ID of the environment; empty if it has none."""
    returns: tuple[float, ...]
    """[episodes]"""
    lengths: tuple[int, ...]
    """[episodes], agent steps."""

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
        """Standard deviation of the returns (divisor: number of episodes)."""
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
        """(mean − random) / (human − random); None outside the 57 Atari games."""
        return human_normalized_score(self.env, self.mean)

    def row(self) -> dict[str, Any]:
        """Return the columns of evaluations.csv after the step."""
        low, high = self.ci95
        return {
            "episodes": self.episodes,
            "mean": self.mean,
            "median": self.median,
            "std": self.std,
            "ci95_low": low,
            "ci95_high": high,
            "human_normalized": self.human_normalized,
        }


def evaluate(
    policy: Policy,
    envs: VectorEnv,
    episodes: int,
    *,
    epsilon: float = 0.0,
    seed: int = 0,
    games_seed: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    played: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Play full episodes and return them environment by environment.

    Each environment plays a quota that is fixed beforehand, so that short episodes, which end first, are not counted
    more often than long ones.

    Args:
        policy: The policy, whose greedy actions are played.
        envs: Environments with next-step autoreset; they are reset here.
        episodes: Number of episodes.
        epsilon: Probability of a random action.
        seed: Seed of the random actions.
        games_seed: Seed of the environments; None lets them go on with their own generators.
        should_stop: Asked at every step.
        played: Called after each episode that counts.

    Raises:
        ValueError: If `episodes` is less than 1.
        InvalidConfig: If the environments do not have next-step autoreset, or other observations or actions than the
            policy.
        InterruptedError: If `should_stop` returns True.
        EnvironmentFailed: If an environment raises an error.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    check_resets(envs)
    check_fits(policy, envs)
    # Quotas
    num_envs = envs.num_envs
    quota = np.full(num_envs, episodes // num_envs)
    quota[: episodes % num_envs] += 1
    finished: list[list[tuple[float, int]]] = [[] for _ in range(num_envs)]
    # Play
    rng = np.random.default_rng(seed)
    returns, lengths = np.zeros(num_envs), np.zeros(num_envs, dtype=np.int64)
    done: NDArray[np.bool_] = np.zeros(num_envs, dtype=bool)
    memory = policy.make_memory(num_envs)
    obs, _ = envs.reset(seed=games_seed)
    while any(len(episodes_of) < n for episodes_of, n in zip(finished, quota, strict=True)):
        if should_stop():
            raise InterruptedError("the evaluation was stopped")
        actions = epsilon_greedy(policy.act(obs, 0.0, memory), policy.num_actions, epsilon, rng)
        obs, reward, terminated, truncated, _ = envs.step(actions)
        lengths += ~done  # the step after an episode's end only resets
        returns += reward
        done = terminated | truncated
        if memory is not None:
            memory.step(actions, reward, done)
        for i in np.flatnonzero(done):
            finished[i].append((float(returns[i]), int(lengths[i])))
            if len(finished[i]) <= quota[i]:
                played()
            returns[i], lengths[i] = 0.0, 0
    # Episodes beyond the quota do not count
    counted = [episode for episodes_of, n in zip(finished, quota, strict=True) for episode in episodes_of[:n]]
    return Evaluation(env_id(envs) or "", tuple(r for r, _ in counted), tuple(n for _, n in counted))


def check_resets(envs: object) -> None:
    """Check that environments return the observation that ends an episode, and are reset by the step after it.

    Raises:
        InvalidConfig: If they reset in another way, or are no vector environments of Gymnasium.
    """
    if not isinstance(envs, VectorEnv):
        library, kind = type(envs).__module__.partition(".")[0], type(envs).__name__
        what = f"{envs!r:.80}" if library == "builtins" else f"{kind} of {library}"
        raise InvalidConfig(
            f"envs must be vector environments of Gymnasium, got {what}; make them with pixelq.envs.make_vec, "
            "which takes an id, a class or a function"
        )
    mode = envs.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
    if mode != AutoresetMode.NEXT_STEP:
        raise InvalidConfig(f"the environments' autoreset mode must be AutoresetMode.NEXT_STEP, got {mode}")


def check_fits(policy: Policy, envs: VectorEnv, what: str = "environments") -> None:
    """Check that environments have the observations and actions that a policy was made for.

    Args:
        policy: The policy.
        envs: The environments.
        what: What the error calls them.

    Raises:
        InvalidConfig: If they do not.
    """
    if not policy.fits(envs):
        theirs = f"{_space(envs.single_observation_space)}, {envs.single_action_space}"
        own = f"{_space(policy.observation_space)}, {policy.action_space}"
        raise InvalidConfig(f"the {what} must have the agent's observations and actions ({own}), got {theirs}")


def _space(space: gymnasium.Space[Any]) -> str:
    return f"{space.dtype} {[*space.shape]}" if space.shape is not None else type(space).__name__

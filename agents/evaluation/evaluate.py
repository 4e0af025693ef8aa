"""Full episodes of a fixed policy, with the same quota for every environment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from pixelq.agents.acting.exploration import epsilon_greedy
from pixelq.agents.acting.noise import EvaluationNoise
from pixelq.agents.acting.policy import Policy
from pixelq.agents.errors import InvalidConfig
from pixelq.agents.storage.rules import LIMIT
from pixelq.envs import human_normalized_score
from pixelq.envs.action_masks import ActionMasks
from pixelq.envs.games import published_id
from pixelq.envs.interface import env_arguments_of, env_id, has_time_limit, resting
from pixelq.envs.plays import note_play


@dataclass(frozen=True)
class Evaluation:
    """Raw returns and lengths of evaluation episodes, and their statistics."""

    env: str
    """ID of the environment; empty if it has none."""
    returns: tuple[float, ...]
    """[episodes]"""
    lengths: tuple[int, ...]
    """[episodes], agent steps."""
    cut: int = 0
    """Number of episodes that were cut off after `LIMIT` steps, because their environment has no time limit."""
    is_changed: bool = False
    """Whether arguments of the environment, or wrappers, make its scores incomparable with published ones."""
    truncated: int = 0
    """Number of episodes that their environment truncated and did not terminate."""

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return len(self.returns)

    @property
    def mean(self) -> float:
        """Mean return."""
        return self._statistic(np.mean)

    @property
    def median(self) -> float:
        """Median return."""
        return self._statistic(np.median)

    @property
    def std(self) -> float:
        """Standard deviation of the returns (divisor: number of episodes)."""
        return self._statistic(np.std)

    @property
    def ci95(self) -> tuple[float, float]:
        """Percentile bootstrap interval of the mean, 10,000 resamples with a fixed seed (Efron 1979)."""
        returns = np.asarray(self.returns)
        picks = np.random.default_rng(0).integers(returns.size, size=(10_000, returns.size))
        with np.errstate(invalid="ignore", over="ignore"):
            low, high = np.percentile(returns[picks].mean(1), [2.5, 97.5])
        return float(low), float(high)

    @property
    def published_env(self) -> str:
        """ID by which published scores are found; empty if `is_changed`."""
        return "" if self.is_changed else self.env

    @property
    def human_normalized(self) -> float | None:
        """(mean − random) / (human − random); None outside the 57 Atari games, and for changed ones."""
        return human_normalized_score(self.published_env, self.mean)

    def _statistic(self, statistic: Callable[[Sequence[float]], Any]) -> float:
        """Return a statistic of the returns; of infinite ones, that may be NaN."""
        with np.errstate(invalid="ignore", over="ignore"):
            return float(statistic(self.returns))

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
    stepped: Callable[[int], None] = lambda steps: None,
) -> Evaluation:
    """Play full episodes and return them environment by environment.

    Each environment plays a quota that is fixed beforehand, so that short episodes, which end first, are not counted
    more often than long ones. An environment whose quota is played is left out of the steps that follow. This does not
    change the games of the others, whose random actions and noise are those of a full batch.
    The last digits of q-values depend on the size of a batch, so that an action may differ where two are equally good.

    In environments without a time limit, an episode is cut off after `LIMIT` steps.

    Args:
        policy: The policy, whose greedy actions are played; with noise if its configuration has `evaluation_noise`.
        envs: Environments with next-step autoreset; they are reset here.
        episodes: Number of episodes.
        epsilon: Probability of a random action.
        seed: Seed of the random actions and of the noise.
        games_seed: Seed of the environments; None lets them go on with their own generators.
        should_stop: Asked at every step.
        played: Called after each episode.
        stepped: Called before each step of the environments with the number of those that take part in it.

    Raises:
        ValueError: If `episodes` is less than 1.
        InvalidConfig: If the environments do not have next-step autoreset, or other observations or actions than the
            policy, or no action masks and the policy was trained with them.
        InterruptedError: If `should_stop` returns True.
        EnvironmentFailed: If an environment raises an error.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    check_resets(envs)
    check_fits(policy, envs)
    quota = np.full(envs.num_envs, episodes // envs.num_envs)
    quota[: episodes % envs.num_envs] += 1
    games = _Games(policy, envs, quota, epsilon, seed)
    while games.left.any():
        games.reset(games_seed)
        games_seed = None
        while len(games.playing):
            if should_stop():
                raise InterruptedError("the evaluation was stopped")
            stepped(len(games.playing))
            for _ in range(games.step()):
                played()
    return games.result()


class _Games:
    """The games of an evaluation.

    Args:
        policy: The policy.
        envs: N environments.
        quota: Number of episodes [N] that each environment plays.
        epsilon: Probability of a random action.
        seed: Seed of the random actions and of the noise.

    Attributes:
        left: Number of episodes [N] that each environment still has to play.
        playing: The environments [P] that take part in the next step, in increasing order.
    """

    def __init__(self, policy: Policy, envs: VectorEnv, quota: NDArray[np.int64], epsilon: float, seed: int) -> None:
        self.policy, self.envs, self.epsilon = policy, envs, epsilon
        self.rng, self.noise = np.random.default_rng(seed), EvaluationNoise(policy, seed)
        self.left, self.playing = quota.copy(), np.flatnonzero(quota)
        self.limit = None if has_time_limit(envs) else LIMIT
        self._action_masks = ActionMasks(envs, policy.num_actions)
        self._resting = resting(envs)
        self._action_type = envs.single_action_space.dtype
        self._finished: list[list[tuple[float, int]]] = [[] for _ in quota]
        self._cut = self._truncated = 0

    def reset(self, seed: int | None) -> None:
        """Start an episode in each environment that has any left."""
        num_envs = self.envs.num_envs
        note_play(self.envs)
        if self._resting is not None:
            self._resting.rest(np.zeros(num_envs, np.bool_))
        self._obs, info = self.envs.reset(seed=seed)
        self._masks = self._action_masks.read(info)
        check_masks(self.policy, self._masks)
        self._returns, self._lengths = np.zeros(num_envs), np.zeros(num_envs, np.int64)
        self._done: NDArray[np.bool_] = np.zeros(num_envs, np.bool_)
        self._memory = self.policy.make_memory(num_envs)
        self._keep(self.left > 0, np.arange(num_envs))

    def step(self) -> int:
        """Play a step, and return how many episodes it ended."""
        playing, masks = self.playing, self._masks
        noise = self.noise.draw(self.envs.num_envs, playing)
        greedy = np.zeros(self.envs.num_envs, np.int64) if masks is None else masks.argmax(1)  # where nobody plays
        allowed = () if masks is None else (masks[playing],)  # a policy of one's own need not know of masks
        greedy[playing] = self.policy.act(self._obs[playing], 0.0, self._memory, noise, *allowed)
        actions = epsilon_greedy(greedy, self.policy.num_actions, self.epsilon, self.rng, masks)
        self._obs, reward, terminated, truncated, info = self.envs.step(actions.astype(self._action_type, copy=False))
        self._lengths += ~self._done  # the step after an episode's end only resets
        self._returns += reward
        self._done = terminated | truncated
        self._masks = self._action_masks.read(info, None if masks is None else self._need_no_mask())
        is_cut = np.zeros_like(self._done) if self.limit is None else ~self._done & (self._lengths >= self.limit)
        if self._memory is not None:
            self._memory.step(actions[playing], np.asarray(reward)[playing], self._done[playing])
        # Episodes that ended
        ended = playing[(self._done | is_cut)[playing]]
        for i in ended:
            self._finished[i].append((float(self._returns[i]), int(self._lengths[i])))
            self._returns[i], self._lengths[i] = 0.0, 0
        self.left[ended] -= 1
        self._cut += int(is_cut[playing].sum())
        self._truncated += int((truncated & ~terminated)[ended].sum())
        # Only a reset of all environments could begin another episode in one that was cut off
        stays = (self.left > 0) & ~is_cut
        if not stays[playing].all():
            self._keep(stays, playing)
        return len(ended)

    def _need_no_mask(self) -> NDArray[np.bool_]:
        """Return in which environments no action is chosen after this step, [N]."""
        needless = np.ones_like(self._done)
        needless[self.playing] = self._done[self.playing]
        return needless

    def _keep(self, stays: NDArray[np.bool_], playing: NDArray[np.int64]) -> None:
        """Leave all environments but those in `stays` [N] out of the next steps, given those that played so far."""
        self.playing = playing[stays[playing]]
        if self._memory is not None:
            self._memory.keep(stays[playing])
        if self._resting is not None and len(self.playing):
            mask = np.ones_like(stays)
            mask[self.playing] = False
            self._resting.rest(mask)

    def result(self) -> Evaluation:
        """Return the episodes, environment by environment."""
        episodes = [episode for of_env in self._finished for episode in of_env]
        returns, lengths = (tuple(column) for column in zip(*episodes, strict=True))
        env, arguments = env_id(self.envs) or "", env_arguments_of(self.envs)
        return Evaluation(env, returns, lengths, self._cut, published_id(env, arguments) != env, self._truncated)


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


def check_masks(policy: Policy, masks: NDArray[np.bool_] | None) -> None:
    """Check that environments gave action masks if the policy was trained with them.

    Args:
        policy: The policy.
        masks: The masks of the first observations; None if there are none.

    Raises:
        InvalidConfig: If they did not.
    """
    if policy.action_masks and masks is None:
        raise InvalidConfig(
            "the environments must give action masks, as those of the agent's training did, got none; return them as "
            'info["action_mask"] from reset and step, or add a method action_masks'
        )


def check_gives_masks(policy: Policy, envs: VectorEnv) -> None:
    """Reset environments, and check that they give action masks; errors as in `check_masks`."""
    check_masks(policy, ActionMasks(envs, policy.num_actions).read(envs.reset()[1]))


def _space(space: gymnasium.Space[Any]) -> str:
    return f"{space.dtype} {[*space.shape]}" if space.shape is not None else type(space).__name__

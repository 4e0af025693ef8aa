"""Vector environments of any Gymnasium environment with Discrete actions and observations that are numbers."""

import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from pixelq.envs.action_masks import KEY, mask_method
from pixelq.envs.anchors import ActionLog, Ints
from pixelq.envs.checks import (
    check_finite,
    checked_actions,
    checked_count,
    checked_options,
    picture_refusal,
    require_received,
    require_reset,
    spread_seeds,
)
from pixelq.envs.errors import EnvironmentFailed, InvalidEnv, printable, quoted, reason
from pixelq.envs.failures import Failures
from pixelq.envs.observed import UNPREPARED, Preparation, range_notes, unscaled_parts
from pixelq.envs.protocols import GYMNASIUM, Protocol
from pixelq.envs.recipe import Recipe, Wrappers

Env = gymnasium.Env[Any, Any]
Step = tuple[NDArray[Any], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]


class GymnasiumVec(VectorEnv[NDArray[Any], NDArray[np.int64], NDArray[Any]]):
    """N copies of one Gymnasium environment, stepped one after another in this process.

    Observations of a Box are [N, *shape] as the environment returns them, those of other spaces laid out as one vector;
    see `Preparation`. Rewards are float32 [N], flags bool [N]. Episodes restart automatically, one step late, as in
    `AtariVec`.

    Whatever an environment raises while it is played, and a reward or observation that is not finite, becomes
    `EnvironmentFailed`; `restart` continues after it.

    Args:
        env: A Gymnasium id; or a class or function that makes an environment, or its name as `MODULE:NAME`.
        num_envs: Number of copies N.
        seed: Non-negative seed.
        render_mode: `rgb_array` for the method `frame`, otherwise None.
        max_episode_steps: Number of steps after which an episode is truncated, in place of the registered one; None for
            that. The wrappers lie around the limit, as with `gymnasium.make`.
        preparation: What is done to the observations, after the wrappers.
        env_kwargs: Keyword arguments of the environment.
        wrappers: Classes or functions, or their names, that take an environment and return one; the first is the
            innermost.

    Attributes:
        env_id: Id or name of the environment; None if it, a wrapper or an argument has no name.
        arguments: Arguments of `make_vec` that make the same environments again, as JSON values.
        frame_stack: Number of pictures in an observation, 1 where they are not stacked.
        notes: Sentences about observations that networks may read on another scale than they are meant.
        unscaled: Keys of observations that may be colours and are not scaled as such; see `unscaled_parts`.

    Raises:
        InvalidEnv: If an argument is out of range, a dependency is missing, the actions are not Discrete, or the
            observations cannot be seen by agents or prepared.
    """

    frames_per_step: int = 1
    protocol: Protocol = GYMNASIUM

    def __init__(
        self,
        env: str | Callable[[], Env],
        num_envs: int,
        seed: int,
        *,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        env_kwargs: Mapping[str, Any] | None = None,
        wrappers: Wrappers = (),
        preparation: Preparation = UNPREPARED,
    ) -> None:
        self._recipe = Recipe.of(env, env_kwargs, wrappers, max_episode_steps)
        self.env_id, self.arguments = self._recipe.env_id, self._recipe.arguments
        env = self._recipe.env
        self._name = env if isinstance(env, str) else getattr(env, "__name__", type(env).__name__)  # also in checksums
        self.num_envs = checked_count("num_envs", num_envs, least=1)
        bases = spread_seeds(seed, self.num_envs)
        self.render_mode = render_mode
        self.max_episode_steps = max_episode_steps
        self._preparation = preparation
        self._envs = self._make()
        self.spec = self._envs.spec
        self.metadata = {**self._envs.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.single_observation_space = self._envs.single_observation_space
        self.single_action_space = self._envs.single_action_space
        self.observation_space = self._envs.observation_space
        self.action_space = self._envs.action_space
        actions = self.single_action_space
        if not isinstance(actions, Discrete):
            raise self._invalid(f"has actions {printable(str(actions))}; give an environment with Discrete actions")
        refusal = preparation.refusal(self._shown)
        if refusal is not None:
            raise self._invalid(refusal)
        self.frame_stack = preparation.frame_stack if preparation.stacks(self._shown) else 1
        if self.env_id is not None:
            self.arguments = self.arguments | preparation.arguments(self._shown)
        self.notes, self.unscaled = range_notes(self._shown), unscaled_parts(self._shown)
        self._num_actions, self._first_action = int(actions.n), int(actions.start)
        self._action_type = actions.dtype
        if self._first_action != 0:  # agents count actions from 0
            self.single_action_space = Discrete(self._num_actions)
            self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.action_meanings = tuple(str(action) for action in range(self._num_actions))
        self._log = ActionLog(bases, self._num_actions)
        self._everywhere = np.ones(self.num_envs, np.bool_)
        self._done = np.zeros(self.num_envs, np.bool_)
        self._crcs = [0] * self.num_envs  # checksums of all results since the anchors
        self._outcome: NDArray[Any] = np.zeros((self.num_envs, 3))  # reward and flags of the latest step
        self.plays = 0  # resets and steps so far; see `plays.py`
        self._is_reset = False
        self._picture_shape: tuple[int, ...] | None = None  # of those drawn so far
        self._has_rested = False  # so that the log does not determine the environments
        self._sent: NDArray[np.int64] | None = None

    @property
    def flicker(self) -> float:
        """Probability that a frame is black, which is 0."""
        return self.protocol.flicker

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start a new episode in every environment.

        Args:
            seed: Non-negative seed. Without one, the first call uses the constructor's seed, and later calls leave the
                random generators as they are.
            options: None or empty.

        Returns:
            The observations and `info`.

        Raises:
            InvalidEnv: If the seed is negative.
            ValueError: If there are options.
            RuntimeError: Between `send` and `recv`, or after `close`.
            EnvironmentFailed: If an environment raises an error.
        """
        checked_options(options)
        self._require_open()
        require_received("reset", self._sent is not None)
        self.plays += 1
        anew = seed is not None or not self._is_reset or self._has_rested
        if seed is not None:
            self._log = ActionLog(spread_seeds(seed, self.num_envs), self._num_actions)
        self._wake()
        with self._playing():
            return self._begin(self._log.reset(anew=anew), self._everywhere)

    def rest(self, mask: NDArray[np.bool_]) -> None:
        """Leave environments out of all steps until the next reset.

        Their rows repeat the last observation, with reward 0 and no flag.

        Args:
            mask: Which environments rest, bool [N].

        Raises:
            RuntimeError: Between `send` and `recv`, or after `close`.
        """
        self._require_open()
        require_received("rest", self._sent is not None)
        self.plays += 1
        for k in np.flatnonzero(mask):
            self._singles[k].rests = True
            self._has_rested = True

    def step(self, actions: NDArray[np.int64]) -> Step:
        """Play actions [N]; `send` and `recv` describe the errors."""
        self.send(actions)
        return self.recv()

    def send(self, actions: NDArray[np.int64]) -> None:
        """Keep actions, integers [N], for `recv`.

        Raises:
            ValueError: If the actions have the wrong type, shape or range.
            RuntimeError: Before the first `reset`, twice in a row, or after `close`.
        """
        checked = checked_actions(actions, self.num_envs, self._num_actions)
        self._require_open()
        require_reset(self._is_reset)
        if self._sent is not None:
            raise RuntimeError("send was called twice; call recv in between")
        self.plays += 1
        self._sent = checked

    def recv(self) -> Step:
        """Play the actions that were sent, and return the results of the step.

        Raises:
            RuntimeError: Without a `send` before it, or after `close`.
            EnvironmentFailed: If an environment raises an error; `restart` or `reset` is needed before another step.
        """
        self._require_open()
        if self._sent is None:
            raise RuntimeError("recv was called without send; call send first")
        actions, self._sent = self._sent, None
        with self._playing():
            self._log.append(actions)
            return self._play(actions, self._log.due(self._done))

    def restart(self) -> NDArray[Any]:
        """Create the environments again, for instance after an error, and start an episode with a new seed in each.

        Actions that were sent and not received are dropped.

        Returns:
            The first observations [N, *shape].

        Raises:
            RuntimeError: After `close`.
            EnvironmentFailed: If an environment raises an error.
            InvalidEnv: If the environments can no longer be made.
        """
        self._require_open()
        self._is_reset = False
        self._sent = None
        self.close_extras()
        self._envs = self._make()
        return self.reset()[0]

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Return the state of the environments, from which `set_state` restores them exactly.

        Returns:
            Plain arrays, with one byte for each step that restoring has to play again.

        Raises:
            RuntimeError: Before the first `reset`, between `send` and `recv`, after `close`, or while environments
                rest.
        """
        self._require_open()
        require_reset(self._is_reset and not self._has_rested)
        require_received("get_state", self._sent is not None)
        return self._log.get_state(np.array(self._crcs, np.uint32))

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Restore the environments from a state, and return the observations that were the latest then.

        The steps since the anchors are played again, which works for environments that a seed and the actions
        determine. Checksums verify that the results are the same as before.

        Args:
            state: A state from `get_state` of the same number of copies of the same environment.

        Raises:
            InvalidEnv: If the state is damaged, or the environments do not play the same again; in the latter case
                `reset` is needed before a step.
            RuntimeError: Between `send` and `recv`, or after `close`.
        """
        self._require_open()
        require_received("set_state", self._sent is not None)
        self.plays += 1
        log, crcs = ActionLog.from_state(state, self.num_envs, self._num_actions)
        cause: EnvironmentFailed | None = None
        try:
            with self._playing():
                observations = self._replay(log)
        except EnvironmentFailed as error:
            cause = error
        if cause or self._crcs != crcs.tolist():
            self._is_reset = False
            raise self._invalid(
                "did not play the same again; its seed and actions do not determine it, or it changed"
            ) from cause
        self._log = log
        return observations

    def frame(self) -> NDArray[np.uint8]:
        """Return the picture of the first environment, uint8 [height, width, 3].

        Raises:
            RuntimeError: Without a render mode, before the first `reset`, or after `close`.
            EnvironmentFailed: If the environment draws no picture, or one of another size than before, or raises an
                error.
        """
        self._require_open()
        if self.render_mode is None:
            raise RuntimeError("there is no picture; make the environment with make_filmed")
        if not self._is_reset:
            raise RuntimeError("there is no picture yet; call reset first")
        with self._playing():
            pictures = self._envs.render()
            picture: Any = pictures[0] if pictures else None
            refusal = picture_refusal(picture)
            if refusal is not None:
                raise TypeError(refusal)
            if self._picture_shape not in (None, picture.shape):
                raise ValueError(f"render() returned a picture {[*picture.shape]} after one {[*self._picture_shape]}")
            self._picture_shape = picture.shape
            return cast(NDArray[np.uint8], picture)

    def close_extras(self, **kwargs: Any) -> None:
        """Close the environments; an error that one raises then is ignored, because what was played is not lost."""
        for env in self._singles:
            with suppress(EnvironmentFailed), Failures(self._failed):
                env.close()
        self._envs.closed = True

    def _make(self) -> SyncVectorEnv:
        recipe, limit = self._recipe, self.max_episode_steps
        vector: dict[str, Any] = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self._singles: list[_ReplayableEnv] = []

        def wrapped(env: Env) -> _ReplayableEnv:
            env = recipe.wrap(env)
            self._shown = env.observation_space
            self._singles.append(_ReplayableEnv(self._preparation.wrap(env)))
            return self._singles[-1]

        def made() -> Env:
            made = recipe.make(self.render_mode)
            if any(made.unwrapped is other.unwrapped for other in self._singles):
                raise InvalidEnv("it gives the same environment again; make a new one at each call")
            return wrapped(made)

        with Failures(lambda error: self._invalid(f"cannot be made: {reason(error)}")):
            if not isinstance(recipe.env, str):
                return SyncVectorEnv([made] * self.num_envs, **vector)
            return gymnasium.make_vec(  # type: ignore[return-value]  # "sync" says so
                recipe.env,
                self.num_envs,
                vectorization_mode="sync",
                vector_kwargs=vector,
                wrappers=[wrapped],
                **recipe.env_kwargs,
                **({} if self.render_mode is None else {"render_mode": self.render_mode}),
                **({} if limit is None else {"max_episode_steps": limit}),
            )

    def _invalid(self, what: str) -> InvalidEnv:
        return InvalidEnv(f"{quoted(self._recipe.name)} {what}")

    def _wake(self) -> None:
        """Let no environment rest any more."""
        for env in self._singles:
            env.rests = False
        self._has_rested = False

    def _begin(self, seeds: Ints, mask: NDArray[np.bool_]) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start a new episode where `mask` [N] is set, with a new seed where the one in `seeds` [N] is not −1."""
        self._seed(seeds)
        observations, info = self._envs.reset(options={"reset_mask": mask})
        check_finite(self._name, observations)
        self._outcome[:] = 0
        self._note(observations, mask)
        self._done[mask] = False
        return observations, info

    def _play(self, actions: Ints, renewed: NDArray[np.bool_]) -> Step:
        """Play a step in which the environments in `renewed` [N], all done before, get a new anchor."""
        if renewed.any():
            self._seed(self._log.renew(renewed))
        theirs = (actions + self._first_action).astype(self._action_type, copy=False)
        observations, rewards, terminated, truncated, info = self._envs.step(theirs)
        check_finite(self._name, observations, rewards)
        given = rewards.astype(np.float32)
        truncated &= ~terminated
        self._outcome[:, 0], self._outcome[:, 1], self._outcome[:, 2] = rewards, terminated, truncated
        self._note(observations, self._everywhere)
        self._done = terminated | truncated
        return observations, given, terminated, truncated, info

    def _seed(self, seeds: Ints) -> None:
        """Set the seeds [N] of the next resets, −1 for none, and start the checksums of those environments again."""
        for k in np.flatnonzero(seeds >= 0):
            self._singles[k].next_seed = int(seeds[k])
            self._crcs[k] = zlib.crc32(self._name.encode())

    def _note(self, observations: NDArray[Any], mask: NDArray[np.bool_]) -> None:
        """Add the latest results of the environments in `mask` [N] to their checksums."""
        for k, (is_new, shown, outcome) in enumerate(zip(mask.tolist(), observations, self._outcome, strict=True)):
            if is_new:
                self._crcs[k] = zlib.crc32(outcome, zlib.crc32(shown, self._crcs[k]))

    def _replay(self, log: ActionLog) -> NDArray[Any]:
        """Play the steps and resets of a log, and return the last observations [N, *shape]."""
        self._wake()
        # A reset of all environments is needed before single ones can be reset.
        observations, _ = self._begin(np.full(self.num_envs, -1), self._everywhere)
        waiting = self._everywhere.copy()
        try:
            for event in log.replay():
                if isinstance(event, tuple):
                    observations, _ = self._begin(*event)
                    waiting &= event[0] < 0
                    for env, is_idle in zip(self._singles, waiting.tolist(), strict=True):
                        env.is_idle = is_idle
                else:
                    observations = self._play(event, ~self._everywhere)[0]
        finally:
            for env in self._singles:
                env.is_idle = False
        return observations

    def _playing(self) -> Failures:
        """Return a context that turns errors of the environments into `EnvironmentFailed`.

        Whatever interrupts a reset or a step leaves the environments in an unknown state until the next reset.
        """
        self._is_reset = False
        return Failures(self._failed, self._played)

    def _played(self) -> None:
        self._is_reset = True

    def _failed(self, error: BaseException) -> EnvironmentFailed:
        if isinstance(error, EnvironmentFailed):
            return error
        if isinstance(error, ValueError) and (misfit := self._misfit()):
            return EnvironmentFailed(f"{quoted(self._name)} failed: {misfit}")
        kind = type(error).__name__
        said = f": {reason(error)}" if str(error).strip() and isinstance(error, Exception) else ""
        return EnvironmentFailed(f"{quoted(self._name)} failed: {kind}{said}")

    def _misfit(self) -> str | None:
        """Return which latest observation has not the shape of the observation space, or None if all have it."""
        needed = self.single_observation_space.shape or ()
        for k, env in enumerate(self._singles):
            with suppress(Exception):  # an observation can be anything, also something without a shape
                shape = np.shape(env.observation)
                if env.observation is not None and shape != needed:
                    return f"environment {k} gave an observation of shape {[*shape]}, not {[*needed]}"
        return None

    def _require_open(self) -> None:
        if self.closed:
            raise RuntimeError("the environment is closed; make a new one")


class _ReplayableEnv(gymnasium.Wrapper[Any, np.int64, Any, np.int64]):
    """Wrapper whose next reset has a given seed, whoever calls it, and which can skip steps and resets.

    Gymnasium's vector environment resets its environments by itself and without seeds.

    Args:
        env: The environment.

    Attributes:
        next_seed: Seed of the next reset alone, or None.
        is_idle: Whether steps are skipped.
        rests: Whether steps and resets are skipped.
        observation: The latest observation; None before the first reset.
    """

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.next_seed: int | None = None
        self.is_idle = self.rests = False
        self.observation: Any = None
        self._mask_method = mask_method(env)
        self._mask: dict[str, Any] = {}  # the latest action mask, by its key
        self._gives_masks = self._mask_method is not None  # or the first reset has a mask

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset with `next_seed`; the arguments are ignored. One that rests returns its latest results again."""
        seed, self.next_seed = self.next_seed, None
        if self.rests:
            return self.observation, self._mask
        self.observation, info = self.env.reset(seed=seed)
        self._gives_masks |= KEY in info
        return self.observation, self._with_mask(info) if self._gives_masks else info

    def step(self, action: np.int64) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment; one that is idle or rests returns its last observation again."""
        if self.is_idle or self.rests:
            return self.observation, 0.0, False, False, self._mask
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.observation = observation
        if isinstance(reward, np.ndarray) and reward.ndim > 0:
            raise TypeError(f"the reward must be a number, got an array of shape {[*reward.shape]}")
        if self._gives_masks and not terminated:  # then it need not know which actions it would allow
            info = self._with_mask(info)
        return observation, reward, terminated, truncated, info

    def _with_mask(self, info: dict[str, Any]) -> dict[str, Any]:
        """Return `info` with what the environment's method `action_masks` says, unless it has a mask."""
        if KEY in info:
            self._mask = {KEY: info[KEY]}
        elif self._mask_method is not None:
            self._mask = {KEY: self._mask_method()}
            info = info | self._mask
        return info

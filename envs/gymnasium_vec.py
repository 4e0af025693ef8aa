"""Any Gymnasium environment with Discrete actions and Box observations, in the shape that Atari has here."""

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from pixelq.envs.anchors import ActionLog, Ints
from pixelq.envs.checks import (
    checked_actions,
    checked_count,
    checked_options,
    require_received,
    require_reset,
    spread_seeds,
)
from pixelq.envs.errors import EnvironmentFailed, InvalidEnv, reason
from pixelq.envs.protocols import GYMNASIUM, Protocol
from pixelq.envs.seat import Env, Seat

Step = tuple[NDArray[Any], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]


class ClassicVec(VectorEnv[NDArray[Any], NDArray[np.int64], NDArray[Any]]):
    """N copies of one Gymnasium environment, stepped in turn in this process, restarting as `AtariVec` does.

    Observations are [N, *shape] as the environment gives them, rewards float32 [N], flags bool [N].

    An error that an environment raises while it is played becomes `EnvironmentFailed`; `restart` goes on after it.

    Args:
        env_id: a Gymnasium id.
        num_envs: how many copies, N.
        seed: non-negative.
        render_mode: `rgb_array` for `frame`.

    Raises:
        InvalidEnv: when an argument is out of range, or the environment's spaces or dependencies are not there.
    """

    frame_stack: int = 1
    flicker: float = 0.0
    frames_per_step: int = 1
    protocol: Protocol = GYMNASIUM

    def __init__(self, env_id: str, num_envs: int, seed: int, *, render_mode: str | None = None) -> None:
        self.env_id = env_id
        self.num_envs = checked_count("num_envs", num_envs, least=1)
        bases = spread_seeds(seed, self.num_envs)
        self.render_mode = render_mode
        self._envs = self._make()
        self.spec = self._envs.spec
        self.metadata = {**self._envs.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.single_observation_space = self._envs.single_observation_space
        self.single_action_space = self._envs.single_action_space
        self.observation_space = self._envs.observation_space
        self.action_space = self._envs.action_space
        actions, observations = self.single_action_space, self.single_observation_space
        if not isinstance(actions, Discrete):
            raise InvalidEnv(f"{env_id!r} has actions {actions}; give an environment with Discrete actions")
        if not isinstance(observations, Box):
            raise InvalidEnv(f"{env_id!r} has observations {observations}; give an environment with a Box of them")
        self._num_actions, self._first_action = int(actions.n), int(actions.start)
        if self._first_action != 0:  # agents count actions from 0
            self.single_action_space = Discrete(self._num_actions)
            self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.action_meanings = tuple(str(action) for action in range(self._num_actions))
        self._log = ActionLog(bases, self._num_actions)
        self._everywhere = np.ones(self.num_envs, np.bool_)
        self._done = np.zeros(self.num_envs, np.bool_)
        self._crcs = [0] * self.num_envs  # of all that was returned since the anchors
        self._outcome: NDArray[Any] = np.zeros((self.num_envs, 3))  # reward and flags of a step
        self._is_reset = False
        self._sent: NDArray[np.int64] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Starts a new episode in every environment, with the constructor's seed the first time.

        Raises:
            InvalidEnv: when the seed is negative.
            ValueError: when there are options.
            RuntimeError: between `send` and `recv`, or after `close`.
            EnvironmentFailed: when an environment raises an error.
        """
        checked_options(options)
        self._require_open()
        require_received("reset", self._sent is not None)
        anew = seed is not None or not self._is_reset
        if seed is not None:
            self._log = ActionLog(spread_seeds(seed, self.num_envs), self._num_actions)
        with self._playing():
            return self._begin(self._log.reset(anew=anew), self._everywhere)

    def step(self, actions: NDArray[np.int64]) -> Step:
        """One step with `actions` [N]; errors as in `send`."""
        self.send(actions)
        return self.recv()

    def send(self, actions: NDArray[np.int64]) -> None:
        """Keeps `actions`, integers [N], for `recv`.

        Raises:
            ValueError: when the actions have the wrong type, shape or range.
            RuntimeError: before the first `reset`, twice in a row, or after `close`.
        """
        checked = checked_actions(actions, self.num_envs, self._num_actions)
        self._require_open()
        require_reset(self._is_reset)
        if self._sent is not None:
            raise RuntimeError("send was called twice; call recv in between")
        self._sent = checked

    def recv(self) -> Step:
        """Plays what was sent.

        Raises:
            RuntimeError: without a `send` before it, or after `close`.
            EnvironmentFailed: when an environment raises an error; `restart` or `reset` is needed before a step.
        """
        self._require_open()
        if self._sent is None:
            raise RuntimeError("recv was called without send; call send first")
        actions, self._sent = self._sent, None
        with self._playing():
            self._log.append(actions)
            return self._play(actions, self._log.due(self._done))

    def restart(self) -> NDArray[Any]:
        """Makes the environments anew, as after an error, and starts an episode with a new seed in each.

        It returns their observations [N, *shape]. What was sent and not received is forgotten, and an error in closing
        the old environments is ignored.

        Raises:
            RuntimeError: after `close`.
            EnvironmentFailed: when an environment raises an error.
            InvalidEnv: when the environments can no longer be made.
        """
        self._require_open()
        self._is_reset = False
        self._sent = None
        for seat in self._seats:
            with suppress(Exception):
                seat.close()
        self._envs.closed = True
        self._envs = self._make()
        return self.reset()[0]

    def get_state(self) -> dict[str, NDArray[Any]]:
        """What `set_state` needs to put the environments where they are now: plain arrays, a byte a step.

        Raises:
            RuntimeError: before the first `reset`, between `send` and `recv`, or after `close`.
        """
        self._require_open()
        require_reset(self._is_reset)
        require_received("get_state", self._sent is not None)
        return self._log.get_state(np.array(self._crcs, np.uint32))

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Puts the environments where they were at `get_state`, and returns the observations that were the last then.

        The steps since their anchors are played again for it, so environments can be restored that a seed and the
        actions determine. It is checked that they return again what they did.

        Raises:
            InvalidEnv: when `state` is damaged, or the environments do not play the same again; in the latter case
                `reset` is needed before a step.
            RuntimeError: between `send` and `recv`, or after `close`.
        """
        self._require_open()
        require_received("set_state", self._sent is not None)
        log, crcs = ActionLog.from_state(state, self.num_envs, self._num_actions)
        cause: EnvironmentFailed | None = None
        try:
            with self._playing():
                observations = self._replay(log)
        except EnvironmentFailed as error:
            cause = error
        if cause or self._crcs != crcs.tolist():
            self._is_reset = False
            raise InvalidEnv(
                f"{self.env_id!r} did not play the same again; its seed and actions do not determine it, or it changed"
            ) from cause
        self._log = log
        return observations

    def frame(self) -> NDArray[np.uint8]:
        """The first environment's picture, uint8 [height, width, 3].

        Raises:
            RuntimeError: without a render mode, before the first `reset`, or after `close`.
        """
        self._require_open()
        if self.render_mode is None:
            raise RuntimeError("there is no picture; make the environment with make_filmed")
        if not self._is_reset:
            raise RuntimeError("there is no picture yet; call reset first")
        pictures = self._envs.render()
        return np.asarray(pictures[0] if pictures else None, np.uint8)

    def close_extras(self, **kwargs: Any) -> None:
        """Closes the environments."""
        self._envs.close(**kwargs)

    def _make(self) -> SyncVectorEnv:
        # Not every constructor takes a render mode.
        drawing: dict[str, Any] = {} if self.render_mode is None else {"render_mode": self.render_mode}
        self._seats: list[Seat] = []

        def seated(env: Env) -> Seat:
            self._seats.append(Seat(env))
            return self._seats[-1]

        try:
            return gymnasium.make_vec(  # type: ignore[return-value]  # "sync" says so
                self.env_id,
                self.num_envs,
                vectorization_mode="sync",
                vector_kwargs={"autoreset_mode": AutoresetMode.NEXT_STEP},
                wrappers=[seated],
                **drawing,
            )
        except (gymnasium.error.Error, ImportError, TypeError, ValueError) as error:
            raise InvalidEnv(f"{self.env_id!r} cannot be made: {reason(error)}") from error

    def _begin(self, seeds: Ints, mask: NDArray[np.bool_]) -> tuple[NDArray[Any], dict[str, Any]]:
        """Starts a new episode where `mask` [N] is set, with the generator seeded if the seed in [N] is not −1."""
        self._seed(seeds)
        observations, info = self._envs.reset(options={"reset_mask": mask})
        self._outcome[:] = 0
        self._note(observations, mask)
        self._done[mask] = False
        return observations, info

    def _play(self, actions: Ints, renewed: NDArray[np.bool_]) -> Step:
        """A step, in which the environments in `renewed` [N], all done before, get a new anchor."""
        if renewed.any():
            self._seed(self._log.renew(renewed))
        observations, rewards, terminated, truncated, info = self._envs.step(actions + self._first_action)
        truncated &= ~terminated
        self._outcome[:, 0], self._outcome[:, 1], self._outcome[:, 2] = rewards, terminated, truncated
        self._note(observations, self._everywhere)
        self._done = terminated | truncated
        return observations, rewards.astype(np.float32), terminated, truncated, info

    def _seed(self, seeds: Ints) -> None:
        """Gives the next reset of each environment its seed in [N], −1 for none, and starts its checksum anew."""
        for k in np.flatnonzero(seeds >= 0):
            self._seats[k].seed = int(seeds[k])
            self._crcs[k] = zlib.crc32(self.env_id.encode())

    def _note(self, observations: NDArray[Any], mask: NDArray[np.bool_]) -> None:
        """Adds what the environments in `mask` [N] returned to their checksums."""
        for k, (is_new, shown, outcome) in enumerate(zip(mask.tolist(), observations, self._outcome, strict=True)):
            if is_new:
                self._crcs[k] = zlib.crc32(outcome, zlib.crc32(shown, self._crcs[k]))

    def _replay(self, log: ActionLog) -> NDArray[Any]:
        """Plays what is in the log, and returns the last observations [N, *shape]."""
        observations, _ = self._begin(np.full(self.num_envs, -1), self._everywhere)  # only then single ones can be
        waiting = self._everywhere.copy()
        try:
            for event in log.replay():
                if isinstance(event, tuple):
                    observations, _ = self._begin(*event)
                    waiting &= event[0] < 0
                    for seat, is_idle in zip(self._seats, waiting.tolist(), strict=True):
                        seat.is_idle = is_idle
                else:
                    observations = self._play(event, ~self._everywhere)[0]
        finally:
            for seat in self._seats:
                seat.is_idle = False
        return observations

    @contextmanager
    def _playing(self) -> Iterator[None]:
        """Whatever interrupts a reset or a step, nobody knows where the environments are until the next reset."""
        self._is_reset = False
        try:
            yield
        except Exception as error:
            kind = type(error).__name__
            said = f": {reason(error)}" if str(error).strip() else ""
            raise EnvironmentFailed(f"{self.env_id!r} failed: {kind}{said}") from error
        self._is_reset = True

    def _require_open(self) -> None:
        if self.closed:
            raise RuntimeError("the environment is closed; make a new one")

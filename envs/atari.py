"""Atari games on ale_py's native vector environment, which emulates and preprocesses in C++ threads."""

import functools
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from pixelq.envs.anchors import ActionLog, Ints
from pixelq.envs.checks import (
    checked_actions,
    checked_count,
    checked_options,
    checksums,
    require_received,
    require_reset,
    spread_seeds,
)
from pixelq.envs.errors import InvalidEnv, quoted
from pixelq.envs.flicker import DEEPEST_STACK, Flicker
from pixelq.envs.ids import check_id, screen_size
from pixelq.envs.protocols import NO_LIMIT, Protocol, with_flicker
from pixelq.envs.resizing import LARGEST_FRAME
from pixelq.envs.separate_games import SeparateGames

ATARI_STACK = 4
"""Number of pictures in an observation of an Atari game unless another is asked for."""
ATARI_SIZE = 84
"""Height and width of a picture of an Atari game unless another is asked for."""
FRAMES_PER_STEP = 4
"""Emulator frames in an agent step."""

Observations = NDArray[np.uint8]
Rewards = NDArray[np.float32]
Flags = NDArray[np.bool_]
Native = AtariVectorEnv | SeparateGames
Step = tuple[Observations, Rewards, Flags, Flags, dict[str, Any]]


class AtariVec(VectorEnv[Observations, NDArray[np.int64], NDArray[Any]]):
    """N copies of one game with the preprocessing of Mnih et al. 2015, stepped synchronously.

    An agent step is four frames, the last two max-pooled. An observation is a stack of S grey pictures, one per step,
    uint8 [N, S, frame_size, frame_size], the newest last. Rewards are the raw game's, float32 [N]; flags are bool [N].

    Episodes restart automatically, one step late (`AutoresetMode.NEXT_STEP`): the step that ends an episode returns
    its final observation; the next step ignores that environment's action and returns reward 0, no flag and the first
    observation of the new episode. `terminated` and `truncated` are never both set.

    `info` holds int32 arrays [N] `env_id`, `lives`, `frame_number` and `episode_frame_number`. Where the protocol ends
    the return at a lost life, it also holds `life_lost`, bool [N]: a life was lost, and the game continues.
    `frame_number` counts from the last anchor: after `ANCHOR_EVERY` steps the next episode gets a new seed.

    `arguments` holds the arguments of `make_vec` that make the same games again, as JSON values.

    `step(actions)` equals `send(actions)` and `recv()`; between the two the games run in the background.

    Args:
        env_id: A Gymnasium id `ALE/*-v5`. Of its own keyword arguments only the ROM is used; the protocol replaces the
            others, and those that it cannot replace, such as a game mode, are refused.
        num_envs: Number of copies N.
        seed: Non-negative seed. The same seed gives the same games to the bit, for any number of threads.
        protocol: Stickiness, no-ops, life losses, time limit and flicker. Flicker hides frames (see `Flicker`); the
            game stays the same.
        full_action_space: Whether to use all 18 joystick actions instead of the game's own.
        num_threads: Number of emulation threads, 0 for one per core of the machine.
        frame_stack: Number of pictures S in an observation, 1 to 16; those from before the episode are black.
        frame_size: Height and width of a picture.
        colour: Whether observations are the screen alone, uint8 [N, 1, height, width, 3], for filming. They do not
            flicker.

    Raises:
        InvalidEnv: If an argument is out of range, the game has no single-player mode, or its id was registered with
            a game mode, a difficulty or other observations or actions.
    """

    frames_per_step: int = FRAMES_PER_STEP

    def __init__(
        self,
        env_id: str,
        num_envs: int,
        seed: int,
        protocol: Protocol,
        *,
        full_action_space: bool = False,
        num_threads: int = 0,
        frame_stack: int = ATARI_STACK,
        frame_size: int = ATARI_SIZE,
        colour: bool = False,
    ) -> None:
        self.env_id = check_id(env_id)
        self.spec = gymnasium.spec(self.env_id)
        check_registered(self.env_id, self.spec.kwargs)
        self.protocol = with_flicker(protocol, 0.0) if colour else protocol
        self.num_envs = checked_count("num_envs", num_envs, least=1)
        bases = spread_seeds(seed, self.num_envs)
        self.frame_stack = 1 if colour else checked_count("frame_stack", frame_stack, least=1, most=DEEPEST_STACK)
        frame_size = checked_count("frame_size", frame_size, least=1, most=LARGEST_FRAME)
        self._flicker = Flicker(self.protocol.flicker, self.num_envs, self.frame_stack)
        check_flag("full_action_space", full_action_space)
        self.arguments = atari_arguments(
            full_action_space, ATARI_STACK if colour else self.frame_stack, ATARI_SIZE if colour else frame_size
        )
        self._make_native = functools.partial(self._make, full_action_space, None if colour else frame_size)
        native = self._make_native(self.num_envs, num_threads)
        self._native: Native | None = native
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.single_observation_space = native.single_observation_space
        self.single_action_space = native.single_action_space
        self.observation_space = native.observation_space
        self.action_space = native.action_space
        self.action_meanings = tuple(action.name for action in native.ale.get_action_set())
        self._num_actions = len(self.action_meanings)
        self._fires = protocol.fire_at_start and "FIRE" in self.action_meanings  # at the start of an episode
        self._game = _game_text(self.env_id, protocol, self.action_meanings, self._flicker.options)
        self._log = ActionLog(bases, self._num_actions)
        self.plays = 0  # resets and steps so far; see `plays.py`
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._is_reset = False
        self._is_sent = False
        self._has_rested = False  # so that the log does not determine the games
        self._frames = np.zeros(self.num_envs, np.int64)  # of each episode, after the no-ops
        self._lives = np.zeros(self.num_envs, np.int32)
        self._truncated = np.zeros(self.num_envs, np.bool_)  # at the previous step, like `_done`
        self._done = np.zeros(self.num_envs, np.bool_)

    @property
    def flicker(self) -> float:
        """Probability, per agent step, that the newest frame is black."""
        return self.protocol.flicker

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
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
            RuntimeError: Between `send` and `recv`, after `close`, or in another process or thread.
        """
        checked_options(options)
        bases = None if seed is None else spread_seeds(seed, self.num_envs)
        with self._exclusive() as native:
            require_received("reset", self._is_sent)
            self.plays += 1
            if bases is not None:
                self._log = ActionLog(bases, self._num_actions)
            seeds = self._log.reset(anew=bases is not None or not self._is_reset or self._has_rested)
            self._wake(native)
            observations, info = self._begin(native, seeds, np.ones_like(self._done))
            self._is_reset = True
        if self.protocol.life_loss_ends_return:
            info["life_lost"] = np.zeros(self.num_envs, np.bool_)
        return observations, info

    def rest(self, mask: Flags) -> None:
        """Leave games out of all steps until the next reset.

        Their rows repeat the last observation, with reward 0 and no flag. The first call makes the games again, each
        with a thread of its own, and so must come before a reset; later ones may come at any time.

        Args:
            mask: Which games rest, bool [N].

        Raises:
            RuntimeError: Between `send` and `recv`, after `close`, in another process or thread, or if the first call
                lets a game rest.
        """
        with self._exclusive() as native:
            require_received("rest", self._is_sent)
            self.plays += 1
            if not isinstance(native, SeparateGames):
                if mask.any():
                    raise RuntimeError("no game can rest yet; call rest without any before the reset")
                self._native, self._is_reset = SeparateGames(lambda: self._make_native(1, 1), self.num_envs), False
                return
            native.is_resting |= mask
            self._has_rested |= bool(mask.any())
            self._done[mask] = self._truncated[mask] = False
            self._frames[mask] = -NO_LIMIT  # so that none reaches its time limit

    def step(self, actions: NDArray[np.int64]) -> Step:
        """Play actions [N] for four frames each.

        The class describes the results; `send` and `recv` describe the errors.
        """
        self.send(actions)
        return self.recv()

    def send(self, actions: NDArray[np.int64]) -> None:
        """Start playing actions, integers [N], and return at once.

        Raises:
            ValueError: If the actions have the wrong type, shape or range.
            RuntimeError: Before the first `reset`, twice in a row, after `close`, or in another process or thread.
        """
        checked = checked_actions(actions, self.num_envs, self._num_actions)
        with self._exclusive() as native:
            require_reset(self._is_reset)
            if self._is_sent:
                raise RuntimeError("send was called twice; call recv in between")
            self.plays += 1
            self._log.append(checked)
            self._send(native, checked)

    def recv(self) -> Step:
        """Wait for the step that `send` started, and return its results.

        Raises:
            RuntimeError: Without a `send` before it, after `close`, or in another process or thread.
        """
        with self._exclusive() as native:
            if not self._is_sent:
                raise RuntimeError("recv was called without send; call send first")
            return self._receive(native, self._log.due(self._done))

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Return the state of the games, from which `set_state` restores them exactly.

        Returns:
            Plain arrays, with one byte for each step that restoring has to play again.

        Raises:
            RuntimeError: Before the first `reset`, between `send` and `recv`, after `close`, in another process or
                thread, or while games rest.
        """
        with self._exclusive() as native:
            require_reset(self._is_reset and not self._has_rested)
            require_received("get_state", self._is_sent)
            return self._log.get_state(self._observe(native)[1])

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> Observations:
        """Restore the games from a state, and return the observations that were the latest then.

        All later steps are the same to the bit. Up to `ANCHOR_EVERY` steps and one episode are played again to restore
        a game.

        Args:
            state: A state from `get_state` of environments made with the same arguments; the seed and `num_threads`
                may differ.

        Raises:
            InvalidEnv: If the state is damaged or of another game; in the latter case `reset` is needed before a step.
            RuntimeError: Between `send` and `recv`, after `close`, or in another process or thread.
        """
        log, crcs = ActionLog.from_state(state, self.num_envs, self._num_actions)
        with self._exclusive() as native:
            require_received("set_state", self._is_sent)
            self.plays += 1
            self._is_reset = False
            self._wake(native)
            native.reset()  # needed before single environments can be reset
            for event in log.replay():
                if isinstance(event, tuple):
                    self._begin(native, *event)
                else:
                    self._send(native, event)
                    self._receive(native, np.zeros_like(self._done))
            observations, crcs_now = self._observe(native)
            if (crcs_now != crcs).any():
                why = "the state is of other arguments, another ale_py or an older pixelq"
                raise InvalidEnv(f"{self.env_id!r} did not play the same again; {why}")
            self._log = log
            self._is_reset = True
        return observations

    def close_extras(self, **kwargs: Any) -> None:
        """End the emulation threads."""
        self._native = None

    def _make(self, full_action_space: bool, frame_size: int | None, num_envs: int, num_threads: int) -> AtariVectorEnv:
        """Make native environments with pictures of a size, or in colour for None."""
        game: str = gymnasium.spec(self.env_id).kwargs["game"]
        height, width = screen_size(game) if frame_size is None else (frame_size, frame_size)
        return AtariVectorEnv(
            game,
            num_envs,
            batch_size=num_envs,
            num_threads=checked_count("num_threads", num_threads, least=0),
            thread_affinity_offset=-1,
            # The native limit mixes an old and a new screen in the final observation, so this class has its own.
            max_num_frames_per_episode=NO_LIMIT,
            repeat_action_probability=self.protocol.repeat_action_probability,
            full_action_space=full_action_space,
            continuous=False,
            autoreset_mode=AutoresetMode.NEXT_STEP,
            img_height=height,
            img_width=width,
            grayscale=frame_size is not None,
            stack_num=self.frame_stack,
            frameskip=FRAMES_PER_STEP,
            maxpool=True,
            # The emulator draws a number below the greatest, 0 included, and plays one no-op less if FIRE follows;
            # `_redraw_no_ops` draws again where that is none, or too many because the game has no FIRE.
            noop_max=self.protocol.noop_max + 1 + self.protocol.fire_at_start if self.protocol.noop_max else 0,
            episodic_life=False,  # it would restart the whole game at each lost life
            life_loss_info=False,
            reward_clipping=False,
            use_fire_reset=self.protocol.fire_at_start,
        )

    def _wake(self, native: Native) -> None:
        """Let no game rest any more."""
        if isinstance(native, SeparateGames):
            native.is_resting[:] = False
        self._has_rested = False

    def _begin(self, native: Native, seeds: Ints, mask: Flags) -> tuple[Observations, dict[str, Any]]:
        """Start a new episode where `mask` [N] is set, with a new seed where the one in `seeds` [N] is not −1."""
        observations, info = native.reset(seed=seeds[mask], options={"reset_mask": mask})
        self._redraw_no_ops(native, mask, observations, info)
        self._flicker.advance(observations, seeds, mask)
        self._frames[mask] = 0
        self._lives[mask] = info["lives"][mask]
        self._truncated[mask] = False
        self._done[mask] = False
        return observations, info

    def _redraw_no_ops(self, native: Native, began: Flags, observations: Observations, info: dict[str, Any]) -> None:
        """Reset those of the environments in `began` [N] again, in place, that started with no no-op or too many."""
        while self.protocol.noop_max:
            no_ops = info["episode_frame_number"] - self._fires
            mask = began & ((no_ops < 1) | (no_ops > self.protocol.noop_max))
            if not mask.any():
                break
            again, info_again = native.reset(options={"reset_mask": mask})
            observations[mask] = again[mask]
            for name, values in info_again.items():
                info[name][mask] = values[mask]

    def _send(self, native: Native, actions: Ints) -> None:
        actions[self._truncated] = 0  # played until `_receive` restarts the game, and advances the random generator
        native.send(actions)
        self._is_sent = True

    def _receive(self, native: Native, renewed: Flags) -> Step:
        """Receive a step in which the environments in `renewed` [N], all done before, get a new anchor."""
        observations, rewards, terminated, _, info = native.recv()
        self._is_sent = False
        restarted = self._truncated | renewed
        seeds = self._log.renew(renewed)
        if restarted.any():
            # Episodes that the time limit of this class ended: the native autoreset does the same for the others.
            # Environments with a new anchor: a reset with its seed.
            first_observations, first_info = native.reset(seed=seeds[restarted], options={"reset_mask": restarted})
            observations[restarted] = first_observations[restarted]
            rewards[restarted] = 0
            terminated[restarted] = False
            for name, values in first_info.items():
                info[name][restarted] = values[restarted]
        self._redraw_no_ops(native, self._done, observations, info)
        self._flicker.advance(observations, seeds, np.ones_like(self._done))
        self._frames += FRAMES_PER_STEP
        self._frames[self._done] = 0
        truncated = (self._frames >= self.protocol.max_frames) & ~terminated
        if self.protocol.life_loss_ends_return:
            lost = info["lives"] < self._lives
            info["life_lost"] = lost & (info["lives"] > 0) & ~self._done & ~terminated
        self._lives[:] = info["lives"]
        self._truncated[:] = truncated
        self._done[:] = terminated | truncated
        return observations, rewards.astype(np.float32), terminated, truncated, info

    def _observe(self, native: Native) -> tuple[Observations, NDArray[np.uint32]]:
        """Return the current observations, and checksums [N] of them, of the counters and of the game's settings."""
        # A reset with an empty mask returns the present state of all environments.
        observations, info = native.reset(options={"reset_mask": np.zeros(self.num_envs, np.bool_)})
        counts = np.stack([*info.values(), self._frames, self._done], axis=1)  # [N, 6]
        self._flicker.hide(observations)
        return observations, checksums(self._game, observations, counts)

    @contextmanager
    def _exclusive(self) -> Iterator[Native]:
        """Yield the native environment, unless using it now would hang or silently go wrong.

        Raises:
            RuntimeError: After `close`, in another process, or while another thread uses it.
        """
        if os.getpid() != self._pid:
            raise RuntimeError("the environment was made in another process; make one in this process")
        if not self._lock.acquire(blocking=False):
            raise RuntimeError("the environment is in use by another thread; use one environment from one thread")
        try:
            if self.closed or self._native is None:
                raise RuntimeError("the environment is closed; make a new one")
            yield self._native
        finally:
            self._lock.release()


def atari_arguments(full_action_space: bool, frame_stack: int, frame_size: int) -> dict[str, Any]:
    """Return the arguments of `make_vec` by which games differ, as JSON values."""
    arguments = {
        "full_action_space": (bool(full_action_space), False),
        "frame_stack": (frame_stack, ATARI_STACK),
        "frame_size": (frame_size, ATARI_SIZE),
    }
    return {name: value for name, (value, usual) in arguments.items() if value != usual}


def check_flag(name: str, value: bool) -> None:
    """Check that a value is True or False.

    Raises:
        InvalidEnv: If it is not.
    """
    if not isinstance(value, bool | np.bool_):
        raise InvalidEnv(f"{name} must be True or False, got {quoted(value)}")


def check_registered(env_id: str, kwargs: Mapping[str, Any]) -> None:
    """Check that an id was registered with no arguments that would change the game and that `AtariVec` cannot pass on.

    Raises:
        InvalidEnv: If it was.
    """
    plain = {"mode": (None,), "difficulty": (None,), "continuous": (False,), "obs_type": ("rgb", "grayscale")}
    for name, allowed in plain.items():
        if name in kwargs and kwargs[name] not in allowed:
            raise InvalidEnv(
                f"{env_id!r} was registered with {name}={quoted(kwargs[name])}, which the native Atari environment "
                "cannot play; use an id without it"
            )


def _game_text(
    env_id: str, protocol: Protocol, action_meanings: tuple[str, ...], options: tuple[()] | tuple[int, float]
) -> str:
    """Return the text of a game's settings in the checksums of states.

    Saved runs depend on every character of it. It is the `repr` of a tuple from before protocols had a flicker, which
    stands among the options instead. With no-ops it also tells states apart that are from before no-ops started at 1.
    """
    names = (
        "name",
        "repeat_action_probability",
        "noop_max",
        "life_loss_ends_return",
        "evaluation_epsilon",
        "max_frames",
    )
    rules = ", ".join(f"{name}={getattr(protocol, name)!r}" for name in names)
    rules += ", noop_min=1" if protocol.noop_max else ""
    rules += ", fire_at_start=True" if protocol.fire_at_start else ""
    ending = "".join(f", {option!r}" for option in options)
    return f"({env_id!r}, Protocol({rules}), {action_meanings!r}{ending})"

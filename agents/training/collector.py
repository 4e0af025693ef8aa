"""The collector: one step of all environments, and the rows of the replay or rollout that it writes."""

from __future__ import annotations

import dataclasses
import re
import warnings
import weakref
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, cast, runtime_checkable

import numpy as np
import torch
from gymnasium.vector import VectorEnv, VectorWrapper
from numpy.typing import NDArray
from torch import Tensor

from pixelq.agents.agent import Agent
from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.errors import InvalidConfig, RunFailed
from pixelq.agents.evaluation.evaluate import check_fits, check_masks, check_resets
from pixelq.agents.experience.ring import MOST_FRAMES
from pixelq.agents.experience.store import Store
from pixelq.agents.storage.validation import count, fitting, part
from pixelq.agents.training.interval import Episodes, Interval, State
from pixelq.envs import EnvironmentFailed, InvalidEnv, is_atari
from pixelq.envs.action_masks import ActionMasks
from pixelq.envs.checks import check_finite
from pixelq.envs.errors import InvalidMask, NotFinite
from pixelq.envs.gymnasium_vec import GymnasiumVec
from pixelq.envs.interface import (
    all_inside,
    background_stepping,
    env_arguments_of,
    env_id,
    frame_stack_of,
    notes_of,
    protocol_of,
    restartable,
    restorable,
    share_environments,
    unscaled_of,
    wrapper_with_statistics,
)
from pixelq.envs.observed import value_notes
from pixelq.envs.plays import note_play


def check_envs(agent: Agent, envs: VectorEnv, evaluation_envs: VectorEnv | None = None) -> None:
    """Check that an agent can learn, and be evaluated, in these environments.

    Raises:
        InvalidConfig: If they reset in another way, have other observations or actions than the agent, have stacks that
            are not along the first axis, are the same for training and evaluation, or have running statistics, without
            which the agent could not be evaluated.
    """
    check_resets(envs)
    check_fits(agent, envs)
    stack, shape = frame_stack_of(envs), envs.single_observation_space.shape or ()
    if stack > 1 and (shape[:1] != (stack,) or stack > MOST_FRAMES):
        raise InvalidConfig(
            f"environments that stack {stack} frames, as these say, must have observations [{stack}, ...] of at most "
            f"{MOST_FRAMES} frames, got {[*shape]}"
        )
    inside = [all_inside(each) for each in (envs, evaluation_envs) if each is not None]
    for found in inside:
        wrapper = wrapper_with_statistics(found)
        if wrapper is not None:
            raise InvalidConfig(
                f"the environments have the wrapper {wrapper}, whose running statistics are not kept with the agent; "
                "scale by fixed numbers instead, as by gymnasium.wrappers.TransformObservation or TransformReward"
            )
    if evaluation_envs is not None:
        check_resets(evaluation_envs)
        if share_environments(*inside):
            raise InvalidConfig(
                "evaluation_envs must be other environments than those of the training, which an evaluation would "
                "reset; make them with a second call of make_vec"
            )
        check_fits(agent, evaluation_envs, "evaluation environments")


def note_envs(agent: Agent, envs: VectorEnv, *, resume: bool = False) -> None:
    """Record in the agent which environments it is trained in.

    If environments of pictures stack another number than `config.frame_stack`, that becomes theirs, with a warning; and
    so does `config.frame_size`.
    A replay of other environments is dropped, with a warning unless the run to `resume` restores its own.
    """
    asked_for, stack = agent.config.frame_stack, frame_stack_of(envs, agent.config.frame_stack)
    agent.env_id, agent.env_arguments = env_id(envs), env_arguments_of(envs)
    is_stacked = stack > 1 or (is_atari(agent.env_id or "") and len(agent.observation_space.shape or ()) == 3)
    if not is_stacked and asked_for not in (1, AgentConfig.frame_stack):
        warnings.warn(
            f"only images are stacked, by make_vec(..., frame_stack={asked_for}), so frame_stack {asked_for} has no "
            "effect; wrap the environments in gymnasium.wrappers.FrameStackObservation to stack "
            "other observations",
            stacklevel=4,  # the caller of learn
        )
    if is_stacked and stack != asked_for:
        agent.configure(dataclasses.replace(agent.config, frame_stack=stack))
        warnings.warn(
            f"the configuration had frame_stack {asked_for}, but the environments stack {stack} frames; it was changed "
            f"to {stack}. For {asked_for}, create environments with make_vec(..., frame_stack={asked_for}), and the "
            "agent from them",
            stacklevel=4,  # the caller of learn
        )
    size = agent.env_arguments.get("frame_size", AgentConfig.frame_size)
    if agent.env_id is not None and size != agent.config.frame_size:
        agent.configure(dataclasses.replace(agent.config, frame_size=size))
    protocol = protocol_of(envs)
    agent.protocol = None if protocol is None else protocol.rules
    if agent.keep_replay_of(_origin(envs)) and not resume:  # a run's replay is restored from its files
        says = "the replay held steps of other environments and was emptied; it is filled again before the next update"
        if agent.config.algorithm == "pqn":
            says = "the earlier rollouts that were kept are of other environments, and were forgotten"
        warnings.warn(says, stacklevel=4)  # the caller of learn


def _origin(envs: VectorEnv) -> object:
    """Return what is equal for environments that play the same: how they were made, or else the object itself."""
    if env_id(envs) is None:
        return weakref.ref(envs)
    protocol, kinds = protocol_of(envs), [type(envs)]
    while isinstance(envs, VectorWrapper):
        envs = envs.env
        kinds.append(type(envs))
    made = re.sub(r" at 0x[0-9a-f]+", "", repr(envs.spec))  # functions that wrap are known by their names
    arguments = env_arguments_of(envs)
    return env_id(envs), None if protocol is None else protocol.rules, made, kinds, arguments


class Restarts:
    """Restarts of environments that fail: one in a run.

    Args:
        agent: Its step is named in messages.
        warn: Called with a sentence about a restart.
        kept: Returns the end of the error's sentence, about the last checkpoint.

    Attributes:
        count: Number of restarts so far.
    """

    def __init__(self, agent: Agent, warn: Callable[[str], None], kept: Callable[[], str]) -> None:
        self.agent, self.warn, self.kept = agent, warn, kept
        self.count = 0

    def restart(self, envs: VectorEnv, error: EnvironmentFailed) -> NDArray[Any]:
        """Create failed environments again, and return their first observations [N, *observation].

        Raises:
            EnvironmentFailed: If environments failed before in this run, cannot be created again, or gave what is not
                finite or a mask that cannot be used.
        """
        able = restartable(envs)
        self.note(error, is_able=able is not None)
        assert able is not None
        return able.restart()

    def note(self, error: EnvironmentFailed, *, is_able: bool = True) -> None:
        """Note that failed environments are about to be created again, if they can be; errors as in `restart`."""
        if self.count > 0 or not is_able or isinstance(error, NotFinite | InvalidMask):
            raise EnvironmentFailed(f"{error}, at step {self.agent.step:,}{self.kept()}") from error
        self.count += 1
        self.warn(f"{error}, at step {self.agent.step:,}; the environments are created again, once")


class Collector:
    """Steps the environments and writes what happens into the replay.

    A step has two halves: `act` writes the observations, chooses actions and sends them; `receive` writes the outcome.
    Between the two the environments play in the background, if they can, and the learner has time. Environments that
    cannot are stepped in `receive`, so both are the same training, number for number.

    Args:
        agent: Chooses the actions.
        envs: Environments with next-step autoreset.
        replay: Takes the rows; a replay or a rollout.
        interval: Told which episodes end.
        restarts: Restarts environments that fail.

    Attributes:
        memory: LSTM state of the environments; None without an LSTM.
        episodes: The episodes under way.
        obs: Observations [N, *observation] that the environments show; None before `start`.
        masks: Which actions they allow there, bool [N, A]; None in environments without action masks.
        failure: Why the training cannot go on after the last step, which is written; None if it can.
    """

    columns: ClassVar[tuple[str, ...]] = ()
    """Columns of metrics.csv that only this kind of collector has, as `metrics` returns them."""

    def __init__(self, agent: Agent, envs: VectorEnv, replay: Store, interval: Interval, restarts: Restarts) -> None:
        self.agent, self.envs, self.replay, self.interval, self.restarts = agent, envs, replay, interval, restarts
        self.background = background_stepping(envs)
        self.memory = agent.make_memory(envs.num_envs)
        self.episodes = Episodes(envs.num_envs)
        self.obs: NDArray[Any] | None = None
        self.masks: NDArray[np.bool_] | None = None
        self.failure: RunFailed | None = None
        self.action_masks = ActionMasks(envs, agent.num_actions)
        self._actions: NDArray[np.int64] | None = None  # sent and not received
        self._checks_itself = isinstance(envs, GymnasiumVec)  # that what it gives is finite
        self._action_type = getattr(envs.single_action_space, "dtype", np.int64)
        self._name = env_id(envs) or type(envs.unwrapped).__name__
        self._games: dict[str, NDArray[Any]] = {}  # state of the environments to go on from

    def start(self) -> None:
        """Reset the environments, unless the training goes on in them.

        Raises:
            EnvironmentFailed: If an environment raises an error, or its observation or mask cannot be used.
            InvalidConfig: If they have no action masks and the agent was trained with them, or there is not enough
                memory to store masks.
        """
        note_play(self.envs)
        if self.obs is None:
            shown = self._reset()
            check_masks(self.agent, self.masks)
            is_told = self.agent.step > 0 or notes_of(self.envs)
            for sentence in () if is_told else value_notes(shown, unscaled_of(self.envs)):
                self.restarts.warn(sentence)
        if self.masks is not None:
            self.replay.keep_masks(self.agent.num_actions)
            self.agent.action_masks = True

    def _reset(self) -> NDArray[Any]:
        """Reset the environments, and return what they show; errors as in `start`."""
        obs, info = self.envs.reset()
        check_finite(self._name, obs)
        self.obs, self.masks = obs, self.action_masks.read(info)
        return self.obs

    def act(self) -> None:
        """Write the observations, choose actions and send them."""
        assert self.obs is not None
        self.replay.observe(self.obs, None if self.memory is None else self.memory.state, self.masks)
        given = () if self.masks is None else (self.masks,)  # an agent of one's own need not know of masks
        actions = self.agent.explore(self.replay.latest(), self.memory, *given)
        if self.background is not None:
            self.background.send(actions)
        self._actions = actions
        self.agent.step += int((~self.episodes.done).sum())  # the step after an episode's end only resets

    def receive(self) -> None:
        """Wait for what the step brought, and write it.

        Raises:
            EnvironmentFailed: See `Restarts.restart`.
        """
        assert self._actions is not None
        assert self.obs is not None
        actions, self._actions = self._actions, None
        try:
            outcome = self._step(actions) if self.background is None else self.background.recv()
            if not self._checks_itself:
                check_finite(self._name, *outcome[:2])
            masks = self.action_masks.read(outcome[4], outcome[2])  # of a terminated episode no mask is needed
        except EnvironmentFailed as error:
            # The episodes under way end, truncated, with the last observations.
            self.replay.cut(self.obs, self.masks)
            self.episodes.cut()
            self.obs = self.restarts.restart(self.envs, error)
            if self.masks is not None:  # which only a reset says
                self._reset()
            self.memory = self.agent.make_memory(self.envs.num_envs)
            return
        self.obs, reward, terminated, truncated, info = outcome
        self.masks = masks
        done = terminated | truncated
        self.replay.complete(actions, reward, terminated, truncated, _lives_lost(info))
        ended = self.episodes.step(reward, done)
        self.agent.episodes += len(ended)
        self.interval.episodes += ended
        if self.memory is not None:
            self.memory.step(actions, reward, done)

    def _step(self, actions: NDArray[np.int64]) -> tuple[Any, ...]:
        return self.envs.step(actions.astype(self._action_type, copy=False))

    def stop(self) -> None:
        """Wait for a step that an error left under way, and end all episodes: the next training resets."""
        try:
            if self._actions is not None and self.background is not None:
                self._actions = None
                self.background.recv()
        finally:
            if self.obs is not None:
                self.replay.cut(self.obs, self.masks)

    def end(self) -> None:
        """Do what is due when a training has ended well: nothing, the environments stand where they are."""

    def metrics(self) -> dict[str, float]:
        """Return the values of `columns` for the interval so far."""
        return {}

    def state(self) -> State:
        """Return what `load_state` and `restore_envs` restore."""
        values, arrays = self.standing()
        able = restorable(self.envs)
        if able is not None:
            arrays |= {f"games.{name}": torch.from_numpy(array) for name, array in able.get_state().items()}
        return values, arrays

    def standing(self) -> State:
        """Return what `load_state` restores while the environments stand where they are."""
        arrays = self.episodes.state()
        if self.memory is not None:
            arrays |= {f"policy.{name}": tensor for name, tensor in self.memory.arrays().items()}
        # Some wrappers show another type than their space's; agent and replay cast what they read in the same way.
        dtype = self.agent.observation_space.dtype
        arrays["obs"] = torch.from_numpy(np.ascontiguousarray(self.obs, dtype))
        if self.masks is not None:
            arrays["masks"] = torch.from_numpy(self.masks)
        return {"restarts": self.restarts.count}, arrays

    def load_state(self, values: dict[str, Any], arrays: dict[str, Tensor]) -> None:
        """Restore what `state` returned, except the environments, which `restore_envs` restores.

        Raises:
            LookupError, ValueError: If it is the state of another collector.
        """
        self.restarts.count = count(values, "restarts")
        self.episodes.load_state(arrays)
        if self.memory is not None:
            self.memory.load_arrays(part(arrays, "policy"))
        obs, space = arrays["obs"].numpy(), self.agent.observation_space
        if (obs.shape, obs.dtype) != ((self.envs.num_envs, *space.shape), space.dtype):
            raise ValueError(f"obs is {obs.dtype} {[*obs.shape]}")
        self.obs = obs
        if self.agent.action_masks:
            like = torch.empty((self.envs.num_envs, self.agent.num_actions), dtype=torch.bool)
            self.masks = fitting(arrays, "masks", like).numpy()
            if not self.masks.any(1).all():
                raise ValueError("masks allow no action")
        self.action_masks.given = self.agent.action_masks
        self._games = {name: tensor.numpy() for name, tensor in part(arrays, "games").items()}

    def check_actions(self) -> None:
        """Check that the environments have the actions in a replay that was read from files.

        Raises:
            ValueError: If they do not.
        """
        action = self.replay.ring.action
        if not ((action >= 0) & (action < self.agent.num_actions)).all():
            raise ValueError("the replay holds actions that the environments do not have")

    def restore_envs(self, standing: NDArray[Any] | None = None) -> str | None:
        """Restore the environments after `load_state`; return why that cannot be done, or None.

        Args:
            standing: Observations that the environments show, if nobody has reset or stepped them since; else None.
        """
        assert self.obs is not None
        able, games = restorable(self.envs), self._games
        self._games = {}
        if standing is not None and _are_same(standing, self.obs):
            return None
        if not games or able is None:
            return f"new episodes: {type(self.envs).__name__} cannot be restored"
        try:
            shown = able.set_state(games)
        except InvalidEnv as error:
            return f"new episodes: {error}"
        if not _are_same(shown, self.obs):
            return "new episodes: the environments show something else than they did"
        self.obs = shown
        return None

    def restart_episodes(self, *, cut: bool) -> None:
        """Start new episodes in all environments; `cut` ends those in the replay as truncated."""
        if cut:
            assert self.obs is not None
            self.replay.cut(self.obs, self.masks)
        self.episodes.cut()
        self._reset()
        if self.memory is not None:
            self.memory.restart()


@runtime_checkable
class PlayedElsewhere(Protocol):
    """Environments that are played elsewhere than in the loop, and so have a collector of their own."""

    def make_collector(
        self, agent: Agent, replay: Store, interval: Interval, restarts: Restarts, received: list[int]
    ) -> Collector:
        """Return the collector; `received` has the signals that ask the run to stop."""

    def description(self) -> dict[str, Any]:
        """Return further entries of config.json."""


def played_elsewhere(envs: object) -> PlayedElsewhere | None:
    """Return the environments if their class has these methods, otherwise None."""
    return cast(PlayedElsewhere, envs) if issubclass(type(envs), PlayedElsewhere) else None


def _are_same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def _lives_lost(info: Any) -> NDArray[np.bool_] | None:
    """Return in which environments a life was lost, bool [N], or None for no life lost.

    Args:
        info: What a step says besides its outcome; a list of the environments' own where a wrapper takes it apart.
    """
    if isinstance(info, Mapping):
        return info.get("life_lost")
    lost = np.array([bool(each.get("life_lost", False)) for each in info])
    return lost if lost.any() else None

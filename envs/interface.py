"""Abilities and metadata of environments beyond Gymnasium's interface.

The functions for abilities look at the class of the environments and not at the instance. A wrapper that hands
attribute access on to the environments inside it seems to have their methods, but calling those would bypass the
wrapper's own `step`. A wrapper has an ability only if its class defines the methods.
"""

import typing
from collections.abc import Iterable, Mapping
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv, VectorObservationWrapper, VectorWrapper
from numpy.typing import NDArray

from pixelq.envs.observed import range_notes
from pixelq.envs.protocols import NO_LIMIT, Protocol


@typing.runtime_checkable
class BackgroundStepping(typing.Protocol):
    """Environments that can play a step in the background: `step(actions)` equals `send(actions)` and `recv()`."""

    def send(self, actions: NDArray[np.int64]) -> None:
        """Start a step with actions, integers [N], and return at once."""

    def recv(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Wait for the step that `send` started, and return what `step` returns."""


@typing.runtime_checkable
class Restorable(typing.Protocol):
    """Environments with an exact state, from which they continue bit for bit."""

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Return the state as plain arrays."""

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Restore a state and return the observations that were the latest then."""


@typing.runtime_checkable
class Restartable(typing.Protocol):
    """Environments that can be created again after one of them failed."""

    def restart(self) -> NDArray[Any]:
        """Create the environments again, start new episodes, and return the first observations."""


@typing.runtime_checkable
class Resting(typing.Protocol):
    """Environments of which some can be left out of the steps."""

    def rest(self, mask: NDArray[np.bool_]) -> None:
        """Leave environments out of all steps until the next reset; the first call comes before a reset."""


def background_stepping(envs: object) -> BackgroundStepping | None:
    """Return the environments if their class has `send` and `recv`, otherwise None."""
    return cast(BackgroundStepping, envs) if issubclass(type(envs), BackgroundStepping) else None


def restorable(envs: object) -> Restorable | None:
    """Return the environments if their class has `get_state` and `set_state`, otherwise None."""
    return cast(Restorable, envs) if issubclass(type(envs), Restorable) else None


def restartable(envs: object) -> Restartable | None:
    """Return the environments if their class has `restart`, otherwise None."""
    return cast(Restartable, envs) if issubclass(type(envs), Restartable) else None


def resting(envs: object) -> Resting | None:
    """Return the environments if their class has `rest`, otherwise None."""
    return cast(Resting, envs) if issubclass(type(envs), Resting) else None


def share_environments(one: Iterable[object], other: Iterable[object]) -> bool:
    """Return whether an environment is in both of two results of `all_inside`."""
    return not {id(each) for each in one}.isdisjoint(id(each) for each in other)


def wrapper_with_statistics(inside: Iterable[object]) -> str | None:
    """Return the class of a wrapper with running statistics in a result of `all_inside`; None without one.

    Such are Gymnasium's `NormalizeObservation` and `NormalizeReward`.
    """
    for each in inside:
        if any(type(value).__name__ == "RunningMeanStd" for value in vars(each).values()):
            return type(each).__name__
    return None


def all_inside(envs: object) -> list[object]:
    """Return environments and all environments that they hold, also behind wrappers of any class."""
    found, seen, waiting = list[object](), set[int](), [envs]
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, list | tuple):
            waiting.extend(each)
        elif isinstance(each, VectorEnv | gymnasium.Env):
            found.append(each)
            waiting.extend(vars(each).values())
    return found


def notes_of(envs: VectorEnv[Any, Any, Any]) -> tuple[str, ...]:
    """Return sentences about observations that networks may read on another scale than they are meant."""
    is_changed = envs.single_observation_space != envs.unwrapped.single_observation_space
    notes = None if is_changed else getattr(envs.unwrapped, "notes", None)
    return range_notes(envs.single_observation_space) if notes is None else tuple(notes)


def unscaled_of(envs: VectorEnv[Any, Any, Any]) -> tuple[str, ...]:
    """Return the keys of observations that may be colours and are not scaled as such; see `unscaled_parts`."""
    return tuple(getattr(envs.unwrapped, "unscaled", ()))


def has_time_limit(envs: VectorEnv[Any, Any, Any]) -> bool:
    """Return whether episodes are known to be truncated after some number of steps."""
    inner = envs.unwrapped
    protocol = getattr(inner, "protocol", None)
    if isinstance(protocol, Protocol) and protocol.max_frames < NO_LIMIT:
        return True
    if getattr(inner, "max_episode_steps", None) is not None:
        return True
    specs = [each.spec for each in (inner, *getattr(inner, "envs", ())) if each.spec is not None]
    return any(spec.max_episode_steps or spec.kwargs.get("max_episode_steps") for spec in specs)


def env_id(envs: VectorEnv[Any, Any, Any]) -> str | None:
    """Return the id that the environments were made from, or None where it is unknown."""
    value = _metadata(envs, "env_id", None)
    return value if isinstance(value, str) else None


def env_arguments_of(envs: VectorEnv[Any, Any, Any]) -> dict[str, Any]:
    """Return the arguments of `make_vec` that make the environments again, as JSON values; empty where unknown."""
    value = _metadata(envs, "arguments", {})
    return dict(value) if isinstance(value, dict) else {}


def protocol_of(envs: VectorEnv[Any, Any, Any]) -> Protocol | None:
    """Return the protocol that the environments are played under, or None where it is unknown."""
    value = _metadata(envs, "protocol", None)
    return value if isinstance(value, Protocol) else None


def frame_stack_of(envs: VectorEnv[Any, Any, Any], default: int = 1) -> int:
    """Return the number of frames in an observation.

    Args:
        envs: Vector environments, wrapped or not.
        default: Value to return where the number is unknown, as inside wrappers that change observations.
    """
    is_changed = envs.single_observation_space != envs.unwrapped.single_observation_space
    inner = envs
    while isinstance(inner, VectorWrapper) and not is_changed:
        is_changed = isinstance(inner, VectorObservationWrapper)  # such as a stack of differences between frames
        inner = inner.env
    value = default if is_changed and not hasattr(envs, "frame_stack") else _metadata(envs, "frame_stack", default)
    return int(value) if isinstance(value, int | np.integer) else default


def frames_per_step(envs: VectorEnv[Any, Any, Any]) -> int:
    """Return the number of emulator frames in an agent step, 1 where it is unknown."""
    value = _metadata(envs, "frames_per_step", 1)
    return int(value) if isinstance(value, int | np.integer) else 1


def _metadata(envs: VectorEnv[Any, Any, Any], name: str, default: Any) -> Any:
    """Return an attribute of the environments or of those inside Gymnasium's wrappers."""
    return getattr(envs, name) if hasattr(envs, name) else getattr(envs.unwrapped, name, default)

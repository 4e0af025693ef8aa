"""Action masks: which actions an environment allows at each step."""

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from pixelq.envs.errors import InvalidMask, quoted

KEY = "action_mask"
METHOD = "action_masks"


class ActionMasks:
    """The action masks of vector environments.

    Masks are what `reset` and `step` return as `info["action_mask"]`, or else what a method `action_masks()` returns:
    that of the vector environment, [N, A], or of each environment in a `SyncVectorEnv`, [A]. Environments that give
    masks at the first reset must give them at every observation where an action is chosen; others never.

    Args:
        envs: The vector environments.
        num_actions: Number of actions A.

    Attributes:
        given: Whether the environments give masks; None until the first reset.
    """

    def __init__(self, envs: VectorEnv[Any, Any, Any], num_actions: int) -> None:
        self.shape = envs.num_envs, num_actions
        self.given: bool | None = None
        self._method = _method_of(envs)
        self._name = quoted(getattr(envs.unwrapped, "env_id", None) or type(envs.unwrapped).__name__)

    def read(self, info: Any, needless: NDArray[np.bool_] | None = None) -> NDArray[np.bool_] | None:
        """Return which actions are allowed at the latest observations, bool [N, A]; None where there are no masks.

        Args:
            info: What `reset` or `step` returned as `info`, or a list of the environments' own.
            needless: Environments [N] in which no action is chosen, as after an episode's end. They may leave their
                mask out, or allow nothing; then all actions are allowed. None for no environment.

        Raises:
            InvalidMask: If a mask has another shape, holds something else than 0 and 1 or allows nothing, or masks are
                missing or new.
        """
        if self.given is False and self._method is None and type(info) is dict and KEY not in info:
            return None  # at most steps of most environments
        found = self._found(info, needless)
        if self.given is None:
            self.given = found is not None
        if not self.given:
            if found is not None:
                raise self._invalid(f"gave info[{KEY!r}], but not at the first reset; it must give it always or never")
            return None
        if isinstance(found, np.ndarray):
            masks = self._checked(found, self.shape)
        else:
            masks = np.ones(self.shape, np.bool_)
            for k, mask in enumerate(found or [None] * self.shape[0]):
                if mask is not None:
                    masks[k] = self._checked(np.asarray(mask), self.shape[1:])
                elif needless is None or not needless[k]:
                    raise self._invalid(f"gave no info[{KEY!r}] in environment {k}; it must give it always or never")
        is_empty = ~masks.any(1)
        if is_empty.any():
            if needless is not None:
                masks[is_empty & needless] = True
                is_empty &= ~needless
            for k in np.flatnonzero(is_empty)[:1]:
                raise self._invalid(f"must give an action mask that allows an action, got none in environment {k}")
        return masks

    def _found(self, info: Any, needless: NDArray[np.bool_] | None) -> NDArray[Any] | list[Any] | None:
        """Return the masks that were given: all in one array, or by environment with None for those that gave none.

        Returns None if no environment gave one.
        """
        given: Any = None
        has: Any = None
        if not isinstance(info, Mapping):
            given = [each.get(KEY) for each in info]
            is_given = any(mask is not None for mask in given)
        else:
            given, has, is_given = info.get(KEY), info.get(f"_{KEY}"), KEY in info
        if not is_given and self._method is not None:
            given = self._method(needless)
        if isinstance(given, np.ndarray) and given.dtype != object and (has is None or np.all(has)):
            return given
        masks = [] if given is None else list(given)
        if has is not None:
            masks = [mask if is_there else None for mask, is_there in zip(masks, has, strict=True)]
        if all(mask is None for mask in masks):
            return None
        if len(masks) != self.shape[0]:
            raise self._invalid(f"must give {self.shape[0]} action masks, got {len(masks)}")
        return masks

    def _checked(self, mask: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Return a copy of masks as bool; errors are worded as in `Policy.predict`, which no room of both can hold."""
        if mask.shape != shape:
            raise self._invalid(f"must give an action mask of shape {shape}, got {mask.shape}")
        if mask.dtype.kind not in "biuf" or not ((mask == 0) | (mask == 1)).all():
            raise self._invalid(f"must give an action mask of 0 and 1, got {quoted(mask.tolist())}")
        return mask.astype(np.bool_)

    def _invalid(self, what: str) -> InvalidMask:
        return InvalidMask(f"{self._name} {what}")


def mask_method(env: gymnasium.Env[Any, Any]) -> Callable[[], Any] | None:
    """Return the method `action_masks` of an environment or of one inside its wrappers; None if there is none."""
    method = env.get_wrapper_attr(METHOD) if env.has_wrapper_attr(METHOD) else None
    return method if callable(method) else None


def _method_of(envs: VectorEnv[Any, Any, Any]) -> Callable[[NDArray[np.bool_] | None], Any] | None:
    """Return a function that returns the masks by environment, None for those that need none; None without a method."""
    for each in (envs, envs.unwrapped):
        method = getattr(each, METHOD, None)
        if callable(method):
            return lambda needless: method()
    inside = getattr(envs.unwrapped, "envs", ())
    methods = [mask_method(env) for env in inside if isinstance(env, gymnasium.Env)]
    if not methods or None in methods:
        return None

    def called(needless: NDArray[np.bool_] | None) -> list[Any]:
        left_out = [False] * len(methods) if needless is None else needless.tolist()
        return [None if out or method is None else method() for out, method in zip(left_out, methods, strict=True)]

    return called

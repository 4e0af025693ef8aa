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
        count = self.shape[0]
        given, has = found or ([], np.zeros(count, np.bool_))
        needless = np.zeros(count, np.bool_) if needless is None else needless
        if not (has | needless).all():
            missing = np.flatnonzero(~(has | needless))[0]
            raise self._invalid(f"gave no info[{KEY!r}] in environment {missing}; it must give it always or never")
        masks = np.ones(self.shape, np.bool_)
        if isinstance(given, np.ndarray) and given.dtype != object and has.all():
            masks[:] = self._checked(given, self.shape)
        else:
            for k in np.flatnonzero(has):
                masks[k] = self._checked(np.asarray(given[k]), self.shape[1:])
        masks[~masks.any(1) & needless] = True
        if not masks.any(1).all():
            raise self._invalid(f"allows no action in environment {np.flatnonzero(~masks.any(1))[0]}")
        return masks

    def _found(self, info: Any, needless: NDArray[np.bool_] | None) -> tuple[Any, NDArray[np.bool_]] | None:
        """Return the masks by environment as they were given, and which environments gave one, [N]; None for none."""
        given: Any
        if not isinstance(info, Mapping):
            given = [each.get(KEY) for each in info]
            if self._method is not None and all(mask is None for mask in given):
                given = self._method(needless)
        elif KEY in info:
            has = info.get(f"_{KEY}")
            return info[KEY], np.ones(self.shape[0], np.bool_) if has is None else np.asarray(has, np.bool_)
        else:
            given = None if self._method is None else self._method(needless)
        if given is None or all(mask is None for mask in given):
            return None
        if len(given) != self.shape[0]:
            raise self._invalid(f"must give {self.shape[0]} action masks, got {len(given)}")
        return given, np.array([mask is not None for mask in given], np.bool_)

    def _checked(self, mask: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.bool_]:
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

"""What pixelq's environments say of themselves beyond Gymnasium's interface."""

from typing import Any

from gymnasium.vector import VectorEnv


def fact(envs: VectorEnv[Any, Any, Any], name: str, default: Any) -> Any:
    """An attribute of ``make_vec``'s environments, such as ``frame_stack``, also through Gymnasium's wrappers.

    The default for environments that do not have it, and for wrappers that change the observations.
    """
    if hasattr(envs, name):
        return getattr(envs, name)
    inner = envs.unwrapped
    is_same = envs.single_observation_space == inner.single_observation_space
    return getattr(inner, name, default) if is_same else default

"""How one environment is made: its id or class, the arguments of that, and what is wrapped around it."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import TimeLimit

from pixelq.envs.errors import InvalidEnv, quoted, reason
from pixelq.envs.failures import Failures
from pixelq.envs.ids import named_env
from pixelq.envs.minatar import MinAtarGame, is_minatar
from pixelq.envs.named import name_of, parse_named, resolve, trust_object

Env = gymnasium.Env[Any, Any]
Wrappers = Sequence[str | Callable[[Env], Env]]

_OWN = frozenset({"id", "num_envs", "vectorization_mode", "vector_kwargs", "wrappers", "max_episode_steps"})
"""Arguments of `gymnasium.make_vec` that are none of the environment."""


@dataclass(frozen=True)
class Recipe:
    """How one environment is made."""

    env: str | Callable[..., Env]
    """Gymnasium id, or the class or function that makes it."""
    env_kwargs: dict[str, Any]
    """Keyword arguments of that."""
    wrappers: tuple[tuple[str, Callable[[Env], Env]], ...]
    """What is wrapped around it, the innermost first, each with its name for messages."""
    max_episode_steps: int | None
    """Steps of the bare environment after which an episode is truncated; None for the registered number."""
    env_id: str | None
    """Id, or name of the class or function, from which it can be made again; None if a part of it has no name."""
    arguments: dict[str, Any]
    """Arguments of `make_vec` that it differs by, as JSON values; empty if a part of it has no name."""

    @property
    def name(self) -> str:
        """Name in messages."""
        if isinstance(self.env, str):
            return self.env
        return self.env_id or str(getattr(self.env, "__name__", type(self.env).__name__))

    @classmethod
    def of(
        cls,
        env: str | Callable[..., Env],
        env_kwargs: Mapping[str, Any] | None = None,
        wrappers: Wrappers = (),
        max_episode_steps: int | None = None,
    ) -> "Recipe":
        """Return the recipe that arguments of `make_vec` describe.

        Raises:
            InvalidEnv: If an argument has another type, or a name leads to nothing.
        """
        made = named_env(env) if isinstance(env, str) else env
        kwargs = _checked_kwargs(env_kwargs, is_id=isinstance(made, str))
        if not isinstance(env, str):
            trust_object(env)
        own = type(env)(parse_named(env, "environment")) if isinstance(env, str) and not isinstance(made, str) else env
        found = [_wrapper(each) for each in _checked_list(wrappers)]
        names: dict[str, Any] = {"env": own if isinstance(own, str) else name_of(own)}
        names["wrappers"] = [name for name, _, _ in found]
        is_whole = names["env"] is not None and None not in names["wrappers"]
        try:
            arguments = {"env_kwargs": _as_json(kwargs), "wrappers": names["wrappers"]}
        except TypeError:
            is_whole = False
        if not is_whole:
            arguments, names["env"] = {}, None
        arguments = {name: value for name, value in arguments.items() if value}
        if max_episode_steps is not None and is_whole:
            arguments["max_episode_steps"] = max_episode_steps
        shown = tuple((name or label, wrapper) for name, label, wrapper in found)
        return cls(made, kwargs, shown, max_episode_steps, names["env"], arguments)

    def wrap(self, env: Env) -> Env:
        """Return an environment with the wrappers around it.

        Raises:
            InvalidEnv: If a wrapper raises an error or returns something else than an environment.
        """
        if isinstance(self.env, str) and is_minatar(self.env):
            env = MinAtarGame(env)
        for name, wrapper in self.wrappers:
            env = _wrapped(env, name, wrapper)
        return env

    def make(self, render_mode: str | None = None) -> Env:
        """Make one environment, without its wrappers; whatever it raises is passed on."""
        # Not every constructor takes a render mode.
        drawing: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
        limit, kwargs = self.max_episode_steps, copy.deepcopy(self.env_kwargs)
        if isinstance(self.env, str):
            limits: dict[str, Any] = {} if limit is None else {"max_episode_steps": limit}
            return gymnasium.make(self.env, **kwargs, **drawing, **limits)
        made = self.env(**kwargs, **drawing)
        if not isinstance(made, gymnasium.Env):
            raise InvalidEnv(f"it must be an environment of Gymnasium, got a {type(made).__name__}")
        return made if limit is None else TimeLimit(made, limit)


def _wrapped(env: Env, name: str, wrapper: Callable[[Env], Env]) -> Env:
    """Return an environment with one wrapper around it; errors as in `Recipe.wrap`."""
    with Failures(lambda error: InvalidEnv(f"the wrapper {quoted(name)} fails: {reason(error)}")):
        wrapped: object = wrapper(env)
    if not isinstance(wrapped, gymnasium.Env):
        kind = type(wrapped).__name__
        raise InvalidEnv(f"the wrapper {quoted(name)} must return an environment, got one of type {kind}")
    return wrapped


def _wrapper(wrapper: str | Callable[[Env], Env]) -> tuple[str | None, str, Callable[[Env], Env]]:
    """Return the name of a wrapper, None if it has none, what to call it in messages, and the wrapper itself.

    Raises:
        InvalidEnv: If it is neither a callable nor the name of one.
    """
    if isinstance(wrapper, str):
        found = resolve(wrapper, "wrapper")
        return type(wrapper)(parse_named(wrapper, "wrapper")), "", found
    if not callable(wrapper):
        raise InvalidEnv(f"a wrapper must be a class or function, or the name of one, got {quoted(wrapper)}")
    trust_object(wrapper)
    return name_of(wrapper), getattr(wrapper, "__qualname__", type(wrapper).__name__), wrapper


def _checked_list(wrappers: Wrappers) -> Wrappers:
    """Check that wrappers come as a list or tuple, and return it.

    Raises:
        InvalidEnv: If they do not.
    """
    if not isinstance(wrappers, list | tuple):
        raise InvalidEnv(f"wrappers must be a list of classes, functions or their names, got {quoted(wrappers)}")
    return wrappers


def _checked_kwargs(env_kwargs: Mapping[str, Any] | None, *, is_id: bool) -> dict[str, Any]:
    """Return a copy of an environment's keyword arguments.

    Args:
        env_kwargs: The arguments; None for none.
        is_id: Whether the environment is made from an id, by `gymnasium.make_vec`.

    Raises:
        InvalidEnv: If it is no dictionary, or an argument is not the environment's.
    """
    if env_kwargs is None:
        return {}
    if not isinstance(env_kwargs, Mapping) or not all(isinstance(name, str) for name in env_kwargs):
        raise InvalidEnv(f"env_kwargs must be a dictionary of keyword arguments, got {quoted(env_kwargs)}")
    if "render_mode" in env_kwargs:
        raise InvalidEnv("env_kwargs must not hold 'render_mode', which films set themselves; leave it out")
    for name in sorted(_OWN & env_kwargs.keys() if is_id else ()):
        raise InvalidEnv(f"env_kwargs must be arguments of the environment, got {name!r}; give it to make_vec itself")
    return copy.deepcopy(dict(env_kwargs))


def _as_json(value: Any) -> Any:
    """Return a value as JSON reads it again: tuples as lists, and NumPy's numbers as Python's.

    Raises:
        TypeError: If JSON has no such value.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value)):
        return value
    if isinstance(value, list | tuple):
        return [_as_json(each) for each in value]
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return {name: _as_json(each) for name, each in value.items()}
    raise TypeError(f"{type(value).__name__} is no JSON value")

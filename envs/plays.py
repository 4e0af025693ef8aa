"""Counts of plays, by which it is seen that somebody else has reset or stepped environments meanwhile."""

from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from gymnasium.vector import VectorEnv

_noted: WeakKeyDictionary[VectorEnv[Any, Any, Any], int] = WeakKeyDictionary()


def note_play(envs: VectorEnv[Any, Any, Any]) -> None:
    """Note that environments are reset or stepped from here on, because not all classes count that themselves."""
    with suppress(TypeError):  # no weak references to them
        _noted[envs.unwrapped] = _noted.get(envs.unwrapped, 0) + 1


def plays(envs: VectorEnv[Any, Any, Any]) -> tuple[int, int]:
    """Return what differs after each reset and step of `AtariVec` and `GymnasiumVec`, and after each `note_play`.

    Gymnasium's own vector environments do not count what is played by calling them.
    """
    counted = getattr(envs.unwrapped, "plays", 0)
    with suppress(TypeError):
        return counted, _noted.get(envs.unwrapped, 0)
    return counted, 0

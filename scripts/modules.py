"""Modules that a command line names, because they register environments."""

from __future__ import annotations

from collections.abc import Sequence

from pixelq.envs import import_module


def import_modules(modules: Sequence[str]) -> None:
    """Import the modules that a command line names, which register environments.

    Raises:
        InvalidEnv: If one cannot be imported.
    """
    for module in modules:
        import_module(module)

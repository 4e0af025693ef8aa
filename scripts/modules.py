"""Modules that a command line names, because they register environments or hold classes and functions."""

from __future__ import annotations

from collections.abc import Sequence

from pixelq.envs import import_module
from pixelq.scripts.command_line import allow_working_folder


def import_modules(modules: Sequence[str]) -> None:
    """Import the modules that a command line names, which register environments or hold classes, and trust them.

    They are also found in the working folder.

    Raises:
        InvalidEnv: If one cannot be imported.
    """
    if modules:
        allow_working_folder()
    for module in modules:
        import_module(module)

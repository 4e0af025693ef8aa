"""The flags of `pixelq presets`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pixelq.scripts.command_line import parse


@dataclass(frozen=True)
class PresetsArgs:
    """List the presets: name, and source of the settings."""


def read(arguments: Sequence[str]) -> PresetsArgs:
    """Return the flags of a command line."""
    return parse(PresetsArgs, "presets", arguments)

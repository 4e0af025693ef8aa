"""The flags of `pixelq presets`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from pixelq.scripts.command_line import parse


@dataclass(frozen=True)
class PresetsArgs:
    """List the presets with their protocols and sources, or show the settings of one."""

    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")] = None
    """Preset whose settings to show; None lists all presets."""


def read(arguments: Sequence[str]) -> PresetsArgs:
    """Return the flags of a command line."""
    return parse(PresetsArgs, "presets", arguments)

"""`pixelq presets`: the presets, one line each, with the paper."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from pixelq.agents import PRESETS
from pixelq.scripts.command_line import parse
from pixelq.scripts.main import run


@dataclass(frozen=True)
class PresetsArgs:
    """List the presets: name, and source of the settings."""


def main(arguments: Sequence[str]) -> None:
    """Print a line for each preset: its name and the first line of its docstring."""
    parse(PresetsArgs, "presets", arguments)
    for name, function in PRESETS.items():
        print(f"{name:<16} {(inspect.getdoc(function) or '').splitlines()[0]}")


if __name__ == "__main__":
    sys.exit(run("presets"))

"""`pixelq presets`: the presets, one line each, with the paper."""

from __future__ import annotations

import inspect
import sys

from pixelq.agents import PRESETS
from pixelq.scripts.flags.presets import PresetsArgs
from pixelq.scripts.main import run


def main(_: PresetsArgs) -> None:
    """Print a line for each preset: its name and the first line of its docstring."""
    for name, function in PRESETS.items():
        print(f"{name:<16} {(inspect.getdoc(function) or '').splitlines()[0]}")


if __name__ == "__main__":
    sys.exit(run("presets"))

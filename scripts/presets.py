"""`pixelq presets`: the presets, one line each, with the protocol and the paper, or the settings of one."""

from __future__ import annotations

import dataclasses
import inspect
import sys

from pixelq.agents import PRESETS, AgentConfig, preset
from pixelq.agents.config.presets import ATARI_PRESETS, PRESET_PROTOCOLS
from pixelq.scripts.flags.presets import PresetsArgs
from pixelq.scripts.main import run


def main(args: PresetsArgs) -> None:
    """Print a line for each preset: its name, its protocol of Atari games, and what it is; or one preset."""
    if args.name is not None:
        return _show(args.name)
    for name, function in PRESETS.items():
        protocol = PRESET_PROTOCOLS[name] if name in ATARI_PRESETS else "-"
        print(f"{name:<16} {protocol:<7} {(inspect.getdoc(function) or '').splitlines()[0]}")


def _show(name: str) -> None:
    """Print what is said of a preset, and its settings in the order of the configuration's fields."""
    settings = preset(name)
    protocol = f", protocol {PRESET_PROTOCOLS[name]}" if name in ATARI_PRESETS else ""
    print(f"{name}{protocol}\n\n{inspect.getdoc(PRESETS[name])}\n")
    for field in dataclasses.fields(AgentConfig):
        print(f"{field.name:<22} {getattr(settings, field.name)}")


if __name__ == "__main__":
    sys.exit(run("presets"))

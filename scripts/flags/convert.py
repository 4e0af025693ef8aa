"""The flags of `pixelq convert`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from pixelq.agents.errors import UserError
from pixelq.scripts.command_line import EnvKwargs, Modules, Names, parse, split_modules, take_env_kwargs


@dataclass(frozen=True)
class ConvertArgs:
    """Convert a DQN of stable-baselines3 to a checkpoint for evaluate, export, push and report, without unpickling."""

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.zip")]
    """Zip file that stable_baselines3.DQN.save wrote, with a CnnPolicy or an MlpPolicy."""
    env: str
    """ID of the environment in which the agent was trained, as for pixelq train; the zip file does not contain it."""
    out: Path
    """Folder of the checkpoint; an existing checkpoint is replaced."""
    protocol: Literal["sticky", "nature", "100k", "envpool"] = "nature"
    """Rules of Atari games; nature is the closest to those of stable-baselines3."""
    frame_stack: int | None = None
    """Number of images in an observation; None for 4 on Atari and 1 elsewhere."""
    frame_size: int | None = None
    """Height and width in pixels to which images are resized; None for 84 on Atari, and for the original size
    elsewhere."""
    grayscale: bool = False
    """Convert images to greyscale; Atari games always are."""
    env_kwargs: EnvKwargs = field(default_factory=dict)
    """Keyword argument KEY of the environment; the value is read as TOML or JSON, or else as text. May be repeated."""
    wrappers: Names = ()
    """Wrappers of the environment, innermost first: classes or functions as MODULE:NAME or MODULE:NAME(key=value),
    separated by commas."""
    modules: Modules = ()
    """Modules to import first, separated by commas, that register or contain environments and wrappers."""

    @property
    def env_arguments(self) -> dict[str, Any]:
        """Arguments of `pixelq.envs.make_vec` that are given."""
        names = ("frame_stack", "frame_size", "grayscale", "env_kwargs", "wrappers")
        return {name: value for name in names if (value := getattr(self, name)) not in (None, False, {}, ())}


def read(arguments: Sequence[str]) -> ConvertArgs:
    """Return the flags of a command line.

    Raises:
        UserError: If they do not fit, or there is no such file.
    """
    arguments, env_kwargs = take_env_kwargs(arguments)
    args = parse(ConvertArgs, "convert", arguments)
    args = replace(args, modules=split_modules(args.modules), env_kwargs=env_kwargs)
    if not os.path.isfile(args.file):
        raise UserError(f"{args.file} is no file; give a zip that stable_baselines3.DQN.save wrote")
    return args

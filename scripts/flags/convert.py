"""The flags of `pixelq convert`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from pixelq.agents.errors import UserError
from pixelq.agents.storage.files import user_path
from pixelq.scripts.command_line import EnvKwargs, Modules, Names, parse, split_modules, take_env_kwargs


@dataclass(frozen=True)
class ConvertArgs:
    """Make a checkpoint of a DQN of stable-baselines3, which evaluate, export, push and report take; nothing in its zip
    is unpickled."""

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.zip")]
    """Zip that stable_baselines3.DQN.save wrote, of CnnPolicy or MlpPolicy."""
    env: str
    """ID of the environment in which it was trained, as for pixelq train; the zip does not hold it."""
    out: Path
    """Folder of the checkpoint; an older checkpoint there is replaced."""
    protocol: Literal["sticky", "nature", "100k", "envpool"] = "nature"
    """Rules by which an Atari game is played; nature is nearest to stable-baselines3's own."""
    frame_stack: int | None = None
    """Number of pictures in an observation; None for 4 on Atari and 1 otherwise."""
    frame_size: int | None = None
    """Height and width in pixels to which pictures are resized; None for 84 on Atari, and elsewhere for their own."""
    grayscale: bool = False
    """Show pictures in grey; those of Atari games always are."""
    env_kwargs: EnvKwargs = field(default_factory=dict)
    """Keyword argument KEY of the environment, a value in TOML or JSON, or else text; may be repeated."""
    wrappers: Names = ()
    """Wrappers around the environment, the innermost first: classes or functions MODULE:NAME, or
    MODULE:NAME(key=value), with commas between them."""
    modules: Modules = ()
    """Modules that register or hold environments and wrappers, to import first, with commas between them."""

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
    if not os.path.isfile(user_path(args.file)):
        raise UserError(f"{args.file} is no file; give a zip that stable_baselines3.DQN.save wrote")
    return args

"""The flags of `python -m pixelq.scripts.pack`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pixelq.agents.errors import UserError
from pixelq.agents.storage.pretrained import ALIASES, FOLDER
from pixelq.scripts.command_line import Modules, check_least, parse, split_modules


@dataclass(frozen=True)
class PackArgs:
    """Put the policy of a run into the package: weights for acting, configuration, a new evaluation, and a card."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run."""
    name: str = "pong"
    """Name of the policy; an existing policy of that name is replaced."""
    which: Literal["best", "last"] = "best"
    """Checkpoint of the run to take."""
    episodes: int = 100
    """Number of full episodes to play, in games that neither the training nor the choice of the best has seen."""
    protocol: Literal["sticky", "nature", "100k", "envpool"] = "sticky"
    """Protocol of the evaluation."""
    seed: int = 0
    """Seed of the games and of the random actions."""
    into: Path = FOLDER
    """Folder of the pretrained policies."""
    modules: Modules = ()
    """Modules that register or hold environments, wrappers, encoders, heads or target rules, to import first, separated
    by commas."""


def read(arguments: Sequence[str]) -> PackArgs:
    """Return the flags of a command line.

    Raises:
        UserError: If they do not fit.
    """
    args = parse(PackArgs, "pack", arguments)
    check_least(("--episodes", args.episodes, 1), ("--seed", args.seed, 0))
    if re.fullmatch(r"[a-z][a-z0-9_]*", args.name) is None or args.name in ALIASES:
        raise UserError(f"--name must be lower-case letters, digits and _, and no alias, got {args.name!r:.80}")
    return replace(args, modules=split_modules(args.modules))

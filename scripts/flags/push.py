"""The flags of `pixelq push`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pixelq.agents.errors import UserError
from pixelq.agents.storage.hub import import_hub, is_on_hub
from pixelq.agents.storage.pretrained import find_policy
from pixelq.scripts.command_line import Modules, check_least, parse, split_modules


@dataclass(frozen=True)
class PushArgs:
    """Evaluate and film a policy, and upload it to the Hugging Face Hub with a card; hf://ORG/NAME then loads it."""

    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_OR_CHECKPOINT")]
    """Folder of a run (its best checkpoint, or else its latest), a checkpoint, or a pretrained policy such as demo."""
    repo: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ORG/NAME")]
    """Repository to write to; it is created if it does not exist."""
    which: Literal["best", "last"] | None = None
    """Checkpoint of a run to upload; None for the best, or else the latest."""
    episodes: int = 30
    """Number of full episodes to play for the card."""
    protocol: Literal["sticky", "nature", "100k", "envpool"] | None = None
    """Rules of Atari games in these episodes; None for those of the training."""
    seed: int = 0
    """Seed of the games and of the random actions."""
    device: str = "auto"
    """Device to play on: auto (a GPU if there is one), cpu or cuda."""
    film: bool = True
    """Film an additional episode, at most three minutes, if the extra video is installed and the environment can be
    rendered."""
    private: bool = False
    """Make the repository private if it is new."""
    modules: Modules = ()
    """Modules to import first, separated by commas, that register environments, encoders or heads; a run's folder alone
    imports nothing."""


def read(arguments: Sequence[str]) -> PushArgs:
    """Return the flags of a command line.

    Raises:
        UserError: If they do not fit, or the checkpoint does not exist.
        MissingExtra: If `huggingface_hub` is not installed.
    """
    args = parse(PushArgs, "push", arguments)
    args = replace(args, modules=split_modules(args.modules))
    check_least(("--episodes", args.episodes, 2), ("--seed", args.seed, 0))
    if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", args.repo) is None:
        raise UserError(f"the repository must be ORG/NAME, got {args.repo!r:.80}")
    if is_on_hub(args.checkpoint):
        raise UserError("what is pushed must be a run or a checkpoint of this machine")
    import_hub("pixelq push")
    if not args.modules:  # which are imported before anything is read
        find_policy(args.checkpoint)
    return args

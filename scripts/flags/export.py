"""The flags of `pixelq export`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pixelq.agents.storage.pretrained import find_policy
from pixelq.scripts.command_line import Modules, check_least, parse, split_modules


@dataclass(frozen=True)
class ExportArgs:
    """Export a policy to a file for other programs, after checking that both give the same q-values."""

    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_OR_CHECKPOINT")]
    """Folder of a run (its best checkpoint, or else its latest), a checkpoint, a pretrained policy such as demo, or
    hf://ORG/NAME."""
    out: Path
    """File to write; an existing one is replaced."""
    format: Literal["onnx", "torchscript", "torch_export", "sb3"] = "onnx"
    """Format of the file: onnx, torchscript (for torch.jit.load), torch_export (for torch.export.load), or sb3 (a zip
    file of stable-baselines3's DQN)."""
    which: Literal["best", "last"] | None = None
    """Checkpoint of a run to export; None for the best, or else the latest."""
    frames: int = 1000
    """Number of observations from the policy's environment on which file and policy are compared; 0 for random
    observations."""
    seed: int = 0
    """Seed of these games."""
    modules: Modules = ()
    """Modules to import first, separated by commas, that register environments, encoders or heads; a run's folder alone
    imports nothing."""


def read(arguments: Sequence[str]) -> ExportArgs:
    """Return the flags of a command line.

    Raises:
        UserError: If they do not fit, or the checkpoint does not exist.
    """
    args = parse(ExportArgs, "export", arguments)
    args = replace(args, modules=split_modules(args.modules))
    check_least(("--frames", args.frames, 0), ("--seed", args.seed, 0))
    if not args.modules:  # which are imported before anything is read
        find_policy(args.checkpoint)
    return args

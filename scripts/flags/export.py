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
    """Write a policy as a file for other programs, which is checked against the policy before it is written."""

    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_OR_CHECKPOINT")]
    """Folder of a run (its best checkpoint, or else its latest), a checkpoint, a pretrained policy such as demo, or
    hf://ORG/NAME."""
    out: Path
    """File to write; an older one is replaced."""
    format: Literal["onnx", "torchscript", "torch_export", "sb3"] = "onnx"
    """Format of the file: onnx, torchscript (for torch.jit.load), torch_export (for torch.export.load), or sb3, a zip
    of stable-baselines3's DQN."""
    which: Literal["best", "last"] | None = None
    """Checkpoint of a run to take; None for the best, or else the latest."""
    frames: int = 1000
    """Observations of the policy's own environment on which file and policy are compared; 0 for random ones."""
    seed: int = 0
    """Seed of these games."""
    modules: Modules = ()
    """Modules that register environments, encoders or heads, to import first, with commas between them; a run's folder
    alone imports none."""


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

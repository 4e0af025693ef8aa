"""The flags of `pixelq status`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pixelq.scripts.command_line import optional_value, parse


@dataclass(frozen=True)
class StatusArgs:
    """Print the progress of runs, one line each. The exit code is 2 if a run cannot be read."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[RUN [RUN ...]]")] = (Path("runs"),)
    """Folders of runs, or folders that contain runs."""
    json: Path | None = None
    """File for the results as a JSON list; without a value, print them on stdout; None writes none."""


def read(arguments: Sequence[str]) -> StatusArgs:
    """Return the flags of a command line."""
    return parse(StatusArgs, "status", optional_value(arguments, "--json"))

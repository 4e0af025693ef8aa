"""The flags of `pixelq watch`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pixelq.agents.errors import UserError
from pixelq.scripts.command_line import check_runs, parse


@dataclass(frozen=True)
class WatchArgs:
    """Show the progress of runs live in the browser while they train. Press Ctrl-C to stop."""

    runs: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint="(required)"),
    ]
    """Folders of runs; one page shows all of them."""
    host: str = "127.0.0.1"
    """Address to listen on; there is no password, so everyone who can reach the address sees the runs."""
    port: int = 8000
    """TCP port to listen on; 0 for any free port."""
    allow_host: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Additional host name or address, without a port, under which browsers may open the page; may be repeated."""
    open: bool = False
    """Open the page in a browser."""


def read(arguments: Sequence[str]) -> WatchArgs:
    """Return the flags of a command line.

    Raises:
        UserError: If they do not fit.
    """
    args = parse(WatchArgs, "watch", arguments)
    check_runs(args.runs)
    if not 0 <= args.port <= 65535:
        raise UserError(f"--port must be in [0, 65535], got {args.port}")
    for name in args.allow_host:
        if "*" in name or "/" in name:
            raise UserError(f"--allow-host must be a name or an address, such as train.example.org, got {name!r}")
    return args

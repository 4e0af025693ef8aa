"""`pixelq watch`: the progress of runs live in the browser."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pixelq.agents.errors import UserError
from pixelq.agents.report.watch import Watching, allowed_hosts, listen, make_app
from pixelq.scripts.command_line import parse
from pixelq.scripts.main import run


@dataclass(frozen=True)
class WatchArgs:
    """Show the progress of runs live in the browser while they train; they are only read. Ctrl-C ends."""

    runs: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint="(required)"),
    ]
    """Folders of the runs, which one page shows together."""
    host: str = "127.0.0.1"
    """Address to listen at; at any but the default, everyone who reaches it sees the runs, as there is no password."""
    port: int = 8000
    """TCP port to listen at; 0 for any that is free."""
    allow_host: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Further name or address, without a port, by which browsers may ask for the page; may be repeated."""
    open: bool = False
    """Whether to open the page in a browser."""


def main(arguments: Sequence[str]) -> None:
    """Parse the command line, and serve the page until a signal arrives."""
    args = parse(WatchArgs, "watch", list(arguments))
    if not 0 <= args.port <= 65535:
        raise UserError(f"--port must be in [0, 65535], got {args.port}")
    if not args.runs:
        raise UserError("no run is given; give the folder of one or more")
    for name in args.allow_host:
        if "*" in name or "/" in name:
            raise UserError(f"--allow-host must be a name or an address, such as train.example.org, got {name!r}")
    try:
        listening = listen(args.host, args.port)
    except (OSError, UnicodeError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"cannot listen at {args.host} port {args.port} ({reason}); give another --host or --port"
        ) from error
    with listening:
        hosts = allowed_hosts((args.host, listening.getsockname()[0], *args.allow_host))
        app = make_app(list(dict.fromkeys(args.runs)), hosts)
        with Watching(app, listening, args.host) as watching:
            print(f"watching {', '.join(map(str, args.runs))} at {watching.address}   (Ctrl-C ends)", flush=True)
            if args.open:
                webbrowser.open(watching.address)
            watching.wait()


if __name__ == "__main__":
    sys.exit(run("watch"))

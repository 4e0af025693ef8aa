"""`pixelq watch`: a run's progress live in the browser."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pixelq.agents.errors import UserError
from pixelq.agents.report.watch import allowed_hosts, is_any, listen, make_app, make_server
from pixelq.scripts.command_line import parse
from pixelq.scripts.main import run


@dataclass(frozen=True)
class WatchArgs:
    """Show a run's progress live in the browser while it trains; the run is only read. Ctrl-C ends."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    host: str = "127.0.0.1"
    """Address to listen at; at any but the default, everyone who reaches it sees the run, as there is no password."""
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
        bound, port = listening.getsockname()[:2]
        server = make_server(make_app(args.run, allowed_hosts((args.host, bound, *args.allow_host))))
        host = args.host.strip("[]") if not is_any(bound) else "::1" if ":" in bound else "127.0.0.1"
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        print(f"watching {args.run} at {address}   (Ctrl-C ends)", flush=True)
        if args.open:
            webbrowser.open(address)
        server.run(sockets=[listening])


if __name__ == "__main__":
    sys.exit(run("watch"))

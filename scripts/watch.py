"""``pixelq watch``: a run's progress live in the browser."""

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


@dataclass(frozen=True)
class WatchArgs:
    """Show a run's progress live in the browser while it trains; the run is only read. Ctrl-C ends."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run's folder."""
    host: str = "127.0.0.1"
    """Address to listen at. Any but the default lets whoever reaches it see the run; there is no password."""
    port: int = 8000
    """TCP port; 0 is any that is free."""
    allow_host: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A further name or address by which browsers may ask for the page, without its port; may be repeated."""
    open: bool = False
    """Open the page in a browser."""


def main(arguments: Sequence[str]) -> None:
    """Parses the command line and serves the page until a signal comes."""
    args = parse(WatchArgs, "watch", list(arguments))
    if not 0 <= args.port <= 65535:
        raise UserError(f"--port is {args.port}; it must be from 0 to 65535")
    for name in args.allow_host:
        if "*" in name or "/" in name:
            raise UserError(f"--allow-host is {name!r}; give a name or an address alone, such as train.example.org")
    try:
        listening = listen(args.host, args.port)
    except (OSError, UnicodeError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{args.host} port {args.port} cannot be listened at ({reason}); give another --host or --port"
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
    from pixelq.scripts.main import run

    sys.exit(run("watch"))

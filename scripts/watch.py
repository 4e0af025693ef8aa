"""`pixelq watch`: a run's progress live in the browser."""

from __future__ import annotations

import sys
import webbrowser

from pixelq.agents.errors import UserError
from pixelq.agents.report.watch import allowed_hosts, is_any, listen, make_app, make_server
from pixelq.scripts.flags.watch import WatchArgs
from pixelq.scripts.main import run


def main(args: WatchArgs) -> None:
    """Serve the page until a signal arrives."""
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

"""`pixelq watch`: the progress of runs live in the browser."""

from __future__ import annotations

import sys
import webbrowser

from pixelq.agents.errors import UserError
from pixelq.agents.report.watch import Watching, allowed_hosts, listen, make_app
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
        hosts = allowed_hosts((args.host, listening.getsockname()[0], *args.allow_host))
        app = make_app(list(dict.fromkeys(args.runs)), hosts)
        with Watching(app, listening, args.host) as watching:
            print(
                f"watching {', '.join(map(str, args.runs))} at {watching.address}   (press Ctrl-C to stop)", flush=True
            )
            if args.open:
                webbrowser.open(watching.address)
            watching.wait()


if __name__ == "__main__":
    sys.exit(run("watch"))

"""Live page of runs: a small web application that reads their folders and can do nothing else."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pixelq.agents.errors import InvalidRun, MissingExtra, how_to_install
from pixelq.agents.report.page import template
from pixelq.agents.report.watch_data import LiveRun
from pixelq.agents.results.formatting import shortened

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from uvicorn import Server

OWN_NAMES = ("localhost", "127.0.0.1", "[::1]")
"""Host names that are always accepted. They stand for this machine, so no other web site can use them."""
SECURITY = {
    "Content-Security-Policy": (
        # Plotly sets inline styles.
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Headers of every response."""
MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
MISSING = f"watch needs Starlette, Uvicorn and Plotly: {how_to_install('report')}"


def allowed_hosts(names: Iterable[str]) -> list[str]:
    """Return the values of the Host header, without a port, that are accepted: `OWN_NAMES` and the given ones.

    This protects against DNS rebinding: a web site whose name is made to point at this machine sends its own name in
    the header, and is refused.

    Args:
        names: Further names and addresses. Those that stand for all addresses of the machine are left out.
    """
    return list(dict.fromkeys([*OWN_NAMES, *(_as_in_header(name) for name in names if not is_any(name))]))


def _as_in_header(name: str) -> str:
    """Return a name or an address as the Host header has it: IPv6 in brackets, names in lower case."""
    return f"[{name}]" if ":" in name and not name.startswith("[") else name.lower()


def is_any(host: str) -> bool:
    """Return whether an address stands for all addresses of the machine, as `0.0.0.0` does."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        return False


def make_app(runs: Sequence[Path], hosts: Iterable[str] = OWN_NAMES) -> Starlette:
    """Return the web application that shows runs on one page.

    Args:
        runs: The run folders.
        hosts: Accepted values of the Host header; see `allowed_hosts`.

    Raises:
        InvalidRun: If no run is given, or there is no run in a folder.
        MissingExtra: If a library of the extra `report` is missing.
    """
    try:
        from plotly.offline import get_plotlyjs
        from starlette.applications import Starlette
        from starlette.middleware import Middleware
        from starlette.middleware.base import BaseHTTPMiddleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.routing import Route
    except ImportError as error:
        raise MissingExtra(MISSING) from error
    if not runs:
        raise InvalidRun("no run is given; give the folder of one or more")
    live = [LiveRun(run) for run in runs]
    texts = {name: template(name) for name in ("style.css", "watch.css", "charts.js", "watch.js")}
    routes = [_file_route("/", template("watch.html"), ".html"), _file_route("/plotly.js", get_plotlyjs(), ".js")]
    routes += [_file_route(f"/{name}", text, Path(name).suffix) for name, text in texts.items()]

    def data(request: Request) -> Response:  # not a coroutine, so it runs in a thread and blocks no other request
        given = {name: request.query_params.get(name, "-1") for name in ("since", "evaluated")}
        for name, value in given.items():
            if not re.fullmatch(r"-1|[0-9]{1,15}", value):
                return _json({"problem": f"{name} must be a step or -1, got {value!r:.80}"}, 400)
        number = request.query_params.get("run", "0")
        if not re.fullmatch(r"[0-9]{1,6}", number) or int(number) >= len(live):
            return _json({"problem": f"run must be in [0, {len(live) - 1}], got {number!r:.80}"}, 400)
        try:
            answer = live[int(number)].answer(**{name: int(value) for name, value in given.items()})
            return _json(answer | {"runs": len(live)})
        except InvalidRun as error:
            return _json({"problem": shortened(error, 300), "runs": len(live)}, 503)

    app = Starlette(
        routes=[*routes, Route("/data", data, methods=["GET"])],
        middleware=[
            Middleware(BaseHTTPMiddleware, dispatch=_secure),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
        ],
    )
    app.router.redirect_slashes = False
    return app


async def _secure(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Add the headers `SECURITY` to every response, also to refusals."""
    response = await call_next(request)
    response.headers.update(SECURITY)
    return response


def _json(values: Any, status: int = 200) -> Response:
    """Return a response with JSON in ASCII, as names of folders may hold bytes that are not UTF-8."""
    from starlette.responses import Response

    text = json.dumps(values, allow_nan=False)
    return Response(text, status, {"Cache-Control": "no-store"}, "application/json")


def _file_route(path: str, text: str, suffix: str) -> Any:
    """Return a route to a text that browsers may cache, but must ask each time whether it has changed."""
    from starlette.responses import Response
    from starlette.routing import Route

    content = text.encode()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}

    async def file(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=MEDIA_TYPES[suffix], headers=headers)

    return Route(path, file, methods=["GET"])


def make_server(app: Any) -> Server:
    """Return a Uvicorn server of the application, without logs or trust in proxies; `run(sockets=[…])` serves.

    Raises:
        MissingExtra: If Uvicorn is missing.
    """
    try:
        from uvicorn import Config, Server
    except ImportError as error:
        raise MissingExtra(MISSING) from error
    config = Config(
        app,
        access_log=False,
        lifespan="off",
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=1,
        ws="none",
    )
    return Server(config)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on a port of this machine; with port 0, on any free one.

    Raises:
        OSError: If the address is not one of this machine, or the port is taken.
    """
    family, *_, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    try:
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0)) from error  # its own text repeats the address


def address_of(listening: socket.socket, host: str) -> str:
    """Return the address at which a browser on this machine finds a socket's page.

    Args:
        listening: The socket, of `listen`.
        host: The name or address that it was made with.
    """
    bound, port = listening.getsockname()[:2]
    host = host.strip("[]") if not is_any(bound) else "::1" if ":" in bound else "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


class Watching:
    """A live page that is served in the background, as a notebook needs it, until it is closed.

    Attributes:
        address: Where a browser on this machine finds it.
    """

    def __init__(self, app: Starlette, listening: socket.socket, host: str) -> None:
        self.address = address_of(listening, host)
        self._socket, self._server = listening, make_server(app)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving the page."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def wait(self) -> None:
        """Return when the page is no longer served, or raise what a signal's handler raises."""
        while self._thread.is_alive():
            self._thread.join(1.0)  # without a limit Ctrl-C would not end it on Windows

    def __enter__(self) -> Watching:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Watching({self.address!r})"

    def _repr_html_(self) -> str:
        return f'<a href="{self.address}" target="_blank" rel="noopener">{self.address}</a>'


def watch_runs(
    runs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], host: str = "127.0.0.1", port: int = 0
) -> Watching:
    """Serve the live page of runs in the background, and return at once; for notebooks and programs.

    Args:
        runs: The run folder, or several.
        host: Address to listen at; at any but the default, everyone who reaches it sees the runs.
        port: TCP port to listen at; 0 for any that is free.

    Raises:
        OSError: If the address is not one of this machine, or the port is taken.
        InvalidRun, MissingExtra: As in `make_app`.
    """
    folders = [Path(runs)] if isinstance(runs, str | os.PathLike) else [Path(run) for run in runs]
    listening = listen(host, port)
    try:
        app = make_app(folders, allowed_hosts((host, listening.getsockname()[0])))
        return Watching(app, listening, host)
    except BaseException:
        listening.close()
        raise

"""Live page of a run: a small web application that reads the run folder and can do nothing else."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import re
import socket
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixelq.agents.errors import InvalidRun, MissingExtra
from pixelq.agents.report.page import template
from pixelq.agents.report.watch_data import LiveRun

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
MISSING = "watch needs Starlette, Uvicorn and Plotly: pip install 'pixelq[report]'"


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


def make_app(run: Path, hosts: Iterable[str] = OWN_NAMES) -> Starlette:
    """Return the web application that shows a run.

    Args:
        run: The run folder.
        hosts: Accepted values of the Host header; see `allowed_hosts`.

    Raises:
        InvalidRun: If there is no run in the folder.
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
    live = LiveRun(run)
    texts = {name: template(name) for name in ("style.css", "watch.css", "charts.js", "watch.js")}
    routes = [_file_route("/", template("watch.html"), ".html"), _file_route("/plotly.js", get_plotlyjs(), ".js")]
    routes += [_file_route(f"/{name}", text, Path(name).suffix) for name, text in texts.items()]

    def data(request: Request) -> Response:  # not a coroutine, so it runs in a thread and blocks no other request
        given = {name: request.query_params.get(name, "-1") for name in ("since", "evaluated")}
        for name, value in given.items():
            if not re.fullmatch(r"-1|[0-9]{1,15}", value):
                return _json({"problem": f"{name} must be a step or -1, got {value!r:.80}"}, 400)
        try:
            return _json(live.answer(**{name: int(value) for name, value in given.items()}))
        except InvalidRun as error:
            return _json({"problem": str(error)}, 503)

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

"""A page that watches a run: a small web application that reads the run's folder and can do nothing else."""

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
"""Hosts by whose names the page may always be asked for: what a page elsewhere cannot take for its own."""
SECURITY = {
    "Content-Security-Policy": (
        # Plotly sets styles of its own.
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
MISSING = "watch needs Starlette, Uvicorn and Plotly: pip install 'pixelq[report]'"


def allowed_hosts(names: Iterable[str]) -> list[str]:
    """Values of the header Host, without a port, that are answered: loopback's own, and names and addresses given.

    A page elsewhere whose name is made to point at this machine (DNS rebinding) asks under that name, and is refused.
    """
    return list(dict.fromkeys([*OWN_NAMES, *(_as_in_header(name) for name in names if not is_any(name))]))


def _as_in_header(name: str) -> str:
    return f"[{name}]" if ":" in name and not name.startswith("[") else name.lower()


def is_any(host: str) -> bool:
    """Whether an address stands for every address of the machine, so that it is no name."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        return False


def make_app(run: Path, hosts: Iterable[str] = OWN_NAMES) -> Starlette:
    """The application that shows a run's folder to whoever asks for it by one of the hosts' names.

    Raises:
        InvalidRun: the folder holds no run.
        MissingExtra: a library of the extra ``report`` is not there.
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

    def data(request: Request) -> Response:  # no coroutine, so that reading files keeps nobody waiting
        given = {name: request.query_params.get(name, "-1") for name in ("since", "evaluated")}
        for name, value in given.items():
            if not re.fullmatch(r"-1|[0-9]{1,15}", value):
                return _json({"problem": f"{name} is no step; give a whole number"}, 400)
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
    """Every answer has the headers ``SECURITY``, a refusal too."""
    response = await call_next(request)
    response.headers.update(SECURITY)
    return response


def _json(values: Any, status: int = 200) -> Response:
    """JSON in ASCII, as names of folders may hold what is no UTF-8."""
    from starlette.responses import Response

    text = json.dumps(values, allow_nan=False)
    return Response(text, status, {"Cache-Control": "no-store"}, "application/json")


def _file_route(path: str, text: str, suffix: str) -> Any:
    """A route to a text that a browser keeps, asking each time whether it is still the same."""
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
    """Uvicorn for the application, which is quiet and believes no proxy; ``run(sockets=[…])`` serves.

    Raises:
        MissingExtra: Uvicorn is not there.
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
    """A socket that listens at a port of this machine; port 0 is any that is free.

    Raises:
        OSError: the host has no such address, or the port is taken.
    """
    family, *_, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    try:
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0)) from error  # its own text has the address once more

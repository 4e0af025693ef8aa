"""The address of a Ray cluster, and the way there."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit

from pixelq.agents.errors import UserError, one_line

ANSWER_SECONDS = 5.0
"""Seconds in which a cluster must answer."""
LOCAL_ATTEMPTS = 3
"""Attempts to start Ray on this machine, which gives up after half a minute where others keep all cores busy."""


def check_answers(address: str, *, takes_clients: bool = False) -> None:
    """Check that something listens at the address of a cluster, for which Ray would wait for a minute or more.

    Args:
        address: `HOST:PORT`, or `auto` for the cluster that this machine is part of.
        takes_clients: Whether `ray://HOST:PORT`, for drivers outside the cluster, is an address too.

    Raises:
        UserError: If it is no address, or nothing does.
    """
    if address == "auto":
        return
    place = address.removeprefix("ray://") if takes_clients else address
    try:
        parts = urlsplit(f"//{place}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port is None or "/" in place:
        kinds = "HOST:PORT, ray://HOST:PORT or auto" if takes_clients else "HOST:PORT or auto"
        raise UserError(f"`ray_address` must be {kinds}, got {address!r:.80}")
    try:
        socket.create_connection((host, port), ANSWER_SECONDS).close()
    except (OSError, UnicodeError) as error:  # the latter of names that no machine can have
        raise UserError(
            f"no Ray cluster answers at {address!r:.80} ({one_line(error)}); start one with `ray start --head`, or "
            "leave out `ray_address` to use this machine"
        ) from error


def connect(ray: Any, address: str | None, **options: Any) -> None:
    """Connect Ray to a cluster, or start it on this machine.

    Args:
        ray: The package.
        address: Address of the cluster, `local` to start one, or None to start one unless there is one here.
        **options: Further arguments of `ray.init`.

    Raises:
        Exception: What Ray raises, which may be of any class.
    """
    for attempt in range(1, LOCAL_ATTEMPTS + 1):
        try:
            ray.init(address=address, **options)
            return
        except Exception:
            ray.shutdown()
            if address not in (None, "local") or attempt == LOCAL_ATTEMPTS:
                raise

"""The address of a Ray cluster."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from pixelq.agents.errors import UserError, one_line

ANSWER_SECONDS = 5.0
"""Seconds in which a cluster must answer."""


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

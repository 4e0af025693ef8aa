"""Clusters of Ray on this machine."""

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

Made = TypeVar("Made")


def started(start: Callable[[], Made]) -> Made:
    """What `start` returns: a cluster or a node, for which Ray waits no longer than half a minute, so three times."""
    for _ in range(2):
        with suppress(Exception):  # of no class of its own
            return start()
    return start()

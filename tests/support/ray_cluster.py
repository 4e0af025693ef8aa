"""Clusters of Ray on this machine."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import pytest

Made = TypeVar("Made")
PATIENCE = 150
"""Seconds in which a node must have started where others keep all cores busy; Ray itself waits for half a minute."""


def started(start: Callable[[], Made]) -> Made:
    """What `start` returns: a cluster or a node."""
    from ray._private import services

    look = services.get_node

    def patient(*arguments: Any) -> Any:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with suppress(RuntimeError):
                return look(*arguments)
            time.sleep(0.5)
        return look(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services, "get_node", patient)
        return start()

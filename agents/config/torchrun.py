"""What `torchrun` tells a process that it has started: which of how many it is."""

from __future__ import annotations

import os
import time
from typing import NamedTuple


class Place(NamedTuple):
    """The place of a process among those that learn together."""

    rank: int
    """Number of the process, from 0 on."""
    size: int
    """Number of processes, at least 2."""
    local_rank: int
    """Number of the process among those on its machine."""
    local_size: int
    """Number of processes on its machine."""


TOLD_SECONDS = 30.0
"""Seconds within which the first process has told the user what is wrong, and `torchrun` ends the others."""


def place() -> Place | None:
    """Return the place of this process; None if it was not started by `torchrun`, or alone."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    values = [os.environ.get(name, "") for name in names]
    is_started = all(value.isdecimal() for value in values) and {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()
    found = Place(*map(int, values)) if is_started else None
    return found if found is not None and found.size > 1 else None


def leave_it_to_the_first() -> None:
    """Wait for the end of this process, which has the same error as the first one.

    If it ended at once, `torchrun` would stop the first one, perhaps before that has told the user.

    Raises:
        SystemExit: If the end does not come.
    """
    time.sleep(TOLD_SECONDS)
    raise SystemExit(2)

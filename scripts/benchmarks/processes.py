"""Processes of the benchmark: one for each entry, which ends with the context that started it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from pixelq.agents.evaluation.players import safe_path


@contextmanager
def process(target: Callable[..., None], *arguments: Any) -> Iterator[Connection]:
    """Run a function in a new process while the context lasts, and yield the connection to it.

    Args:
        target: The function, which is given the other end of the connection first.
        arguments: Its further arguments.
    """
    context = multiprocessing.get_context("spawn")
    connection, far_end = context.Pipe()
    # Not a daemon, because daemons may have no children
    started = context.Process(target=target, args=(far_end, *arguments))
    with safe_path():
        started.start()
    far_end.close()  # so that the end of the process is noticed here
    try:
        yield connection
    finally:
        connection.close()
        started.kill()  # it has nothing to save
        started.join()


def receive(name: str, connection: Connection) -> Any:
    """Return what the process of the entry with a name sends next.

    Raises:
        RuntimeError: If the process has ended.
    """
    try:
        return connection.recv()
    except (EOFError, ConnectionResetError):
        raise RuntimeError(f"the process that measures {name} ended; the reason is printed above") from None

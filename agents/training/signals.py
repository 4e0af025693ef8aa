"""Signals that ask a run to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name))
"""Ctrl-C, the end of a container or a job, the end of a terminal, and the warning that SLURM sends before its limit."""


def act_on(received: Sequence[int]) -> None:
    """Do what the first of the signals does that was received, now that the loop has stopped in good order; if any was.

    Raises:
        KeyboardInterrupt: On SIGINT.
        SystemExit: On any other, with 128 + its number.
    """
    if received:
        raise KeyboardInterrupt if received[0] == signal.SIGINT else SystemExit(128 + received[0])


@contextmanager
def stop_signals(received: list[int], *, heeds_second: bool = True) -> Iterator[None]:
    """Append the first of the signals `STOPPING` to `received`, for the loop to stop in good order.

    A second signal acts as it would have without this. What the process was started to ignore stays ignored, such as
    SIGHUP under nohup, or SIGINT in a shell's background. Outside the main thread, no signal is caught.

    Args:
        received: Where to append it.
        heeds_second: Whether there is a second signal. Launchers of several processes may send each of them more than
            one, and kill those that do not end; these are ignored if it is False.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    found = {number: signal.getsignal(number) for number in STOPPING}
    # None is a handler that was not set from Python, and could not be restored.
    handlers = {number: handler for number, handler in found.items() if handler not in (signal.SIG_IGN, None)}

    def note(number: int, _frame: object) -> None:
        received.append(number)
        if heeds_second:
            restore()

    def restore() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    for number in handlers:
        signal.signal(number, note)
    try:
        yield
    finally:
        restore()

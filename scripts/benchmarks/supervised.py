"""Commands that run for a limited time, with a log of limited size, and leave no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

MOST_LOG = 2**20
"""Bytes of a command's output that its log keeps from the beginning, and as many from the end."""
CHUNK = 2**16
"""Most bytes of output that are read at once."""
PATIENCE = 5.0
"""Seconds for a process that was asked to end; then it is killed."""
POLL = 0.1
"""Seconds between two looks at a running command."""
ASKED_EVERY = 1.0
"""Seconds between two questions whether it is done."""
MARK = "PIXELQ_SUPERVISED"
"""Environment variable by which a command's descendants are found, also those in sessions of their own."""
_TOKEN = uuid.uuid4().hex


class Ended(NamedTuple):
    """How a command ended."""

    exit_code: int | None
    """Exit code, −N if signal N killed it; None if it could not be ended, or was never run."""
    seconds: float
    """Seconds that it ran."""
    was_stopped: bool
    """Whether it was stopped here, because its time was up or it was done."""
    why: str | None
    """What went wrong; None if nothing did. That it was done is not wrong, that its time was up is."""


def supervise(
    command: Sequence[str],
    log: Path,
    seconds: float,
    *,
    is_done: Callable[[], bool] = lambda: False,
    stop: signal.Signals = signal.SIGTERM,
    patience: float = PATIENCE,
) -> Ended:
    """Run a command, stop it when its time is up, and kill what it has started; the same if an exception ends this.

    Args:
        command: The command.
        log: File for its output.
        seconds: Time after which it is stopped.
        is_done: Asked now and then whether it has done what it should, and is to be stopped.
        stop: Signal that asks it to end.
        patience: Seconds in which it may end in good order.
    """
    start = time.monotonic()
    asked, why = start, None
    with _running(command, log, stop, patience) as process:
        while process.poll() is None and why is None:
            time.sleep(POLL)
            now = time.monotonic()
            if now - start >= seconds:
                why = f"stopped after {seconds:.3g} s" if seconds < 1e3 else f"stopped after {seconds:.0f} s"
            elif now - asked >= ASKED_EVERY:
                asked = now
                if is_done():
                    break
        was_stopped = process.poll() is None
        took = time.monotonic() - start
    code: int | None = process.returncode
    problem = _why(code, log)
    if was_stopped and code in (None, -signal.SIGKILL):
        problem = f"did not end within {patience:.3g} s of being asked to"
    elif was_stopped and code in (-stop, 128 + stop):
        problem = None
    return Ended(code, took, was_stopped, "; ".join(each for each in (why, problem) if each) or None)


def _why(code: int | None, log: Path) -> str | None:
    """Return what an exit code says in words; None for 0."""
    if code is None:
        return "cannot be killed"
    if code >= 0:
        return f"exit code {code}; see {log.name}" if code else None
    if -code == signal.SIGKILL:
        return "killed by SIGKILL, maybe for want of memory"
    return f"killed by {signal.Signals(-code).name if -code in set(signal.Signals) else f'signal {-code}'}"


@contextmanager
def _running(
    command: Sequence[str], log: Path, stop: signal.Signals, patience: float
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command while the context lasts, and end it with all its descendants."""
    process: subprocess.Popen[bytes] | None = None
    reader: threading.Thread | None = None
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {MARK: _TOKEN},
        )
        assert process.stdout is not None
        reader = threading.Thread(target=_keep, args=(process.stdout, log), daemon=True)
        reader.start()
        yield process
    finally:
        try:
            if process is not None and process.poll() is None:
                process.send_signal(stop)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(patience)
        finally:
            kill_all(process)
            if reader is not None:
                reader.join(PATIENCE)


def kill_all(process: subprocess.Popen[bytes] | None = None) -> None:
    """Kill all processes that commands have started here, and wait for them.

    Args:
        process: One of the commands, by whose group its descendants are found where there is no `/proc`.
    """
    if process is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # one that waits for a driver cannot be killed
            process.wait(PATIENCE)
    end = time.monotonic() + PATIENCE
    while (marked := _marked()) and time.monotonic() < end:
        for pid in marked:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _marked() -> list[int]:
    """Return the processes that have our mark in their environment; none where there is no `/proc`."""
    found, mark = [], f"{MARK}={_TOKEN}".encode()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it has ended, or is another user's
            if mark in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
    return found


def _keep(output: IO[bytes], log: Path) -> None:
    """Write what comes out of a command to its log, without what lies between the beginning and the end if it is long.

    The output is read to its end in any case, also if the log cannot be written, so that the command never waits.
    """
    left, tail, in_tail, dropped = MOST_LOG, deque[bytes](), 0, 0
    with suppress(OSError), log.open("wb") as file:
        while chunk := os.read(output.fileno(), CHUNK):
            head, rest = chunk[:left], chunk[left:]
            left -= len(head)
            file.write(head)
            file.flush()
            tail.append(rest)
            in_tail += len(rest)
            while in_tail > MOST_LOG + CHUNK:
                in_tail -= len(tail[0])
                dropped += len(tail.popleft())
        if dropped:
            file.write(f"\n[{dropped:,} bytes left out]\n".encode())
        file.write(b"".join(tail))
    with suppress(OSError):
        while os.read(output.fileno(), CHUNK):
            pass
    output.close()

"""A file of scalars that TensorBoard reads, written by the thread that has them."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any


class EventFile:
    """TensorBoard's own writer has a thread, which on a full disk prints a traceback of its own.

    Args:
        folder: where the file is made.
        purge_step: scalars of other files in the folder are forgotten from this step on; None keeps them.

    Raises:
        OSError: it cannot be written, also of the methods.
    """

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2  # half a second to import
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._session, self._summary = event_pb2.Event, event_pb2.SessionLog, summary_pb2.Summary
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{time.monotonic_ns()}"
        self._file = (folder / name).open("xb")
        self._records = RecordWriter(self._file)
        self._write(file_version="brain.Event:2")
        if purge_step is not None:
            self._write(step=purge_step, session_log=self._session(status=self._session.START))
        self.flush()

    def scalar(self, name: str, value: float, step: int) -> None:
        """Adds a value of a step."""
        summary = self._summary(value=[self._summary.Value(tag=name, simple_value=value)])
        self._write(step=step, summary=summary)

    def flush(self) -> None:
        """Gives the system all that was added."""
        self._file.flush()

    def close(self) -> None:
        """Flushes and closes the file."""
        self._file.close()

    def _write(self, **fields: Any) -> None:
        self._records.write(self._event(wall_time=time.time(), **fields).SerializeToString())

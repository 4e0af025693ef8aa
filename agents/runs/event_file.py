"""A file of scalars for TensorBoard, written without a thread."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any


class EventFile:
    """A TensorBoard event file.

    TensorBoard's own writer has a thread, which prints a traceback when the disk is full.

    Args:
        folder: Folder in which the file is created.
        purge_step: Step from which on TensorBoard ignores the scalars of older files in the folder; None keeps them.

    Raises:
        OSError: If it cannot be written; the methods raise it too.
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
        """Add the value of a scalar at a step."""
        summary = self._summary(value=[self._summary.Value(tag=name, simple_value=value)])
        self._write(step=step, summary=summary)

    def flush(self) -> None:
        """Pass everything that was added to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close the file."""
        self._file.close()

    def _write(self, **fields: Any) -> None:
        self._records.write(self._event(wall_time=time.time(), **fields).SerializeToString())

"""Standard output and standard error that outlive their readers."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any


class LastingStream:
    """A text stream whose failure does not end the program: what cannot be written is left out.

    Characters that the stream's encoding lacks are written as question marks. Attributes are those of the stream.

    Args:
        stream: The stream, perhaps closed; None if the process has none.

    Attributes:
        error: Why the stream can no longer be written; None as long as it can.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.error: OSError | None = None
        if stream is None or getattr(stream, "closed", False):
            self._stream = open(os.devnull, "w")  # noqa: SIM115  # as long-lived as the process's own
            self.error = _closed()

    def write(self, text: str) -> int:
        """Write text, or note why it cannot be written."""
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            encoding = getattr(self._stream, "encoding", None) or "ascii"
            self.write(text.encode(encoding, "replace").decode(encoding))
        except OSError as error:
            self._fail(error)
        except ValueError:  # it has been closed meanwhile
            self._fail(_closed())
        return len(text)

    def flush(self) -> None:
        """Flush the stream, or note why it cannot be flushed."""
        try:
            self._stream.flush()
        except OSError as error:
            self._fail(error)
        except ValueError:
            self._fail(_closed())

    def _fail(self, error: OSError) -> None:
        """Note the error, and let later text, and what Python flushes at its end, go nowhere."""
        self.error = self.error or error
        with contextlib.suppress(OSError, ValueError, AttributeError):
            number = self._stream.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _closed() -> OSError:
    return OSError(errno.EBADF, os.strerror(errno.EBADF))


@contextlib.contextmanager
def lasting_streams() -> Iterator[tuple[LastingStream, LastingStream]]:
    """Replace the standard output and standard error of this process by lasting ones, and flush them at the end."""
    _occupy_descriptors()
    before = sys.stdout, sys.stderr
    out, err = LastingStream(sys.stdout), LastingStream(sys.stderr)
    sys.stdout, sys.stderr = out, err
    try:
        yield out, err
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before


def _occupy_descriptors() -> None:
    """Open the null device where the process was started without input, output or error stream.

    A file of a run that is opened later would have that number, and libraries would print into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number

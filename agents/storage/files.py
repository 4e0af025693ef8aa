"""Files and folders that exist whole or not at all, and checksums to verify them."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

CHECKSUMS = "checksums.sha256"
"""Name of the file with the digests of a folder's files, in the format of `sha256sum -c`."""
MOST_CHECKSUMS = 2**24
"""Size of the largest list of checksums that is read, in bytes."""
_ASIDE = ".pixelq-"
"""Beginning of the names of files that are being written."""
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
"""Flag with which a link is not opened; Windows has none."""


def user_path(path: str | os.PathLike[str]) -> Path:
    """Return a path of a user, with `~` as the home directory."""
    return Path(os.path.expanduser(path))  # Path.expanduser raises an error where there is no such user


def sync_file(path: Path) -> None:
    """Flush a file's contents to the disk."""
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)  # Windows flushes only what it may write
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to the disk, if the platform and the file system can."""
    if os.name == "nt":  # which opens no folder
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):  # as some network disks answer
            raise
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes, *, synced: bool = True) -> None:
    """Write a file under another name and rename it, so that a crash leaves the old file or the new one.

    Nothing is written through a link: one at `path` is replaced. A device or a pipe is written to, such as /dev/stdout.

    Args:
        path: Path of the file.
        data: Contents of the file.
        synced: Whether this also holds if the machine fails; otherwise only if the process does.

    Raises:
        OSError: If it cannot be written; the old file is left unchanged.
    """
    if is_stream(path):
        path.write_bytes(data)
        return
    aside = path.with_name(f"{_ASIDE}{os.urandom(8).hex()}.partial")
    try:
        _write_new(aside, data, synced)
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)  # the disk may be full
        raise
    if synced:
        sync_folder(path.parent)


def is_stream(path: Path) -> bool:
    """Return whether a path is a device or a pipe, which can be written to but not replaced; no link is one.

    The links of the system itself are, such as /dev/stdout.
    """
    if os.path.islink(path):
        absolute = path.absolute()
        return absolute.parent in (Path("/dev"), Path("/dev/fd")) or absolute.is_relative_to("/proc")
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def open_to_append(path: Path) -> TextIO:
    """Open a text file to append to it; a link is an error."""
    if os.path.islink(path):
        raise OSError(errno.ELOOP, "it is a link", str(path))
    return open(path, "a", newline="", opener=lambda name, flags: os.open(name, flags | _NO_FOLLOW, 0o666))


def _write_new(path: Path, data: bytes, synced: bool) -> None:
    """Write a file that does not exist yet; a link is an error, wherever it leads."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        if synced:
            os.fsync(file.fileno())


def replace_folder(path: Path, files: Mapping[str, bytes], beside: Mapping[str, str] | None = None) -> None:
    """Write a folder of files and their checksums under another name and rename it.

    A crash leaves the old folder or the new one; the old one may have the name under which `surviving` finds it.

    Args:
        path: Path of the folder.
        files: Contents of the files by name.
        beside: Digests of other files that belong to it, by their path relative to the folder.
    """
    aside, old = path.with_name(f".{path.name}.partial"), _old(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _discard(aside)
    try:
        aside.mkdir()  # new, so that there is no link in it
        for name, data in files.items():
            _write_new(aside / name, data, synced=True)
        # The folder's own files come last, so that a list that was cut off lacks one that is known to belong to it.
        digests = dict(beside or {}) | {name: digest(data) for name, data in files.items()}
        lines = "".join(f"{value}  {name}\n" for name, value in digests.items())
        _write_new(aside / CHECKSUMS, lines.encode(), synced=True)
        sync_folder(aside)
        if path.exists():
            _discard(old)
            path.rename(old)
            aside.rename(path)
            shutil.rmtree(old)
        else:
            aside.rename(path)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    sync_folder(path.parent)


def surviving(folder: Path) -> Path:
    """Return the folder itself, or the older one that a crash left while the folder was being replaced."""
    # os.path reports no file where a name is too long or a folder may not be searched; Path would raise.
    return _old(folder) if not os.path.exists(folder) and os.path.isdir(_old(folder)) else folder


def remove_folder(path: Path) -> None:
    """Remove a folder, so that no one finds it half removed. Of a link, only the link is removed."""
    aside = path.with_name(f".{path.name}.removed")
    _discard(aside)
    path.rename(aside)
    _discard(aside)


def tidy(folder: Path) -> None:
    """Clean up after a crash in a folder whose entries were written by the functions of this module."""
    for path in sorted(folder.glob(".*")):
        target = folder / path.stem[1:]
        if path.suffix == ".old" and not target.exists():
            path.rename(target)
        elif path.suffix in (".old", ".partial", ".removed"):
            _discard(path)


def tidy_files(folder: Path) -> None:
    """Remove what crashes of `replace_file` left in a folder that may hold files of others too."""
    for path in folder.glob(f"{_ASIDE}*.partial"):
        _discard(path)


def _discard(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def digest(data: bytes) -> str:
    """Return the SHA-256 digest of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def read_checksums(folder: Path) -> dict[str, str]:
    """Return the digests in a folder's list of checksums, by path relative to the folder.

    Raises:
        ValueError: If the file is no such list.
        OSError: If it cannot be read.
    """
    found = {}
    *lines, rest = read_regular(folder / CHECKSUMS, MOST_CHECKSUMS).decode("ascii").split("\n")
    if rest:
        raise ValueError(f"{CHECKSUMS} is cut off")
    for line in lines:
        match = re.fullmatch(r"([0-9a-f]{64})  ((?:\.\./\w+/)?\w[\w.]*)", line)
        if match is None:
            raise ValueError(f"{line[:80]!r} is no checksum")
        found[match[2]] = match[1]
    return found


def read_regular(path: Path, most: int | None = None) -> bytes:
    """Return the contents of a regular file; not of a pipe or a device, which may never end.

    Args:
        path: Path of the file.
        most: Greatest size in bytes; None for no limit.

    Raises:
        OSError: If it cannot be read, is no regular file, or is larger.
    """
    with open_regular(path) as (file, size):
        if most is not None and size > most:
            raise OSError(errno.EFBIG, f"more than {most:,} bytes", str(path))
        return file.read(size)


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 digest of a regular file, in hexadecimal, without loading it into memory.

    Raises:
        OSError: If it cannot be read, or is no regular file.
    """
    found = hashlib.sha256()
    with open_regular(path) as (file, size):
        while chunk := file.read(min(size, 2**20)):
            found.update(chunk)
            size -= len(chunk)
    return found.hexdigest()


@contextmanager
def open_regular(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file, and give its size, up to which alone it is to be read.

    Files of the kernel, such as /proc/kmsg, have size 0; their contents may never come.

    Raises:
        OSError: If it cannot be opened, or is no regular file.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # opening a device may already have an effect
        raise OSError(errno.EINVAL, "no regular file", str(path))
    with open(path, "rb", opener=_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "no regular file", str(path))
        yield file, status.st_size


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe would wait for its writer


def read_checked(folder: Path, names: Iterable[str], most: int) -> Iterator[tuple[str, bytes]]:
    """Yield name and contents of a folder's files, one at a time, after checking their digests.

    Args:
        folder: The folder.
        names: Names of the files.
        most: Greatest size of a file in bytes.

    Raises:
        ValueError: If a file is not what was written, or has no digest.
        OSError: If a file cannot be read.
    """
    digests = read_checksums(folder)
    for name in names:
        check_digest(folder, name, digests)  # before its contents take memory
        yield name, read_regular(folder / name, most)


def check_digest(folder: Path, name: str, digests: Mapping[str, str] | None = None) -> None:
    """Check the digest of a folder's file; errors as in `read_checked`.

    Args:
        folder: The folder.
        name: Name of the file.
        digests: What `read_checksums` returns, if it is known.
    """
    if (digests or read_checksums(folder)).get(name) != digest_of_file(folder / name):
        raise ValueError(f"{name} is not what was written")


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")

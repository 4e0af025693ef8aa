"""Files and folders that exist whole or not at all, and checksums to verify them."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

CHECKSUMS = "checksums.sha256"
"""Name of the file with the digests of a folder's files, in the format of `sha256sum -c`."""
MOST_CHECKSUMS = 2**24
"""Size of the largest list of checksums that is read, in bytes."""


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and flush it to the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Flush a file's contents, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes, *, synced: bool = True) -> None:
    """Write a file under another name and rename it, so that a crash leaves the old file or the new one.

    Args:
        path: Path of the file.
        data: Contents of the file.
        synced: Whether this also holds if the machine fails; otherwise only if the process does.
    """
    aside = path.with_name(f".{path.name}.partial")
    try:
        if synced:
            write_synced(aside, data)
        else:
            aside.write_bytes(data)
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)  # the disk may be full
        raise
    if synced:
        sync(path.parent)


def replace_folder(path: Path, files: Mapping[str, bytes], beside: Mapping[str, str] | None = None) -> None:
    """Write a folder of files and their checksums under another name and rename it.

    A crash leaves the old folder or the new one; the old one may have the name under which `surviving` finds it.

    Args:
        path: Path of the folder.
        files: Contents of the files by name.
        beside: Digests of other files that belong to it, by their path relative to the folder.
    """
    aside = path.with_name(f".{path.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        for name, data in files.items():
            write_synced(aside / name, data)
        # The folder's own files come last, so that a list that was cut off lacks one that is known to belong to it.
        digests = dict(beside or {}) | {name: digest(data) for name, data in files.items()}
        lines = "".join(f"{value}  {name}\n" for name, value in digests.items())
        write_synced(aside / CHECKSUMS, lines.encode())
        sync(aside)
        if path.exists():
            old = _old(path)
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
            aside.rename(path)
            shutil.rmtree(old)
        else:
            aside.rename(path)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    sync(path.parent)


def surviving(folder: Path) -> Path:
    """Return the folder itself, or the older one that a crash left while the folder was being replaced."""
    # os.path reports no file where a name is too long or a folder may not be searched; Path would raise.
    return _old(folder) if not os.path.exists(folder) and os.path.isdir(_old(folder)) else folder


def remove_folder(path: Path) -> None:
    """Remove a folder, so that no one finds it half removed."""
    aside = path.with_name(f".{path.name}.removed")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)
    shutil.rmtree(aside)


def tidy(folder: Path) -> None:
    """Clean up after a crash in a folder whose entries were written by the functions of this module."""
    for path in sorted(folder.glob(".*")):
        target = folder / path.stem[1:]
        if path.suffix == ".old" and not target.exists():
            path.rename(target)
        elif path.suffix in (".old", ".partial", ".removed"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


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
        OSError: If it cannot be read, is larger, or is no regular file.
    """
    _check_regular(path)
    if most is not None and path.stat().st_size > most:
        raise OSError(errno.EFBIG, f"more than {most:,} bytes", str(path))
    return path.read_bytes()


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 digest of a file, in hexadecimal, without loading it into memory.

    Raises:
        OSError: If it cannot be read.
    """
    _check_regular(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_regular(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "no file", str(path))


def read_checked(folder: Path, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yield name and contents of a folder's files, one at a time, after checking their digests.

    Raises:
        ValueError: If a file is not what was written, or has no digest.
        OSError: If a file cannot be read.
    """
    digests = read_checksums(folder)
    for name in names:
        if digests.get(name) != digest_of_file(folder / name):  # before its contents take memory
            raise ValueError(f"{name} is not what was written")
        yield name, read_regular(folder / name)


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")

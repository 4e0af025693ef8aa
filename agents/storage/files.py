"""Files that are there whole or not at all, and checksums that say so."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

CHECKSUMS = "checksums.sha256"
"""Digests of a folder's files, as ``sha256sum -c`` reads them."""
MOST_CHECKSUMS = 2**24
"""Bytes of the longest list of them that is read."""


def write_synced(path: Path, data: bytes) -> None:
    """Writes a file, down to the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Sees that a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes, *, synced: bool = True) -> None:
    """Writes a file aside and renames it: a crash leaves the old one or the new one.

    Without ``synced`` that holds for the process alone; a machine that fails may leave any bytes.
    """
    aside = path.with_name(f".{path.name}.partial")
    try:
        if synced:
            write_synced(aside, data)
        else:
            aside.write_bytes(data)
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)  # it would take the room that is lacking
        raise
    if synced:
        sync(path.parent)


def replace_folder(path: Path, files: Mapping[str, bytes], beside: Mapping[str, str] | None = None) -> None:
    """Writes a folder of files and their checksums aside and renames it.

    A crash leaves the old folder or the new one, the old one perhaps under the name where ``standing`` finds it.

    Args:
        path: the folder.
        files: contents by name.
        beside: digests of other files that belong to it, by their path from the folder.
    """
    aside = path.with_name(f".{path.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        for name, data in files.items():
            write_synced(aside / name, data)
        # The files stand last, so that a list that was cut off lacks one that is known to belong to it.
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


def standing(folder: Path) -> Path:
    """The folder, or the older one that a crash left in its place while it was being replaced."""
    # os.path finds no file where a name is too long or a folder may not be searched; Path would raise.
    return _old(folder) if not os.path.exists(folder) and os.path.isdir(_old(folder)) else folder


def remove_folder(path: Path) -> None:
    """Removes a folder that nobody then finds half removed."""
    aside = path.with_name(f".{path.name}.removed")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)
    shutil.rmtree(aside)


def tidy(folder: Path) -> None:
    """Puts in order what a crash left behind in a folder whose entries are written by these functions."""
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
    """The SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def read_checksums(folder: Path) -> dict[str, str]:
    """The digests that a folder's list of checksums gives, by path from the folder.

    Raises:
        ValueError: it is no such list.
        OSError: it cannot be read.
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
    """The contents of a file of at most so many bytes; a pipe or a device, which may never end, is none.

    Raises:
        OSError: it cannot be read, or is larger.
    """
    _check_regular(path)
    if most is not None and path.stat().st_size > most:
        raise OSError(errno.EFBIG, f"more than {most:,} bytes", str(path))
    return path.read_bytes()


def digest_of_file(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal, without the memory for it.

    Raises:
        OSError: it cannot be read.
    """
    _check_regular(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_regular(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "no file", str(path))


def read_checked(folder: Path, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Name and contents of files of a folder, which are as they were written, one at a time.

    Raises:
        ValueError: one is not, by its checksum, or has none.
        OSError: one cannot be read.
    """
    digests = read_checksums(folder)
    for name in names:
        if digests.get(name) != digest_of_file(folder / name):  # before memory is taken
            raise ValueError(f"{name} is not what was written")
        yield name, read_regular(folder / name)


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")

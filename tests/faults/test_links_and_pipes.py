"""Files that are written whole and never through a link, and read only where they are files."""

import errno
import os
import sys
import time
from pathlib import Path

import pytest

from pixelq.agents.storage import files
from pixelq.agents.storage.files import (
    digest_of_file,
    is_stream,
    open_to_append,
    read_regular,
    remove_folder,
    replace_file,
    replace_folder,
    sync_folder,
    tidy_files,
)


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A folder with a file that no one may change."""
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "file").write_text("mine")
    return folder


def test_a_link_is_replaced_and_not_followed(precious: Path, tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.symlink_to(precious / "file")
    (tmp_path / ".table.partial").symlink_to(precious / "file")
    replace_file(path, b"new")
    assert (path.read_bytes(), path.is_symlink()) == (b"new", False)
    assert (precious / "file").read_text() == "mine"
    (tmp_path / "rows").symlink_to(precious / "file")
    with pytest.raises(OSError, match="it is a link"), open_to_append(tmp_path / "rows"):
        pass
    assert sorted(os.listdir(tmp_path)) == [".table.partial", "precious", "rows", "table"]


def test_the_name_of_a_file_that_is_written_cannot_be_foreseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(Path, "replace", lambda self, _: seen.append(self))
    replace_file(tmp_path / "file", b"1")
    replace_file(tmp_path / "file", b"2")
    assert len({path.name for path in seen}) == 2
    assert [path.read_bytes() for path in seen] == [b"1", b"2"]
    monkeypatch.setattr(os, "urandom", lambda count: b"\0" * count)
    with pytest.raises(FileExistsError):  # even if it could be
        replace_file(tmp_path / "file", b"3") or replace_file(tmp_path / "file", b"4")
    (tmp_path / ".mine.partial").write_text("mine")
    tidy_files(tmp_path)
    assert os.listdir(tmp_path) == [".mine.partial"]


def test_folders_are_not_written_or_removed_through_links(precious: Path, tmp_path: Path) -> None:
    for name in (".folder.partial", ".folder.old", ".folder.removed"):
        (tmp_path / name).symlink_to(precious)
    for data in (b"1", b"2"):
        replace_folder(tmp_path / "folder", {"file": data})
        assert (tmp_path / "folder" / "file").read_bytes() == data
    remove_folder(tmp_path / "folder")
    (tmp_path / "link").symlink_to(precious)
    remove_folder(tmp_path / "link")
    assert os.listdir(tmp_path) == ["precious"]
    assert (precious / "file").read_text() == "mine"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    replace_file(tmp_path / "pipe", b"figures")
    assert os.read(reader, 100) == b"figures"
    os.close(reader)
    assert os.listdir(tmp_path) == ["pipe"]


def test_only_the_system_s_own_links_lead_to_devices(tmp_path: Path) -> None:
    assert all(is_stream(Path(path)) for path in ("/dev/null", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"))
    (tmp_path / "link").symlink_to("/dev/null")
    (tmp_path / "file").write_text("")
    assert not any(is_stream(path) for path in (tmp_path, tmp_path / "file", tmp_path / "link", tmp_path / "nothing"))


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    begun = time.monotonic()
    for read in (read_regular, digest_of_file):
        for path in (tmp_path / "pipe", tmp_path / "link", Path("/dev/zero"), tmp_path):
            with pytest.raises(OSError, match=r"no regular file"):
                read(path)
    assert time.monotonic() - begun < 5
    (tmp_path / "file").write_bytes(b"12345")
    assert read_regular(tmp_path / "file", 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_regular(tmp_path / "file", 4)


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(os.path, "isfile", lambda _: True)  # it was one a moment ago
    with pytest.raises(OSError, match="no regular file"):
        read_regular(tmp_path / "pipe")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_files_of_the_kernel_have_no_contents() -> None:
    """Otherwise /proc/kmsg would be waited for until the kernel says something."""
    path = Path("/proc/uptime")
    assert path.read_bytes() != b""
    assert read_regular(path) == b""
    assert digest_of_file(path) == files.digest(b"")


def test_disks_that_flush_no_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(code: int) -> None:
        def fsync(_: int) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "fsync", fsync)

    refuse(errno.EINVAL)
    sync_folder(tmp_path)
    refuse(errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        sync_folder(tmp_path)

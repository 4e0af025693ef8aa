"""Disks that are full, damaged or read-only: a run ends with a sentence, loses nothing that was whole, and goes on."""

import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pixelq.agents import DQN, InvalidCheckpoint
from pixelq.agents.runs.checkpoints import newest_checkpoint
from pixelq.agents.storage.files import read_checksums
from pixelq.agents.storage.pointers import checkpoint_folder
from tests.support.cases import IS_FULL, representative
from tests.support.runs import AT_THE_END, BLOCKS, COMPLETED, Ended, Harness, assert_same, copied, train, unfinished

AGENT = {"agent.json", "network.safetensors", "learner.safetensors"}


def mount(*words: str) -> Callable[[], Any]:
    """Mounts something where that is permitted, and returns what undoes it."""
    try:
        done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(str(error))
    if done.returncode != 0:
        pytest.skip(done.stderr.strip())
    return lambda: subprocess.run(["umount", words[-1]], check=True)


def assert_unwritable(ended: Ended, out: Path) -> None:
    assert ended.code == 1, ended
    assert "Traceback" not in ended.err
    assert ended.err.splitlines()[-1].startswith(f"pixelq train: {out} can no longer be written ("), ended.err
    assert "--resume continues when it can" in ended.err.splitlines()[-1]
    assert unfinished(out) == []


# --- full -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "call", "size", "at"),
    [
        ("RunCheckpoints.write", 4, 20_000, 12),  # the learner's file is longer
        pytest.param("RunCheckpoints.write", 4, 500, 12, marks=pytest.mark.slow),  # all are
        pytest.param("RunFolder._append", 3, 600, 40, marks=pytest.mark.slow),  # the events are
        ("RunFolder.add_evaluation", 1, 100, 50),  # the tables are
        pytest.param(*AT_THE_END.values(), 0, 120, marks=pytest.mark.slow),  # what is written after the last checkpoint
    ],
)
def test_files_that_cannot_grow(
    harness: Harness, whole: Path, tmp_path: Path, method: str, call: int, size: int, at: int
) -> None:
    out = tmp_path / "run"
    ended = harness.run(train(out), BLOCKS, ["limit_files", {"method": method, "call": call, "size": size}])
    assert_unwritable(ended, out)
    newest = newest_checkpoint(out / "checkpoints", pytest.fail)
    assert newest is not None
    assert checkpoint_folder(out / "checkpoints" / "latest") == newest
    assert at <= DQN.load(newest, "cpu").step <= at + 1
    ended = harness.run(train(out, resume=True), BLOCKS)
    assert ended.code == 0, ended.err
    assert_same(whole, out)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    unmount = mount("-t", "tmpfs", "-o", "size=3m", "none", str(path))
    yield path
    unmount()


@pytest.mark.parametrize("room", representative([0, 30_000, 60_000], keep=[30_000]))
def test_a_full_disk(harness: Harness, whole: Path, disk: Path, room: int) -> None:
    out, filler = disk / "run", disk / "filler"
    ended = harness.run(
        train(out),
        BLOCKS,
        ["fill_disk", {"method": "RunCheckpoints.write", "call": 6, "path": str(filler), "room": room}],
    )
    assert_unwritable(ended, out)
    assert "(No space left on device), at step " in ended.err
    newest = newest_checkpoint(out / "checkpoints", pytest.fail)
    assert f"; the last good checkpoint is {out / 'checkpoints' / 'latest'}" in ended.err
    assert newest == checkpoint_folder(out / "checkpoints" / "latest")
    ended = harness.run(train(out, resume=True), BLOCKS)  # while there is no room yet
    assert_unwritable(ended, out)
    assert newest_checkpoint(out / "checkpoints", pytest.fail) == newest
    filler.unlink()
    assert harness.run(train(out, resume=True), BLOCKS).code == 0
    assert_same(whole, out)


def test_a_disk_that_is_full_after_the_last_step(harness: Harness, whole: Path, disk: Path) -> None:
    out, filler = disk / "run", disk / "filler"
    ended = harness.run(train(out), BLOCKS, ["fill_disk", AT_THE_END | {"path": str(filler), "room": 0}])
    assert_unwritable(ended, out)
    assert "(No space left on device), after the last step" in ended.err
    filler.unlink()
    assert harness.run(train(out, resume=True), BLOCKS).code == 0
    assert_same(whole, out)


# --- damaged ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two(harness: Harness, stopped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run killed as the newest of its two checkpoints was written, with a block that the other does not need."""
    out = copied(stopped, tmp_path_factory.mktemp("two") / "run")
    fault = {"method": "RunCheckpoints.write", "call": 4, "at": 10**6}
    assert harness.run(train(out, resume=True), BLOCKS, ["die_in", fault]).code == COMPLETED
    return out


def checkpoints(run: Path) -> tuple[Path, Path]:
    """The newest checkpoint and the one before it."""
    found = sorted((run / "checkpoints").glob("step_*"))
    return found[-1], found[-2]


def damages(data: bytes, draw: random.Random, most: int) -> Iterator[bytes]:
    """The same with one byte changed, and cut off: anywhere in a short file, at some places of a long one."""
    yield b""
    everywhere = range(len(data))
    for at in everywhere if len(data) <= 10 * most else draw.sample(everywhere, most):
        yield data[:at] + bytes([data[at] ^ draw.randrange(1, 256)]) + data[at + 1 :]
        yield data[:at]
    yield data[:-1]
    yield data + b"\n"


def test_a_checkpoint_with_any_byte_changed_or_cut_off_is_passed_over(two: Path, tmp_path: Path) -> None:
    run, draw = copied(two, tmp_path / "run"), random.Random(5)
    newest, before = checkpoints(run)
    assert newest_checkpoint(run / "checkpoints", pytest.fail) == newest
    own = {name: newest / name for name in read_checksums(newest)} | {"checksums.sha256": newest / "checksums.sha256"}
    shared = [name for name in own if name in read_checksums(before) and name.startswith("..")]
    assert shared == ["../replay/rows_000000000017.zst"]
    assert len(own) == 9
    for name, path in own.items():
        data, said = path.read_bytes(), list[str]()
        for damaged in damages(data, draw, 300 if IS_FULL else 15):
            path.write_bytes(damaged)
            where = f"{name} with {len(damaged)} of {len(data)} bytes, {damaged!r}"
            if name in shared:
                said.clear()
                assert newest_checkpoint(run / "checkpoints", said.append) == newest, where
                assert said == [
                    f"{newest} cannot be resumed ({name} is not what was written), nor any other checkpoint of the "
                    "run; going on from it with an empty replay"
                ]
                continue
            said.clear()
            assert newest_checkpoint(run / "checkpoints", said.append) == before, where
            assert len(said) == 1, where
            assert said[0].startswith(f"{newest} cannot be resumed ("), where
            assert said[0].endswith(f"; going back to {before.name}"), where
            if name in AGENT:
                with pytest.raises(InvalidCheckpoint, match=f"{newest} is damaged .{name} is not what was written"):
                    DQN.load(newest, "cpu")
        path.unlink()
        if name not in shared:
            assert newest_checkpoint(run / "checkpoints", said.append) == before
        path.write_bytes(data)
    assert newest_checkpoint(run / "checkpoints", pytest.fail) == newest


@pytest.mark.parametrize(
    "name",
    representative(
        ["network.safetensors", "rows.zst", "../replay/rows_000000000034.zst"], keep=["network.safetensors"]
    ),
)
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(
    harness: Harness, whole: Path, two: Path, tmp_path: Path, name: str
) -> None:
    run = copied(two, tmp_path / "run")
    newest, before = checkpoints(run)
    data = bytearray((newest / name).read_bytes())
    data[len(data) // 2] ^= 1
    (newest / name).write_bytes(data)
    ended = harness.run(train(run, resume=True), BLOCKS)
    assert ended.code == 0, ended.err
    said = f"pixelq train: {newest} cannot be resumed ({name} is not what was written); going back to {before.name}\n"
    assert ended.err.startswith(said)
    assert_same(whole, run)


# --- read-only --------------------------------------------------------------------------------------------------------


def test_a_read_only_file_system(harness: Harness, whole: Path, stopped: Path, tmp_path: Path) -> None:
    writable, folder = tmp_path / "writable", tmp_path / "read-only"
    copied(stopped, writable / "stopped")
    copied(whole, writable / "whole")
    folder.mkdir()
    unmount = mount("--bind", str(writable), str(folder))
    try:
        mount("-o", "remount,ro,bind", str(folder))
        commands = [train(folder / "new"), train(folder / "stopped", resume=True)]
        commands += [[*train(folder / "whole", resume=True), "--steps", "200"]]
        for command in commands:
            ended = harness.run(command, BLOCKS)
            assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended
            assert "cannot be written (Read-only file system); use another --out" in ended.err
        for run in ("whole", "stopped"):
            ended = harness.run(["evaluate", str(folder / run), "--episodes", "2", "--device", "cpu"])
            assert (ended.code, ended.err) == (0, ""), ended
            assert "2 episodes" in ended.out
    finally:
        unmount()

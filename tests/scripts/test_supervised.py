"""Commands under supervision: whatever they do, they end in time, with a short log, and leave no process."""

import os
import signal
import time
from pathlib import Path

import pytest

from pixelq.scripts.benchmarks import supervised
from pixelq.scripts.benchmarks.supervised import Ended, supervise

CHILDREN = "sleep 300 & setsid sleep 300 & echo $!"
"""One that stays in the command's group, and one that leaves it, whose number is printed."""


@pytest.fixture(autouse=True)
def asked_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised, "ASKED_EVERY", 0.0)
    monkeypatch.setattr(supervised, "POLL", 0.02)


def run(tmp_path: Path, script: str, seconds: float = 60.0, **options: object) -> tuple[Ended, str]:
    log = tmp_path / "log.txt"
    ended = supervise(["sh", "-c", script], log, seconds, **options)  # type: ignore[arg-type]
    assert supervised._marked() == []
    return ended, log.read_text()


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended may wait for its parent to look."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


@pytest.mark.linux
@pytest.mark.parametrize(
    ("end", "seconds", "code", "why"),
    [
        ("exit 0", 60.0, 0, None),
        ("exit 3", 60.0, 3, "exit code 3; see log.txt"),
        ("kill -9 $$", 60.0, -9, "killed by SIGKILL, maybe for want of memory"),
        ("kill -SEGV $$", 60.0, -11, "killed by SIGSEGV"),
        ("sleep 300", 0.3, -15, "stopped after 0.3 s"),
        (
            "trap '' TERM; sleep 300; sleep 300",
            0.3,
            -9,
            "stopped after 0.3 s; did not end within 0.5 s of being asked to",
        ),
    ],
)
def test_no_end_leaves_a_process(tmp_path: Path, end: str, seconds: float, code: int, why: str | None) -> None:
    start = time.monotonic()
    ended, log = run(tmp_path, f"{CHILDREN}; {end}", seconds, patience=0.5)
    assert (ended.exit_code, ended.why, ended.was_stopped) == (code, why, seconds < 1)
    assert time.monotonic() - start < 30
    assert not is_running(int(log))


@pytest.mark.linux
def test_an_exception_here_leaves_no_process(tmp_path: Path) -> None:
    def fails() -> bool:
        raise KeyboardInterrupt

    log = tmp_path / "log.txt"
    with pytest.raises(KeyboardInterrupt):
        supervise(["sh", "-c", f"{CHILDREN}; sleep 300"], log, 60.0, is_done=lambda: log.stat().st_size > 0 and fails())
    assert not is_running(int(log.read_text()))
    assert supervised._marked() == []


@pytest.mark.linux
def test_a_command_that_is_done_is_asked_to_end(tmp_path: Path) -> None:
    script = "trap 'echo in good order; exit 130' INT; touch done; while true; do sleep 0.05; done"
    done = tmp_path / "done"
    ended, log = run(
        tmp_path, script.replace("done;", f"{done};", 1), is_done=done.exists, stop=signal.SIGINT, patience=30.0
    )
    assert log == "in good order\n"
    assert (ended.exit_code, ended.was_stopped, ended.why) == (130, True, None)
    assert ended.seconds < 30


def test_a_log_keeps_its_beginning_and_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised, "MOST_LOG", 1000)
    monkeypatch.setattr(supervised, "CHUNK", 100)
    ended, log = run(tmp_path, "echo first; i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done; echo last")
    assert ended.exit_code == 0
    assert log.startswith("first\n0\n1\n2\n")
    assert log.endswith("\n2998\n2999\nlast\n")
    assert "bytes left out]" in log
    assert 2000 <= len(log) < 2400
    left_out = int(log.partition("\n[")[2].partition(" ")[0].replace(",", ""))
    whole = "first\n" + "".join(f"{i}\n" for i in range(3000)) + "last\n"
    assert left_out == len(whole) - (len(log) - len(f"\n[{left_out:,} bytes left out]\n"))


def test_a_short_log_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised, "MOST_LOG", 10)
    assert run(tmp_path, "printf 0123456789abcdef")[1] == "0123456789abcdef"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    ended = supervise(["sh", "-c", "head -c 300000 /dev/zero"], Path("/dev/full"), 60.0)
    assert ended.exit_code == 0

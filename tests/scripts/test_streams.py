"""What is printed, whatever standard output and standard error are: no work is lost for it."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pixelq.agents.errors import LONGEST_SENTENCE
from pixelq.scripts.main import main
from pixelq.scripts.streams import LastingStream
from tests.support.runs import TINY, run_here, words

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("streams") / "run"
    assert run_here(["train", *words(TINY, out=out)]).code == 0
    return out


def failing_stream(kind: str) -> Any:
    if kind == "none":
        return None
    stream = FULL.open("w") if kind == "full" else io.TextIOWrapper(io.BytesIO())
    if kind == "closed":
        stream.close()
    return stream


@needs_full
@pytest.mark.parametrize(("kind", "why"), [("full", "No space left on device"), ("closed", "Bad file descriptor")])
@pytest.mark.parametrize("arguments", [["presets"], ["train", "--help"], [], ["--version"], ["evaluate", "--list"]])
def test_output_that_cannot_be_printed_is_one_line(
    arguments: list[str], kind: str, why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", failing_stream(kind))
    assert main(arguments) == 1
    name = " ".join(["pixelq", *arguments[:1]]) if arguments not in ([], ["--version"]) else "pixelq"
    assert capsys.readouterr().err == f"{name}: standard output cannot be written ({why})\n"


@needs_full
@pytest.mark.parametrize("kind", ["full", "closed", "none"])
def test_the_work_is_done_where_output_cannot_be_printed(
    kind: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = [
        ["evaluate", str(trained), "--episodes", "2", "--device", "cpu", "--json", str(tmp_path / "figures.json")],
        ["evaluate", str(trained), "--episodes", "2", "--device", "cpu", "--json"],
    ]
    if kind == "full":
        commands.append(["train", *words(TINY, out=tmp_path / "run")])
    for command in commands:
        monkeypatch.setattr(sys, "stdout", failing_stream(kind))
        assert main(command) == 1
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"pixelq {command[0]}: standard output cannot be")
    if kind == "full":
        assert json.loads((tmp_path / "run" / "final_evaluation.json").read_text())["episodes"] == 2
    assert len(json.loads((tmp_path / "figures.json").read_text())["returns"]) == 2


@needs_full
def test_errors_keep_their_code_where_nothing_can_be_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("full", "closed", "none"):
        monkeypatch.setattr(sys, "stdout", failing_stream(kind))
        monkeypatch.setattr(sys, "stderr", failing_stream(kind))
        assert main(["train", "--stepz"]) == 2
        assert main(["presets"]) == 1


@needs_full
def test_figures_that_cannot_be_written_are_one_line(trained: Path) -> None:
    for file, code, said in (
        ("/dev/full", 1, "the figures cannot be written to /dev/full (No space left on device); what is printed above"),
        ("/dev/full/x", 2, "/dev/full/x cannot be written ("),
    ):
        ended = run_here(["evaluate", str(trained), "--episodes", "2", "--device", "cpu", "--json", file])
        assert ended.err.startswith(f"pixelq evaluate: {said}")
        assert ended.err.count("\n") == 1
        assert ended.code == code
        assert bool(ended.out) == (code == 1)  # what the sentence says is printed


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-16"])
def test_any_encoding_serves(encoding: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = [
        ["presets"],
        ["train", "--help"],
        *([["train", *words(TINY, out=tmp_path / "run-ε")]] if encoding == "ascii" else []),
        ["evaluate", str(trained), "--episodes", "2", "--device", "cpu"],
        ["evaluate", "--list"],
    ]
    for command in commands:
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        assert main(command) == 0
        printed = [stream.buffer.getvalue().decode(encoding) for stream in (out, err)]
        assert "Traceback" not in printed[1]
        assert len(printed[0]) > 50
        if command[1:] == ["--help"]:
            assert f"{'ε' if encoding == 'utf-16' else '?'} decays from here on" in printed[0]
    assert (tmp_path / "run-ε" / "final_evaluation.json").exists() == (encoding == "ascii")


def test_characters_that_an_encoding_lacks_become_question_marks() -> None:
    buffer = io.BytesIO()
    stream = LastingStream(io.TextIOWrapper(buffer, encoding="cp1252"))
    stream.write("ε of Mnih – 2015 ± γ\n")
    stream.flush()
    assert (buffer.getvalue().decode("cp1252"), stream.error) == ("? of Mnih – 2015 ± ?\n", None)
    odd = LastingStream(io.TextIOWrapper(buffer := io.BytesIO(), encoding="utf-8"))
    odd.write("\udcff\n")  # part of a path that is not UTF-8
    odd.flush()
    assert buffer.getvalue() == b"?\n"


@pytest.mark.linux
def test_no_file_takes_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    program = """
import os, sys
from pixelq.scripts.streams import lasting_streams
with lasting_streams():
    os.write(2, str(open("file", "w").fileno()).encode())
"""
    command = f"exec {sys.executable} -c '{program}' <&- >&-"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, int(done.stderr) > 2) == (0, True)


def test_a_reader_who_leaves_does_not_stop_the_work(trained: Path, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    json_file = tmp_path / "figures.json"
    command = ["evaluate", str(trained), "--episodes", "2", "--device", "cpu", "--json", str(json_file)]
    with open(write, "w") as out, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        assert main(command) == 1
    assert json.loads(json_file.read_text())["episodes"] == 2


@pytest.mark.parametrize("value", ["x[/red]", "x" * 10_000, "\x1b]0;title\x07\nb"])
def test_errors_are_one_short_printable_line(value: str) -> None:
    commands = [
        [value],
        ["train", value],
        ["train", f"--{value}", "1"],
        ["train", "--steps", value],
        ["train", "--preset", value],
        ["train", "--protocol", value],
        ["train", "--env", value],
        ["train", "--resume", "--out", value],
        ["evaluate", value],
        ["report", value],
        ["compare", value],
    ]
    for command in commands:
        ended = run_here(command)
        assert ended.code == 2, (command, ended.err)
        assert ended.err.startswith("pixelq")
        assert ended.err[:-1].isprintable(), command
        assert len(ended.err) <= LONGEST_SENTENCE + 20


def test_a_disk_that_fails_unexpectedly_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any) -> None:
        raise OSError(28, "No space left on device", "some/file")

    monkeypatch.setattr("pixelq.scripts.presets.main", fail)
    ended = run_here(["presets"])
    assert ended == (1, "", "pixelq presets: some/file cannot be written or read (No space left on device)\n")


def test_other_errors_are_shown_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("pixelq.scripts.presets.main", fail)
    with pytest.raises(ZeroDivisionError):
        main(["presets"])

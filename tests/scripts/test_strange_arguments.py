"""Paths and names on the command line that lead nowhere, or hold what a terminal would obey."""

from pathlib import Path

import pytest

from pixelq.scripts.main import main

DEEP = "a/" * 2000 + "a"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["evaluate", DEEP], "more than 500 folders"),
        (["report", "run", "--out", f"{DEEP}/page.html"], "more than 500 folders"),
        (["train", "--env", "pixelq/Catch-v0", "--out", DEEP], "more than 500 folders"),
        (["evaluate", "x" * 100_000], "too long"),
        (["evaluate", "loop"], "symbolic links"),
        (["report", "loop/run"], "symbolic links"),
        (["watch", "loop"], "symbolic links"),
        (["evaluate", "x[/red]"], "x[/red] does not exist"),
        (["evaluate", "\x1b[2Jred\n"], r"\x1b[2Jred"),
        (["compare", "x[/red]"], "x[/red]"),
        (["train", "--env", "x[/red]"], "'x[/red]'"),
        (["train", "--preset", "\x1b[2J" + "x" * 10_000], "unknown preset"),
        (["train", "--import", "no_such_module"], "'no_such_module' cannot be imported"),
        (["evaluate", "run", "--import", "../escaped"], "cannot be imported"),
    ],
    ids=lambda value: f"{value[0]} {value[-1][:10]!a}" if isinstance(value, list) else "",
)
def test_the_answer_is_one_short_printable_line(
    arguments: list[str],
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n"), err[-1]) == ("", 1, "\n")
    assert why in err
    assert err[:-1].isprintable()
    assert len(err) <= 530
    assert [path.name for path in tmp_path.iterdir()] == ["loop"]

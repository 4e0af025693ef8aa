"""`pixelq status`: how far runs are, from their files."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelq.agents.runs import tables
from pixelq.agents.runs.progress import PROGRESS, SILENT_SECONDS, Progress
from pixelq.agents.runs.tables import last_row
from tests.support.report_runs import EVERY, STEPS, level, with_cells, write_run
from tests.support.runs import run_here

NOW = Progress(
    "training", 0.0, 510_000, 1_000_000, 2_040_000, 104, 127_500, 0.05, 88.4, 5_570.0, 5_100.0, (1.5, -2.0), (30, 41)
)


def say(run: Path, **changes: Any) -> Path:
    """Write a current progress.json."""
    (run / PROGRESS).write_text(json.dumps(asdict(NOW) | {"written": time.time()} | changes))
    return run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run on Pong that has taken half of its million steps, with its best evaluation in the middle."""
    path = with_cells(write_run(tmp_path / "run", is_finished=False), "evaluations", {"mean": "99.5"}, row=2)
    return say(with_cells(path, "metrics", {"return_mean_100": "-3.25"}))


def line_of(run: Path) -> list[str]:
    """The cells of a run's line, which has those of its evaluations last."""
    ended = run_here(["status", str(run)])
    assert (ended.code, ended.err) == (0, "")
    heading, line = ended.out.splitlines()
    assert heading.split() == "run state step of % steps/s left return evaluation best".split()
    return line.split()


def test_a_line_says_how_far_a_run_is(run: Path) -> None:
    last = f"{level(10.0, STEPS):.1f} at {STEPS:,}".split()
    best = f"99.5 at {3 * EVERY:,}".split()
    cells = [str(run), "training", "510,000", "1,000,000", "51%", "88", "1", "h", "33", "min", "-3.2", *last, *best]
    assert line_of(run) == cells


@pytest.mark.parametrize(
    ("changes", "state", "left"),
    [
        ({"age": SILENT_SECONDS / 2}, "training", "93 min"),
        ({"phase": "evaluating", "seconds_left": 30.0}, "evaluating", "30 s"),
        ({"age": SILENT_SECONDS + 1}, "silent", "-"),
        ({"phase": "stopped", "age": 1e9}, "stopped", "-"),
        ({"phase": "failed"}, "failed", "-"),
        ({"phase": "finished", "step": 1_000_000, "seconds_left": 0.0}, "finished", "-"),
    ],
)
def test_time_is_left_while_it_runs(run: Path, changes: dict[str, Any], state: str, left: str) -> None:
    cells = line_of(say(run, written=time.time() - changes.get("age", 0.0), **changes))
    assert cells[1] == state
    assert " ".join(cells[6:-7]) == {"93 min": "1 h 33 min"}.get(left, left)


@pytest.mark.parametrize(
    ("stopped", "state", "of"),
    [
        ({"step": 300, "callback": "StopAtScore", "why": "enough"}, "stopped by StopAtScore", "500,000 60%"),
        ({"step": 300, "callback": None, "why": "enough"}, "stopped", "500,000 60%"),
        ({"step": "300", "callback": "StopAtScore"}, "finished", "300,000 100%"),  # damaged
    ],
)
def test_a_run_that_a_callback_stopped_says_so(run: Path, stopped: dict[str, Any], state: str, of: str) -> None:
    path = say(run, phase="finished", step=300_000, steps=300_000) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"stopped": stopped}))
    assert " ".join(line_of(run)[1:]).startswith(f"{state} 300,000 {of} ")
    (found,) = json.loads(run_here(["status", str(run), "--json"]).out)
    assert found["state"] == "finished"
    assert found["stopped"] == (None if state == "finished" else stopped)


def test_json_has_every_figure(run: Path, tmp_path: Path) -> None:
    ended = run_here(["status", str(run), "--json"])
    assert (ended.code, ended.err) == (0, "")
    (found,) = json.loads(ended.out)
    assert time.time() - found.pop("written") < 60
    assert found == {
        "run": str(run),
        "env": "ALE/Pong-v5",
        "state": "training",
        "step": 510_000,
        "steps": 1_000_000,
        "steps_per_second": 88.4,
        "seconds_left": 5_570.0,
        "wall_seconds": 5_100.0,
        "last_return": -3.25,
        "last_evaluation": {"step": STEPS, "mean": level(10.0, STEPS)},
        "best_evaluation": {"step": 3 * EVERY, "mean": 99.5},
        "stopped": None,
        "problem": None,
    }
    assert run_here(["status", str(run), "--json", str(tmp_path / "status.json")]) == (0, "", "")
    assert json.loads((tmp_path / "status.json").read_text())[0]["step"] == 510_000


def test_a_folder_of_runs_has_a_line_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b", "a"):
        write_run(tmp_path / "runs" / name, is_finished=False)
    (tmp_path / "runs" / "notes").mkdir()
    (tmp_path / "runs" / "file").touch()
    monkeypatch.chdir(tmp_path)
    ended = run_here(["status"])
    assert (ended.code, ended.err) == (0, "")
    # Without progress.json the tables tell: the configuration's steps are taken.
    assert [line.split()[:5] for line in ended.out.splitlines()[1:]] == [
        [f"runs/{name}", "finished", f"{STEPS:,}", f"{STEPS:,}", "100%"] for name in ("a", "b")
    ]


def test_what_cannot_be_read_is_a_sentence_and_the_others_are_shown(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    broken = write_run(tmp_path / "broken")
    (broken / "config.json").write_text("{")
    ended = run_here(["status", *(str(tmp_path / name) for name in ("empty", "missing", "broken", "run"))])
    assert ended.code == 2
    assert [line.split()[0] for line in ended.out.splitlines()] == ["run", str(run)]
    assert [line.split(";")[0].split(" (")[0] for line in ended.err.splitlines()] == [
        f"pixelq status: no run in {tmp_path / 'empty'}",
        f"pixelq status: no run in {tmp_path / 'missing'}",
        f"pixelq status: {broken} is damaged",
    ]


def test_the_tables_stand_in_for_a_damaged_progress_file(run: Path) -> None:
    (run / PROGRESS).write_text("{")
    ended = run_here(["status", str(run)])
    assert (ended.code, ended.out.splitlines()[1].split()[1:3]) == (2, ["finished", f"{STEPS:,}"])
    assert ended.err == f"pixelq status: {run / PROGRESS} is damaged; what is said of the run is from its tables\n"


def test_figures_that_are_not_finite_are_left_out(run: Path) -> None:
    with_cells(with_cells(run, "metrics", {"return_mean_100": "nan"}), "evaluations", {"mean": "inf"})
    (found,) = json.loads(run_here(["status", str(run), "--json"]).out)
    assert (found["last_return"], found["last_evaluation"], found["best_evaluation"]["mean"]) == (
        None,
        {"step": STEPS, "mean": None},
        None,
    )


@given(rows=st.lists(st.text("abc", min_size=0, max_size=9), max_size=12), rest=st.sampled_from(["", "7", "8,x", "9,"]))
def test_the_last_row_is_that_of_the_whole_table(rows: list[str], rest: str, tmp_path_factory: Any) -> None:
    """Also where only the table's end is read, and a row is being written."""
    path = tmp_path_factory.mktemp("table") / "table.csv"
    path.write_text("step,text\n" + "".join(f"{step},{text}\n" for step, text in enumerate(rows)) + rest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "LAST_BYTES", 20)  # the longest row, and what follows it
        found = last_row(path)
    assert found == ({"step": str(len(rows) - 1), "text": rows[-1]} if rows else {})

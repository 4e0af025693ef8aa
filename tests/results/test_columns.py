"""Tables of runs as arrays: odd values, long tables, and what is refused."""

import os
from pathlib import Path

import numpy as np
import pytest

from pixelq.agents import InvalidRun
from pixelq.agents.results.records import read_groups
from pixelq.agents.runs import columns
from pixelq.agents.runs.columns import read_columns
from tests.support.report_runs import with_cells, write_run


@pytest.mark.parametrize("cell", ["inf", "-inf", "nan", "1e308", "-1e101"])
def test_numbers_that_cannot_be_drawn_are_none(tmp_path: Path, cell: str) -> None:
    run = with_cells(write_run(tmp_path / "run"), "metrics", dict.fromkeys(("loss", "updates", "wall_seconds"), cell))
    found = read_columns(run, "metrics")
    assert [np.isnan(found[name]).sum() for name in ("loss", "updates", "wall_seconds", "q_mean")] == [1, 1, 1, 0]
    (group,) = read_groups([run])
    assert np.isnan(group.runs[0].seconds)


def test_a_long_table_keeps_its_means_and_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run")
    header = (run / "metrics.csv").read_text().splitlines()[0]
    rng = np.random.default_rng(0)
    rows, episodes = [], 0
    for i in range(1, 1001):
        ended = int(rng.integers(0, 3))
        episodes += ended
        value = f"{rng.uniform(-5, 5):.3f}" if ended else ""
        loss = f"{rng.uniform():.3f}" if i > 100 else ""
        rows.append(f"{10 * i},{40 * i},{episodes},{value},{value},7,{loss},0.5,0.1,{i},100,{i},0,,{value}")
    (run / "metrics.csv").write_text("\n".join([header, *rows]) + "\n")
    whole = read_columns(run, "metrics")
    monkeypatch.setattr(columns, "MOST_ROWS", 30)
    thin = read_columns(run, "metrics")
    assert 30 <= len(thin["step"]) < 2 * 30 + 30

    def total(found: columns.Columns) -> float:
        return float(np.nansum(np.diff(found["episodes"], prepend=0.0) * found["return_mean"]))

    assert total(thin) == pytest.approx(total(whole))
    assert np.nanmean(thin["loss"]) == pytest.approx(np.nanmean(whole["loss"]), abs=0.05)
    assert [thin[name][-1] for name in ("step", "frames", "episodes", "wall_seconds")] == [
        10_000,
        40_000,
        episodes,
        1000,
    ]
    assert (np.nanmin(thin["length_mean"]), np.nanmax(thin["length_mean"])) == (7, 7)


def test_of_many_evaluations_every_second_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run")
    monkeypatch.setattr(columns, "MOST_ROWS", 2)
    assert read_columns(run, "evaluations")["step"].tolist() == [200_000, 400_000, 500_000]


def test_a_line_that_is_half_written_is_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    path = run / "evaluations.csv"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n") + b"600000,10,1,1,1")
    assert read_columns(run, "evaluations")["step"].tolist() == [100_000, 200_000, 300_000, 400_000, 500_000]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"mean": "many"}, "evaluations.csv is damaged .mean is 'many'.; repair or remove that line"),
        ({"episodes": "1.5"}, "evaluations.csv is damaged .episodes is '1.5'."),
        ({"ci95_low": ""}, "evaluations.csv is damaged .ci95_low is ''."),
    ],
)
def test_what_is_no_number_is_refused(tmp_path: Path, cells: dict[str, str], message: str) -> None:
    run = with_cells(write_run(tmp_path / "run"), "evaluations", cells)
    with pytest.raises(InvalidRun, match=message):
        read_columns(run, "evaluations")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\n", b"step,mean\n1,2\n"])
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes) -> None:
    run = write_run(tmp_path / "run")
    (run / "metrics.csv").write_bytes(content)
    with pytest.raises(InvalidRun, match="give another run"):
        read_columns(run, "metrics")


@pytest.mark.parametrize("table", ["metrics", "evaluations"])
def test_only_regular_files_are_read_and_no_more_than_their_size(tmp_path: Path, table: str) -> None:
    """Of a file of the kernel, whose size is 0, nothing is read: of some, such as /proc/kmsg, it may never come."""
    run = write_run(tmp_path / "run")
    path = run / f"{table}.csv"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InvalidRun, match="no regular file"):
        read_columns(run, table)
    if Path("/proc/uptime").exists():
        path.unlink()
        path.symlink_to("/proc/uptime")
        with pytest.raises(InvalidRun, match=f"{table}.csv is empty"):
            read_columns(run, table)

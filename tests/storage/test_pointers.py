"""The best and the latest checkpoint of a run: pointers, and what serves where they are missing."""

from pathlib import Path

import pytest

from pixelq.agents.storage.pointers import (
    best_evaluation,
    checkpoint_folder,
    evaluations_of,
    marked,
    point,
    step_folders,
    step_of,
)

STEPS = (70, 9_999_999_999, 10_000_000_000, 123_456_789_012)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """Folders of checkpoints, with steps of up to twelve digits."""
    folder = tmp_path / "run" / "checkpoints"
    for step in STEPS:
        (folder / f"step_{step:010d}").mkdir(parents=True)
    return folder


def evaluate(checkpoints: Path, *rows: str) -> None:
    (checkpoints.parent / "evaluations.csv").write_text("\n".join(["step,episodes,mean", *rows, ""]))


def step(folder: Path | None) -> int | None:
    return None if folder is None else step_of(folder)


def test_checkpoints_are_ordered_by_number(checkpoints: Path) -> None:
    for name in ("step_1", "step_x", "step_00000000070", "step_" + "9" * 19, ".step_0000000071.partial"):
        (checkpoints / name).mkdir()
    (checkpoints / "step_0000000072").write_text("no folder")
    assert [step_of(folder) for folder in step_folders(checkpoints)] == list(STEPS)
    assert step_folders(checkpoints / "nothing") == []


def test_a_pointer_is_followed(checkpoints: Path) -> None:
    point(checkpoints, "best", 70)
    assert (checkpoints / "best").read_text() == "step_0000000070\n"
    assert checkpoint_folder(checkpoints / "best") == marked(checkpoints, "best") == checkpoints / "step_0000000070"
    (checkpoints / "best").write_text("step_9999999999")  # what Git on Windows makes of a link
    assert step(marked(checkpoints, "best")) == 9_999_999_999
    assert checkpoint_folder(checkpoints / "step_0000000070") == checkpoints / "step_0000000070"
    assert checkpoint_folder(checkpoints / "mine") == checkpoints / "mine"


@pytest.mark.linux
def test_a_link_of_an_older_version_is_followed(checkpoints: Path) -> None:
    (checkpoints / "best").symlink_to("step_0000000070")
    assert checkpoint_folder(checkpoints / "best").resolve() == (checkpoints / "step_0000000070").resolve()
    (checkpoints / "latest").symlink_to("/dev/zero")
    assert step(marked(checkpoints, "latest")) == STEPS[-1]


@pytest.mark.parametrize(
    "damage", [None, "", "step_0000000071", "../../etc", "/etc", "step_0000000070/..", "x" * 10**6]
)
def test_without_a_pointer_the_tables_serve(checkpoints: Path, damage: str | None) -> None:
    for name in ("best", "latest"):
        if damage is not None:
            (checkpoints / name).write_text(damage)
    assert step(checkpoint_folder(checkpoints / "latest")) == STEPS[-1]
    assert marked(checkpoints, "best") is None
    evaluate(checkpoints, "70,10,nan", "100,10,9.0", "9999999999,10,2.5", "10000000000,10,2.5", "x,10,50.0", "70,1")
    assert step(checkpoint_folder(checkpoints / "best")) == 9_999_999_999  # 100 has no folder


@pytest.mark.parametrize("cut_off", ["300,10,-2", "300,10\n", "300,10,30,30\n"])
def test_a_row_that_is_being_written_is_left_out(checkpoints: Path, cut_off: str) -> None:
    evaluate(checkpoints, "100,10,-5", "200,10,-20.5")
    table = checkpoints.parent / "evaluations.csv"
    table.write_text(table.read_text().rstrip("\n") + f"\n{cut_off}")
    assert list(evaluations_of(checkpoints.parent)) == [(100, -5.0), (200, -20.5)]


def test_the_first_of_equal_evaluations_is_the_best() -> None:
    assert best_evaluation([(1, float("nan")), (2, 3.0), (3, 3.0), (4, -1.0)]) == (2, 3.0)
    assert best_evaluation([(1, float("nan"))]) is not None
    assert best_evaluation([]) is None

"""What works without optional libraries, and what is said where one is missing."""

import sys
from pathlib import Path

import pytest

from pixelq.agents.errors import MissingExtra, how_to_install
from pixelq.agents.evaluation.film import Film
from tests.support.runs import TINY, column, run_here, words


def test_a_film_without_its_libraries_is_refused_before_anything_is_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in ("imageio", "imageio_ffmpeg"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, library, None)
            patch.setattr("pixelq.scripts.evaluate._evaluate_one", lambda *_: pytest.fail("episodes were played"))
            ended = run_here(["evaluate", "demo", "--video", str(tmp_path / "films"), "--device", "cpu"])
            sentence = f"a film needs imageio and ffmpeg: {how_to_install('video')}"
            assert ended == (2, "", f"pixelq evaluate: {sentence}\n")
            assert not (tmp_path / "films").exists()
            with pytest.raises(MissingExtra, match="a film needs imageio and ffmpeg"):
                Film(tmp_path / "film.mp4", 30.0)
            assert not (tmp_path / "film.mp4").exists()


def test_training_needs_no_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    ended = run_here(["train", *words(TINY, out=tmp_path / "run")])
    assert (ended.code, how_to_install("tensorboard") in ended.out) == (0, True)
    assert not list((tmp_path / "run").glob("events.out*"))
    assert len(column(tmp_path / "run" / "evaluations.csv", "mean")) == 1
    monkeypatch.delitem(sys.modules, "tensorboard")
    ended = run_here(["train", "--resume", "--out", str(tmp_path / "run"), "--steps", "240", "--device", "cpu"])
    assert (ended.code, how_to_install("tensorboard") in ended.out) == (0, False)
    assert len(list((tmp_path / "run").glob("events.out*"))) == 1

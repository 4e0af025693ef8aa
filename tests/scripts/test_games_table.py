"""The table of runs on several games: what is in it, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest

from pixelq.scripts.benchmarks.games import RANDOM, main
from tests.support.report_runs import write_run

GAMES = ("Breakout", "Freeway")


def write_runs(folder: Path, scores: dict[str, list[list[float]]]) -> list[str]:
    """Runs of presets whose last evaluations are `scores[preset][seed][game]`."""
    return [
        str(write_run(folder / f"{name}-{game}-{seed}", name, f"MinAtar/{game}-v1", seed, score / 2))
        for name, matrix in scores.items()
        for seed, row in enumerate(matrix)
        for game, score in zip(GAMES, row, strict=True)
    ]


def test_table_has_means_seeds_and_the_interquartile_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = write_runs(
        tmp_path, {"minatar_dqn": [[6.0, 40.0], [8.0, 50.0]], "minatar_pqn": [[12.0, 30.0], [14.0, 20.0]]}
    )
    assert main(runs) == 0
    header, _, dqn, pqn, random = capsys.readouterr().out.splitlines()
    assert header == "| agent | seeds | Breakout | Freeway | interquartile mean |"
    assert dqn.startswith("| minatar_dqn | 2 | 7.0 (6.0 to 8.0) | 45.0 (40.0 to 50.0) | ")
    assert pqn.startswith("| minatar_pqn | 2 | 13.0 (12.0 to 14.0) | 25.0 (20.0 to 30.0) | ")
    assert random == "| random play | | 0.4 | 0.3 | 0 |"
    low = np.array([RANDOM[game] for game in GAMES])
    scores = np.sort(((np.array([[6.0, 40.0], [8.0, 50.0]]) - low) / (np.array([13.0, 45.0]) - low)).ravel())
    assert f" | {scores[1:3].mean():.2f} (" in dqn


def test_atari_games_are_on_the_scale_of_their_published_random_play(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [
        write_run(tmp_path / f"{name}-{score}", name, game, 0, score)
        for name, scores in {"dqn": (8.9, 6.0), "c51": (15.5, 12.0)}.items()
        for game, score in zip(("ALE/Breakout-v5", "ALE/Boxing-v5"), scores, strict=True)
    ]
    assert main(list(map(str, paths))) == 0
    header, _, dqn, _, random = capsys.readouterr().out.splitlines()
    assert header == "| agent | seeds | Boxing | Breakout | interquartile mean |"
    # Random play has 0.1 in Boxing and 1.7 in Breakout; the evaluations are twice the given numbers.
    assert dqn.startswith("| dqn | 1 | 12.0 | 17.8 | 0.52 ")
    assert pytest.approx(0.52, abs=0.005) == (11.9 / 23.9 + 16.1 / 29.3) / 2
    assert random == "| random play | | 0.1 | 1.7 | 0 |"


def test_runs_that_make_no_table_get_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = write_runs(tmp_path, {"minatar_dqn": [[6.0, 40.0], [8.0, 50.0]]})
    assert main(runs[:3]) == 2
    sentence = (
        "games: the runs of minatar_dqn must have the same seeds on each of MinAtar/Breakout-v1, MinAtar/Freeway-v1\n"
    )
    assert capsys.readouterr().err == sentence
    other = str(write_run(tmp_path / "other", "classic", "CartPole-v1"))
    assert main([other]) == 2
    assert f"games: {other} must be a run on MinAtar/*-v1 or an Atari game" in capsys.readouterr().err
    poor = write_runs(tmp_path / "poor", {"minatar_dqn": [[0.2, 0.1]]})
    assert main(poor) == 2
    assert "an agent must be better than random play on each game" in capsys.readouterr().err

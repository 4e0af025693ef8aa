"""Evaluations of several runs in one picture: which runs are one agent's, what is drawn of them, and refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from pixelq.agents import InvalidRun
from pixelq.agents.results.curves import Line, curves_by_env, plot_evaluations
from pixelq.scripts.main import run
from tests.support.report_runs import write_run


def runs_of(folder: Path) -> list[Path]:
    """Two agents on two environments: the one with an LSTM has two seeds, means 4 and 8; the other one, mean 1."""
    found = []
    for env in ("CartPole-v1", "pixelq/TMaze-v0"):
        name = env.split("/")[-1]
        for seed, mean in enumerate((4.0, 8.0)):
            found.append(write_run(folder / f"{name}-{seed}", "quick_recurrent", env, seed, mean))
        found.append(write_run(folder / f"{name}-plain", "quick_recurrent", env, 0, 1.0, lstm=None, cuda_graph=False))
    return found


def test_curves_are_agents_over_their_seeds(tmp_path: Path) -> None:
    panels = curves_by_env(runs_of(tmp_path))
    assert list(panels) == ["CartPole-v1", "pixelq/TMaze-v0"]
    for with_lstm, without in panels.values():
        assert (with_lstm.name, with_lstm.seeds) == ("lstm 128", 2)
        assert (without.name, without.seeds) == ("lstm None", 1)
        assert with_lstm.steps.tolist() == [100_000, 200_000, 300_000, 400_000, 500_000]
        np.testing.assert_allclose(with_lstm.means[:, 1], [2 * 4.0 * 0.4, 2 * 8.0 * 0.4])
        np.testing.assert_allclose(without.means, [[0.4, 0.8, 1.2, 1.6, 2.0]])


def test_a_run_that_has_not_come_as_far_ends_the_curve(tmp_path: Path) -> None:
    one, other = (write_run(tmp_path / str(seed), "dqn", "CartPole-v1", seed, 5.0) for seed in (0, 1))
    table = other / "evaluations.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:3]).replace("\n200000,", "\n200004,"))
    ((curve,),) = curves_by_env([one, other]).values()
    assert (curve.name, curve.seeds) == ("dqn", 2)
    assert curve.steps.tolist() == [100_000, 200_002]
    assert curve.means.shape == (2, 2)


def test_the_picture_has_means_ranges_and_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    save = Figure.savefig

    def saved(figure: Figure, *arguments: object, **options: object) -> None:
        drawn.append(figure)
        save(figure, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", saved)
    out = tmp_path / "curves.png"
    plot_evaluations(runs_of(tmp_path), out, [Line("pixelq/TMaze-v0", 4.0, "optimum")])
    assert out.read_bytes().startswith(b"\x89PNG")
    cartpole, maze = drawn[0].axes
    assert [text.get_text() for text in cartpole.get_legend().get_texts()] == ["lstm 128, 2 seeds", "lstm None, 1 seed"]
    np.testing.assert_allclose(cartpole.lines[0].get_xdata(), [100, 200, 300, 400, 500])
    np.testing.assert_allclose(cartpole.lines[0].get_ydata(), [2.4, 4.8, 7.2, 9.6, 12.0])
    corners = cartpole.collections[0].get_paths()[0].vertices
    assert (corners[:, 1].min(), corners[:, 1].max()) == pytest.approx((1.6, 16.0))
    assert (len(cartpole.lines), len(maze.lines)) == (2, 3)
    assert maze.lines[2].get_ydata() == [4.0, 4.0]
    assert [text.get_text() for text in maze.texts] == ["optimum"]


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(path) for path in runs_of(tmp_path)]
    out = tmp_path / "curves.png"
    assert run("plot_evaluations", [*paths, "--out", str(out), "--line", "CartPole-v1=500=best"]) == 0
    assert out.exists()
    assert capsys.readouterr().out == f"{out}\n"
    for wrong, message in (
        ([*paths, "--out", str(out), "--line", "500"], "--line is '500'; it must be ENV=RETURN=NAME"),
        ([*paths, "--out", str(out), "--name", "memory"], "--name is 'memory'; it must be FOLDER=NAME"),
        (["--out", str(out)], "no run is given"),
        ([str(tmp_path), "--out", str(out)], "holds no run"),
    ):
        assert run("plot_evaluations", wrong) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1


def test_agents_are_called_as_asked_for_and_long_names_are_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels: list[str] = []

    def saved(figure: Figure, *_: object, **__: object) -> None:
        labels.extend(text.get_text() for axes in figure.axes for text in axes.get_legend().get_texts())

    monkeypatch.setattr(Figure, "savefig", saved)
    paths = [str(path) for path in runs_of(tmp_path)]
    long = "a name of more than seventy characters, which is more than fits below a panel of a picture"
    names = ["--name", "CartPole-v1-1=with memory", "--name", f"TMaze-v0-plain={long}"]
    assert run("plot_evaluations", [*paths, "--out", str(tmp_path / "curves.png"), *names]) == 0
    first, second, third, fourth = labels
    assert (first, second, third) == ("with memory, 2 seeds", "lstm None, 1 seed", "lstm 128, 2 seeds")
    assert fourth.replace("\n", " ") == f"{long}, 1 seed"
    assert max(map(len, fourth.split("\n"))) <= 70


def test_games_played_otherwise_are_other_curves(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(seed), "dqn", "ALE/Pong-v5", seed, 10.0 * (seed + 1)) for seed in range(3)]
    for folder, change in ((runs[1], {"flicker": 0.5}), (runs[2], {"protocol": "nature"})):
        config = json.loads((folder / "config.json").read_text()) | change
        (folder / "config.json").write_text(json.dumps(config))
    (curves,) = curves_by_env(runs).values()
    found = {curve.name: (curve.seeds, curve.means[0, 4]) for curve in curves}
    assert found == {
        "dqn": (1, 20.0),
        "dqn, flicker 0.5": (1, 40.0),
        "dqn, protocol nature": (1, 60.0),
    }


def test_a_seed_twice_and_other_steps_are_refused(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(place), "dqn", "CartPole-v1", seed) for place, seed in enumerate((0, 0, 1))]
    assert curves_by_env([runs[0], runs[0]])["CartPole-v1"][0].seeds == 1  # one folder, given twice
    with pytest.raises(InvalidRun, match="are both dqn on CartPole-v1 with seed 0"):
        curves_by_env(runs)
    table = runs[2] / "evaluations.csv"
    table.write_text(table.read_text().replace("\n200000,", "\n250000,").replace("\n300000,", "\n310000,"))
    with pytest.raises(InvalidRun, match="were evaluated at different steps; draw them one by one"):
        curves_by_env([runs[0], runs[2]])


def test_a_run_without_evaluations_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "new", "dqn", "CartPole-v1")
    (folder / "evaluations.csv").write_text((folder / "evaluations.csv").read_text().splitlines()[0] + "\n")
    with pytest.raises(InvalidRun, match="new has not been evaluated yet"):
        curves_by_env([folder])

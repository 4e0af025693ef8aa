"""Pictures of learning curves: what is drawn of runs and of agents, and the command that draws them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from pixelq.agents.report.watch_data import LiveRun
from pixelq.agents.results import style
from pixelq.agents.results.comparison import compare_run
from pixelq.agents.results.plots import Line, plot_comparisons, plot_evaluations, plot_run
from pixelq.agents.results.style import literal
from pixelq.scripts.main import run
from tests.support.report_runs import recurrent_and_plain_runs, with_cells, write_run


def test_a_runs_curve_shows_the_published_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, float]] = []
    monkeypatch.setattr(
        "pixelq.agents.results.plots._draw_published",
        lambda axes, curve, color, up_to: drawn.append((curve.agent, up_to)),
    )
    for folder in (
        write_run(tmp_path / "a", "qrdqn"),
        write_run(tmp_path / "b", "quick_dqn"),
        write_run(tmp_path / "c", "classic", "CartPole-v1"),
        write_run(tmp_path / "d", "quick_dqn", flicker=0.5),
    ):
        assert plot_run(folder) == folder / "curve.png"
        assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert drawn == [("QR-DQN", 2.0), ("DQN", 2.0)]


@pytest.mark.parametrize("panels", [1, 3, 4, 5])
def test_a_comparison_has_a_panel_for_each_game(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, panels: int) -> None:
    counts: list[int] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: counts.append(len(figure.axes)))
    games = ("Pong", "Breakout", "Boxing", "Freeway", "Asterix")[:panels]
    runs = [compare_run(write_run(tmp_path / game, "dqn", f"ALE/{game}-v5")) for game in games]
    plot_comparisons(runs, tmp_path / "picture.png")
    assert counts == [panels]


@pytest.fixture
def labels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What stands in the legends of all panels that are saved."""
    found: list[str] = []

    def saved(figure: Figure, *_: object, **__: object) -> None:
        found.extend(text.get_text() for axes in figure.axes for text in axes.get_legend().get_texts())

    monkeypatch.setattr(Figure, "savefig", saved)
    return found


def test_a_runs_curve_says_that_games_of_its_evaluations_were_cut_off(tmp_path: Path, labels: list[str]) -> None:
    run = write_run(tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"evaluation_episode_steps": 4_500}))
    plot_run(run)
    evaluated = "evaluation, 10 episodes of at most 4,500 steps, 95% interval"
    assert labels == ["training episodes", "random -20.7", "human 14.6", evaluated]  # and no published curve


@pytest.mark.parametrize(
    ("table", "cells"),
    [
        ("evaluations", {"ci95_low": "99", "ci95_high": "-99"}),
        ("evaluations", {"mean": "1e308", "ci95_low": "-inf", "ci95_high": "nan"}),
        ("metrics", {"return_mean": "inf", "wall_seconds": "1e308", "updates": "nan"}),
        ("metrics", {"return_mean": "-1e308"}),
    ],
)
@pytest.mark.filterwarnings("error")
def test_odd_values_are_left_out(tmp_path: Path, table: str, cells: dict[str, str]) -> None:
    run = with_cells(write_run(tmp_path / "run"), table, cells, 0)
    assert plot_run(run).read_bytes().startswith(b"\x89PNG")
    json.dumps(LiveRun(run).answer(), allow_nan=False)


def test_names_are_drawn_letter_by_letter(tmp_path: Path) -> None:
    run = write_run(tmp_path / "$run_1")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"preset": r"$\nothing{$ \ud800", "env": "a$b"}))
    assert plot_run(run).exists()
    plot_evaluations([run], tmp_path / "curves.png", [Line("a$b", 4.0, r"$\bad$")], title="$", names={"$run_1": "_$x$"})
    assert literal("_$x$") == "\u2009_\\$x\\$"


def draw_elsewhere(folder: Path, drawing: str, *arguments: str) -> None:
    """Run Python in a folder whose matplotlibrc has odd settings, with a backend that cannot be imported."""
    (folder / "matplotlibrc").write_text("text.usetex: True\naxes.facecolor: red\nsavefig.dpi: 10\n")
    environment = {
        **os.environ,
        "MPLBACKEND": "module://a_notebook.backend_inline",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    subprocess.run([sys.executable, "-c", drawing, *arguments], cwd=folder, env=environment, check=True)


@pytest.mark.slow
def test_a_matplotlibrc_and_a_backend_decide_nothing(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert plot_run(run) == run / "curve.png"
    expected = (run / "curve.png").read_bytes()
    drawing = "import sys; from pixelq.agents.results.plots import plot_run; plot_run(sys.argv[1])"
    draw_elsewhere(tmp_path, drawing, str(run))
    assert (run / "curve.png").read_bytes() == expected


def test_the_style_is_read_from_no_file(tmp_path: Path) -> None:
    drawing = """
import runpy, sys
try:
    import matplotlib.ticker  # as another library may have tried, which leaves it half imported
except ValueError:
    pass
with runpy.run_path(sys.argv[1])["plain_style"]():  # by itself, as PyTorch takes seconds to import
    from matplotlib.figure import Figure
    Figure(figsize=(1, 1)).add_subplot().figure.savefig(sys.argv[2])
"""
    draw_elsewhere(tmp_path, drawing, style.__file__, str(tmp_path / "elsewhere.png"))
    with style.plain_style():
        Figure(figsize=(1, 1)).add_subplot().figure.savefig(tmp_path / "here.png")
    assert (tmp_path / "elsewhere.png").read_bytes() == (tmp_path / "here.png").read_bytes()


def test_a_run_is_drawn_in_this_style(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    expected = plot_run(run).read_bytes()
    with matplotlib.rc_context({"axes.facecolor": "red", "savefig.dpi": 10}):
        assert plot_run(run).read_bytes() == expected


def test_a_run_has_the_same_picture_wherever_it_lies(tmp_path: Path) -> None:
    first, second, other = (write_run(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b/c", 0), ("d", 1)))
    pictures = [plot_run(run).read_bytes() for run in (first, second, other)]
    assert pictures[0] == pictures[1] != pictures[2]


def test_the_picture_has_means_ranges_and_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    save = Figure.savefig

    def saved(figure: Figure, *arguments: object, **options: object) -> None:
        drawn.append(figure)
        save(figure, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", saved)
    out = tmp_path / "curves.png"
    plot_evaluations(recurrent_and_plain_runs(tmp_path), out, [Line("pixelq/TMaze-v0", 4.0, "optimum")])
    assert out.read_bytes().startswith(b"\x89PNG")
    cartpole, maze = drawn[0].axes
    (legend,) = drawn[0].legends  # of both panels, which have the same agents
    assert [text.get_text() for text in legend.get_texts()] == ["lstm 128, 2 seeds", "lstm None, 1 seed"]
    np.testing.assert_allclose(cartpole.lines[0].get_xdata(), [100, 200, 300, 400, 500])
    np.testing.assert_allclose(cartpole.lines[0].get_ydata(), [2.4, 4.8, 7.2, 9.6, 12.0])
    corners = cartpole.collections[0].get_paths()[0].vertices
    assert (corners[:, 1].min(), corners[:, 1].max()) == pytest.approx((1.6, 16.0))
    assert (len(cartpole.lines), len(maze.lines)) == (2, 3)
    assert maze.lines[2].get_ydata() == [4.0, 4.0]
    assert [text.get_text() for text in maze.texts] == ["optimum"]


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(path) for path in recurrent_and_plain_runs(tmp_path)]
    out = tmp_path / "curves.png"
    assert run("plot_evaluations", [*paths, "--out", str(out), "--line", "CartPole-v1=500=best"]) == 0
    assert out.exists()
    assert capsys.readouterr().out == f"{out}\n"
    for wrong, message in (
        (
            [*paths, "--out", str(out), "--line", "500"],
            "--line must be ENV=RETURN=NAME, such as CartPole-v1=500=best, got '500'",
        ),
        (
            [*paths, "--out", str(out), "--name", "memory"],
            "--name must be FOLDER=NAME, such as pong-1=without memory, got 'memory'",
        ),
        (["--out", str(out)], "no run is given"),
        ([str(tmp_path), "--out", str(out)], "no run in"),
    ):
        assert run("plot_evaluations", wrong) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1


def test_agents_are_called_as_asked_for_and_long_names_are_broken(tmp_path: Path, labels: list[str]) -> None:
    paths = [str(path) for path in recurrent_and_plain_runs(tmp_path)]
    long = "a name of more than seventy characters, which is more than fits below a panel of a picture"
    names = ["--name", "CartPole-v1-1=with memory", "--name", f"TMaze-v0-plain={long}"]
    assert run("plot_evaluations", [*paths, "--out", str(tmp_path / "curves.png"), *names]) == 0
    first, second, third, fourth = labels
    assert (first, second, third) == ("with memory, 2 seeds", "lstm None, 1 seed", "lstm 128, 2 seeds")
    assert fourth.replace("\n", " ") == f"{long}, 1 seed"
    assert max(map(len, fourth.split("\n"))) <= 70

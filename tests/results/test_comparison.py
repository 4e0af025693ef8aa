"""Runs beside published curves: which numbers are compared, and what is said of them."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from pixelq.agents import InvalidRun, preset
from pixelq.agents.results.comparison import PUBLISHED_AS, Million, compare_run, returns_by_million
from pixelq.agents.runs.tables import EVALUATIONS, METRICS, read_run
from pixelq.envs import ATARI57, PUBLISHED_AGENTS, id_of, published_curve
from pixelq.scripts.main import main


def test_published_values_are_the_tables() -> None:
    curve = published_curve("ALE/Breakout-v5", "QR-DQN")
    assert curve is not None
    assert (curve.agent, len(curve.mean)) == ("QR-DQN", 200)
    assert curve.frames_millions.tolist() == list(range(1, 201))
    assert (curve.mean[:3].tolist(), curve.std[:3].tolist()) == ([4.475, 18.6, 27.07], [0.182, 1.23, 1.72])
    assert curve.seeds[:3].tolist() == [5, 5, 5]


def test_published_curves_are_found_by_id_and_rom() -> None:
    by_id, by_rom = published_curve("ALE/MsPacman-v5", "IQN"), published_curve("ms_pacman", "IQN")
    assert by_id is not None
    assert by_rom is not None
    assert by_id.mean.tolist() == by_rom.mean.tolist()
    assert published_curve("CartPole-v1", "DQN") is None
    with pytest.raises(ValueError, match=r"agent must be one of DQN, C51, .*, got 'PPO'"):
        published_curve("pong", "PPO")


@pytest.mark.parametrize("game", sorted(set(ATARI57) - {"defender", "surround"}))
def test_games_of_the_benchmark_are_published(game: str) -> None:
    curve = published_curve(id_of(game), "Rainbow")
    assert curve is not None
    assert curve.frames_millions.tolist() == list(range(1, 201))


def test_presets_are_laid_beside_agents_that_are_published() -> None:
    assert set(PUBLISHED_AS.values()) == set(PUBLISHED_AGENTS)
    for name in PUBLISHED_AS:
        preset(name)


def row(frames: int, episodes: int, return_mean: float | None) -> dict[str, Any]:
    values = dict.fromkeys(METRICS, 0.0)
    mean = "" if return_mean is None else return_mean
    return {**values, "step": frames // 4, "frames": frames, "episodes": episodes, "return_mean": mean}


def text(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [{name: str(value) for name, value in row.items()} for row in rows]


def test_means_are_over_the_episodes_of_each_whole_million() -> None:
    rows = [
        row(400_000, 3, 2.0),
        row(900_000, 3, None),  # no episode ended
        row(1_000_100, 4, 6.0),  # mostly in the first million
        row(1_990_000, 14, 1.0),
        row(2_300_000, 16, 9.0),  # mostly in the third, which is not whole
    ]
    assert returns_by_million(text(rows)) == [(1, 4, (3 * 2 + 6) / 4), (2, 10, 1.0)]


def test_a_million_in_which_no_episode_ended_is_left_out() -> None:
    rows = [row(1_000_000, 2, 1.0), row(2_000_000, 2, None), row(3_000_000, 3, 4.0)]
    assert returns_by_million(text(rows)) == [(1, 2, 1.0), (3, 1, 4.0)]


def test_deviations_by_hand() -> None:
    inside, outside = Million(1, 5, 8.0, 7.0, 0.5), Million(1, 5, 5.9, 7.0, 0.5)
    assert (inside.deviations, inside.is_inside) == (2.0, True)
    assert outside.deviations == pytest.approx(-2.2)
    assert not outside.is_inside
    same, above = Million(1, 5, 0.0, 0.0, 0.0), Million(1, 5, 0.1, 0.0, 0.0)  # all published seeds agree
    assert (same.deviations, same.is_inside) == (0.0, True)
    assert (above.deviations, above.is_inside) == (math.inf, False)


def write_run(folder: Path, name: str, rows: list[dict[str, Any]], env: str = "ALE/Breakout-v5", **agent: Any) -> Path:
    folder.mkdir()
    config = {"env": env, "protocol": "sticky", "preset": name, "agent": {**preset(name).to_dict(), **agent}}
    (folder / "config.json").write_text(json.dumps(config))
    lines = [",".join(METRICS), *(",".join(str(row[column]) for column in METRICS) for row in rows)]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    (folder / "evaluations.csv").write_text(",".join(EVALUATIONS) + "\n")
    return folder


MILLIONS = [row(1_000_000, 900, 1.9), row(2_000_000, 1500, 9.5), row(2_500_000, 1600, 20.0)]


def test_a_run_with_the_published_settings_is_judged(tmp_path: Path) -> None:
    comparison = compare_run(write_run(tmp_path / "a", "dqn", MILLIONS))
    assert comparison.differs == ()
    assert comparison.published.agent == "DQN"
    first, second = comparison.millions
    assert first == Million(1, 900, 1.9, 1.809, 0.105)
    assert second == Million(2, 600, 9.5, 7.11, 0.934)
    assert (first.is_inside, second.is_inside) == (True, False)


def test_a_million_without_episodes_shifts_no_other(tmp_path: Path) -> None:
    rows = [row(1_000_000, 0, None), row(2_000_000, 3, 7.0)]
    (million,) = compare_run(write_run(tmp_path / "a", "dqn", rows)).millions
    assert million == Million(2, 3, 7.0, 7.11, 0.934)


def test_what_differs_is_named(tmp_path: Path) -> None:
    comparison = compare_run(write_run(tmp_path / "a", "iqn", MILLIONS, n_step=1, tau_samples=8))
    assert comparison.published.agent == "IQN"
    assert comparison.differs == ("n_step", "tau_samples")
    other = compare_run(write_run(tmp_path / "b", "munchausen", MILLIONS))
    assert other.published.agent == "DQN"
    assert {"munchausen", "learning_rate"} <= set(other.differs)
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    config |= {"protocol": "nature", "full_action_space": True, "flicker": 0.5, "agent": preset("iqn").to_dict()}
    (tmp_path / "a" / "config.json").write_text(json.dumps(config))
    assert compare_run(tmp_path / "a").differs == ("protocol", "full_action_space", "flicker")


def test_the_command_prints_draws_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write_run(tmp_path / "a", "dqn", MILLIONS), write_run(tmp_path / "b", "quick_dqn", MILLIONS, "ALE/Pong-v5")]
    files = ["--out", str(tmp_path / "new" / "curves.png"), "--json", str(tmp_path / "figures.json")]
    assert main(["compare", *map(str, runs), *files]) == 0
    out = capsys.readouterr().out
    assert "9.50 │ 7.11 ± 0.93 │       +2.6 │ outside" in out
    assert "No verdict: the run differs from the published DQN in n_step" in out
    assert (tmp_path / "new" / "curves.png").read_bytes().startswith(b"\x89PNG")
    first, second = json.loads((tmp_path / "figures.json").read_text())
    assert (first["run"], first["published"], first["differs"]) == ("a", "DQN", [])
    assert [million["is_inside"] for million in first["millions"]] == [True, False]
    assert first["millions"][1]["deviations"] == pytest.approx((9.5 - 7.11) / 0.934)
    assert second["env"] == "ALE/Pong-v5"


def test_json_has_no_infinity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    curve = published_curve("montezuma_revenge", "DQN")
    assert curve is not None
    assert (curve.mean[1], curve.std[1]) == (0, 0)  # in the second million every published seed has 0
    rows = [row(1_000_000, 0, None), row(2_000_000, 5, 99.0)]
    run = write_run(tmp_path / "a", "dqn", rows, "ALE/MontezumaRevenge-v5")
    assert main(["compare", str(run), "--json"]) == 0
    (million,) = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)[0]["millions"]
    assert (million["deviations"], million["is_inside"]) == (None, False)


def test_json_on_stdout_is_alone_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "a", "dqn", MILLIONS)
    assert main(["compare", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["millions"][0]["mean"] == 1.9


def test_what_cannot_be_compared_is_said_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = write_run(tmp_path / "short", "dqn", [row(900_000, 3, 1.0)])
    cartpole = write_run(tmp_path / "cartpole", "classic", MILLIONS, "CartPole-v1")
    damaged = write_run(tmp_path / "damaged", "dqn", MILLIONS)
    (damaged / "config.json").write_text("{")
    columns = write_run(tmp_path / "columns", "dqn", MILLIONS)
    (columns / "metrics.csv").write_text("step,frames\n1,4\n")
    empty = write_run(tmp_path / "empty", "dqn", MILLIONS)
    (empty / "metrics.csv").write_text("")
    words = write_run(tmp_path / "words", "dqn", [{**MILLIONS[0], "frames": "many"}])
    agent = write_run(tmp_path / "agent", "dqn", MILLIONS)
    (agent / "config.json").write_text(json.dumps({"env": "ALE/Pong-v5", "protocol": "sticky", "agent": 3}))
    flicker = write_run(tmp_path / "flicker", "dqn", MILLIONS)
    told = json.loads((flicker / "config.json").read_text())
    for wrong in ("half", None, 1.0, -0.5, float("nan")):
        (flicker / "config.json").write_text(json.dumps(told | {"flicker": wrong}))
        assert main(["compare", str(flicker)]) == 2
        assert "does not describe a run" in capsys.readouterr().err
    for arguments, sentence in (
        ([], "no run is given"),
        ([str(tmp_path / "nothing")], "no run in"),
        ([str(short)], "has not played a million frames"),
        ([str(cartpole)], "no curve is published for CartPole-v1"),
        ([str(damaged)], "damaged"),
        ([str(columns)], "lacks columns"),
        ([str(empty)], "damaged"),
        ([str(words)], "metrics.csv is damaged"),
        ([str(agent)], "does not describe a run"),
        ([str(columns), "--out", "/proc/curves.png"], "cannot be written"),
    ):
        assert main(["compare", *arguments]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert sentence in err


def test_reading_a_run_gives_its_rows(tmp_path: Path) -> None:
    config, metrics, evaluations = read_run(write_run(tmp_path / "a", "dqn", MILLIONS))
    assert config["preset"] == "dqn"
    assert [line["frames"] for line in metrics] == ["1000000", "2000000", "2500000"]
    assert evaluations == []
    with pytest.raises(InvalidRun, match="no run in"):
        read_run(tmp_path)


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    file = write_run(tmp_path / "a", "dqn", MILLIONS) / "metrics.csv"
    file.write_text(file.read_text()[:-9])
    assert [line["frames"] for line in read_run(tmp_path / "a").metrics] == ["1000000", "2000000"]

"""The report: its sections of figures, and its page as text."""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelq.agents.report import ReportOptions, make_report, write_report
from pixelq.agents.report.across import across_section
from pixelq.agents.report.curves import OF_SOME, curves_section
from pixelq.agents.report.page import Section, content_security_policy, json_in_script, render
from pixelq.agents.report.settings import machines_section, settings_section
from pixelq.agents.report.standing import standing_section, summary_section
from pixelq.agents.results.aggregates import aggregates, atari57_median, probability_of_improvement
from pixelq.agents.results.records import read_groups
from pixelq.envs import ATARI5, REFERENCE_SCORES, human_normalized_score, published_curve
from tests.support.report_runs import STEPS, level, with_cells, write_run, write_suite
from tests.support.runs import run_here

OTHER_RULES: list[dict[str, Any]] = [{"protocol": "nature"}, {"flicker": 0.5}]
"""Rules that the published agents were not trained under."""


def rows_of(section: Section | None, table: int = 0) -> dict[str, dict[str, Any]]:
    """Return the rows of a section's table by their first cell."""
    assert section is not None
    rows = section.values["tables"][table]["rows"]
    return {row.get("agent") or row["name"]: row for row in rows}


class TestCurves:
    def test_published_curves_go_as_far_as_the_runs(self, tmp_path: Path) -> None:
        groups = read_groups([write_run(tmp_path / "run", "c51")])
        (chart,) = curves_section(groups).data
        shown = {curve["name"]: curve for curve in chart["published"]}
        assert {name for name, curve in shown.items() if not curve["hidden"]} == {"C51"}
        expected = published_curve("ALE/Pong-v5", "C51")
        assert expected is not None
        assert shown["C51"]["x"] == [0.5e6, 1.5e6, 2.5e6]  # two million frames, and the next million's middle
        np.testing.assert_allclose(shown["C51"]["mean"], expected.mean[:3], rtol=1e-5)
        np.testing.assert_allclose(shown["C51"]["high"], (expected.mean + expected.std)[:3], rtol=1e-5)

    def test_how_stale_a_memory_is_can_be_chosen_where_there_is_one(self, tmp_path: Path) -> None:
        run = write_run(tmp_path / "run", "r2d2")
        section = curves_section(read_groups([run]))
        assert "q_discrepancy" not in section.values["measures"]
        header, *lines = (run / "metrics.csv").read_text().splitlines()
        lines[4] = lines[4].removesuffix(",,") + ",0.25,"
        assert header.endswith(",q_discrepancy,return_mean_100")
        (run / "metrics.csv").write_text("\n".join([header, *lines]) + "\n")
        section = curves_section(read_groups([run]))
        assert section.values["measures"]["q_discrepancy"] == OF_SOME["q_discrepancy"]
        curve = section.data[0]["series"][0]["q_discrepancy"]["frames"]
        assert [value for value in curve["mean"] if value is not None] == [0.25]

    @pytest.mark.parametrize("rules", OTHER_RULES)
    def test_published_curves_are_of_their_own_rules(self, tmp_path: Path, rules: dict[str, Any]) -> None:
        groups = read_groups([write_run(tmp_path / "run", **rules)])
        assert curves_section(groups).data[0]["published"] == []

    def test_a_single_runs_evaluations_have_their_own_intervals(self, tmp_path: Path) -> None:
        (chart,) = curves_section(read_groups([write_run(tmp_path / "run")])).data
        evaluation = chart["series"][0]["evaluation"]["frames"]
        assert evaluation["low"] == [3.0, 7.0, 11.0, 15.0, 19.0]
        assert evaluation["high"] == [6.0, 10.0, 14.0, 18.0, 22.0]

    def test_agents_keep_their_colours_over_environments(self, tmp_path: Path) -> None:
        paths = [
            write_run(tmp_path / "1", "dqn"),
            write_run(tmp_path / "2", "c51", "ALE/Breakout-v5"),
            write_run(tmp_path / "3", "dqn", "ALE/Breakout-v5"),
        ]
        pong, breakout = curves_section(read_groups(paths)).data
        assert [(s["name"], s["colour"]) for s in pong["series"]] == [("dqn", 0)]
        assert [(s["name"], s["colour"]) for s in breakout["series"]] == [("c51", 1), ("dqn", 0)]


class TestStanding:
    def test_summary_of_one_seed_and_of_three(self, tmp_path: Path) -> None:
        paths = [write_run(tmp_path / str(seed), seed=seed, mean=mean) for seed, mean in enumerate((5.0, 10.0, 15.0))]
        paths.append(write_run(tmp_path / "c51", "c51", mean=-3.0))
        rows = rows_of(summary_section(read_groups(paths)))
        assert rows["dqn"]["fresh"] == "10.0 (5.0 to 15.0)"
        assert rows["dqn"]["last"] == rows["dqn"]["best"] == "20.0 (10.0 to 30.0)"
        assert (rows["dqn"]["seeds"], rows["c51"]["seeds"]) == ("3 (seeds 0, 1, 2)", "1 (seed 0)")
        assert rows["dqn"]["length"] == "2.0 million frames"
        assert rows["dqn"]["hours"] == "1 h 23 min"
        assert rows["dqn"]["human"] == f"{100 * human_normalized_score('pong', 20.0):.0f}%"  # type: ignore[operator]
        assert rows["c51"]["fresh"] == "−3.0 (−4.0 to −2.0)"
        assert rows["random play"]["fresh"] == "−20.7"
        assert rows["human player"]["human"] == "100%"

    def test_ratio_and_spread_beside_published_agents(self, tmp_path: Path) -> None:
        folder = write_run(tmp_path / "run", env="ALE/Breakout-v5", mean=3.5)  # its last evaluation has 7
        section = standing_section(read_groups([folder]))
        rows = rows_of(section)
        dqn, qrdqn = (published_curve("ALE/Breakout-v5", agent) for agent in ("DQN", "QR-DQN"))
        assert dqn is not None
        assert qrdqn is not None
        mean, std = dqn.mean[1:3].mean(), dqn.std[1:3].mean()  # 2 million frames lie between two middles
        assert rows["DQN"]["mean"] == f"{mean:.1f} ± {std:.1f}"
        assert rows["DQN"]["ratio"] == f"{(7.0 - 1.7) / (mean - 1.7):.2f}"
        assert rows["human player"]["ratio"] == f"{(7.0 - 1.7) / (30.5 - 1.7):.2f}"
        assert rows["random play"]["ratio"] == "–"
        assert section is not None
        assert section.values["tables"][0]["frames"] == "2.0 million"

    def test_a_ratio_below_random_play_has_a_minus(self, tmp_path: Path) -> None:
        section = standing_section(read_groups([write_run(tmp_path / "run", env="ALE/Breakout-v5", mean=0.13)]))
        assert rows_of(section)["human player"]["ratio"] == "−0.05"  # (0.26 − 1.7) / (30.5 − 1.7)

    def test_a_verdict_is_of_training_beside_training(self, tmp_path: Path) -> None:
        run = write_run(tmp_path / "run", env="ALE/Breakout-v5", mean=7.0)
        section = standing_section(read_groups([run]))
        assert section is not None
        curve = published_curve("ALE/Breakout-v5", "DQN")
        assert curve is not None
        mean = level(7.0, 3 * STEPS // 4)  # of the last of two million frames, whose middle is that of a published row
        assert section.values["tables"][0]["training"] == (
            f"Training episodes of its last million frames returned {mean:.1f}; those of the published DQN returned "
            f"{curve.mean[1]:.1f} ± {curve.std[1]:.1f} over {curve.seeds[1]} seeds there: above the spread "
            f"({(mean - curve.mean[1]) / curve.std[1]:+.1f} standard deviations).".replace("-", "−")
        )
        assert section.values["tables"][0]["training"] in make_report([run])

    def test_a_verdict_stays_beside_shorter_runs_of_another_game(self, tmp_path: Path) -> None:
        run = write_run(tmp_path / "run", env="ALE/Breakout-v5", mean=7.0)
        other = write_run(tmp_path / "other", env="ALE/Pong-v5")
        config = json.loads((other / "config.json").read_text())
        (other / "config.json").write_text(json.dumps(config | {"steps": config["steps"] // 2}))
        alone, beside = standing_section(read_groups([run])), standing_section(read_groups([run, other]))
        assert alone is not None
        assert beside is not None
        verdict = alone.values["tables"][0]["training"]
        assert verdict.startswith("Training episodes of its last million frames returned ")
        named = {table["env"]: (table["agent"], table["training"]) for table in beside.values["tables"]}
        assert named["ALE/Breakout-v5"] == (f"dqn, {config['steps']:,} steps", verdict)

    @pytest.mark.parametrize(
        "changes", [{"name": "quick_dqn"}, {"n_step": 3}, {"protocol": "nature"}, {"env": "ALE/Defender-v5"}]
    )
    def test_no_verdict_where_settings_differ(self, tmp_path: Path, changes: dict[str, Any]) -> None:
        section = standing_section(read_groups([write_run(tmp_path / "run", **changes)]))
        assert section is not None
        assert section.values["tables"][0]["training"] is None

    def test_evaluations_that_are_cut_off_have_no_published_rows_and_say_why(self, tmp_path: Path) -> None:
        run = write_run(tmp_path / "run")
        config = json.loads((run / "config.json").read_text())
        (run / "config.json").write_text(json.dumps(config | {"evaluation_episode_steps": 4_500}))
        groups = read_groups([run])
        section = standing_section(groups)
        assert section is not None
        assert set(rows_of(section)) == {"random play", "human player"}
        (table,) = section.values["tables"]
        assert (table["agent"], table["training"]) == ("dqn, evaluated for at most 4500 steps", None)
        assert table["what"] == "last evaluation (games were cut off after 4,500 steps)"
        (chart,) = curves_section(groups).data
        assert chart["published"] == []
        page = make_report([run])
        assert "The published agents played games to their end, so they are not compared with this one." in page
        assert "The published agents were trained with sticky actions" not in page

    @pytest.mark.parametrize("rules", OTHER_RULES)
    def test_other_rules_have_no_published_rows(self, tmp_path: Path, rules: dict[str, Any]) -> None:
        groups = read_groups([write_run(tmp_path / "run", **rules)])
        section = standing_section(groups)
        assert section is not None
        assert set(rows_of(section)) == {"random play", "human player"}
        assert not section.values["tables"][0]["has_published"]
        told = "sticky with 50% of the frames black" if "flicker" in rules else "nature"
        assert section.values["tables"][0]["protocol"] == told
        page = make_report([tmp_path / "run"])
        assert f"1 run: run · protocol {told} · " in page
        assert "sticky actions and saw every frame, so they are not compared with this one" in page

    def test_an_evaluation_that_is_no_number_is_no_score(self, tmp_path: Path) -> None:
        folders = [write_run(tmp_path / game, env=f"ALE/{game}-v5", is_finished=False) for game in ("Pong", "Qbert")]
        table = folders[0] / "evaluations.csv"
        lines = table.read_text().splitlines()
        table.write_text("\n".join([*lines[:-1], f"{STEPS},10,nan,nan,nan,nan,nan,"]) + "\n")
        page = make_report(folders, ReportOptions(episodes=0))
        assert "<h3>dqn on ALE/Pong-v5: " not in page
        assert "<h3>dqn on ALE/Qbert-v5: " in page

    @pytest.mark.filterwarnings("error")
    def test_odd_values_are_left_out(self, tmp_path: Path) -> None:
        runs = [write_run(tmp_path / str(seed), env=f"ALE/{game}-v5") for seed, game in enumerate(("Pong", "Qbert"))]
        with_cells(
            runs[0], "metrics", {"wall_seconds": "inf", "updates": "nan", "return_mean": "1e308", "loss": "-inf"}
        )
        with_cells(runs[0], "evaluations", {"ci95_low": "99", "ci95_high": "nan"})
        with_cells(runs[0], "evaluations", {"mean": "1e308"}, 0)
        with_cells(runs[1], "metrics", {"wall_seconds": "1e308"}, 3)
        final = runs[1] / "final_evaluation.json"
        final.write_text(json.dumps(json.loads(final.read_text()) | {"mean": 1e308, "ci95": [-1e308, 1e308]}))
        groups = read_groups(runs)
        rows = rows_of(summary_section(groups))
        assert (rows["dqn"]["fresh"], rows["dqn"]["last"], rows["dqn"]["hours"]) == ("10.0 (9.0 to 11.0)", "20.0", "–")
        assert rows_of(summary_section(groups), 1)["dqn"]["fresh"] == "–"
        assert "<h1>dqn on 2 environments</h1>" in make_report(runs, ReportOptions(episodes=0, price_per_hour=1.0))

    def test_long_texts_of_a_run_are_cut_off(self, tmp_path: Path) -> None:
        run = write_run(tmp_path / "run")
        config = json.loads((run / "config.json").read_text())
        long = dict.fromkeys(("preset", "env", "protocol", "version"), "a" * 100_000)
        agent = config["agent"] | {"encoder": "b" * 100_000}
        (run / "config.json").write_text(json.dumps(config | long | {"agent": agent}))
        page = make_report([run], ReportOptions(episodes=0))
        assert "a" * 79 + "…" in page
        text = page[: page.index("<script")]
        assert max(map(len, re.findall("a+|b+", text.split("<pre")[0]))) < 100
        assert len(page) < len(make_report([write_run(tmp_path / "other")], ReportOptions(episodes=0))) + 150_000

    def test_a_run_without_rows_has_empty_cells(self, tmp_path: Path) -> None:
        folder = write_run(tmp_path / "run", is_finished=False)
        for table in ("metrics", "evaluations"):
            path = folder / f"{table}.csv"
            path.write_text(path.read_text().splitlines()[0] + "\n")
        assert "–" in rows_of(summary_section(read_groups([folder])))["dqn"]["fresh"]
        assert "Learning curves" in make_report([folder])

    def test_environments_without_references_are_left_out(self, tmp_path: Path) -> None:
        groups = read_groups([write_run(tmp_path / "run", "classic", "CartPole-v1", protocol="gymnasium")])
        assert standing_section(groups) is None
        assert set(rows_of(summary_section(groups))) == {"classic"}


class TestAcross:
    GAMES = ATARI5

    def scores(self) -> dict[str, list[list[float]]]:
        rng = np.random.default_rng(0)
        rows = {}
        for agent, factor in (("dqn", 0.5), ("c51", 1.0)):
            rows[agent] = [
                [
                    REFERENCE_SCORES[game].random
                    + factor * rng.uniform(0.2, 1.8) * (REFERENCE_SCORES[game].human - REFERENCE_SCORES[game].random)
                    for game in self.GAMES
                ]
                for _ in range(3)
            ]
        return rows

    def test_the_figures_are_the_librarys(self, tmp_path: Path) -> None:
        scores = self.scores()
        section = across_section(read_groups(write_suite(tmp_path, self.GAMES, scores)))
        assert section is not None
        order = section.values["games"]
        matrices = {
            agent: np.array(
                [[human_normalized_score(game, row[self.GAMES.index(game)]) for game in order] for row in rows], float
            )
            for agent, rows in scores.items()
        }
        expected = aggregates(matrices)
        found = {agent["name"]: agent["estimates"] for agent in section.data["agents"] if not agent["is_published"]}
        for agent in ("dqn", "c51"):
            for metric in ("iqm", "median", "mean", "optimality_gap"):
                np.testing.assert_allclose(
                    [found[agent][metric][end] for end in ("value", "low", "high")],
                    getattr(expected[agent], metric),
                    atol=1e-5,
                )
        (improvement,) = section.values["improvements"]
        value, low, high = probability_of_improvement(matrices["dqn"], matrices["c51"])
        assert improvement["probability"] == f"{value:.3f} ({low:.3f} to {high:.3f})"
        (dqn, _) = section.values["atari57"]
        value, low, high = atari57_median(matrices["dqn"], order)
        assert dqn["median"] == f"{value:.3f} ({low:.3f} to {high:.3f})"

    def test_published_agents_stand_beside_at_the_same_frames(self, tmp_path: Path) -> None:
        section = across_section(read_groups(write_suite(tmp_path, self.GAMES, self.scores())))
        assert section is not None
        found = {agent["name"]: agent for agent in section.data["agents"] if agent["is_published"]}
        name = "DQN, published"
        assert name in found
        assert len(found) == 5
        assert section.values["published_at"] == "2.0 million"
        normalized = []
        for game in self.GAMES:
            curve = published_curve(game, "DQN")
            assert curve is not None
            normalized.append(human_normalized_score(game, float(curve.mean[1:3].mean())))
        assert found[name]["estimates"]["mean"] == {
            "value": pytest.approx(np.mean(normalized), abs=1e-5),  # type: ignore[arg-type]
            "low": None,
            "high": None,
        }

    def test_published_agents_stand_beside_at_the_runs_end_wherever_their_best_checkpoints_are(
        self, tmp_path: Path
    ) -> None:
        paths = write_suite(tmp_path, ("pong", "qbert"), {"dqn": [[1.0, 2.0]]})
        final = paths[0] / "final_evaluation.json"
        final.write_text(json.dumps(json.loads(final.read_text()) | {"step": 200_000}))
        section = across_section(read_groups(paths))
        assert section is not None
        assert section.values["published_at"] == "2.0 million"

    @pytest.mark.parametrize("rules", OTHER_RULES)
    def test_published_agents_do_not_stand_beside_other_rules(self, tmp_path: Path, rules: dict[str, Any]) -> None:
        envs = ("ALE/Pong-v5", "ALE/Qbert-v5")
        paths = [write_run(tmp_path / env[4:], env=env, **rules) for env in envs]
        section = across_section(read_groups(paths))
        assert section is not None
        ((rule, value),) = rules.items()
        assert [agent["name"] for agent in section.data["agents"]] == [f"dqn, {rule} {value}"]
        assert section.values["published_at"] is None

    def test_profiles_fall_from_all_to_none(self, tmp_path: Path) -> None:
        section = across_section(read_groups(write_suite(tmp_path, self.GAMES, self.scores())))
        assert section is not None
        profile = section.data["profiles"][0]
        assert profile["x"][0] == 0.0
        assert profile["mean"][0] == 1.0
        assert profile["mean"][-1] == 0.0
        assert all(np.diff(profile["mean"]) <= 0)

    def test_lacking_runs_are_named(self, tmp_path: Path) -> None:
        paths = write_suite(tmp_path, ("pong", "breakout"), {"dqn": [[1.0, 2.0]], "c51": [[1.0, 2.0]]})
        assert across_section(read_groups(paths[:-1])) is None
        assert "There are no aggregates over games: c51 lacks seed 0 on breakout" in make_report(paths[:-1])

    def test_one_game_has_no_section(self, tmp_path: Path) -> None:
        assert across_section(read_groups([write_run(tmp_path / "run")])) is None


class TestSettings:
    def test_what_differs_from_the_preset(self, tmp_path: Path) -> None:
        folder = write_run(tmp_path / "run", "dqn", protocol="nature", n_step=3)
        section = settings_section(read_groups([folder]))
        rows = rows_of(section)
        assert rows["n_step"] == {"name": "n_step", "preset": "1", "run": "3"}
        assert rows["protocol"] == {"name": "protocol", "preset": "sticky", "run": "nature"}
        assert len(rows) == 2
        (run,) = section.values["tables"][0]["runs"]
        assert json.loads(run["config"])["agent"]["n_step"] == 3

    def test_time_and_cost_of_a_million_frames(self, tmp_path: Path) -> None:
        groups = read_groups([write_run(tmp_path / "run")])
        (row,) = machines_section(groups, 1.5).values["rows"]
        assert row["speed"] == "100"
        assert row["time"] == "1 h 23 min"  # 5,000 s
        assert row["software"] == "PyTorch 2.13.0, 1 thread"
        assert row["per_million"] == "41 min 40 s"  # 5,000 s for two million frames
        assert row["cost"] == "1.04"  # 2,500 s of 1.50 an hour
        assert row["hardware"] == "Test <CPU>, 2 cores"
        (row,) = machines_section(groups, None).values["rows"]
        assert row["cost"] == "–"


class TestPage:
    def test_text_of_runs_is_no_markup(self, tmp_path: Path) -> None:
        folder = write_run(tmp_path / "<script>alert(1)<")
        config = json.loads((folder / "config.json").read_text())
        config |= {"preset": "</script><img src=x onerror=alert(1)>", "env": "<b>ALE/Pong-v5</b>"}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "final_evaluation.json").unlink()
        page = make_report([folder])
        assert "<img src=x" not in page
        assert "<b>ALE" not in page
        assert "&lt;script&gt;alert(1)&lt;" in page
        assert "Test &lt;CPU&gt;" in page

    @given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=5))
    def test_json_in_a_script_cannot_end_it(self, data: Any) -> None:
        text = json_in_script(data)
        assert "<" not in text
        assert json.loads(text) == data

    def test_data_without_a_value_in_json_are_refused(self) -> None:
        with pytest.raises(ValueError, match="JSON"):
            json_in_script([float("nan")])

    def test_only_the_pages_own_scripts_may_run(self) -> None:
        page = render("title", "subtitle", [Section("settings", "Configuration", {"tables": []})])
        scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
        assert policy is not None
        assert len(scripts) == 2  # Plotly, and what all charts share
        assert policy[1].replace("&#39;", "'") == content_security_policy(scripts)
        assert policy[1].startswith("default-src &#39;none&#39;; script-src &#39;sha256-")

    def test_nothing_is_fetched(self, tmp_path: Path) -> None:
        page = re.sub(r"<script>.*?</script>", "", make_report([write_run(tmp_path / "run")]), flags=re.DOTALL)
        assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', page)
        assert not re.findall(r"url\(|@import", page)


class TestVerb:
    def test_the_page_is_written(self, tmp_path: Path) -> None:
        out = tmp_path / "new" / "report.html"
        ended = run_here(["report", str(write_run(tmp_path / "run")), "--out", str(out)])
        assert (ended.code, ended.err) == (0, "no episode is shown: none of the runs' folders has a checkpoint\n")
        assert ended.out.startswith(f"report: {out} (")
        assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
        write_report([tmp_path / "run"], tmp_path / "again.html")
        assert (tmp_path / "again.html").read_bytes() == out.read_bytes()

    def test_its_libraries_are_checked_before_anything_is_played(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "sklearn", None)
        monkeypatch.setattr("pixelq.agents.report.read_groups", lambda runs: pytest.fail("something was read"))
        ended = run_here(["report", str(write_run(tmp_path / "run")), "--out", str(tmp_path / "report.html")])
        assert (ended.code, ended.err) == (
            2,
            "pixelq report: a report needs scikit-learn: pip install 'pixelq[report]', or pip install '.[report]' in a "
            "checkout\n",
        )

    def test_a_page_can_be_named(self, tmp_path: Path) -> None:
        out = tmp_path / "report.html"
        ended = run_here(["report", str(write_run(tmp_path / "run")), "--out", str(out), "--name", "My <b>runs"])
        assert ended.code == 0, ended
        assert "<h1>My &lt;b&gt;runs</h1>" in out.read_text(encoding="utf-8")

    def test_names_that_are_no_text_are_shown_with_question_marks(self, tmp_path: Path) -> None:
        folder = write_run(Path(os.fsdecode(os.fsencode(tmp_path) + b"/run\xff")))
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"version": "\ud800"}))
        out = folder / "report\udcff.html"
        ended = run_here(["report", str(folder), "--out", str(out), "--episodes", "0"])
        assert (ended.code, ended.err) == (0, "")
        assert "Full configuration of run?<" in out.read_text(encoding="utf-8")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--out", "x.html"], "no run is given"),
            (["RUN", "--price-per-hour", "-1"], "--price-per-hour must be a number of at least 0, got -1.0"),
            (["RUN", "--price-per-hour", "nan"], "--price-per-hour must be a number of at least 0, got nan"),
            (["nowhere"], "no run in nowhere"),
            (["RUN", "--out", "RUN"], "cannot be written"),
            (
                ["RUN", "--out", "run/config.json"],
                "run/config.json already exists and is not an HTML page; use another --out",
            ),
            (["RUN", "--out", "pipe"], "pipe cannot be written (no regular file); use another --out file"),
        ],
    )
    def test_errors_are_one_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
    ) -> None:
        run = str(write_run(tmp_path / "run"))
        os.mkfifo(tmp_path / "pipe")
        monkeypatch.chdir(tmp_path)
        ended = run_here(["report", *(run if word == "RUN" else word for word in arguments)])
        assert ended.code == 2
        assert message in ended.err
        assert ended.err.count("\n") == 1
        assert not (tmp_path / "x.html").exists()

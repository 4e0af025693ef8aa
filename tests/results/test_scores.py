"""Scores gathered from runs' files: which run is in which row and column, and what is said of runs that do not fit."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelq.agents import InvalidRun, preset
from pixelq.agents.results.records import agent_of, read_groups
from pixelq.agents.results.scores import (
    RunScore,
    gather_scores,
    read_score,
    run_scores,
    score_matrices,
    score_of_group,
)
from pixelq.agents.runs.tables import EVALUATIONS, FINAL_EVALUATION, METRICS
from pixelq.envs import ATARI57, human_normalized_score, id_of
from tests.support.report_runs import STEPS
from tests.support.report_runs import write_run as write_whole_run

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"


def write_run(
    folder: Path, name: str = "dqn", game: str = "pong", seed: int = 0, mean: float = 0.0, **changes: Any
) -> Path:
    """A finished run whose last evaluation has a mean, and its best ones a greater mean.

    A keyword of the configuration changes that, any other one the agent's settings.
    """
    folder.mkdir()
    env = changes.pop("env", None) or id_of(game)
    config: dict[str, Any] = {"env": env, "protocol": "sticky", "seed": seed, "steps": 1_000, "preset": name}
    config |= {key: changes.pop(key) for key in list(changes) if key in ("protocol", "steps", "full_action_space")}
    config["agent"] = {**(preset(name).to_dict() if name != "custom" else {}), **changes}
    evaluation = {
        "env": env,
        "protocol": config["protocol"],
        "checkpoint": str(folder / "checkpoints" / "step_0000000900"),
        "step": 900,
        "mean": mean + 40.0,
        "ci95": [mean + 39.0, mean + 41.0],
        "episodes": 30,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / FINAL_EVALUATION).write_text(json.dumps(evaluation))
    write_table(folder, "metrics", METRICS, {"step": config["steps"], "frames": 4 * config["steps"]})
    rows = ({"step": 900, "mean": mean + 50.0}, {"step": config["steps"], "mean": mean})
    write_table(folder, "evaluations", EVALUATIONS, *rows)
    return folder


def write_table(folder: Path, name: str, columns: list[str], *rows: dict[str, Any]) -> None:
    lines = [",".join(str(row.get(column, 0)) for column in columns) for row in rows]
    (folder / f"{name}.csv").write_text("\n".join([",".join(columns), *lines]) + "\n")


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_run_that_was_made_long_ago_is_read() -> None:
    score = read_score(RESULTS / "pong-quick")
    assert (score.agent, score.game, score.seed) == ("quick_dqn", "pong", 0)  # the preset was called quick then
    assert (score.steps, score.frames) == (10**6, 4_000_012)
    assert score.mean == 16.9
    assert score.human_normalized == pytest.approx((16.9 + 20.7) / 35.3)
    best = read_score(RESULTS / "pong-quick" / FINAL_EVALUATION)  # whose checkpoint is no longer where the file says
    assert (best.agent, best.mean) == ("quick_dqn, best checkpoint", pytest.approx(15.2667, abs=1e-4))
    assert gather_scores([RESULTS / "pong-quick"]).scores["quick_dqn"].shape == (1, 1)


def test_runs_are_grouped_by_agent_game_and_seed(tmp_path: Path) -> None:
    wanted: dict[tuple[str, int, str], float] = {}
    runs = []
    for name, seeds in (("dqn", (3, 1)), ("iqn", (7,))):
        for seed in seeds:
            for game in ("qbert", "breakout"):
                wanted[name, seed, game] = len(runs) * 10.0
                runs.append(write_run(tmp_path / str(len(runs)), name, game, seed, len(runs) * 10.0))
    found = gather_scores(runs[::-1])
    assert found.games == ("breakout", "qbert")
    assert found.seeds == {"dqn": (1, 3), "iqn": (7,)}
    for name, matrix in found.scores.items():
        for row, seed in zip(matrix, found.seeds[name], strict=True):
            assert row.tolist() == [human_normalized_score(game, wanted[name, seed, game]) for game in found.games]


@given(
    st.dictionaries(st.sampled_from("abc"), st.sets(st.integers(0, 9), min_size=1, max_size=4), min_size=1),
    st.sets(st.sampled_from(ATARI57), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
def test_every_score_is_in_its_cell(seeds: dict[str, set[int]], games: set[str], random: Any) -> None:
    runs = [
        RunScore(Path(), agent, game, seed, 5, 0, 0.0, ord(agent) + seed / 16 + 1000 * ATARI57.index(game))
        for agent, its_seeds in seeds.items()
        for seed in its_seeds
        for game in games
    ]
    random.shuffle(runs)
    found = score_matrices(runs)
    assert list(found.games) == sorted(games, key=ATARI57.index)
    assert found.scores.keys() == seeds.keys()
    for agent, matrix in found.scores.items():
        rows, columns = np.array(sorted(seeds[agent])), np.array([ATARI57.index(game) for game in found.games])
        np.testing.assert_array_equal(matrix, ord(agent) + rows[:, None] / 16 + 1000 * columns)
    left_out, rest = runs[0], runs[1:]
    has_seed = any(run.agent == left_out.agent and run.seed == left_out.seed for run in rest)
    if has_seed and any(run.game == left_out.game for run in rest):
        with pytest.raises(InvalidRun, match=f"{left_out.agent} lacks seed {left_out.seed} on {left_out.game};"):
            score_matrices(rest)


def test_what_is_lacking_is_named(tmp_path: Path) -> None:
    cells = [(game, seed) for game in ("pong", "qbert") for seed in (0, 1)]
    runs = [write_run(tmp_path / f"{game}{seed}", game=game, seed=seed) for game, seed in cells]
    with pytest.raises(InvalidRun, match=r"^dqn lacks seed 1 on qbert; every agent needs each of its seeds on each"):
        gather_scores(runs[:3])
    other = write_run(tmp_path / "other", "c51", "alien", 5)
    with pytest.raises(InvalidRun, match=r"^dqn lacks seed 0 on alien, dqn lacks seed 1 on alien, c51 .* and 1 more;"):
        gather_scores([*runs, other])
    twin = write_run(tmp_path / "twin", game="pong", seed=1)
    with pytest.raises(InvalidRun, match=r"pong1 and .*twin are both dqn on pong with seed 1; give one of them"):
        gather_scores([*runs, twin])
    with pytest.raises(InvalidRun, match="no run is given"):
        gather_scores([])


def test_agents_are_named_by_what_differs_from_the_preset(tmp_path: Path) -> None:
    def name(*arguments: Any, **changes: Any) -> str:
        return read_score(write_run(tmp_path / str(len(list(tmp_path.iterdir()))), *arguments, **changes)).agent

    assert name("iqn") == "iqn"
    assert name("dqn", n_step=3, double=True) == "dqn, n_step 3, double True"
    assert name("dqn", protocol="nature", full_action_space=True) == "dqn, protocol nature, full_action_space True"
    assert name("custom", gamma=0.5) == "custom, gamma 0.5"
    assert name("dqn", cuda_graph=not preset("dqn").cuda_graph) == "dqn"  # the same agent, only faster


def test_folder_and_file_of_a_run_say_alike_that_games_were_cut_off(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    change(run / "config.json", evaluation_episode_steps=30)
    change(run / FINAL_EVALUATION, max_episode_steps=30)
    named = "dqn, evaluated for at most 30 steps"
    assert read_score(run).agent == agent_of(json.loads((run / "config.json").read_text())) == named
    assert read_score(run / FINAL_EVALUATION).agent == f"{named}, best checkpoint"
    change(run / FINAL_EVALUATION, max_episode_steps=None)  # whole games, of pixelq evaluate
    assert read_score(run / FINAL_EVALUATION).agent == "dqn, best checkpoint"


def test_folder_and_file_of_a_run_with_a_time_limit_of_its_own_have_the_same_agent(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")  # made in Python
    change(run / "config.json", env_arguments={"max_episode_steps": 100})
    change(run / FINAL_EVALUATION, max_episode_steps=100)
    assert read_score(run).agent == "dqn, max_episode_steps 100"
    assert read_score(run / FINAL_EVALUATION).agent == "dqn, max_episode_steps 100, best checkpoint"


def test_runs_of_different_lengths_are_apart(tmp_path: Path) -> None:
    long = [write_run(tmp_path / f"long{seed}", seed=seed, steps=2_000) for seed in (0, 1)]
    short = write_run(tmp_path / "short")
    assert gather_scores(long).seeds == {"dqn": (0, 1)}
    assert gather_scores([*long, short]).seeds == {"dqn, 2,000 steps": (0, 1), "dqn, 1,000 steps": (0,)}


def test_an_evaluations_file_finds_its_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "c51", "breakout", 4, 1.7)
    beside, elsewhere = run / "again.json", tmp_path / "elsewhere.json"
    for file in (beside, elsewhere):
        file.write_text((run / FINAL_EVALUATION).read_text())
        change(file, mean=30.5, step=500)
        score = read_score(file)
        assert score[1:] == ("c51", "breakout", 4, 1_000, 2_000, 30.5, 1.0)
        assert score.path == file
    change(elsewhere, protocol="nature")
    assert read_score(elsewhere).agent == "c51, evaluated as nature"
    change(elsewhere, protocol="sticky+flicker=0.5")
    assert read_score(elsewhere).agent == "c51, evaluated as sticky+flicker=0.5"
    change(elsewhere, protocol="sticky", flicker=0.5)  # as 0.1.0 wrote it
    assert read_score(elsewhere).agent == "c51, evaluated as sticky+flicker=0.5"
    change(elsewhere, flicker=0.0, mark="best and last")
    assert read_score(elsewhere).agent == "c51"
    change(elsewhere, max_episode_steps=50)
    assert read_score(elsewhere).agent == "c51, evaluated for at most 50 steps"
    change(elsewhere, max_episode_steps=None, mark=["best"])  # nothing that pixelq wrote
    assert read_score(elsewhere).agent == "c51"
    change(elsewhere, mark="best")
    assert read_score(elsewhere).agent == "c51, best checkpoint"
    run.rename(tmp_path / "moved")
    with pytest.raises(InvalidRun, match=r"elsewhere.json is of a run that is not at .*run; put the file into"):
        read_score(elsewhere)
    assert read_score(tmp_path / "moved").agent == "c51"


def test_a_best_that_is_also_the_last_is_with_the_other_best_ones(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / f"{game}{seed}", "dqn", game, seed) for game in ("pong", "breakout") for seed in (0, 1)
    ]
    best = [run / "best.json" for run in runs]
    for run, file in zip(runs, best, strict=True):
        file.write_text((run / FINAL_EVALUATION).read_text())
        change(file, mark="best")
    change(best[2], mark="best and last")
    assert gather_scores(best).seeds == {"dqn, best checkpoint": (0, 1)}
    assert gather_scores(best[2:]).seeds == {"dqn, best checkpoint": (0, 1)}
    assert gather_scores([*runs, *best]).seeds == {"dqn": (0, 1), "dqn, best checkpoint": (0, 1)}
    # Beside the last checkpoints it is one of those, and it is both beside both
    change(best[3], mark="last")
    assert gather_scores(best[2:]).seeds == {"dqn": (0, 1)}
    of_both = [write_run(tmp_path / "again", "dqn", "breakout", 1) / FINAL_EVALUATION, *best[2:]]
    assert gather_scores(of_both).seeds == {"dqn, best checkpoint": (0, 1), "dqn": (0, 1)}
    # Other agents do not count
    other = write_run(tmp_path / "other", "c51", "breakout") / FINAL_EVALUATION
    assert gather_scores([*best[2:], other]).seeds == {"dqn": (0, 1), "c51, best checkpoint": (0,)}


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        (FINAL_EVALUATION, None, "cannot be read (No such file or directory); let the run finish"),
        (FINAL_EVALUATION, "{", "final_evaluation.json is damaged"),
        (FINAL_EVALUATION, "[]", "does not describe an evaluation"),
        (FINAL_EVALUATION, {"mean": "high"}, "does not describe an evaluation"),
        (FINAL_EVALUATION, {"mean": float("nan")}, "does not describe an evaluation"),
        (FINAL_EVALUATION, {"mean": None}, "has a mean return that is not finite; leave out that evaluation"),
        (FINAL_EVALUATION, {"step": None}, "does not describe an evaluation"),
        (FINAL_EVALUATION, {"step": -5}, "does not describe an evaluation"),
        (FINAL_EVALUATION, {"mean": True}, "does not describe an evaluation"),
        (
            FINAL_EVALUATION,
            json.dumps({"env": "e", "protocol": "p", "checkpoint": "c", "step": 5}),
            "does not describe an",
        ),
        (FINAL_EVALUATION, {"flicker": "half"}, "does not describe an evaluation (flicker must be in [0, 1)"),
        (FINAL_EVALUATION, {"env": "ALE/Alien-v5"}, "on ALE/Alien-v5, but its run was trained on ALE/Pong-v5"),
        ("config.json", "{", "is damaged"),
        ("config.json", {"seed": None}, "has no seed or no steps"),
    ],
)
def test_files_that_are_no_evaluation_of_a_run(tmp_path: Path, file: str, text: Any, sentence: str) -> None:
    run = write_run(tmp_path / "run")
    if text is None:
        (run / file).unlink()
    elif isinstance(text, str):
        (run / file).write_text(text)
    else:
        change(run / file, **text)
    with pytest.raises(InvalidRun, match=re.escape(sentence)) as caught:
        read_score(run / file if file == FINAL_EVALUATION else run)
    assert "\n" not in str(caught.value)


def test_a_run_counts_after_its_last_step(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    write_table(run, "evaluations", EVALUATIONS, {"step": 900, "mean": 3.0})
    with pytest.raises(InvalidRun, match="run has no evaluation after its last step; let the run finish"):
        read_score(run)
    for mean in ("inf", "nan"):
        write_table(run, "evaluations", EVALUATIONS, {"step": 1_000, "mean": mean})
        with pytest.raises(InvalidRun, match=r"the last mean return of .*run is not finite or too large; leave out"):
            read_score(run)


def test_a_game_without_human_score_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRun, match="which has no human score; give Atari runs"):
        read_score(write_run(tmp_path / "a", "classic", env="CartPole-v1"))


def test_a_best_checkpoint_is_not_laid_beside_means(tmp_path: Path) -> None:
    paths = [
        write_whole_run(tmp_path / "0", mean=10.0),
        write_whole_run(tmp_path / "1", seed=1, mean=20.0, is_finished=False),
    ]
    (group,) = read_groups(paths)
    score = score_of_group(group)
    assert score is not None
    assert [run.final and run.final.mean for run in group.runs] == [10.0, None]
    assert (score.mean, score.frames, [each.mean for each in score.scores]) == (30.0, 4 * STEPS, [20.0, 40.0])


def test_several_seeds_have_a_deviation_and_one_has_the_interval_of_its_episodes(tmp_path: Path) -> None:
    paths = [write_whole_run(tmp_path / str(seed), seed=seed, mean=mean) for seed, mean in enumerate((5.0, 10.0, 15.0))]
    (several,), (one,) = (read_groups(paths), read_groups(paths[:1]))
    scores = score_of_group(several), score_of_group(one)
    assert [score and (score.mean, score.low, score.high) for score in scores] == [
        (20.0, 10.0, 30.0),
        (10.0, 9.0, 12.0),
    ]


def test_scores_of_groups_are_those_of_their_files(tmp_path: Path) -> None:
    paths = [write_whole_run(tmp_path / str(seed), seed=seed, mean=5.0 * seed) for seed in (0, 1)]
    (group,) = read_groups(paths)
    assert run_scores(group) == [read_score(path) for path in paths]
    (group,) = read_groups([write_whole_run(tmp_path / "cartpole", "classic", "CartPole-v1")])
    assert run_scores(group) == []

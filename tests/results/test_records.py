"""Runs as arrays, and groups of runs over their seeds."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from pixelq.agents import InvalidRun, preset
from pixelq.agents.evaluation.limits import evaluation_limit, is_cut
from pixelq.agents.results.records import differences, read_groups
from pixelq.agents.results.scores import score_of_group
from tests.support.report_runs import STEPS, write_run

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"


def test_seeds_are_taken_together_in_their_order(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / str(seed), seed=seed) for seed in (10, 2, 1)]
    paths.append(write_run(tmp_path / "other", "dqn", n_step=3))
    one, other = read_groups(paths)
    assert [run.config["seed"] for run in one.runs] == [1, 2, 10]
    assert (one.agent, other.agent) == ("dqn", "dqn, n_step 3")
    assert (one.preset, one.env, one.protocol) == ("dqn", "ALE/Pong-v5", "sticky")


def test_short_names_hold_what_tells_agents_apart(tmp_path: Path) -> None:
    shared = {"gamma": 0.9, "n_step": 3, "learning_rate": 1e-3, "batch_size": 64}
    paths = [
        write_run(tmp_path / "a", **shared),
        write_run(tmp_path / "b", **shared, double=True),
        write_run(tmp_path / "c", "c51", **shared),
        write_run(tmp_path / "d", "c51", **shared, adam_epsilon=1e-3, dueling=True),
        write_run(tmp_path / "e", "qrdqn", **shared, hidden=8, dueling=True),
    ]
    assert [group.label for group in read_groups(paths)] == [
        "dqn",
        "dqn, double True",
        "c51",
        "c51, adam_epsilon 0.001, dueling True",
        "qrdqn, gamma 0.9, batch_size 64, learning_rate 0.001, 2 more",
    ]
    (alone,) = read_groups([write_run(tmp_path / "f", n_step=3, hidden=8)])
    assert alone.label == alone.agent == "dqn, n_step 3, hidden 8"


def cut(run: Path, **changes: Any) -> Path:
    """A run with further entries in its config.json."""
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | changes))
    return run


def test_evaluations_that_are_cut_off_are_not_averaged_with_others(tmp_path: Path) -> None:
    limits = [None, 30, 30, 4_500, 27_000]  # the last of which is the games' own
    runs = [write_run(tmp_path / f"{seed}", seed=seed) for seed in range(len(limits))]
    paths = [cut(run, evaluation_episode_steps=limit) for run, limit in zip(runs, limits, strict=True)]
    groups = {group.agent: [run.seed for run in group.runs] for group in read_groups(paths)}
    assert groups == {
        "dqn": ["0", "4"],
        "dqn, evaluated for at most 30 steps": ["1", "2"],
        "dqn, evaluated for at most 4500 steps": ["3"],
    }
    for path in paths:
        cut(path, name="mine")
    assert [group.agent for group in read_groups(paths)] == [name.replace("dqn", "mine") for name in groups]


def test_a_short_name_says_that_evaluations_were_cut_off(tmp_path: Path) -> None:
    """Also if all agents have that in common, and after the first settings."""
    many = {"gamma": 0.9, "n_step": 3, "hidden": 8, "batch_size": 64, "double": True}
    paths = [write_run(tmp_path / "a"), write_run(tmp_path / "b", **many)]
    groups = read_groups([cut(path, evaluation_episode_steps=30) for path in paths])
    assert [group.label for group in groups] == [
        "dqn, evaluated for at most 30 steps",
        "dqn, gamma 0.9, n_step 3, batch_size 64, 2 more, evaluated for at most 30 steps",
    ]


@pytest.mark.parametrize(
    ("env", "own", "given", "limit"),
    [
        ("ALE/Pong-v5", None, 4_500, 4_500),
        ("ALE/Pong-v5", None, 27_000, None),
        ("ALE/Pong-v5", 300, 4_500, None),
        ("ALE/Pong-v5", None, "30", None),
        ("CartPole-v1", None, 30, None),
    ],
)
def test_a_limit_of_evaluations_counts_below_the_games_own(env: str, own: Any, given: Any, limit: int | None) -> None:
    config = {"env": env, "max_episode_steps": own, "evaluation_episode_steps": given}
    made = {"env": env, "env_arguments": {"max_episode_steps": own}, "evaluation_episode_steps": given}  # from Python
    assert evaluation_limit(config) == limit
    assert evaluation_limit(made) == limit
    assert is_cut(config) == is_cut(made) == (limit is not None or own is not None)


@pytest.mark.parametrize(
    ("env", "size", "shown"),
    [
        ("MinAtar/Asterix-v1", None, {}),
        ("MinAtar/Asterix-v1", 84, {"frame_size": 84}),
        ("ALE/Pong-v5", None, {"frame_size": 84}),
    ],
)
def test_the_frame_size_of_a_preset_counts_on_atari(env: str, size: int | None, shown: dict[str, int]) -> None:
    """`quick` has 42, which only Atari games are resized to; others keep their size unless one is asked for."""
    agent = dataclasses.replace(preset("quick"), frame_size=84).to_dict()
    given = {} if size is None else {"frame_size": size}
    config = {"env": env, "protocol": "envpool", "agent": agent, "env_arguments": given}
    assert differences(config, preset("quick"), "envpool") == shown


def test_a_folder_given_twice_is_read_once(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (tmp_path / "link").symlink_to(run)
    (group,) = read_groups([run, tmp_path / "." / "run", tmp_path / "link"])
    assert len(group.runs) == 1


def test_runs_are_called_what_their_user_calls_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, other = write_run(tmp_path / "run"), write_run(tmp_path / "other", "c51")
    monkeypatch.chdir(run)
    groups = read_groups([".", "../other", run, other])
    runs = [run for group in groups for run in group.runs]
    assert [str(run.path) for run in runs] == [".", "../other"]
    assert [run.name for run in runs] == ["run", "other"]
    assert [group.agent for group in read_groups([run, other, "."])] == ["dqn", "c51"]
    (run / "metrics.csv").write_text("nothing\n")
    with pytest.raises(InvalidRun, match=r"^metrics\.csv "):
        read_groups(["."])


def rewritten(run: Path, **entries: Any) -> Path:
    config = json.loads((run / "config.json").read_text()) | entries
    (run / "config.json").write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
    return run


def test_a_run_is_named_by_the_preset_that_has_its_settings(tmp_path: Path) -> None:
    from_python = rewritten(write_run(tmp_path / "0", "double", protocol="nature"), preset=None)
    built_up = write_run(tmp_path / "1", "nature", seed=1, double=True, protocol="nature")
    (group,) = read_groups([from_python, built_up])
    assert (group.agent, group.preset, len(group.runs)) == ("double", "double", 2)
    own = rewritten(write_run(tmp_path / "2", "double", gamma=0.5), preset=None)
    assert read_groups([own])[0].preset == "custom"


def test_the_protocol_is_named_where_it_is_not_the_presets(tmp_path: Path) -> None:
    runs = [("nature", "nature"), ("nature", "sticky"), ("dqn", "sticky"), ("dqn", "nature"), ("der", "100k")]
    paths = [write_run(tmp_path / f"{i}", name, protocol=rules) for i, (name, rules) in enumerate(runs)]
    expected = ["nature", "nature, protocol sticky", "dqn", "dqn, protocol nature", "der"]
    assert [group.agent for group in read_groups(paths)] == expected


def test_runs_written_before_a_setting_existed_keep_their_preset(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "nature", protocol="nature")
    config = json.loads((run / "config.json").read_text())
    for name in ("evaluation_epsilon", "evaluation_noise", "clip_weighted", "fraction_epsilon"):
        del config["agent"][name]
    (run / "config.json").write_text(json.dumps(config | {"preset": None}))
    assert read_groups([rewritten(run)])[0].agent == "nature"


def test_a_name_that_a_run_was_given_comes_first(tmp_path: Path) -> None:
    one = rewritten(write_run(tmp_path / "0", "dqn", n_step=3), name="mine")
    other = rewritten(write_run(tmp_path / "1", "dqn", seed=1, n_step=3), name="mine")
    (group,) = read_groups([one, other])
    assert (group.agent, group.preset, len(group.runs)) == ("mine", "dqn", 2)
    different = rewritten(write_run(tmp_path / "2", "dqn", seed=2, n_step=5), name="mine")
    assert [group.agent for group in read_groups([one, different])] == ["mine, dqn, n_step 3", "mine, dqn, n_step 5"]
    with pytest.raises(InvalidRun, match=r"name in .*config\.json must be text, got 3"):
        read_groups([rewritten(one, name=3)])


def test_two_runs_of_one_seed_are_refused(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / "a"), write_run(tmp_path / "b")]
    with pytest.raises(InvalidRun, match=r"a and .*b are both dqn on ALE/Pong-v5 with seed 0; give one of them"):
        read_groups(paths)


@pytest.mark.parametrize(
    ("setting", "values", "names"),
    [
        ("steps", (STEPS, 2_000_000), ["dqn, 500,000 steps", "dqn, 2,000,000 steps"]),
        ("num_envs", (8, 64), ["dqn, 8 environments at once", "dqn, 64 environments at once"]),
        ("num_envs", (None, 64), ["dqn, unknown environments at once", "dqn, 64 environments at once"]),
    ],
)
def test_runs_that_differ_in_more_than_their_seed_are_apart(
    tmp_path: Path, setting: str, values: tuple[int | None, int], names: list[str]
) -> None:
    paths = [write_run(tmp_path / str(value)) for value in values]
    paths.append(write_run(tmp_path / "c51", "c51"))
    for path, value in zip(paths, values, strict=False):
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps(config | {setting: value}))
    groups = read_groups(paths)
    assert [group.agent for group in groups] == [*names, "c51"]
    assert [len(group.runs) for group in groups] == [1, 1, 1]


@pytest.mark.parametrize("where", ["env", "name", "agent"])
def test_long_texts_that_differ_at_their_ends_are_apart(tmp_path: Path, where: str) -> None:
    paths = []
    for last in "ab":
        run, text = write_run(tmp_path / last), 99 * "x" + last
        config = json.loads((run / "config.json").read_text())
        made = {"wrappers": [f"module:{text}"]}
        paths.append(rewritten(run, **({"env_arguments": made} if where == "agent" else {where: text})))
        assert config["seed"] == 0
    groups = read_groups(paths)
    assert [len(group.runs) for group in groups] == [1, 1]
    found = {(group.agent, group.env) for group in groups}
    assert len(found) == 2
    assert all(len(part) < 110 for each in found for part in each)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("seed", [1], r"seed in .*config\.json must be a whole number, got \[1\]"),
        ("seed", "abc", "must be a whole number, got 'abc'"),
        ("steps", "many", "steps in .* must be a whole number, got 'many'"),
        ("num_envs", 2.5, "num_envs in .* must be a whole number, got 2.5"),
        ("hardware", "large", "hardware in .* must be an object, got 'large'"),
    ],
)
def test_a_config_of_other_kinds_is_refused(tmp_path: Path, setting: str, value: Any, message: str) -> None:
    folder = write_run(tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {setting: value}))
    with pytest.raises(InvalidRun, match=message):
        read_groups([folder])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mean": 10**400}, "does not describe an evaluation"),
        ({"mean": float("nan")}, "does not describe an evaluation"),
        ({"ci95": [10**400, 1]}, "does not describe an evaluation"),
        ({"episodes": float("inf")}, "does not describe an evaluation"),
        ({"ci95": None}, "does not describe an evaluation"),
    ],
)
def test_a_final_evaluation_without_numbers_is_refused(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    path = write_run(tmp_path / "run") / "final_evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    with pytest.raises(InvalidRun, match=message):
        read_groups([tmp_path / "run"])


def test_an_evaluation_that_is_no_number_is_neither_the_best_nor_a_score(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", is_finished=False)
    table = folder / "evaluations.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:-1], f"{STEPS},10,nan,nan,nan,nan,nan,"]) + "\n")
    (group,) = read_groups([folder])
    best = group.runs[0].best
    assert best is not None
    assert best.step == 400_000
    assert score_of_group(group) is None


def test_no_run_is_refused() -> None:
    with pytest.raises(InvalidRun, match="no run is given"):
        read_groups([])


def test_figures_of_a_run(tmp_path: Path) -> None:
    (group,) = read_groups([write_run(tmp_path / "run", mean=10.0)])
    (run,) = group.runs
    assert (run.steps, run.frames, run.frames_per_step, run.seconds) == (STEPS, 4 * STEPS, 4.0, STEPS / 100)
    assert run.final == (10.0, 9.0, 11.0, 30, STEPS)
    assert run.last == run.best == (20.0, 19.0, 22.0, 10, STEPS)


def test_the_best_of_equal_evaluations_is_the_first(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", mean=0.0)
    (group,) = read_groups([folder])
    best, last = group.runs[0].best, group.runs[0].last
    assert best is not None
    assert last is not None
    assert (best.step, last.step) == (100_000, STEPS)


def test_a_run_without_rows_has_no_figures(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", is_finished=False)
    for table in ("metrics", "evaluations"):
        path = folder / f"{table}.csv"
        path.write_text(path.read_text().splitlines()[0] + "\n")
    (group,) = read_groups([folder])
    (run,) = group.runs
    assert (run.steps, run.frames, run.seconds, run.final, run.last, run.best) == (0, 0, 0.0, None, None, None)
    assert run.frames_per_step == 1.0


def test_a_damaged_final_evaluation_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    path = folder / "final_evaluation.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"ci95": [1]}))
    with pytest.raises(InvalidRun, match="does not describe an evaluation"):
        read_groups([folder])


def test_tables_of_the_first_version_are_read() -> None:
    (group,) = read_groups([RESULTS / "cartpole-classic"])
    assert group.runs[0].final is not None
    assert group.runs[0].final.mean == 500.0
    assert group.agent == "classic"

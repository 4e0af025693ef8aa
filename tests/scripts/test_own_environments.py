"""A user's own environment through all doors: train, resume, evaluate, film and report make it as it was trained in."""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from pixelq.agents import DQN, InvalidRun
from pixelq.agents.evaluation.episode import make_arguments
from pixelq.agents.evaluation.evaluate import evaluate
from pixelq.agents.report.insight import insight_sections
from pixelq.agents.results.records import agent_of
from pixelq.envs import import_module, make_vec, named
from pixelq.scripts.command_line import take_env_kwargs
from pixelq.scripts.flags.train import read as read_train
from pixelq.scripts.pack import command_of
from tests.support.own_envs import Line, Times
from tests.support.runs import TINY, assert_same, run_here, words

OWN = "tests.support.own_envs"
WRAPPERS = f"{OWN}:Times(by=3.0),{OWN}:Twice"
ARGUMENTS = {
    "env_kwargs": {"size": 3, "prize": 5.0},
    "wrappers": [f"{OWN}:Times(by=3.0)", f"{OWN}:Twice"],
    "max_episode_steps": 8,
}


@pytest.fixture(autouse=True)
def _untrusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules and the path of a new process."""
    monkeypatch.setattr(named, "_trusted", set())
    monkeypatch.setattr(sys, "path", list(sys.path))


def trained(out: Path, **changes: Any) -> list[str]:
    flags = TINY | {"--env-kwargs.size": "3", "--env-kwargs.prize": "5.0", "--wrappers": WRAPPERS}
    changes = {"env": f"{OWN}:Line", "max_episode_steps": 8, "steps": 120, "checkpoint_every": 60, "out": out} | changes
    return ["train", *words(flags, evaluate_every=60, log_every=60, **changes)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("own") / "run"
    ended = run_here(trained(out))
    assert ended.code == 0, ended.err
    assert f"pixelq evaluate {out} --video {out / 'video'} --import {OWN}" in ended.out
    return out


def test_a_run_says_how_its_environments_are_made(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    assert (config["env"], config["env_arguments"]) == (f"{OWN}:Line", ARGUMENTS)
    final = json.loads((run / "final_evaluation.json").read_text())
    assert set(final["returns"]) <= {15.0, 0.0}  # the prize of 5 times 3
    assert max(final["lengths"]) <= 4  # steps are played twice
    assert final["env_arguments"] == ARGUMENTS
    agent = agent_of(config)
    assert agent.endswith(f"max_episode_steps 8, env_kwargs.size 3, env_kwargs.prize 5.0, wrappers {WRAPPERS}")


def test_an_own_environment_resumes_exactly(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run_here(trained(out, steps=60)).code == 0
    named._trusted.clear()  # as in a new process
    resumed = ["train", "--resume", "--out", str(out), "--steps", "120", "--device", "cpu"]
    refused = run_here(resumed)
    assert (refused.code, refused.out) == (2, "")
    assert f"give --import {OWN}, or" in refused.err
    for flags, why in (
        (["--env-kwargs.size", "4"], "--env-kwargs.size must be 3 as in the run, got 4"),
        (["--env-kwargs.colour", "red"], '--env-kwargs.colour must be left out as in the run, got "red"'),
        (["--wrappers", f"{OWN}:Twice"], f"--wrappers must be {WRAPPERS} as in the run"),
        (["--max-episode-steps", "9"], "--max-episode-steps must be 8 as in the run"),
    ):
        ended = run_here([*resumed, *flags])
        assert ended.code == 2
        assert why in ended.err
    # The command line names the module of the environment, which is the wrappers' too.
    ended = run_here([*resumed, "--env", f"{OWN}:Line", "--env-kwargs.size", "3"])
    assert ended.code == 0, ended.err
    assert_same(run, out)


def test_a_run_of_python_is_resumed_by_the_command_line(tmp_path: Path) -> None:
    options: dict[str, Any] = {"env_kwargs": {"size": 3}, "wrappers": [Times], "max_episode_steps": 9}
    envs = make_vec(Line, 2, **options)
    agent = DQN(envs.single_observation_space, envs.single_action_space, "classic", device="cpu")
    agent.learn(envs, 40, tmp_path)
    assert (agent.env_id, agent.env_arguments) == (envs.env_id, envs.arguments)
    resumed = ["train", "--resume", "--out", str(tmp_path), "--device", "cpu", "--final-episodes", "1"]
    named._trusted.clear()
    ended = run_here([*resumed, "--steps", "60", "--import", OWN])
    assert ended.code == 0, ended.err
    assert re.search(r"resumed at step 4\d, exactly", ended.err), ended.err
    again = DQN.load(tmp_path, "cpu")
    assert again.env_arguments == envs.arguments
    with pytest.raises(InvalidRun, match="the arguments of the environments must be "):
        again.learn(make_vec(Line, 2, **(options | {"wrappers": []})), 10, tmp_path, resume=True)
    made = make_vec(str(again.env_id), 2, 0, str(again.protocol), **again.env_arguments)
    assert evaluate(again, made, 2).episodes == 2


def test_an_older_run_of_a_class_had_no_name_for_it(tmp_path: Path) -> None:
    envs = make_vec(Line, 2)
    agent = DQN(envs.single_observation_space, envs.single_action_space, "classic", device="cpu")
    agent.learn(envs, 40, tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"env": None}))
    DQN.load(tmp_path, "cpu").learn(make_vec(Line, 2), 20, tmp_path, resume=True)
    config = json.loads(path.read_text())
    assert (config["env"], config["resumed"][0]["exact"]) == (f"{OWN}:Line", True)


def test_a_run_without_arguments_goes_on_without_any(tmp_path: Path) -> None:
    envs = make_vec(Line, 2)
    agent = DQN(envs.single_observation_space, envs.single_action_space, "classic", device="cpu")
    agent.learn(envs, 20, tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    assert config["env_arguments"] == {}
    limited = make_vec(Line, 2, max_episode_steps=3)
    with pytest.raises(InvalidRun, match=r"the arguments of the environments must be \{\} as in the run"):
        agent.learn(limited, 20, tmp_path, resume=True)
    del config["env_arguments"]  # an older run, of which nobody knows
    path.write_text(json.dumps(config))
    DQN.load(tmp_path, "cpu").learn(limited, 20, tmp_path, resume=True)
    assert json.loads(path.read_text())["env_arguments"] == {"max_episode_steps": 3}


def test_checkpoints_of_older_versions_tell_by_their_network_and_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"max_episode_steps": 7}')
    assert make_arguments(tmp_path, "ALE/Pong-v5", {}, 18, (2, 84, 84)) == {
        "full_action_space": True,
        "frame_stack": 2,
        "max_episode_steps": 7,
    }
    assert make_arguments(tmp_path, "CartPole-v1", {}, 18, (2, 84, 84)) == {"max_episode_steps": 7}
    assert make_arguments(tmp_path, "ALE/Pong-v5", {"frame_stack": 3}, 18, (3, 84, 84)) == {"frame_stack": 3}
    assert make_arguments(tmp_path / "a" / "b" / "c", "ALE/Pong-v5", {}, 6, (4, 84, 84)) == {}


def test_a_command_line_makes_the_run_again(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    told = shlex.split(command_of(config))
    assert read_train(told[2:]).env_kwargs == ARGUMENTS["env_kwargs"]
    assert list(read_train(told[2:]).wrappers) == ARGUMENTS["wrappers"]
    called = command_of(config | {"env": f"{OWN}:Line(n=20)"})
    assert shlex.split(called)[2:4] == ["--env", f"{OWN}:Line(n=20)"]


def test_evaluate_plays_the_same_environment(run: Path, tmp_path: Path) -> None:
    refused = run_here(["evaluate", str(run), "--episodes", "2", "--video", str(tmp_path / "films")])
    assert refused.code == 2
    assert f"the environment '{OWN}:Line' is code of the module '{OWN}'" in refused.err
    assert not (tmp_path / "films").exists()
    flags = ["--episodes", "3", "--video", str(tmp_path / "films"), "--json", "--import", OWN]
    ended = run_here(["evaluate", str(run), *flags])
    assert ended.code == 0, ended.err
    figures = json.loads(ended.out)
    assert figures["env_arguments"] == ARGUMENTS
    assert set(figures["returns"]) <= {15.0, 0.0}
    (film,) = (tmp_path / "films").iterdir()
    assert film.name.startswith("Line-step")
    shorter = run_here(["evaluate", str(run), "--episodes", "2", "--max-episode-steps", "2", "--json", "--import", OWN])
    assert max(json.loads(shorter.out)["lengths"]) == 1


@pytest.mark.slow
def test_processes_play_the_same_environment(run: Path) -> None:
    flags = ["--episodes", "2", "--processes", "2", "--json", "--import", OWN]
    ended = run_here(["evaluate", *map(str, sorted(run.glob("checkpoints/step_*"))), *flags])
    assert ended.code == 0, ended.err
    assert [each["env_arguments"] for each in json.loads(ended.out)] == [ARGUMENTS] * 2


def test_a_report_shows_an_episode(run: Path) -> None:
    (section,) = insight_sections(run, episodes=1, device="cpu")
    assert f"--import {OWN}" in str(section.values)
    import_module(OWN)
    assert len(insight_sections(run, episodes=1, device="cpu")) == 2


def test_environments_without_a_name_go_on_in_python_alone(tmp_path: Path) -> None:
    def make() -> Any:
        return make_vec(lambda: Line(3), 2)

    envs = make()
    agent = DQN(envs.single_observation_space, envs.single_action_space, "classic", device="cpu")
    agent.learn(envs, 40, tmp_path)
    for command in (["evaluate", str(tmp_path)], ["train", "--resume", "--out", str(tmp_path)]):
        ended = run_here(command)
        assert ended.code == 2
        assert "from Python, or train in" in ended.err
        assert "classes and functions of a module" in ended.err
    DQN.load(tmp_path, "cpu").learn(make(), 20, tmp_path, resume=True)


def test_the_working_folder_is_searched_for_modules_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lines_of_mine.py").write_text(
        f"import {OWN} as own\nclass Mine(own.Line): pass\nclass Half(own.Times): pass\n"
    )
    sys.modules.pop("lines_of_mine", None)
    flags = {"env": "lines_of_mine:Mine", "wrappers": "lines_of_mine:Half(by=0.5)", "steps": 60}
    ended = run_here(trained(Path("run"), **flags))
    assert ended.code == 0, ended.err
    sys.modules.pop("lines_of_mine")
    assert run_here(["evaluate", "run", "--episodes", "1", "--import", "lines_of_mine"]).code == 0


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({"env_kwargs.sizes": "3"}, "unexpected keyword argument 'sizes'"),
        ({"env_kwargs.render_mode": "human"}, "must not hold 'render_mode'"),
        ({"wrappers": f"{OWN}:None"}, "must be named MODULE:NAME|has no class"),
        ({"wrappers": f"{OWN}:nothing"}, "must return an environment"),
        ({"wrappers": "no_such_module:W"}, "'no_such_module' cannot be imported"),
        ({"wrappers": f"{OWN}:Times(by=)"}, "the arguments of the wrapper must be key=value"),
        ({"wrappers": f"{OWN}:Times,"}, "names must be MODULE:NAME"),
        ({"env": f"{OWN}:Circle"}, "has no class or function 'Circle'"),
        ({"env": "ALE/Pong-v5", "env_kwargs.size": "3"}, "must be among mode, difficulty and obs_type"),
        ({"env-kwargs": "3"}, "must name an argument, as --env-kwargs.size 5 does"),
    ],
)
@pytest.mark.parametrize("preset", ["classic", None])
def test_mistakes_leave_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: dict[str, str], why: str, preset: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    command = {"--env": f"{OWN}:Line", "--steps": "60"} | ({} if preset is None else {"--preset": preset})
    command |= {f"--{name.replace('_', '-')}": value for name, value in flags.items()}
    ended = run_here(["train", *words(command)])
    assert ended.code == 2
    assert len(ended.err.strip().splitlines()) == 1
    assert re.search(why, ended.err), ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-1e3", -1000.0),
        ("true", True),
        ("False", False),
        ("None", None),
        ("null", None),
        ("red", "red"),
        ('"5"', "5"),
        ("[1, 2]", [1, 2]),
        ('{"a": 1}', {"a": 1}),
        ("{a = 1}", {"a": 1}),
        ("0x10", 16),
        ("inf", "inf"),
        ("NaN", "NaN"),
        ("1979-05-27", "1979-05-27"),
        ("5\nother = 6", "5\nother = 6"),
        ("[" * 5000, "[" * 5000),
        ("--steps", "--steps"),
    ],
)
def test_values_are_toml_or_json_or_text(text: str, value: Any) -> None:
    rest, values = take_env_kwargs(["--steps", "5", "--env-kwargs.some-key", text, f"--env_kwargs.other={text}"])
    assert (rest, values) == (["--steps", "5"], {"some_key": value, "other": value})
    assert [type(each) for each in values.values()] == [type(value)] * 2

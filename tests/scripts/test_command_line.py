"""Command lines from dataclasses whose fields are in groups."""

import contextlib
import dataclasses
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import pytest

from pixelq.agents import AgentConfig, Exponential, InvalidConfig, Linear, preset
from pixelq.agents.errors import InvalidRun, RunFailed, UserError
from pixelq.agents.runs.folder import RunFolder
from pixelq.envs import PROTOCOLS
from pixelq.scripts.command_line import closest_flag, integer, parse
from pixelq.scripts.flags.evaluate import EvaluateArgs
from pixelq.scripts.flags.evaluate import read as read_evaluate
from pixelq.scripts.flags.report import read as read_report
from pixelq.scripts.flags.train import ProtocolName, TrainArgs, defaults_of
from pixelq.scripts.flags.train import read as read_train
from pixelq.scripts.main import VERBS
from tests.support.runs import run_here


@dataclass(frozen=True)
class Args:
    """Do something."""

    agent: AgentConfig = field(default_factory=lambda: preset("quick_dqn"))
    """The settings of
    the agent."""


@dataclass(frozen=True)
class Broken:
    """Do something with a flag whose text has two lines."""

    count: int = 0
    """Number of
    things."""


def help_of(kind: type) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as stop:
        parse(kind, "train", ["--help"])
    assert stop.value.code == 0
    return out.getvalue()


def test_help_shows_the_fields_by_group() -> None:
    expected: dict[str, list[str]] = {}
    for each in dataclasses.fields(AgentConfig):
        expected.setdefault(each.metadata["group"], []).append(each.name)
    found: dict[str, list[str]] = {}
    for line in help_of(TrainArgs).splitlines():
        if heading := re.search(r"agent: (.+) options", line):
            found[heading[1]] = []
        elif found and (flag := re.match(r"\W*--agent\.([a-z-]+)", line)):
            list(found.values())[-1].append(flag[1].replace("-", "_"))
    assert found == expected


def test_the_text_of_the_field_stands_above_its_first_group() -> None:
    lines = help_of(Args).splitlines()
    (first,) = (i for i, line in enumerate(lines) if "agent: returns and targets options" in line)
    assert "The settings of the agent." in "".join(lines[first + 1 : first + 3])  # a line may be the frame's
    assert "".join(lines).count("The settings of the agent.") == 1


def test_a_signal_while_flags_are_read_is_no_wrong_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        sys.exit(143)

    monkeypatch.setattr("tyro.cli", stopped)
    with pytest.raises(SystemExit, match="143"):
        parse(Args, "train", [])


def test_train_without_flags_is_what_its_fields_say() -> None:
    assert read_train([]) == TrainArgs()


def test_line_breaks_of_the_source_are_not_those_of_the_help() -> None:
    assert "Number of things." in help_of(Broken)


def test_flags_set_their_fields_and_leave_the_others() -> None:
    words = ["--agent.gamma", "0.5", "--agent.batch_size=7", "--agent.no-prioritized", "--agent.reward-clip", "None"]
    start = preset("rainbow")
    expected = dataclasses.replace(start, gamma=0.5, batch_size=7, prioritized=False, reward_clip=None)
    assert parse(Args, "train", words, Args(start)).agent == expected
    assert parse(Args, "train", []).agent == preset("quick_dqn")


def test_schedules_are_read_as_they_are_shown() -> None:
    words = [
        "--agent.learning-rate",
        "linear(1e-3, 1e-5, 100000)",
        "--agent.n-step",
        "exponential(10, end=3, steps=1e4)",
    ]
    agent = parse(Args, "train", [*words, "--agent.epsilon", "0.1", "--agent.learning-rate-end", "0"]).agent
    assert agent.learning_rate == Linear(1e-3, 1e-5, 100_000)
    assert (agent.n_step, agent.epsilon) == (Exponential(10, 3, 10_000), 0.1)
    assert parse(Args, "train", ["--agent.epsilon", "None"], Args(agent)).agent.epsilon is None
    again = parse(Args, "train", ["--agent.learning-rate", str(agent.learning_rate)]).agent
    assert again.learning_rate == agent.learning_rate


def test_the_errors_are_those_of_the_configuration() -> None:
    with pytest.raises(InvalidConfig) as refusal:
        AgentConfig(gamma=1.5)
    with pytest.raises(UserError) as error:
        parse(Args, "train", ["--agent.gamma", "1.5"])
    assert str(error.value) == str(refusal.value) == "gamma must be in [0, 1], got 1.5"


def test_flags_are_read_without_pytorch(tmp_path: Path) -> None:
    """Nor are the environments loaded: help, lists and mistakes are answered at once."""
    help_of_all = [[verb, "--help"] for verb in VERBS]
    mistakes = [["trian"], ["train", "--stepz", "5"], ["train", "--steps", "many"], ["train", "--preset", "quikc"]]
    mistakes += [["train", "--agent.gamma", "2"], ["evaluate"], ["report"], ["watch"], ["status"]]
    mistakes += [["benchmark", "--turns", "0"], ["train", "--resume", "--out", "nowhere"]]
    mistakes += [[verb, "nowhere"] for verb in ("evaluate", "report", "watch", "compare", "status", "presets")]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"env": null, "protocol": null, "agent": {}}')
    others = [["status", "run"], [], ["--help"], ["--version"], ["presets"], ["--tyro-print-completion", "zsh"]]
    others += [["presets", "quick"], ["evaluate", "--list"]]
    program = f"""
import sys
from pixelq.scripts.main import main
assert [main(words) for words in {[*help_of_all, *others]}] == [0] * {len(help_of_all) + len(others)}
assert [main(words) for words in {mistakes}] == [2] * {len(mistakes)}
print(sorted({{"torch", "rich", "gymnasium", "ale_py", "matplotlib", "PIL", "pixelq.envs"}}.intersection(sys.modules)))
assert [main(["train", "--env", env]) for env in ("Pong", "ALE/Pogn-v5")] == [2, 2]
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-2:]) == (0, ["[]", "False"]), done.stderr


@pytest.mark.parametrize(
    ("name", "protocol"), [("quick", "envpool"), ("dqn", "sticky"), ("classic", None), ("minatar_pqn", None)]
)
def test_presets_of_other_than_atari_games_have_no_protocol(name: str, protocol: str | None) -> None:
    lines = [line.split() for line in run_here(["presets"]).out.splitlines()]
    assert [line[1] for line in lines if line[0] == name] == [protocol or "-"]
    assert run_here(["presets", name]).out.startswith(f"{name}, protocol {protocol}\n" if protocol else f"{name}\n")


def test_version() -> None:
    assert run_here(["--version"]) == (0, f"pixelq {version('pixelq')}\n", "")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1000000", 10**6), ("1_000_000", 10**6), ("1e6", 10**6), ("2.5E3", 2500), ("1e12", 10**12), ("7", 7)],
)
def test_integers(text: str, value: int) -> None:
    assert integer(text) == value
    args = parse(TrainArgs, "train", ["--steps", text, "--agent.reset-every", text], defaults_of("quick_dqn"))
    assert (args.steps, args.agent.reset_every) == (value, value)


@pytest.mark.parametrize("text", ["1.5", "1e-1", "nan", "inf", "1e19", "1e1000000000", "0x10", "many", "1,000", ""])
def test_what_is_no_integer(text: str) -> None:
    with pytest.raises(ValueError, match="is not an integer"):
        integer(text)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--agent.lr", "--agent.learning-rate"),
        ("--lr", "--agent.learning-rate"),
        ("--learning_rate", "--agent.learning-rate"),
        ("--agent.bs", "--agent.batch-size"),
        ("--gamma=0.9", "--agent.gamma"),
        ("--agent.munch", "--agent.munchausen"),
        ("--agent.seed", "--seed"),
        ("--stepz", "--steps"),
        ("--num_env", "--num-envs"),
        ("--checkpoint", "--checkpoint-every"),
        ("--agent.nodouble", "--agent.no-double"),
        ("--callbacks", "--callback"),  # the fields have these names
        ("--modules", "--import"),
        ("--imports", "--import"),
        ("--env-kwargs", "--env-kwargs.KEY"),
        ("--qqqqqq", None),
        ("-", None),
    ],
)
def test_the_flag_that_was_meant(typed: str, meant: str | None) -> None:
    assert closest_flag(typed, TrainArgs) == meant


def test_a_run_whose_full_action_space_had_no_effect_goes_on_without_it(tmp_path: Path) -> None:
    """Outside Atari it was accepted in earlier versions."""
    made = {"preset": "classic", "protocol": "sticky", "num_envs": 2, "seed": 0, "steps": 9, "full_action_space": True}
    for env, kept in (("CartPole-v1", False), ("ALE/Pong-v5", True)):
        (tmp_path / "config.json").write_text(json.dumps(made | {"env": env, "agent": preset("classic").to_dict()}))
        assert read_train(["--resume", "--out", str(tmp_path)]).full_action_space is kept


def test_no_flag_is_suggested_for_what_has_none() -> None:
    assert closest_flag("--checkpoints", EvaluateArgs) is None  # paths without a flag


def test_the_protocols_are_those_of_the_environments() -> None:
    assert get_args(ProtocolName) == tuple(PROTOCOLS)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_completion_knows_each_verbs_own_flags(tmp_path: Path) -> None:
    ended = run_here(["--tyro-print-completion", "bash"])
    assert (ended.code, ended.err) == (0, "")
    (tmp_path / "completion").write_text(ended.out)
    wanted = ["pixelq ''", "pixelq watch --", "pixelq presets --", "pixelq train --agent.learning"]
    program = "source ./completion\n" + "\n".join(
        f"COMP_WORDS=({line}); COMP_CWORD={len(line.split()) - 1}; COMPREPLY=(); _tyro_pixelq; echo ${{COMPREPLY[@]}}"
        for line in wanted
    )
    done = subprocess.run(["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    verbs, watch, presets, rates = (set(line.split()) - {"-h", "--help"} for line in done.stdout.splitlines())
    assert verbs == set(VERBS)
    assert watch == {"--host", "--port", "--allow-host", "--open", "--no-open"}
    assert presets == set()
    assert rates == {f"--agent.learning-{end}" for end in ("starts", "rate", "rate-end", "rate-steps")}
    assert run_here(["train", "--tyro-print-completion", "bash"]).code == 2


def test_choices_are_listed_as_they_are_written() -> None:
    with pytest.raises(UserError, match=r"^--suite must be one of .*atari26.*, got 'atari'$"):
        parse(EvaluateArgs, "evaluate", ["x", "--suite", "atari"])


@pytest.mark.parametrize(
    ("sentence", "printed"),
    [
        ("use `resume=True` to continue, or another `out`", "use --resume to continue, or another --out"),
        ("give `which=last` or fewer `evaluation_episodes`", "give --which last or fewer --evaluation-episodes"),
        ("run `pip install pygame`, see `DQN.learn` and `a.b`", "run `pip install pygame`, see `DQN.learn` and `a.b`"),
    ],
)
def test_errors_name_flags_on_the_command_line_alone(
    sentence: str, printed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, code in ((InvalidConfig, 2), (RunFailed, 1)):

        def fail(_: object, kind: type[Exception] = kind) -> None:
            raise kind(sentence)

        monkeypatch.setattr("pixelq.scripts.presets.main", fail)
        assert run_here(["presets"]) == (code, "", f"pixelq presets: {printed}\n")


def test_a_folder_in_use_is_refused_in_the_callers_words(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InvalidRun) as refusal:
        RunFolder(tmp_path)
    held = f"{tmp_path} already holds a run (config.json)"
    assert str(refusal.value) == f"{held}; use `resume=True` to continue it, or another `out`"
    ended = run_here(["train", "--env", "pixelq/Catch-v0", "--preset", "classic", "--out", str(tmp_path)])
    assert ended == (2, "", f"pixelq train: {held}; use --resume to continue it, or another --out\n")


@pytest.mark.parametrize(
    ("words", "name", "protocol"),
    [
        ("", "quick", "envpool"),
        ("--preset quick_dqn", "quick_dqn", "sticky"),
        ("--preset nature", "nature", "nature"),
        ("--preset der", "der", "100k"),
        ("--preset nature --protocol sticky", "nature", "sticky"),
        ("--env CartPole-v1", "classic", "sticky"),
        ("--env=CartPole-v1", "classic", "sticky"),
        ("--env CartPole-v1 --preset dqn", "dqn", "sticky"),
        ("--env pixelq/Catch-v0", "quick", "envpool"),
    ],
)
def test_the_preset_suits_the_observation_and_the_protocol_the_preset(words: str, name: str, protocol: str) -> None:
    args = read_train(words.split())
    assert (args.preset, args.protocol, args.agent) == (name, protocol, preset(name))


def test_the_preset_suits_an_environment_that_a_module_registers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "registers_vectors.py").write_text(
        "import gymnasium\ngymnasium.register('tests/Vectors-v0', 'gymnasium.envs.classic_control:CartPoleEnv')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for names in ("registers_vectors", "csv, registers_vectors"):
        assert read_train(["--import", names, "--env", "tests/Vectors-v0"]).preset == "classic"


@pytest.mark.parametrize(("read", "takes_runs"), [(read_train, False), (read_evaluate, True), (read_report, True)])
def test_modules_to_import_stand_with_commas_between_them(read: Any, takes_runs: bool, tmp_path: Path) -> None:
    folder = [str(tmp_path)] if takes_runs else []
    (tmp_path / "config.json").write_text('{"env": null, "protocol": null, "agent": {}}')
    (tmp_path / "agent.json").touch()
    assert read([*folder, "--import", "csv,json", "--import", "os"]).modules == ("csv", "json", "os")
    with pytest.raises(UserError, match=r"^--import must be MODULE or MODULE,MODULE, got 'csv,'$"):
        read([*folder, "--import", "csv,"])

"""Wrong input: exit code 2 and one line on stderr: what is wrong, and what would be right; nothing is left behind."""

import io
import json
import math
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, Text

from pixelq.agents import DQN, PRESETS, AgentConfig
from pixelq.agents.storage.pointers import checkpoint_folder
from pixelq.envs import InvalidEnv
from pixelq.scripts.main import VERBS, main
from tests.support.cases import representative
from tests.support.runs import TINY, words
from tests.support.small_agents import seal


def train_arguments(*more: str, **changes: str) -> list[str]:
    """A short training's command line; a keyword replaces a flag."""
    return ["train", *words(TINY, **changes), *more]


class DictObservations(gymnasium.Env[Any, Any]):
    observation_space = Dict({"eye": Box(0, 1, (3,), np.float32), "ear": Text(5)})
    action_space = Discrete(2)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}


gymnasium.register("tests/DictObservations-v0", DictObservations)


@pytest.fixture
def refused(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[list[str]], str]:
    """Runs a command in an empty folder, asserts that it is refused as wrong input should be, and returns why."""
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "file").write_text("kept")
    monkeypatch.chdir(folder)

    def run(arguments: list[str]) -> str:
        capfd.readouterr()
        with warnings.catch_warnings(record=True) as printed:  # pytest would swallow them
            for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
                warnings.simplefilter("ignore", kind)  # as Python does by itself
            assert main(arguments) == 2
        assert [str(warning.message) for warning in printed] == []
        out, err = capfd.readouterr()  # of the process, so that what C libraries print counts too
        assert out == ""
        assert err.endswith("\n")
        assert err.count("\n") == 1, err
        assert err.startswith(f"pixelq {arguments[0]}: ")
        assert "Traceback" not in err
        assert [path.name for path in folder.iterdir()] == ["file"]
        return err.split(": ", 1)[1]

    return run


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bad_input") / "run"
    assert main([*train_arguments(out=str(out))]) == 0
    return out


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of a run of 200 steps, to be damaged."""
    return Path(shutil.copytree(finished_run, tmp_path / "run", symlinks=True))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"env": "ALE/Pnog-v5"}, ["'ALE/Pnog-v5'", "did you mean 'ALE/Pong-v5'?"]),
        ({"env": "Cartpol-v1"}, ["'Cartpol-v1'", "did you mean 'CartPole-v1'?"]),
        ({"env": "CartPole-v7"}, ["did you mean 'CartPole-v1'?"]),
        ({"env": "PongNoFrameskip-v4"}, ["frame skip", "use 'ALE/Pong-v5'"]),
        ({"env": "qqqqqqqq"}, ["unknown environment 'qqqqqqqq'", "such as 'ALE/Pong-v5'"]),
        ({"env": "nosuchmodule:Game-v0"}, ["the module 'nosuchmodule' cannot be imported"]),
        ({"env": "Pendulum-v1"}, ["Box(-2.0, 2.0, (1,), float32)", "Discrete"]),
        ({"env": "tests/DictObservations-v0"}, ["'ear', which cannot be laid out as numbers", "FilterObservation"]),
        ({"preset": "quikc"}, ["unknown preset 'quikc'", "did you mean 'quick'?"]),
        ({"preset": "zzzz"}, ["unknown preset 'zzzz'", f"there are {', '.join(PRESETS)}"]),
        ({"protocol": "natur"}, ["--protocol must be one of sticky, nature, 100k, envpool, got 'natur'"]),
        ({"device": "tpu"}, ["unknown device 'tpu'", "auto, cpu or cuda"]),
        ({"device": "meta"}, ["device 'meta'", "auto, cpu or cuda"]),
        ({"device": "mps"}, ["device 'mps'", "auto, cpu or cuda"]),
        ({"seed": "-1"}, ["--seed must be at least 0, got -1"]),
        ({"steps": "many"}, ["--steps must be an integer, got 'many'"]),
        ({"steps": "1.5"}, ["--steps must be an integer, got '1.5'"]),
        ({"agent.learning_rate": "fast"}, ["--agent.learning-rate must be a number or a schedule", "'fast'"]),
        ({"agent.gamma": "lineer(0.9, 0.99, 9)"}, ["--agent.gamma must be a number or", "did you mean linear?"]),
        ({"agent.gamma": "linear(0.9, 0.99)"}, ["--agent.gamma: the schedule is linear(start, end, steps)"]),
        (
            {"agent.epsilon": "here:function"},
            ["--agent.epsilon must be a number, a schedule or None", "'here:function'"],
        ),
        ({"agent.learning_rate": "-0.1"}, ["learning_rate must be greater than 0, got -0.1"]),
        ({"agent.gamma": "1.5"}, ["gamma must be in [0, 1], got 1.5"]),
        ({"agent.encoder": "resnet"}, ["'resnet'", "encoder must be one of", "nature"]),
        ({"agent.encoder": "nature"}, ["NatureCNN", "36×36", "10×5"]),
        ({"agent.batch_size": "101"}, ["batch_size must be at most replay_capacity, got 101"]),
        ({"agent.replay_capacity": str(10**12)}, ["replay", "GB", "lower replay_capacity"]),
        (
            {"agent.replay_capacity": str(10**13)},
            ["replay_capacity must be at most 1,000,000,000,000, got 10000000000000"],
        ),
        ({"agent.reward_clip": "1e300"}, ["reward_clip must be within ±1e+38 or None, got 1e+300"]),
        ({"agent.v_min": "1", "agent.v_max": "1.0000000000000002"}, ["v_min must be less than v_max, got 1.0"]),
        ({"agent.hidden": str(10**11)}, ["not enough memory for a network of that size", "lower hidden"]),
        ({"num_envs": "101"}, ["--num-envs must be at most the 100 rows of the replay, got 101"]),
        ({"num_envs": "60"}, ["100 rows", "60 environments", "at least 240", "fewer environments"]),
        ({"out": "file"}, ["file cannot be written", "another --out"]),
        ({"out": "file/run"}, ["file/run cannot be written (Not a directory)", "another --out"]),
    ],
    ids=lambda value: "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_train_refuses(refused: Callable[[list[str]], str], changes: dict[str, str], words: list[str]) -> None:
    why = refused(train_arguments(**changes))
    for word in words:
        assert word in why


COUNTS = {
    "steps": "--steps",
    "num_envs": "--num-envs",
    "checkpoint_every": "--checkpoint-every",
    "evaluate_every": "--evaluate-every",
    "log_every": "--log-every",
    "keep": "--keep",
    "evaluation_episodes": "--evaluation-episodes",
    "final_episodes": "--final-episodes",
    "agent.batch_size": "batch_size",
    "agent.replay_capacity": "replay_capacity",
    "agent.learning_starts": "learning_starts",
    "agent.train_every": "train_every",
    "agent.n_step": "n_step",
}


@pytest.mark.parametrize("value", representative(["0", "-3"], keep=["0"]))
@pytest.mark.parametrize("flag", COUNTS)
def test_train_refuses_counts_below_one(refused: Callable[[list[str]], str], flag: str, value: str) -> None:
    why = refused(train_arguments(**{flag: value}))
    assert why.startswith(COUNTS[flag])
    assert "must be" in why
    assert "at least 1" in why
    assert value in why


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (train_arguments("--stepz", "5"), ["unknown flag --stepz; did you mean --steps?"]),
        (
            train_arguments("--agent.batchsize", "5"),
            ["flag --agent.batchsize; did you mean --agent.batch-size?"],
        ),
        (train_arguments("stray"), ["stray", "pixelq train --help"]),
        (train_arguments("--agent.double", "True"), ["True", "pixelq train --help"]),
        (train_arguments("--checkpoint-every"), ["--checkpoint-every needs a value"]),
        (["train", "--preset"], ["--preset", "expected one argument"]),
        (["train", "--preset", "quick", "--agent.epsilon-end", "0.2"], ["--agent.epsilon-end has no effect", "None"]),
        (train_arguments("--resume"), ["--resume needs --out"]),
        (train_arguments("--resume", out="nowhere"), ["no run in nowhere", "leave out --resume"]),
        (train_arguments("--resume", out="file"), ["no run in file", "leave out --resume"]),
        (train_arguments(out=""), ["an argument is empty", "pixelq train --help"]),
        (["evaluate", ""], ["an argument is empty"]),
        (["evaluate"], ["RUN_OR_CHECKPOINT"]),
        (["evaluate", "nowhere"], ["nowhere does not exist", "give the folder of a run"]),
        (["evaluate", "."], ["no checkpoint in .", "give the folder of a run"]),
        (["evaluate", "file"], ["no checkpoint in file"]),
        (["evaluate", "nowhere", "--json", "new/figures.json"], ["nowhere does not exist"]),
        (["evaluate", ".", "--episodes", "0"], ["--episodes must be at least 1, got 0"]),
        (["evaluate", ".", "--episodes", "-2"], ["--episodes must be at least 1, got -2"]),
        (["evaluate", ".", "--episodes", "few"], ["--episodes must be an integer, got 'few'"]),
        (["evaluate", ".", "--seed", "-1"], ["--seed must be at least 0, got -1"]),
        (["evaluate", ".", "--protocol", "quick"], ["'quick'", "--protocol", "sticky"]),
        (["evaluate", ".", "--jsn"], ["unknown flag --jsn; did you mean --json?"]),
        (["evaluate", ".", "another"], ["no checkpoint in ."]),
        (["presets", "--all"], ["--all", "pixelq presets --help"]),
    ],
    ids=lambda value: " ".join(word for word in value if word not in words(TINY))[:40],
)
def test_flags_that_do_not_fit(refused: Callable[[list[str]], str], arguments: list[str], words: list[str]) -> None:
    why = refused(arguments)
    for word in words:
        assert word in why
    assert "Argument helptext" not in why


def test_flags_that_do_not_fit_where_the_terminal_is_ascii(
    refused: Callable[[list[str]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = refused(train_arguments("--stepz", "5"))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert refused(train_arguments("--stepz", "5")) == expected


def test_unknown_verbs(capfd: pytest.CaptureFixture[str]) -> None:
    hints = {"trian": "did you mean train?", "qq": f"there are {', '.join(VERBS)}"}
    for verb, hint in hints.items():
        assert main([verb]) == 2
        assert capfd.readouterr() == ("", f"pixelq: unknown verb '{verb}'; {hint}\n")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("verb", ["train", "evaluate"])
def test_cuda_asked_for_and_absent(refused: Callable[[list[str]], str], run: Path, verb: str) -> None:
    arguments = train_arguments(device="cuda") if verb == "train" else ["evaluate", str(run), "--device", "cuda"]
    why = refused(arguments)
    assert "no CUDA GPU" in why
    assert "use auto or cpu" in why


@pytest.mark.parametrize("device", ["tpu", "meta", "mps"])
def test_evaluate_refuses_unknown_devices(refused: Callable[[list[str]], str], run: Path, device: str) -> None:
    why = refused(["evaluate", str(run), "--device", device])
    assert f"device '{device}'" in why
    assert "auto, cpu or cuda" in why


def test_what_cannot_be_filmed_is_refused_before_the_episodes_are_played(
    refused: Callable[[list[str]], str], run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def blind(env_id: str) -> None:
        raise InvalidEnv(f"{env_id!r} cannot be filmed: it has no render mode 'rgb_array'")

    monkeypatch.setattr("pixelq.scripts.evaluate.make_filmed", blind)
    monkeypatch.setattr(
        "pixelq.agents.evaluation.scoring.evaluate", lambda *_, **__: pytest.fail("episodes were played")
    )
    why = refused(["evaluate", str(run), "--video", str(tmp_path / "films")])
    assert why.strip() == "'pixelq/Catch-v0' cannot be filmed: it has no render mode 'rgb_array'; leave out --video"


def test_a_reader_who_leaves_gets_no_traceback() -> None:
    command = [sys.executable, "-m", "pixelq.scripts.main", "presets"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (1, "")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--json", "file/figures.json"], ["file/figures.json cannot be written", "another --json file"]),
        (["--video", "file"], ["file cannot be written", "another --video folder"]),
        (["--video", "file/films"], ["file/films cannot be written", "another --video folder"]),
    ],
)
def test_results_that_could_not_be_written_are_refused_before_the_episodes_are_played(
    refused: Callable[[list[str]], str],
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    words: list[str],
) -> None:
    monkeypatch.setattr(
        "pixelq.agents.evaluation.scoring.evaluate", lambda *_, **__: pytest.fail("episodes were played")
    )
    why = refused(["evaluate", str(run), *flags])
    for word in words:
        assert word in why


def test_another_run_in_out_is_left_alone(refused: Callable[[list[str]], str], run: Path) -> None:
    def contents() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}

    before = contents()
    why = refused(train_arguments(out=str(run)))
    assert f"{run} already holds a run" in why
    assert "--resume" in why
    assert "another --out" in why
    assert contents() == before


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def describe(checkpoint: Path, **changes: Any) -> None:
    """Changes fields of a checkpoint's description."""
    path = checkpoint / "agent.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def swap_network(checkpoint: Path) -> None:
    """Puts the weights of a wider network in the place of the checkpoint's own."""
    config = json.loads((checkpoint / "agent.json").read_text())["config"]
    wider = DQN(Box(0, 255, (1, 10, 5), np.uint8), Discrete(3), AgentConfig.from_dict({**config, "hidden": 9}))
    wider.save(checkpoint.parent / "wider")
    shutil.copy(checkpoint.parent / "wider" / "network.safetensors", checkpoint)


GENERATOR = {"bit_generator": "PCG64", "state": {"state": -1, "inc": 1}, "has_uint32": 0, "uinteger": 0}
DAMAGES: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "weights cut off": (lambda c: cut(c / "network.safetensors"), ["network.safetensors", "is damaged", "use another"]),
    "weights empty": (lambda c: (c / "network.safetensors").write_bytes(b""), ["network.safetensors", "is damaged"]),
    "weights gone": (lambda c: (c / "network.safetensors").unlink(), ["network.safetensors", "another checkpoint"]),
    "optimiser cut off": (lambda c: cut(c / "learner.safetensors"), ["damaged", "use another checkpoint"]),
    "JSON cut off": (lambda c: cut(c / "agent.json"), ["agent.json is damaged", "use another checkpoint"]),
    "JSON of bytes": (lambda c: (c / "agent.json").write_bytes(b"\xff\xfe\x00"), ["agent.json is damaged"]),
    "JSON of something else": (lambda c: (c / "agent.json").write_text("[]"), ["agent.json is not a pixelq"]),
    "another format": (lambda c: describe(c, format=99), ["format 99", "reads formats 2 and 3"]),
    "another architecture": (
        swap_network,
        ["does not describe an agent", "must be torch.float32 [8, 384], got torch.float32 [9, 384]"],
    ),
    "another configuration": (lambda c: describe(c, config={"gama": 1}), ["unknown field 'gama'"]),
    "steps of words": (lambda c: describe(c, step="many"), ["does not describe an agent", "many"]),
    "steps without end": (
        lambda c: describe(c, step=math.inf),
        ["does not describe an agent", "step must be an integer of at least 0, got inf"],
    ),
    "half a step": (lambda c: describe(c, step=1.5), ["step must be an integer of at least 0, got 1.5"]),
    "updates below 0": (lambda c: describe(c, updates=-1), ["updates must be an integer of at least 0, got -1"]),
    "observations of another type": (
        lambda c: describe(c, observation_space={"shape": [1, 10, 5], "dtype": "float32"}),
        ["other observations or actions than pixelq/Catch-v0"],
    ),
    "observations of no type": (
        lambda c: describe(c, observation_space={"shape": [1, 10, 5], "dtype": None}),
        ["does not describe an agent", "None"],
    ),
    "a generator of another size": (lambda c: describe(c, rng=GENERATOR), ["does not describe an agent", "-1"]),
    "a shape beyond memory": (
        lambda c: describe(c, observation_space={"shape": [10**12], "dtype": "float32"}),
        ["does not describe an agent", "shape of the observations must be at most 16,777,216 numbers"],
    ),
    "brackets without end": (lambda c: (c / "agent.json").write_text("[" * 100_000), ["agent.json is damaged"]),
    "a number of 5,000 digits": (lambda c: (c / "agent.json").write_text("9" * 5_000), ["agent.json is damaged"]),
    "no environment": (lambda c: describe(c, env=None), ["does not say which environment", "Python"]),
    "unknown environment": (lambda c: describe(c, env="CartPolo-v1"), ["did you mean 'CartPole-v1'?"]),
    "another environment": (lambda c: describe(c, env="CartPole-v1"), ["other observations or actions than CartPole"]),
    "no checkpoint": (lambda c: shutil.rmtree(c.parent), ["no checkpoint in "]),
}


OF_LEARNING = {"optimiser cut off", "updates below 0"}
"""Damages that acting does not meet."""


@pytest.mark.parametrize("damage", sorted(DAMAGES.keys() - OF_LEARNING))
def test_evaluate_refuses_damaged_checkpoints(refused: Callable[[list[str]], str], run: Path, damage: str) -> None:
    apply, words = DAMAGES[damage]
    for checkpoint in {path.resolve() for path in (run / "checkpoints").glob("step_*")}:
        apply(checkpoint)
        if damage == "no checkpoint":
            break
        if not damage.endswith("gone"):
            assert "is not what was written" in refused(["evaluate", str(checkpoint)])
        seal(checkpoint)
    why = refused(["evaluate", str(run)])
    for word in words:
        assert word in why


@pytest.mark.parametrize("damage", ["weights cut off", "JSON cut off", "another format", *sorted(OF_LEARNING)])
@pytest.mark.parametrize("sealed", [False, True])
def test_resume_refuses_damaged_checkpoints(
    refused: Callable[[list[str]], str], run: Path, damage: str, sealed: bool
) -> None:
    apply, words = DAMAGES[damage]
    checkpoint = checkpoint_folder(run / "checkpoints" / "latest")
    apply(checkpoint)
    if sealed:
        seal(checkpoint)
    else:
        words = ["cannot be resumed", "is not what was written", "nor any other"]
    metrics = (run / "metrics.csv").read_bytes()
    why = refused(["train", "--resume", "--out", str(run), "--steps", "400"])
    for word in words:
        assert word in why
    assert (run / "metrics.csv").read_bytes() == metrics


def test_resume_refuses_a_damaged_configuration(refused: Callable[[list[str]], str], run: Path) -> None:
    cut(run / "config.json")
    assert "config.json is damaged" in refused(["train", "--resume", "--out", str(run), "--steps", "400"])
    (run / "config.json").unlink()
    os.mkfifo(run / "config.json")
    why = refused(["train", "--resume", "--out", str(run), "--steps", "400"])
    assert f"{run / 'config.json'} cannot be read (no regular file); restore the file" in why


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--env", "CartPole-v1"], ["--env must be pixelq/Catch-v0", "got CartPole-v1", "another --out"]),
        (["--env", "ALE/Pong-v5"], ["--env must be pixelq/Catch-v0", "got ALE/Pong-v5"]),
        (["--agent.gamma", "0.5"], ["--agent.gamma must be 0.99", "got 0.5", "leave the flag out"]),
        (["--agent.hidden", "16"], ["--agent.hidden must be 8", "got 16"]),
        (["--preset", "quick"], ["--preset must be classic", "got quick"]),
        (["--num-envs", "3"], ["--num-envs must be 2", "got 3"]),
        (["--seed", "1"], ["--seed must be 0", "got 1"]),
        (["--steps", "100"], ["has taken 20", "of 100 steps already", "more --steps"]),
        (["--steps", "0"], ["steps"]),
        ([], ["has taken 20", "of 200 steps already", "more --steps"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("--") else "",
)
def test_resume_refuses_other_settings(
    refused: Callable[[list[str]], str], run: Path, flags: list[str], words: list[str]
) -> None:
    metrics = (run / "metrics.csv").read_bytes()
    steps = [] if not flags or flags[0] == "--steps" else ["--steps", "400"]
    why = refused(["train", "--resume", "--out", str(run), *steps, *flags])
    for word in words:
        assert word in why
    assert (run / "metrics.csv").read_bytes() == metrics


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"env": "CartPole-v1"}, ["does not belong to the run", "but to pixelq/Catch-v0, seed 0"]),
        ({"seed": 7}, ["does not belong to the run", "seed 0"]),
        ({"env": 5}, ["config.json is damaged (env must be text, got 5)"]),
        ({"seed": "x"}, ["config.json is damaged (seed must be an integer, got 'x')"]),
        ({"log_every": 1.5}, ["config.json is damaged (log_every must be an integer, got 1.5)"]),
        ({"keep": True}, ["config.json is damaged (keep must be an integer, got True)"]),
        ({"full_action_space": "no"}, ["config.json is damaged (full_action_space must be true or false, got 'no')"]),
        ({"num_envs": None}, ["config.json is damaged (num_envs must be an integer, got None)"]),
        ({"agent": 3}, ["config.json is damaged"]),
    ],
)
def test_resume_refuses_a_changed_configuration(
    refused: Callable[[list[str]], str], run: Path, changes: dict[str, Any], words: list[str]
) -> None:
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | changes))
    why = refused(["train", "--resume", "--out", str(run), "--steps", "400"])
    for word in words:
        assert word in why


def test_resume_refuses_a_changed_agent(refused: Callable[[list[str]], str], run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    config["agent"]["gamma"] = 0.5
    (run / "config.json").write_text(json.dumps(config))
    assert "other settings" in refused(["train", "--resume", "--out", str(run), "--steps", "400"])
    del config["num_envs"]
    (run / "config.json").write_text(json.dumps(config))
    assert "damaged ('num_envs')" in refused(["train", "--resume", "--out", str(run), "--steps", "400"])


@pytest.mark.parametrize("table", ["metrics", "evaluations"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_text(""), "damaged"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "damaged"),
        (lambda path: path.write_text("step,frames\n100,100\n"), "lacks columns"),
        (lambda path: path.unlink(), "no run in"),
    ],
)
def test_resume_refuses_damaged_tables(
    refused: Callable[[list[str]], str], run: Path, table: str, damage: Callable[[Path], Any], words: str
) -> None:
    damage(run / f"{table}.csv")
    assert words in refused(["train", "--resume", "--out", str(run), "--steps", "400"])


def test_resume_refuses_an_evaluation_without_its_mean(refused: Callable[[list[str]], str], run: Path) -> None:
    header, line = (run / "evaluations.csv").read_text().splitlines()[:2]
    step, episodes, _, *others = line.split(",")
    (run / "evaluations.csv").write_text("\n".join([header, ",".join([step, episodes, "", *others])]) + "\n")
    why = refused(["train", "--resume", "--out", str(run), "--steps", "400"])
    assert "evaluations.csv is damaged (mean is '')" in why


@pytest.mark.parametrize("file", ["metrics.csv", "evaluations.csv", "checkpoints/step_0000000301/agent.json"])
def test_what_lies_in_out_is_left_alone(refused: Callable[[list[str]], str], tmp_path: Path, file: str) -> None:
    path = tmp_path / "run" / file
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    why = refused(train_arguments(out=str(tmp_path / "run")))
    assert "already holds" in why
    assert "another --out" in why
    assert path.read_text() == "precious"


def test_a_protocol_that_means_nothing_hinders_no_resuming(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    flags = ["--protocol", "nature", "--final-episodes", "1", "--evaluation-episodes", "1", "--device", "cpu"]
    assert main(["train", "--resume", "--out", str(run), "--steps", "220", *flags]) == 0
    assert json.loads((run / "config.json").read_text())["steps"] >= 220
    capfd.readouterr()


def test_a_refused_train_can_be_corrected_in_the_same_folder(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    for wrong in ({"steps": "0"}, {"checkpoint_every": "0"}, {"device": "tpu"}, {"num_envs": "60"}):
        assert main(train_arguments(out=out, **wrong)) == 2
        assert not Path(out).exists()
    capfd.readouterr()
    assert main(train_arguments(out=out, steps="60")) == 0
    assert (checkpoint_folder(Path(out) / "checkpoints" / "latest") / "agent.json").is_file()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["-m", "pixelq.scripts.main", "train", "--env", "ALE/Pnog-v5"], "did you mean 'ALE/Pong-v5'?"),
        pytest.param(["SCRIPTS/evaluate.py", "nowhere"], "nowhere does not exist", marks=pytest.mark.slow),
    ],
)
def test_wrong_input_in_a_process_of_its_own(tmp_path: Path, command: list[str], words: str) -> None:
    scripts = Path(__file__).resolve().parents[2] / "scripts"
    done = subprocess.run(
        [sys.executable, *(word.replace("SCRIPTS", str(scripts)) for word in command)],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []

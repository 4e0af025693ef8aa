"""`pixelq benchmark`: equal work for all, figures that fit together, and sentences for what cannot be measured."""

import importlib.util
import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pixelq.agents import DQN, AgentConfig
from pixelq.agents.experience.samplers import PrioritizedSampler
from pixelq.agents.learning.gradient import has_bfloat16
from pixelq.envs import AtariVec
from pixelq.scripts import benchmark
from pixelq.scripts.benchmarks import speed
from pixelq.scripts.benchmarks.peers import ENTRIES, Turn
from pixelq.scripts.benchmarks.sampling_cost import filled_replay
from pixelq.scripts.benchmarks.speed import Measured
from pixelq.scripts.benchmarks.startup_cost import COMMANDS, IMPORTS, startup_seconds
from pixelq.scripts.benchmarks.step_cost import PARTS, REST, milliseconds_per_step, timed_parts
from pixelq.scripts.benchmarks.update_cost import ACTIONS, flop_of, pictures, random_batch
from pixelq.scripts.benchmarks.work import Work, update_ratio
from pixelq.scripts.command_line import optional_value
from pixelq.scripts.main import main

TIANSHOU = pytest.mark.skipif(importlib.util.find_spec("tianshou") is None, reason="tianshou is not installed")
SHORT = ["--seconds", "1", "--turns", "2", "--num-envs", "2", "--replay-capacity", "100", "--device", "cpu"]
CONVOLUTIONS = [(32, 4, 8, 8), (32,), (64, 32, 4, 4), (64,), (64, 64, 3, 3), (64,)]


@pytest.mark.slow
def test_measures_equal_work_turn_by_turn(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--against", "sb3", *SHORT, "--json"]) == 0
    out, err = capfd.readouterr()
    figures = json.loads(out)  # stdout holds nothing else
    assert "steps/s" in err
    assert {"hardware", "device", "work", "results", "ratios"} <= figures.keys()
    assert figures["device"] == "cpu"
    assert {"network": "nature", "batch_size": 32, "train_every": 4, "num_envs": 2}.items() <= figures["work"].items()
    ours, sb3 = figures["results"]
    assert (ours["name"], sb3["name"]) == ("pixelq", "sb3")
    for result in (ours, sb3):
        assert result["version"][0].isdigit()
        assert len(result["runs"]) == 2
        assert min(result["runs"]) > 0
        assert result["steps_per_second"] == median(result["runs"])
        # Counted by the agents, not derived from the settings.
        assert result["updates"] / result["steps"] == pytest.approx(1 / 4, rel=0.02)
        assert result["updates_per_second"] == pytest.approx(result["steps_per_second"] / 4, rel=0.02)
        # PyTorch alone takes more than 100 MiB; the memory of this process, which holds both, must not count.
        assert 100 < result["peak_memory_mib"] < 4000
    assert figures["ratios"] == {"sb3": pytest.approx(ours["steps_per_second"] / sb3["steps_per_second"])}
    # The bound: measured arithmetic over the update's, which test_update_costs_of_presets counts by hand.
    assert figures["update"]["gflop"] == pytest.approx(2.18, abs=0.01)
    assert ours["updates_per_second_bound"] == pytest.approx(
        figures["peaks"]["gflop_per_second_float32"] / figures["update"]["gflop"]
    )
    assert 0 < ours["share_of_bound"] < 1
    parts = figures["milliseconds_per_step"]["pixelq"]
    assert parts["update"] == max(parts.values())
    assert min(parts.values()) > 0
    # A loose hold, as the turns and the parts are measured one after another on a machine that others share.
    assert 0.2 < sum(parts.values()) * ours["steps_per_second"] / 1e3 < 5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cleanrl", pytest.param("tianshou", marks=TIANSHOU)])
def test_other_peers_do_equal_work(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--against", name, *SHORT, "--json"]) == 0
    figures = json.loads(capfd.readouterr().out)
    ours, peer = figures["results"]
    assert (ours["name"], peer["name"]) == ("pixelq", name)
    assert (peer["version"] == "our writing") == (name == "cleanrl")
    assert len(peer["runs"]) == 2
    for result in (ours, peer):
        assert result["updates"] / result["steps"] == 1 / 4
    assert 100 < peer["peak_memory_mib"] < 4000
    assert figures["ratios"].keys() == {name}


def test_figures_are_medians_and_the_file_holds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def turns(*seconds: float) -> list[Turn]:
        return [Turn(400, 100, t, 500.0 + t, None) for t in seconds]

    parts = dict.fromkeys((*PARTS, REST), 1.0)
    measured = Measured(
        {"pixelq": turns(1, 2, 4), "sb3": turns(8, 4, 16)},
        {"pixelq": parts},
        {"gflop_per_second_float32": 218.0, "gigabytes_per_second": 40.0},
        [],
    )
    monkeypatch.setattr(benchmark, "take_turns", lambda *_: measured)
    file = tmp_path / "new" / "speed.json"
    picture = tmp_path / "new" / "step.png"
    flags = ["--json", str(file), "--picture", str(picture), "--turns", "3"]
    assert main(["benchmark", "--device", "cpu", *flags]) == 0
    out = capfd.readouterr().out
    assert "pixelq over sb3: 4.00 (2.00–8.00 over turns)" in out
    assert "pixelq: 50% of the 100 updates/s" in out
    assert picture.read_bytes().startswith(b"\x89PNG")
    figures = json.loads(file.read_text())
    ours, sb3 = figures["results"]
    assert (ours["runs"], sb3["runs"]) == ([400, 200, 100], [50, 100, 25])
    assert (ours["steps_per_second"], sb3["steps_per_second"]) == (200, 50)
    assert (ours["updates_per_second"], sb3["updates_per_second"]) == (50, 12.5)
    assert (ours["peak_memory_mib"], sb3["peak_memory_mib"]) == (504, 516)
    assert figures["ratios"] == {"sb3": 4}
    assert figures["ratio_runs"] == {"pixelq": {"sb3": [8, 2, 4]}}
    assert ours["share_of_bound"] == pytest.approx(50 / 100, rel=0.01)
    assert figures["milliseconds_per_step"] == {"pixelq": parts}


class Wire:
    """A connection to a process that ends when it has given its answers."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def send(self, question: float | None) -> None:
        if not self.answers:
            raise BrokenPipeError

    def recv(self) -> Any:
        if not self.answers:
            raise EOFError
        return self.answers.pop(0)


def test_an_entry_that_ends_too_early_costs_the_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    turns = [Turn(400, 100, seconds, 500.0, None) for seconds in (1.0, 2.0, 4.0)]
    wires = {"pixelq": Wire(*turns, {"update": 1.0}), "sb3": Wire(*turns[:2]), "cleanrl": Wire()}
    peaks = {"gflop_per_second_float32": 218.0, "gigabytes_per_second": 40.0}
    monkeypatch.setattr(speed, "process", lambda target, name, *_: nullcontext(wires[name]))
    monkeypatch.setattr(speed, "measure_peaks", lambda device: peaks)
    monkeypatch.setattr(benchmark, "check_entries", lambda *_: ["sb3", "cleanrl"])
    written: list[dict[str, Any]] = []
    monkeypatch.setattr(benchmark, "write_json", lambda values, *_, **__: written.append(values))
    flags = ["--turns", "2", "--json", str(tmp_path / "speed.json"), "--device", "cpu"]
    assert main(["benchmark", *flags]) == 1
    assert "cleanrl and sb3 ended too early" in capfd.readouterr().err
    assert len(written) == 3  # after each turn, and at the end
    for figures, runs in zip(written, ([400 / 2], [400 / 2, 400 / 4], [400 / 2, 400 / 4]), strict=True):
        ours, sb3 = figures["results"]
        assert (ours["runs"], sb3["runs"]) == (runs, [400 / 2])
        assert figures["ratios"] == {"sb3": pytest.approx(median(runs) / 200)}
    assert written[-1]["failed"] == ["cleanrl", "sb3"]
    assert written[-1]["milliseconds_per_step"] == {"pixelq": {"update": 1.0}}


@pytest.mark.skipif(not has_bfloat16(torch.device("cpu")), reason="the CPU does not compute in bfloat16")
def test_our_own_agent_in_bfloat16_is_an_entry(tmp_path: Path) -> None:
    file = tmp_path / "speed.json"
    assert main(["benchmark", "--against", "pixelq-bfloat16", *SHORT, "--json", str(file)]) == 0
    figures = json.loads(file.read_text())
    assert [result["precision"] for result in figures["results"]] == ["float32", "bfloat16"]
    assert figures["milliseconds_per_step"].keys() == {"pixelq", "pixelq-bfloat16"}
    assert ENTRIES["pixelq-bfloat16"].make(Work(num_envs=1), "cpu").agent.config.precision == "bfloat16"


def test_bfloat16_is_refused_where_it_is_emulated(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed, "has_bfloat16", lambda device: False)
    assert main(["benchmark", "--against", "pixelq-bfloat16", "--device", "cpu"]) == 2
    assert "this cpu does not compute in bfloat16" in capfd.readouterr().err


def test_parts_add_up_and_the_methods_are_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def learn(steps: int) -> None:
        for _ in range(steps):
            replay.observe(obs)
            time.sleep(0.01)  # the rest
            replay.complete(zeros, zeros, zeros.astype(bool), zeros.astype(bool))

    replay = filled_replay(10_000, 4, torch.device("cpu"))
    obs, zeros = np.zeros((4, 4, 84, 84), np.uint8), np.zeros(4)
    observe = type(replay).observe
    with timed_parts(torch.device("cpu")) as seconds:
        assert type(replay).observe is not observe
        replay.add(obs, zeros, zeros, zeros.astype(bool), zeros.astype(bool))
        assert 0 < seconds["replay"] < 0.01
        assert seconds["update"] == 0
    assert type(replay).observe is observe

    # What a part calls of another part is the other's alone.
    def send(envs: object, actions: object) -> None:
        for _ in range(2):
            time.sleep(0.02)
            replay.latest()

    monkeypatch.setattr(AtariVec, "send", send)
    replay.observe(obs)
    with timed_parts(torch.device("cpu")) as seconds:
        AtariVec.send(None, None)  # type: ignore[arg-type]
    assert 0.04 <= seconds["emulation, started"] < 0.06
    assert 0 < seconds["replay"] < 0.02
    replay.complete(zeros, zeros, zeros.astype(bool), zeros.astype(bool))
    costs = milliseconds_per_step(learn, 10, torch.device("cpu"))
    assert list(costs) == [*PARTS, REST]
    assert 10 <= costs[REST] < 20
    assert 0 < costs["replay"] < 5


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_start_is_timed_up_to_the_first_step(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "startup.json"
    flags = ["--startup", "--turns", "1", "--num-envs", "1", "--device", "cpu"]
    assert main(["benchmark", *flags, "--json", str(file)]) == 0
    figures, shown = json.loads(file.read_text()), capfd.readouterr().out
    assert 0.5 < figures["seconds_to_first_step"] < 60
    assert "takes its first step after" in shown
    seconds = {what: found["seconds"] for what, found in figures["starts"].items()}
    assert list(seconds) == ["python", *IMPORTS, *(f"pixelq {words}" for words in COMMANDS)]
    assert all(what in shown for what in seconds)
    with_torch = {what for what in seconds if seconds[what] > seconds["import torch"] / 2}
    assert with_torch == {"import torch", "from pixelq.agents import DQN"}
    with pytest.raises(RuntimeError, match="up to its first step ended with exit code 2 instead of 42"):
        startup_seconds("ALE/NoSuchGame-v5", 1, "cpu")


@pytest.mark.slow
def test_checkpoints_are_timed_and_weighed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixelq.scripts.benchmarks.checkpoint_cost.EVERY", 200)
    file = tmp_path / "checkpoints.json"
    flags = ["--checkpoints", "400", "--num-envs", "2", "--device", "cpu"]
    assert main(["benchmark", *flags, "--json", str(file)]) == 0
    figures = json.loads(file.read_text())
    assert [entry["step"] for entry in figures["checkpoints"]] == [200, 400, 600]
    one, *_, three = (entry["bytes"] for entry in figures["checkpoints"])
    assert 50e6 < one < three / 2.9  # rainbow's weights, target network and two moments, thrice
    assert 0 < figures["seconds_to_read"] < 10
    assert figures["steps_per_second_at_2_percent"] == pytest.approx(0.02 * 200 / figures["seconds"])
    assert "on disk" in capfd.readouterr().out


@pytest.mark.slow
def test_networks_and_replays_are_of_one_size() -> None:
    work = Work(num_envs=2, replay_capacity=300)
    ours, sb3 = (ENTRIES[name].make(work, "cpu") for name in ("pixelq", "sb3"))
    shapes = [[tuple(p.shape) for p in network.parameters()] for network in (ours.agent.network, sb3.model.q_net)]
    assert shapes[0] == [*CONVOLUTIONS, (512, 3136), (512,), (6, 512), (6,)]
    assert shapes[1] == shapes[0]
    optimizers = [ours.agent.learner.optimizers["optimizer"], sb3.model.policy.optimizer]
    for key, value in {"lr": 1e-4, "eps": 1e-8, "betas": (0.9, 0.999), "weight_decay": 0}.items():
        assert [optimizer.param_groups[0][key] for optimizer in optimizers] == [value, value]
    for trainer in (ours, sb3):
        trainer.learn(300)
    assert [trainer.counts() for trainer in (ours, sb3)] == [(300, 0), (300, 0)]
    assert ours.agent.replay.rows == 300
    assert sb3.model.replay_buffer.full
    assert sb3.model.replay_buffer.observations.shape == (150, 2, 4, 84, 84)
    for trainer in (ours, sb3):
        trainer.learn(16)
    assert [trainer.counts() for trainer in (ours, sb3)] == [(316, 4), (316, 4)]
    assert [ours.agent.epsilon, sb3.model.exploration_rate] == pytest.approx([0.01, 0.01])


@pytest.mark.slow
def test_cleanrl_counts_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    cleanrl = ENTRIES["cleanrl"].make(Work(num_envs=2, replay_capacity=300, target_update_every=316), "cpu")
    shapes = [tuple(p.shape) for p in cleanrl.network.parameters()]
    assert shapes == [*CONVOLUTIONS, (512, 3136), (512,), (6, 512), (6,)]
    for key, value in {"lr": 1e-4, "eps": 1e-8, "betas": (0.9, 0.999), "weight_decay": 0}.items():
        assert cleanrl.optimizer.param_groups[0][key] == value
    stepped, sampled = [], []
    monkeypatch.setattr(cleanrl.envs, "step", recorded(cleanrl.envs.step, stepped))
    monkeypatch.setattr(cleanrl.replay, "sample", recorded(cleanrl.replay.sample, sampled))
    cleanrl.learn(300)
    assert cleanrl.counts() == (300, 0)
    assert cleanrl.replay.full
    assert cleanrl.replay.observations.shape == (150, 2, 4, 84, 84)
    assert cleanrl.replay.observations.dtype == "uint8"
    cleanrl.learn(14)
    assert cleanrl.counts() == (314, 3)
    assert not same_weights(cleanrl.network, cleanrl.target)
    cleanrl.learn(2)
    assert cleanrl.counts() == (2 * len(stepped), len(sampled)) == (316, 4)
    assert same_weights(cleanrl.network, cleanrl.target)
    assert sampled == [(32,)] * 4


@TIANSHOU
def test_tianshou_counts_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    tianshou = ENTRIES["tianshou"].make(Work(num_envs=2, replay_capacity=300), "cpu")
    try:
        shapes = [tuple(p.shape) for p in tianshou.algorithm.policy.parameters()]
        assert shapes == [*CONVOLUTIONS, (512, 3136), (512,), (6, 512), (6,)]
        optimizer = tianshou.algorithm.optim._optim
        for key, value in {"lr": 1e-4, "eps": 1e-8, "betas": (0.9, 0.999), "weight_decay": 0}.items():
            assert optimizer.param_groups[0][key] == value
        assert tianshou.algorithm.target_update_freq == 2_500
        stepped, sampled = [], []
        monkeypatch.setattr(tianshou.envs, "step", recorded(tianshou.envs.step, stepped))
        monkeypatch.setattr(tianshou.replay, "sample", recorded(tianshou.replay.sample, sampled))
        tianshou.learn(300)
        assert tianshou.counts() == (300, 0)
        assert len(tianshou.replay) == 300
        assert tianshou.replay.obs.shape == (300, 84, 84)  # single frames
        assert tianshou.replay.obs.dtype == "uint8"
        assert tianshou.replay[[5]].obs.shape == (1, 4, 84, 84)
        tianshou.learn(16)
        assert tianshou.counts() == (2 * len(stepped), len(sampled)) == (316, 4)
        assert sampled == [(32,)] * 4
    finally:
        tianshou.envs.close()


def recorded(function: Callable[..., Any], calls: list[tuple[Any, ...]]) -> Callable[..., Any]:
    """The function, noting the arguments of each call."""

    def call(*arguments: Any) -> Any:
        calls.append(arguments)
        return function(*arguments)

    return call


def same_weights(network: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))


def test_sb3_skips_frames_once() -> None:
    sb3 = ENTRIES["sb3"].make(Work(num_envs=1, replay_capacity=100), "cpu")
    game = sb3.model.get_env().unwrapped.envs[0].unwrapped
    sb3.model.get_env().reset()
    before = game.ale.getEpisodeFrameNumber()
    sb3.model.get_env().step([0])
    assert game.ale.getEpisodeFrameNumber() - before == 4


@pytest.mark.parametrize(
    ("num_envs", "expected"), [(1, (4, 1)), (2, (2, 1)), (3, (4, 3)), (4, (1, 1)), (6, (2, 3)), (8, (1, 2))]
)
def test_an_update_per_four_steps_for_any_number_of_environments(num_envs: int, expected: tuple[int, int]) -> None:
    train_freq, gradient_steps = update_ratio(num_envs, 4)
    assert (train_freq, gradient_steps) == expected
    assert gradient_steps * 4 == train_freq * num_envs


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--against", "sb3,nobody"],
            "--against must be names among sb3, cleanrl, tianshou, pixelq-bfloat16, got 'nobody'\n",
        ),
        (["--seconds", "0"], "--seconds must be a positive number, got 0.0"),
        (["--seconds", "-1"], "--seconds"),
        (["--seconds", "nan"], "--seconds must be a positive number, got nan"),
        (["--turns", "0"], "--turns must be at least 1, got 0"),
        (["--num-envs", "0"], "--num-envs must be at least 1, got 0"),
        (["--replay-capacity", "40"], "--replay-capacity must be at least 64, got 40"),
        (["--env", "CartPole-v1"], "--env must be an Atari game, such as ALE/Pong-v5, got CartPole-v1"),
        (["--env", "ALE/Pnog-v5"], "did you mean 'ALE/Pong-v5'?"),
        (["--device", "tpu"], "tpu"),
        (["--json", "."], "cannot be written"),
        (["--sampling", "9999"], "--sampling must be at least 10000, got 9999"),
        (["--sampling", "10000", "--updates", "all"], "give only one of them"),
        (["--startup", "--updates", "all"], "--updates and --startup measure different things"),
        (["--checkpoints", "1000", "--startup"], "--checkpoints and --startup measure different things"),
        (["--checkpoints", "1"], "--checkpoints must be at least 64, got 1"),
        (["--picture", "steps.txt"], "--picture must be a file that ends in .png, .pdf, .svg, got steps.txt"),
        (["--picture", "steps.png", "--startup"], "which --startup does not measure; leave it out"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    flags: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", *flags]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("pixelq benchmark: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "module", "requirement"),
    [
        ("sb3", "cv2", "'pixelq[benchmark]'"),
        ("cleanrl", "cv2", "'pixelq[benchmark]'"),
        ("tianshou", "tianshou", "tianshou"),
    ],
)
def test_a_missing_library_is_named(
    name: str, module: str, requirement: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["benchmark", "--seconds", "1", "--against", name]) == 2
    assert capfd.readouterr().err == f"pixelq benchmark: {name} needs {module}: pip install {requirement}\n"


@pytest.mark.parametrize(
    ("arguments", "filled"),
    [
        ([], []),
        (["--json"], ["--json", "-"]),
        (["--json", "a.json"], ["--json", "a.json"]),
        (["--json", "-"], ["--json", "-"]),
        (["--json", "--turns", "2"], ["--json", "-", "--turns", "2"]),
        (["--turns", "2", "--json=a.json"], ["--turns", "2", "--json=a.json"]),
    ],
)
def test_a_flag_may_lack_its_value(arguments: list[str], filled: list[str]) -> None:
    assert optional_value(arguments, "--json") == filled


FAST = ["--turns", "2", "--seconds", "0.4"]


def test_update_costs_of_presets(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "updates.json"
    assert main(["benchmark", "--updates", "nature, c51", "--device", "cpu", *FAST, "--json", str(file)]) == 0
    figures = json.loads(file.read_text())
    nature, c51 = figures["updates"]
    assert (nature["preset"], c51["preset"]) == ("nature", "c51")
    # By hand, for 32 observations in units of a multiplication and an addition: convolutions 20·20·32·256,
    # 9·9·64·512 and 7·7·64·576, then 3,136·512 and 512·6; the target forward, the online forward, and backward by
    # weights and by inputs, where the first layer needs none.
    first, others = 20 * 20 * 32 * 256, 9 * 9 * 64 * 512 + 7 * 7 * 64 * 576 + 3_136 * 512 + 512 * 6
    assert nature["gflop_per_update"] == pytest.approx(2 * 32 * (3 * first + 4 * others) / 1e9, rel=1e-6)
    assert nature["parameters"] == 8_224 + 32_832 + 36_928 + 3_136 * 512 + 512 + 512 * 6 + 6
    assert c51["gflop_per_update"] > nature["gflop_per_update"]  # SAME padding: 2.5 times the features
    for result in (nature, c51):
        assert result["updates"] >= 2
        seconds = result["milliseconds_per_update"] / 1e3
        assert result["gflop_per_second"] == pytest.approx(result["gflop_per_update"] / seconds)
    assert "GFLOP" in capfd.readouterr().out


@pytest.mark.slow
def test_the_update_of_an_lstm_counts_its_arithmetic(tmp_path: Path) -> None:
    """By hand: 32 sequences of 10 + 1 steps, of which all are learned from; the LSTM takes 3,136 features to 512."""
    file = tmp_path / "updates.json"
    flags = ["--updates", "drqn", "--device", "cpu", "--turns", "1", "--seconds", "0.1", "--json", str(file)]
    assert main(["benchmark", *flags]) == 0
    (drqn,) = json.loads(file.read_text())["updates"]
    rows = 32 * 11
    lstm = 2 * 4 * 512 * (3_136 + 512) * rows * 4  # the target forward, the online forward, and back by two ways
    first, others = 20 * 20 * 32 * 64, 9 * 9 * 64 * 512 + 7 * 7 * 64 * 576
    head = 512 * 6 * 32 * (10 + 3 * 10)  # at the ten steps that are learned from, and at those n steps on
    expected = 2 * (rows * (3 * first + 4 * others) + head) + lstm
    assert drqn["gflop_per_update"] == pytest.approx(expected / 1e9, rel=1e-6)
    assert drqn["lstm_share_of_gflop"] == pytest.approx(lstm / expected, rel=1e-6)
    assert drqn["drawn_per_second"] == pytest.approx(32e3 / drqn["milliseconds_per_update"])


@pytest.mark.parametrize("burn_in", [0, 3])
def test_an_lstms_arithmetic_is_that_of_its_steps(burn_in: int) -> None:
    """As PyTorch counts it of single steps, whose matrix products it sees."""
    config = AgentConfig(lstm=8, sequence_length=6, sequence_period=3, burn_in=burn_in, batch_size=4, frame_stack=1)
    batch = random_batch(config, torch.device("cpu"))
    agent = DQN(pictures(config), ACTIONS, config, device="cpu")
    assert agent.network.lstm is not None
    width = agent.network.lstm.cell.input_size
    by_input, by_state = (torch.randn(4 * 8, size, requires_grad=True) for size in (width, 8))
    x = torch.randn(7, 4, width, requires_grad=True)  # 6 steps, and the one after them

    def unroll(steps: torch.Tensor) -> torch.Tensor:
        hidden, memory = torch.zeros(4, 8, requires_grad=True), torch.zeros(4, 8)
        for step in steps:
            i, f, g, o = (step @ by_input.T + hidden @ by_state.T).chunk(4, 1)
            memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
            hidden = o.sigmoid() * memory.tanh()
        return hidden

    with FlopCounterMode(display=False) as counter:
        with torch.no_grad():
            unroll(x)  # the target network
            unroll(x[:burn_in])
        unroll(x[burn_in:]).sum().backward()
    assert flop_of(lambda: agent.learner.update(batch)).of_lstm == counter.get_total_flops()


@pytest.mark.slow
def test_the_update_of_fractions_can_be_counted(tmp_path: Path) -> None:
    file = tmp_path / "updates.json"
    flags = ["--updates", "fqf", "--device", "cpu", "--turns", "1", "--seconds", "0.1", "--json", str(file)]
    assert main(["benchmark", *flags]) == 0
    assert json.loads(file.read_text())["updates"][0]["gflop_per_update"] > 16  # 32 fractions of 32 rows, thrice


def test_an_unknown_preset_for_updates_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--updates", "natur"]) == 2
    assert "did you mean 'nature'" in capsys.readouterr().err


@pytest.mark.slow
def test_sampling_costs_of_a_full_replay(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "sampling.json"
    flags = ["--sampling", "10000", "--num-envs", "4", "--turns", "2", "--seconds", "1", "--device", "cpu"]
    assert main(["benchmark", *flags, "--json", str(file)]) == 0
    figures = json.loads(file.read_text())
    assert figures["rows"] == 10_000
    assert figures["replay_gigabytes"] == pytest.approx(10_000 * 7_070 / 1e9, rel=0.01)
    of_32, of_256 = figures["milliseconds"]["32"], figures["milliseconds"]["256"]
    assert of_32.keys() == of_256.keys()
    assert min(of_32.values()) > 0
    assert of_32["batch, prioritised"] < of_256["batch, prioritised"]
    assert of_32["rows, uniform"] < of_32["batch, uniform"]
    assert "10,000 rows" in capfd.readouterr().out


def test_the_replay_that_is_measured_is_full_and_has_priorities() -> None:
    replay = filled_replay(10_000, 4, torch.device("cpu"))
    assert isinstance(replay.sampler, PrioritizedSampler)
    assert 0.98 < len(replay) / 10_000 < 1  # but the ends of episodes, and windows that are not whole
    alive = replay.sampler.tree.leaves[replay.sampler.tree.leaves > 0]
    assert len(alive) == len(replay)
    assert alive.square().mean() == pytest.approx(0.5, abs=0.02)  # the exponent is ½: squares are priorities again
    assert replay.ring.frames[:-1].float().mean() == pytest.approx(127.5, abs=1)


def test_parts_do_not_wait_for_a_gpu_that_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[object] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: waits.append(device))
    replay, no = filled_replay(10_000, 4, torch.device("cpu")), np.zeros(4, bool)
    for is_capturing, expected in ((True, 0), (False, 2)):
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda answer=is_capturing: answer)
        with timed_parts(torch.device("cuda")):
            replay.sample(4)
        assert len(waits) == expected
    replay.add(np.zeros((4, 4, 84, 84), np.uint8), no, no, no, no)

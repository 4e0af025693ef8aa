"""The command line: what it trains, writes, prints and plays, and that every door leads to the same policy."""

import contextlib
import dataclasses
import io
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pixelq.agents import DQN, PRESETS, AgentConfig, Evaluation, evaluate, preset
from pixelq.agents.config.at_step import epsilon_at
from pixelq.agents.config.seeds import PURPOSES, derived_seed
from pixelq.agents.runs.event_file import TAGS
from pixelq.agents.storage.pointers import checkpoint_folder
from pixelq.envs import REFERENCE_SCORES, make_vec
from pixelq.envs.checks import spread_seeds
from pixelq.networks import ScalarHead
from pixelq.scripts.command_line import parse
from pixelq.scripts.flags.train import TrainArgs
from pixelq.scripts.main import main
from tests.support.cases import IS_FULL, representative
from tests.support.runs import Ended, column, run_here, table

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
METRICS = (
    "step,frames,episodes,return_mean,return_median,length_mean,loss,q_mean,epsilon,updates,"
    "steps_per_second,wall_seconds"
).split(",")
EVALUATIONS = "step,episodes,mean,median,std,ci95_low,ci95_high,human_normalized".split(",")

Row = dict[str, float | None]
Flags = dict[str, Any]

CARTPOLE: Flags = {
    "env": "CartPole-v1",
    "preset": "classic",
    "steps": 2_000,
    "num-envs": 4,
    "seed": 3,
    "device": "cpu",
    "log-every": 250,
    "checkpoint-every": 400,
    "evaluate-every": 800,
    "evaluation-episodes": 4,
    "final-episodes": 8,
    "agent.hidden": 128,
    "agent.batch-size": 32,
    "agent.learning-rate": 2e-3,
    "agent.replay-capacity": 5_000,
    "agent.learning-starts": 200,
    "agent.train-every": 2,
    "agent.epsilon-steps": 1_000,
}
CATCH: Flags = CARTPOLE | {"env": "pixelq/Catch-v0", "steps": 500, "num-envs": 2, "agent.hidden": 32}
PONG: Flags = {
    "env": "ALE/Pong-v5",
    "preset": "quick_dqn",
    "steps": 240,
    "num-envs": 2,
    "device": "cpu",
    "log-every": 80,
    "evaluation-episodes": 1,
    "final-episodes": 1,
    "agent.encoder": "mlp",
    "agent.hidden": 8,
    "agent.replay-capacity": 1_000,
    "agent.learning-starts": 100,
    "agent.train-every": 20,
}


def arguments(flags: Flags) -> list[str]:
    return [word for name, value in flags.items() for word in (f"--{name}", str(value))]


def pixelq(*words: Any) -> Ended:
    """Runs a command in this process, which must succeed."""
    ended = run_here([str(word) for word in words])
    assert ended.code == 0, ended.err
    return ended


class Run(NamedTuple):
    path: Path
    printed: Ended
    flags: Flags


def trained(factory: pytest.TempPathFactory, flags: Flags) -> Run:
    path = factory.mktemp("runs") / "run"
    return Run(path, pixelq("train", *arguments(flags), "--out", path), flags)


@pytest.fixture(scope="session")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory, CARTPOLE)


@pytest.fixture(scope="session")
def catch(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory, CATCH)


@pytest.fixture(scope="session")
def pong(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory, PONG)


@pytest.fixture
def copy(cartpole: Run, tmp_path: Path) -> Path:
    """A copy of the CartPole run, to go on with."""
    return Path(shutil.copytree(cartpole.path, tmp_path / "run", symlinks=True))


# --- the run's folder -------------------------------------------------------------------------------------------------


def test_the_folder_holds_what_the_contract_lists(cartpole: Run) -> None:
    names = {path.name for path in cartpole.path.iterdir()}
    assert {"config.json", "metrics.csv", "evaluations.csv", "checkpoints"} <= names
    assert sum(name.startswith("events.out.tfevents.") for name in names) == 1
    checkpoints = cartpole.path / "checkpoints"
    for name in ("latest", "best"):
        files = sorted(path.name for path in checkpoint_folder(checkpoints / name).iterdir())
        tensors = ["learner.safetensors", "network.safetensors", "rows.zst", "run.json", "run.safetensors"]
        assert files == ["agent.json", "checksums.sha256", *tensors]
    everything = [path.name for path in cartpole.path.rglob("*")]
    assert not [name for name in everything if re.search(r"\.(pkl|pickle|pt|pth|partial|old)$", name)]


def test_config_json(cartpole: Run, pong: Run) -> None:
    config = json.loads((cartpole.path / "config.json").read_text())
    assert (config["env"], config["seed"], config["num_envs"], config["steps"]) == ("CartPole-v1", 3, 4, 2_000)
    assert (config["preset"], config["device"], config["protocol"]) == ("classic", "cpu", "gymnasium")
    assert {"cpu", "cores", "device", "torch", "python", "platform"} <= config["hardware"].keys()
    assert config["version"] == version("pixelq")
    assert config["hardware"]["torch"] == torch.__version__
    given = {name.removeprefix("agent."): value for name, value in CARTPOLE.items() if name.startswith("agent.")}
    expected = preset("classic").to_dict() | {name.replace("-", "_"): value for name, value in given.items()}
    assert config["agent"] == expected
    config = json.loads((pong.path / "config.json").read_text())
    assert (config["env"], config["preset"], config["protocol"]) == ("ALE/Pong-v5", "quick_dqn", "sticky")
    assert config["full_action_space"] is False


def agent_config(run: Run) -> AgentConfig:
    return AgentConfig.from_dict(json.loads((run.path / "config.json").read_text())["agent"])


def test_games_of_one_purpose_are_not_played_for_another() -> None:
    seeds = [
        (seed, derived_seed(seed, purpose, part)) for seed in range(50) for purpose in PURPOSES[1:] for part in (0, 9)
    ]  # type: ignore[arg-type]
    assert len({derived for _, derived in seeds}) == 500
    assert not {derived for _, derived in seeds} & set(range(50))


@pytest.mark.parametrize("name", ["cartpole", "catch", "pong"])
def test_metrics_fit_together(name: str, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(name)
    config, flags = agent_config(run), run.flags
    path = run.path / "metrics.csv"
    assert path.read_text().splitlines()[0].split(",")[: len(METRICS)] == METRICS
    rows = table(path)
    steps = column(path, "step")
    assert steps == sorted(set(steps))
    assert [step // flags["log-every"] for step in steps] == list(range(1, flags["steps"] // flags["log-every"] + 1))
    assert flags["steps"] <= steps[-1] < flags["steps"] + flags["num-envs"]
    assert column(path, "frames") == [step * (4 if name == "pong" else 1) for step in steps]
    assert column(path, "updates") == [max(0, step - config.learning_starts) // config.train_every for step in steps]
    assert column(path, "epsilon") == pytest.approx([epsilon_at(config, step) for step in steps], rel=1e-5)
    for name in ("episodes", "wall_seconds"):
        values = column(path, name)
        assert values == sorted(values)
    before_step = before_episodes = before_updates = before_wall = 0.0
    for row in rows:
        step, episodes, wall, updates = (row[key] or 0.0 for key in ("step", "episodes", "wall_seconds", "updates"))
        ended = episodes > before_episodes
        for key in ("return_mean", "return_median", "length_mean"):
            assert (row[key] is not None) == ended
        for key in ("loss", "q_mean"):
            assert (row[key] is not None) == (updates > before_updates)
            assert row[key] is None or math.isfinite(row[key] or 0.0)
        assert row["loss"] is None or row["loss"] >= 0
        speed = row["steps_per_second"] or 0.0
        assert speed >= 0.99 * (step - before_step) / (wall - before_wall)  # which has the evaluations in it
        before_step, before_episodes, before_updates, before_wall = step, episodes, updates, wall


def test_training_returns_are_those_of_the_game(cartpole: Run, catch: Run, pong: Run) -> None:
    rows = table(cartpole.path / "metrics.csv")
    assert [row["return_mean"] for row in rows] == [row["length_mean"] for row in rows]  # CartPole pays 1 a step
    played = sum((row["length_mean"] or 0) * (row["episodes"] or 0) for row in rows[:1])
    assert 0.6 * 250 < played <= 250 + 4  # the steps of the first interval, but for the episodes that still run
    assert set(column(catch.path / "metrics.csv", "length_mean")) == {9.0}
    assert all(-1 <= value <= 1 for value in column(catch.path / "metrics.csv", "return_mean"))
    assert column(pong.path / "metrics.csv", "return_mean") == [None, None, None]  # no game of Pong is that short


class Generous(gymnasium.Env[Any, Any]):
    """Pays 7 a step for five steps; after ``spoil_at`` steps in all of its life, it pays ``spoilt`` instead."""

    metadata = {"render_modes": []}  # noqa: RUF012  (Gymnasium's attribute)
    observation_space = Box(-1, 1, (3,), np.float32)
    action_space = Discrete(2)

    def __init__(self, render_mode: str | None = None, spoil_at: float = math.inf, spoilt: float = 0.0) -> None:
        self.render_mode, self.spoil_at, self.spoilt = render_mode, spoil_at, spoilt
        self.life = self.left = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.left = 5
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action: Any) -> Any:
        self.life += 1
        self.left -= 1
        reward = self.spoilt if self.life > self.spoil_at else 7.0
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), reward, self.left == 0, False, {}


gymnasium.register("tests/Generous-v0", Generous)
gymnasium.register("tests/Nan-v0", Generous, kwargs={"spoil_at": 120, "spoilt": math.nan})
gymnasium.register("tests/Infinite-v0", Generous, kwargs={"spoil_at": 120, "spoilt": math.inf})
GENEROUS: Flags = CARTPOLE | {
    "env": "tests/Generous-v0",
    "steps": 400,
    "num-envs": 1,
    "log-every": 50,
    "checkpoint-every": 30,
    "evaluate-every": 10_000,
    "agent.learning-starts": 50,
    "agent.train-every": 2,
}


def test_returns_are_raw_where_learning_clips(tmp_path: Path) -> None:
    pixelq("train", *arguments(GENEROUS), "--agent.reward-clip", "1", "--agent.gamma", "0", "--out", tmp_path / "run")
    rows = table(tmp_path / "run" / "metrics.csv")
    assert {row["return_mean"] for row in rows} == {35.0}
    assert column(tmp_path / "run" / "evaluations.csv", "mean") == [35.0]
    assert rows[-1]["q_mean"] == pytest.approx(1.0, abs=0.2)  # of one clipped reward


def test_evaluations(cartpole: Run, pong: Run) -> None:
    path = cartpole.path / "evaluations.csv"
    assert path.read_text().splitlines()[0].split(",") == EVALUATIONS
    rows = table(path)
    assert [row["step"] // 800 for row in rows] == [1, 2, 2]  # type: ignore[operator]
    assert rows[-1]["step"] == column(cartpole.path / "metrics.csv", "step")[-1]
    for row in rows:
        assert row["episodes"] == 4
        assert row["human_normalized"] is None
        low, mean, high = (row[key] or 0.0 for key in ("ci95_low", "mean", "ci95_high"))
        assert low <= mean <= high
    (row,) = table(pong.path / "evaluations.csv")
    random, human = REFERENCE_SCORES["pong"]
    assert row["human_normalized"] == pytest.approx(((row["mean"] or 0.0) - random) / (human - random), rel=1e-4)


def test_best_and_latest_are_what_they_are_called(cartpole: Run) -> None:
    rows = table(cartpole.path / "evaluations.csv")
    means = [row["mean"] for row in rows]
    best = rows[int(np.argmax(means))]  # type: ignore[arg-type]
    checkpoints = cartpole.path / "checkpoints"
    assert DQN.load(checkpoints / "best", device="cpu").step == best["step"]
    latest = DQN.load(checkpoints / "latest", device="cpu")
    last = table(cartpole.path / "metrics.csv")[-1]
    assert (latest.step, latest.updates, latest.episodes) == (last["step"], last["updates"], last["episodes"])
    assert DQN.load(cartpole.path, device="cpu").step == best["step"]


def scalars(path: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(path), size_guidance={"scalars": 0})
    events.Reload()
    assert tag in events.Tags()["scalars"], events.Tags()["scalars"]
    return [(event.step, event.value) for event in events.Scalars(tag)]


@pytest.mark.parametrize("name", ["metrics", "evaluations"])
def test_tensorboard_shows_the_same_numbers(cartpole: Run, name: str) -> None:
    rows = table(cartpole.path / f"{name}.csv")
    for key in rows[0].keys() - {"step"}:
        expected = [(row["step"], row[key]) for row in rows if row[key] is not None]
        if expected:
            found = scalars(cartpole.path, TAGS[name][key])
            assert [step for step, _ in found] == [step for step, _ in expected]
            assert [value for _, value in found] == pytest.approx([value for _, value in expected], rel=1e-5)
        else:
            assert key in ("human_normalized", "q_discrepancy")  # of Atari's games, and of agents with memory


def test_the_end_says_where_everything_lies(cartpole: Run) -> None:
    out = cartpole.printed.out
    assert f"pixelq evaluate {cartpole.path}" in out
    assert f"pixelq train --resume --out {cartpole.path} --steps 4000" in out
    assert "8 episodes" in out
    mean = re.search(r"mean return  (\d+\.\d)", out)
    assert mean is not None
    again = json.loads(pixelq("evaluate", cartpole.path, "--episodes", "8", "--json").out)
    assert float(mean[1]) == pytest.approx(again["mean"], abs=0.051)


# --- evaluate ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def figures(cartpole: Run) -> dict[str, Any]:
    """What ``evaluate --json`` says of 24 episodes, three in each of eight environments."""
    printed = pixelq("evaluate", cartpole.path, "--episodes", "24", "--seed", "5", "--json")
    result: dict[str, Any] = json.loads(printed.out)  # and so there is nothing else on stdout
    assert printed.err == ""
    return result


FIGURES = "env protocol checkpoint step episodes returns lengths mean median std ci95 human_normalized".split()


def test_evaluate_json(cartpole: Run, figures: dict[str, Any]) -> None:
    assert list(figures) == [*FIGURES, "mark", "frames", "seed", "weights", "epsilon", "max_episode_steps", "cut"]
    assert (figures["env"], figures["protocol"], figures["episodes"]) == ("CartPole-v1", "gymnasium", 24)
    assert Path(figures["checkpoint"]).resolve() == checkpoint_folder(cartpole.path / "checkpoints" / "best").resolve()
    assert figures["step"] == DQN.load(figures["checkpoint"], device="cpu").step
    returns = np.array(figures["returns"])
    assert returns.shape == (24,)
    assert figures["lengths"] == returns.tolist()  # CartPole pays 1 a step
    assert len(set(figures["lengths"])) > 4
    assert figures["mean"] == pytest.approx(np.mean(returns))
    assert figures["median"] == np.median(returns)
    assert figures["std"] == pytest.approx(np.std(returns))
    low, high = figures["ci95"]
    half = 1.96 * returns.std() / np.sqrt(24)
    assert [low, high] == pytest.approx([returns.mean() - half, returns.mean() + half], abs=0.35 * half)
    assert figures["human_normalized"] is None


def test_evaluate_json_to_a_file(cartpole: Run, figures: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "new" / "figures.json"
    printed = pixelq("evaluate", "--json", file, "--episodes", "24", "--seed", "5", cartpole.path)
    assert json.loads(file.read_text()) == figures
    for number in ("mean", "median", "std"):
        assert f"{figures[number]:.1f}" in printed.out
    assert "24 episodes" in printed.out


def test_evaluate_takes_a_checkpoint_and_its_seed_decides(cartpole: Run, figures: dict[str, Any]) -> None:
    latest = checkpoint_folder(cartpole.path / "checkpoints" / "latest")
    last = json.loads(pixelq("evaluate", latest, "--episodes", "3", "--json").out)
    assert (last["checkpoint"], last["step"]) == (str(latest), DQN.load(latest, device="cpu").step)
    other = json.loads(pixelq("evaluate", cartpole.path, "--episodes", "24", "--seed", "6", "--json").out)
    assert other["returns"] != figures["returns"]


@pytest.fixture(scope="session")
def filmed_pong(pong: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, str]:
    folder = tmp_path_factory.mktemp("film") / "new"
    printed = pixelq("evaluate", pong.path, "--episodes", "1", "--json", "--video", folder, "--seed", "1")
    (film,) = folder.iterdir()
    return json.loads(printed.out), film, printed.err


def test_evaluate_atari(pong: Run, filmed_pong: tuple[dict[str, Any], Path, str]) -> None:
    figures, _, _ = filmed_pong
    (score,), (length,) = figures["returns"], figures["lengths"]
    assert (figures["env"], figures["protocol"]) == ("ALE/Pong-v5", "sticky")
    assert -21 <= score <= 21
    assert score == int(score)
    assert length > 500
    assert figures["human_normalized"] == pytest.approx((score + 20.7) / (14.6 + 20.7))


def test_evaluate_by_the_other_protocol(pong: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def play(agent: DQN, envs: Any, episodes: int, *, epsilon: float, **_: Any) -> Any:
        asked.update(protocol=envs.protocol, epsilon=epsilon)
        return Evaluation("ALE/Pong-v5", (-21.0,) * episodes, (800,) * episodes)

    monkeypatch.setattr("pixelq.agents.evaluation.scoring.evaluate", play)
    figures = json.loads(pixelq("evaluate", pong.path, "--protocol", "nature", "--json").out)
    assert figures["protocol"] == "nature"
    assert (asked["protocol"].noop_max, asked["protocol"].repeat_action_probability) == (30, 0.0)
    assert asked["epsilon"] == 0.05


def frames_of(film: Path) -> tuple[list[NDArray[np.uint8]], float]:
    with imageio.get_reader(film) as reader:
        return [np.asarray(frame) for frame in reader], reader.get_meta_data()["fps"]


def test_a_film_has_a_picture_for_every_step(catch: Run, tmp_path: Path) -> None:
    printed = pixelq("evaluate", catch.path, "--episodes", "1", "--json", "--video", tmp_path)
    (film,) = tmp_path.iterdir()
    figures = json.loads(printed.out)
    assert str(film) in printed.err
    assert f"return {figures['returns'][0]:g}:" in printed.err  # the same episode: one game, the same seed, no ε
    frames, fps = frames_of(film)
    assert len(frames) == figures["lengths"][0] + 1 == 10
    assert fps == 5
    assert {frame.shape for frame in frames} == {(480, 240, 3)}  # 160 × 80, three times as large
    # The ball falls a row a step, and paddle and ball are white where the game says they are.
    for row, frame in enumerate(frames):
        cells = frame.mean(-1).reshape(10, 48, 5, 48).mean((1, 3)) > 128
        assert cells[row].any()
        assert cells[9].any()
        assert cells.sum() == (2 if row < 9 or figures["returns"][0] < 0 else 1)


@pytest.mark.slow
def test_an_atari_film_is_in_colour(pong: Run, filmed_pong: tuple[dict[str, Any], Path, str]) -> None:
    _, film, said = filmed_pong
    agent = DQN.load(pong.path, device="cpu")
    seed = derived_seed(1, "evaluation")
    expected = evaluate(agent, make_vec("ALE/Pong-v5", 1, seed, "sticky"), 1, epsilon=0.001, seed=seed)
    frames, fps = frames_of(film)
    assert len(frames) == expected.lengths[0] + 1
    assert f"return {expected.returns[0]:g}:" in said
    assert fps == 15  # real time: four frames of 60 a second
    assert {frame.shape for frame in frames} == {(420, 320, 3)}
    picture = frames[100].astype(int)
    red, _, blue = picture[200, 100]  # the court is brown, the paddles green and ochre
    assert red > blue + 30
    assert (picture.max(-1) - picture.min(-1) > 40).mean() > 0.5
    assert np.abs(frames[100].astype(int) - frames[130]).max() > 100  # and something moves


# --- the same policy by every door ------------------------------------------------------------------------------------


def seeded_cartpole(seed: int) -> Callable[[], Any]:
    """CartPole as Gymnasium and stable-baselines3 make it, whose first episode has this seed whoever resets it."""
    from stable_baselines3.common.monitor import Monitor

    class FirstSeed(gymnasium.Wrapper[Any, Any, Any, Any]):
        seed: int | None = None

        def reset(self, **_: Any) -> Any:
            first, self.seed = self.seed, None
            return self.env.reset(seed=first)

    def make() -> Any:
        env = FirstSeed(gymnasium.make("CartPole-v1"))
        env.seed = seed
        return Monitor(env)

    return make


def test_every_door_leads_to_the_same_policy(cartpole: Run, figures: dict[str, Any]) -> None:
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import DummyVecEnv

    expected = sorted(zip(figures["returns"], figures["lengths"], strict=True))

    agent = DQN.load(cartpole.path)
    envs = make_vec("CartPole-v1", num_envs=8, seed=derived_seed(5, "evaluation"))
    obs, _ = envs.reset()
    seen, taken = [], []
    ours: list[list[tuple[float, int]]] = [[] for _ in range(8)]
    returns, lengths, done = np.zeros(8), np.zeros(8, int), np.zeros(8, bool)
    while min(map(len, ours)) < 3:
        actions, _ = agent.predict(obs)
        seen.append(obs)
        taken.append(actions)
        obs, reward, terminated, truncated, _ = envs.step(actions)
        returns, lengths = returns + reward, lengths + ~done
        done = terminated | truncated
        for i in np.flatnonzero(done):
            ours[i].append((float(returns[i]), int(lengths[i])))
            returns[i], lengths[i] = 0, 0
    assert sorted(episode for episodes in ours for episode in episodes[:3]) == expected

    # The actions for the same observations, one by one, in batches and by the values, from every loaded agent.
    observations, actions = np.concatenate(seen)[:400], np.concatenate(taken)[:400]
    assert 0 < actions.mean() < 1
    left, right = agent.q_values(observations).T.cpu().numpy()
    clear = np.abs(left - right) > 1e-4  # sums are rounded otherwise in a batch of another size
    assert clear.mean() > 0.95
    for door in (cartpole.path, figures["checkpoint"], cartpole.path / "checkpoints" / "best"):
        loaded = DQN.load(door, device="cpu")
        assert (loaded.q_values(observations).argmax(1).numpy() == actions)[clear].all()
        assert (np.array([int(loaded.predict(each)[0]) for each in observations]) == actions)[clear].all()

    played: list[int] = []
    asked: list[NDArray[np.float32]] = []

    def listen(local: dict[str, Any], _: dict[str, Any]) -> None:
        if local["i"] == 0:
            played.extend(local["actions"])
            asked.append(local["observations"])

    sb3_envs = DummyVecEnv([seeded_cartpole(seed) for seed in spread_seeds(derived_seed(5, "evaluation"), 8).tolist()])
    their_returns, their_lengths = evaluate_policy(
        agent,  # type: ignore[arg-type]
        sb3_envs,
        n_eval_episodes=24,
        return_episode_rewards=True,
        callback=listen,
    )
    assert sorted(zip(their_returns, their_lengths, strict=True)) == expected  # type: ignore[arg-type]
    assert len(played) == 8 * len(asked)
    again, (left, right) = agent.predict(np.concatenate(asked[:50]))[0], agent.q_values(np.concatenate(asked[:50])).T
    assert (again == played[:400])[(left - right).abs().numpy() > 1e-4].all()


def test_stable_baselines3_evaluates_an_agent_on_its_own_atari_environments(pong: Run) -> None:
    pytest.importorskip("cv2")
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import VecFrameStack

    agent = DQN.load(pong.path, device="cpu")
    rules = {"frameskip": 1, "repeat_action_probability": 0.0}  # its wrapper skips frames itself
    envs = VecFrameStack(make_atari_env("ALE/Pong-v5", n_envs=1, seed=0, env_kwargs=rules), 4)
    assert envs.observation_space.shape == (84, 84, 4)
    played: list[tuple[NDArray[np.uint8], NDArray[np.int64]]] = []

    def listen(local: dict[str, Any], _: dict[str, Any]) -> None:
        played.append((local["observations"].copy(), local["actions"].copy()))

    scores, lengths = evaluate_policy(
        agent,  # type: ignore[arg-type]
        envs,
        n_eval_episodes=1,
        return_episode_rewards=True,
        callback=listen,
    )
    envs.close()
    assert isinstance(scores, list)
    assert -21 <= scores[0] <= 21
    assert len(played) * 4 == pytest.approx(lengths[0], abs=200)  # type: ignore[index]  # its lengths are in frames
    seen = np.concatenate([obs for obs, _ in played])  # channels last
    assert seen.shape[1:] == (84, 84, 4)
    q = agent.q_values(np.ascontiguousarray(seen.transpose(0, 3, 1, 2)))
    assert q.argmax(1).tolist() == [int(actions[0]) for _, actions in played]


# --- presets and help -------------------------------------------------------------------------------------------------


def test_presets_are_listed_a_line_each(tmp_path: Path) -> None:
    printed = pixelq("presets").out
    lines = printed.splitlines()
    assert [line.split()[0] for line in lines] == list(PRESETS)
    for line in lines:
        assert len(line.split()) > 8
        assert "None" not in line
    by_name = dict(zip(PRESETS, lines, strict=True))
    assert "Mnih et al. 2015" in by_name["nature"]
    assert "Castro et al. 2018" in by_name["dqn"]
    assert [by_name[name].split()[1] for name in ("nature", "dqn", "der")] == ["nature", "sticky", "100k"]
    script = subprocess.run(
        [sys.executable, str(SCRIPTS / "presets.py")],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert (script.stdout, script.stderr) == (printed, "")


def test_the_settings_of_a_preset_are_shown() -> None:
    lines = pixelq("presets", "per").out.splitlines()
    assert lines[0] == "per, protocol nature"
    shown = dict(line.split() for line in lines[-len(dataclasses.fields(AgentConfig)) :])
    assert shown == {name: str(value) for name, value in vars(preset("per")).items()}
    assert main(["presets", "pre"]) == 2


CONTRACT = {
    "train": "env preset steps num-envs seed protocol device out resume checkpoint-every evaluate-every".split()
    + [
        "agent." + name.replace("_", "-")
        for name in (
            "gamma n_step batch_size replay_capacity learning_starts train_every target_update_every learning_rate "
            "adam_epsilon max_grad_norm epsilon_start epsilon_end epsilon_steps reward_clip double dueling noisy head "
            "prioritized priority_alpha priority_beta munchausen encoder"
        ).split()
    ],
    "evaluate": "episodes protocol seed device json video".split(),
    "benchmark": "against device seconds json".split(),
    "presets": [],
}


def helped(verb: str) -> dict[str, str]:
    """The flags in a verb's help, and what it says of each."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main([verb, "--help"]) == 0
    lines = [line.strip("│ ") for line in out.getvalue().splitlines()]  # framed, or not where stdout is ASCII
    texts: dict[str, str] = {}
    flag = ""
    for line in lines:
        start = re.match(r"(-h, --help|--[a-z][\w.-]*|RUN_OR_CHECKPOINT)\b", line)
        if start:
            flag = start[1].split(", ")[-1].removeprefix("--")
            texts[flag] = line[start.end() :]
        elif re.search(r"agent: .+ options", line):  # the heading of a group
            flag = ""
        elif flag:
            texts[flag] += " " + line
    return texts


@pytest.mark.parametrize("verb", CONTRACT)
def test_help_explains_every_flag(verb: str) -> None:
    texts = helped(verb)
    assert set(CONTRACT[verb]) <= texts.keys()
    texts.pop("help")
    assert "RUN_OR_CHECKPOINT" in texts or verb != "evaluate"
    for flag, text in texts.items():
        assert re.search(r"\((default: .+|required|repeatable)\)", text), flag
        explanation = re.sub(r"\((default: .+|required|repeatable)\)", "", text)
        words = [word for word in explanation.split() if re.fullmatch(r"[a-zA-Zγεαβ’',.;:()-]+", word)]
        assert len(words) >= 4, f"--{flag} has the help {text!r}"


def test_every_verb_is_listed() -> None:
    out = pixelq().out
    assert pixelq("--help").out == out
    for verb in CONTRACT:
        assert re.search(rf"^  {verb} +\w+", out, re.MULTILINE)


def test_every_field_of_the_configuration_is_a_flag() -> None:
    texts = helped("train")
    config = vars(preset("quick"))
    assert {f"agent.{name.replace('_', '-')}" for name in config} == {flag for flag in texts if "agent." in flag}
    for name, value in config.items():
        text = texts[f"agent.{name.replace('_', '-')}"]
        assert re.sub(r"\s+", " ", text).rstrip().endswith(f"(default: {shlex.quote(str(value))})"), text


def test_flags_have_either_dash() -> None:
    for words in (["--agent.max-grad-norm", "7", "--num-envs", "3"], ["--agent.max_grad_norm=7", "--num_envs", "3"]):
        args = parse(TrainArgs, "train", words)
        assert (args.agent.max_grad_norm, args.num_envs) == (7.0, 3)


@pytest.fixture
def any_algorithms(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test asks of PyTorch ends with it."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("any_algorithms")
def test_deterministic_algorithms_are_asked_for_and_kept_when_resumed(tmp_path: Path, copy: Path) -> None:
    assert json.loads((copy / "config.json").read_text())["deterministic"] is False
    for words in (arguments(CATCH | {"steps": 60}), ["--resume", "--steps", "90"]):
        torch.use_deterministic_algorithms(False)
        pixelq("train", *words, "--out", tmp_path / "deterministic", *["--deterministic"] * ("--resume" not in words))
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert json.loads((tmp_path / "deterministic" / "config.json").read_text())["deterministic"] is True


@pytest.mark.usefixtures("any_algorithms")
@pytest.mark.parametrize("parts", [["--preset", "fqf"], ["--preset", "btr"]])
def test_what_a_gpu_cannot_repeat_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: list[str]) -> None:
    monkeypatch.setattr("pixelq.scripts.train.resolve_device", torch.device)
    ended = run_here(["train", "--deterministic", "--device", "cuda", *parts, "--out", str(tmp_path / "run")])
    assert ended.code == 2
    assert "PyTorch has no deterministic --agent." in ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


# --- resume -----------------------------------------------------------------------------------------------------------


def tensors(checkpoint: Path) -> tuple[bytes, bytes]:
    return tuple((checkpoint / f"{name}.safetensors").read_bytes() for name in ("network", "learner"))  # type: ignore[return-value]


def test_resume_goes_on_with_everything(copy: Path) -> None:
    config = AgentConfig.from_dict(json.loads((copy / "config.json").read_text())["agent"])
    before_rows = (copy / "metrics.csv").read_text()
    pixelq("train", "--resume", "--out", copy, "--steps", "3000", "--log-every", "250", "--evaluate-every", "800")
    assert (copy / "metrics.csv").read_text().startswith(before_rows)
    steps = column(copy / "metrics.csv", "step")
    assert steps == sorted(set(steps))
    assert 3_000 <= steps[-1] < 3_004
    assert len(steps) == 12
    # Learning goes on at once, as if the run had not been stopped.
    updates = column(copy / "metrics.csv", "updates")
    assert updates == sorted(updates)
    assert updates[-1] == (steps[-1] - config.learning_starts) // config.train_every
    epsilons = column(copy / "metrics.csv", "epsilon")
    assert epsilons == pytest.approx([epsilon_at(config, step) for step in steps], rel=1e-5)
    for name in ("episodes", "wall_seconds"):
        values = column(copy / "metrics.csv", name)
        assert values == sorted(values)
    after = DQN.load(copy / "checkpoints" / "latest", device="cpu")
    assert (after.step, after.updates) == (steps[-1], updates[-1])
    counts = {int(tensor) for name, tensor in after.learner.tensors().items() if name.endswith(".step")}
    assert counts == {after.updates}  # Adam's own count of its steps, over both parts
    # The best of both parts is the best.
    rows = table(copy / "evaluations.csv")
    best = rows[int(np.argmax([row["mean"] for row in rows]))]  # type: ignore[arg-type]
    assert DQN.load(copy / "checkpoints" / "best", device="cpu").step == best["step"]
    assert [step for step, _ in scalars(copy, "train/n_updates")] == steps
    assert json.loads((copy / "config.json").read_text())["steps"] == 3_000  # so that --resume alone goes on to there


def test_resume_forgets_what_came_after_the_checkpoint(copy: Path) -> None:
    """As after a power cut: rows had been written that no checkpoint knows of."""
    with (copy / "metrics.csv").open("a") as file:
        file.write("9999,9999,1,1,1,1,1,1,1,1,1,1\n")
    pixelq("train", "--resume", "--out", copy, "--steps", "2300", "--log-every", "100", "--final-episodes", "1")
    steps = column(copy / "metrics.csv", "step")
    assert steps == sorted(set(steps))
    assert 2_300 <= steps[-1] < 2_304


def test_resume_of_a_finished_run_says_so_and_changes_nothing(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    assert main(["train", "--resume", "--out", str(copy)]) == 2
    err = capfd.readouterr().err
    assert re.search(r"has taken 2,00\d of 2,000 steps already; give more --steps", err)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_resume_may_repeat_the_settings_but_not_change_them(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for flag, value in (("agent.gamma", "0.5"), ("agent.train-every", "8"), ("env", "Acrobot-v1")):
        assert main(["train", "--resume", "--out", str(copy), "--steps", "2100", f"--{flag}", value]) == 2
        err = capfd.readouterr().err
        assert f"--{flag.replace('train-every', 'train_every')} " in err or f"--{flag} " in err
        assert value in err
    same = CARTPOLE | {"steps": 2_100, "final-episodes": 1}
    pixelq("train", "--resume", "--out", copy, *arguments(same))
    assert DQN.load(copy / "checkpoints" / "latest").step >= 2_100


# --- signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code"), representative([(signal.SIGINT, 130), (signal.SIGTERM, 143)], keep=[(signal.SIGINT, 130)])
)
def test_a_stopped_run_keeps_a_checkpoint_and_goes_on(tmp_path: Path, number: int, code: int) -> None:
    out = tmp_path / "run"
    endless = CARTPOLE | {"steps": 10**9, "checkpoint-every": 10**9, "evaluate-every": 10**9}
    process = subprocess.Popen(
        [sys.executable, "-m", "pixelq.scripts.main", "train", *arguments(endless), "--out", str(out)],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not ((out / "metrics.csv").exists() and len((out / "metrics.csv").read_text().splitlines()) > 2):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        printed, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code
    assert "Traceback" not in errors
    assert printed == ""
    agent = DQN.load(out, device="cpu")
    last = table(out / "metrics.csv")[-1]  # the interval goes on when the run does
    assert last["step"] <= agent.step
    assert agent.updates == (agent.step - 200) // 2 >= last["updates"] > 0
    assert all(torch.isfinite(tensor).all() for tensor in agent.network.state_dict().values())
    more = agent.step + 300
    pixelq("train", "--resume", "--out", out, "--steps", more, "--evaluation-episodes", "1", "--final-episodes", "1")
    steps = column(out / "metrics.csv", "step")
    assert steps == sorted(set(steps))
    assert more <= steps[-1] < more + 4
    assert DQN.load(out / "checkpoints" / "latest", device="cpu").updates > agent.updates


# --- the same seed, the same run --------------------------------------------------------------------------------------


def pong_weights(folder: Path, seed: int) -> tuple[bytes, bytes]:
    """Weights and the learner's state after 500 steps of Pong with 25 updates, or in full 2,000 with 118."""
    config = AgentConfig(
        hidden=16, batch_size=8, learning_starts=100, replay_capacity=2_000, train_every=16, n_step=3, encoder="nature"
    )
    envs = make_vec("ALE/Pong-v5", num_envs=4, seed=seed)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=seed)
    agent.learn(envs, 2_000 if IS_FULL else 500)
    envs.close()
    assert agent.updates == (agent.step - 100) // 16 >= (118 if IS_FULL else 25)
    agent.save(folder)
    return tensors(folder)


@pytest.mark.slow
def test_the_same_seed_ends_with_the_same_weights(tmp_path: Path) -> None:
    first, again, other = (pong_weights(tmp_path / name, seed) for name, seed in (("a", 7), ("b", 7), ("c", 8)))
    assert first == again
    assert first[0] != other[0]


@pytest.mark.slow
def test_the_same_command_makes_the_same_run(catch: Run, tmp_path: Path) -> None:
    pixelq("train", *arguments(CATCH), "--out", tmp_path / "again")
    pixelq("train", *arguments(CATCH | {"seed": 4}), "--out", tmp_path / "other")
    ours, again, other = (
        checkpoint_folder(path / "checkpoints" / "latest")
        for path in (catch.path, tmp_path / "again", tmp_path / "other")
    )
    assert tensors(again) == tensors(ours)
    assert tensors(other) != tensors(ours)
    assert (tmp_path / "again" / "evaluations.csv").read_bytes() == (catch.path / "evaluations.csv").read_bytes()

    def lasting(path: Path) -> list[Row]:
        times = ("steps_per_second", "wall_seconds")
        return [{k: v for k, v in row.items() if k not in times} for row in table(path / "metrics.csv")]

    assert lasting(tmp_path / "again") == lasting(catch.path)
    assert lasting(tmp_path / "other") != lasting(catch.path)


# --- a loss that is not finite ----------------------------------------------------------------------------------------


def diverged(out: Path, *words: str) -> tuple[int, DQN]:
    """The step that the message of a run that must fail names, and the agent that it kept."""
    err = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
        assert main(["train", *words, "--out", str(out)]) == 1
    said = re.search(r"^pixelq train: the loss became (nan|inf) at step ([\d,]+); (.+)$", err.getvalue(), re.MULTILINE)
    assert said is not None, err.getvalue()
    assert "Traceback" not in err.getvalue()
    assert "learning_rate" in said[3]
    assert str(out / "checkpoints" / "latest") in said[3]
    agent = DQN.load(out, device="cpu")
    for tensor in (agent.network.state_dict() | agent.learner.tensors()).values():
        assert torch.isfinite(tensor).all()
    assert np.isfinite(agent.q_values(np.zeros((1, 3), np.float32)).numpy()).all()
    for row in table(out / "metrics.csv"):
        assert row["loss"] is None or math.isfinite(row["loss"])
    return int(said[2].replace(",", "")), agent


@pytest.mark.parametrize(("env", "reward"), [("tests/Nan-v0", "nan"), ("tests/Infinite-v0", "inf")])
def test_rewards_that_are_not_finite_end_the_run_and_keep_the_last_good_checkpoint(
    tmp_path: Path, env: str, reward: str
) -> None:
    """No such reward reaches the replay."""
    run, err = tmp_path / "run", io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
        assert main(["train", *arguments(GENEROUS | {"env": env}), "--out", str(run)]) == 1
    last = err.getvalue().splitlines()[-1]
    said = re.fullmatch(
        f"pixelq train: '{env}' failed: environment 0 gave the reward {reward}, at step (.+); (.+)", last
    )
    assert said is not None, err.getvalue()
    assert int(said[1]) in range(100, 130)  # the step after an episode's end is not counted
    assert said[2] == f"the last good checkpoint is {run / 'checkpoints' / 'latest'}"
    agent = DQN.load(run, device="cpu")
    assert agent.updates > 0
    for tensor in (agent.network.state_dict() | agent.learner.tensors()).values():
        assert torch.isfinite(tensor).all()


def test_the_first_loss_that_is_not_finite_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    loss = ScalarHead.loss

    def spoilt(self: ScalarHead, *values: Any) -> Any:
        nonlocal calls
        calls += 1
        result = loss(self, *values)
        return result._replace(loss=result.loss * math.nan) if calls == 10 else result

    monkeypatch.setattr(ScalarHead, "loss", spoilt)
    step, agent = diverged(tmp_path / "run", *arguments(GENEROUS))
    assert step == 50 + 2 * 10  # learning_starts, and an update for every second step
    assert (agent.step, agent.updates) == (60, 5)  # the checkpoint of step 90 was due before the metrics of step 100

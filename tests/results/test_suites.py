"""Aggregates over a suite: an agent's seeds on all its games, from the command line."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelq.agents import DQN, AgentConfig, Evaluation, preset
from pixelq.agents.evaluation.scoring import Score, mark_of
from pixelq.agents.results.aggregates import ATARI5_WEIGHTS, aggregates
from pixelq.envs import ATARI5, ATARI26, human_normalized_score, id_of, make_vec
from tests.support.runs import run_here

PLAYED: list[Any] = []
MEANS = {game: 100.0 * (i + 1) for i, game in enumerate(ATARI5)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Folders like those of runs of two seeds on the five games; nothing was learned."""
    folder, found = tmp_path_factory.mktemp("suite"), []
    envs = make_vec("ALE/Pong-v5", 1, 0)
    small = AgentConfig(encoder="mlp", hidden=4)
    for seed in (0, 1):
        agent = DQN(envs.single_observation_space, envs.single_action_space, small, device="cpu", seed=seed)
        for game in ATARI5:
            run = folder / f"{game}-{seed}"
            agent.env_id, agent.protocol, agent.step = id_of(game), "sticky", 250_000 + seed
            agent.save(run / "checkpoints" / "step_0000250000")
            (run / "checkpoints" / "latest").symlink_to("step_0000250000")
            config: dict[str, Any] = {"env": id_of(game), "protocol": "sticky", "seed": seed, "steps": 250_000}
            config |= {"preset": "dqn", "agent": preset("dqn").to_dict()}
            (run / "config.json").write_text(json.dumps(config))
            found.append(run)
    return found


@pytest.fixture(autouse=True)
def _no_games_are_played(monkeypatch: pytest.MonkeyPatch) -> None:
    PLAYED.clear()

    def score(request: Any, **_: Any) -> tuple[None, Score]:
        PLAYED.append(request)
        seed = int(request.checkpoint.parent.parent.name[-1])
        mean = MEANS[request.checkpoint.parent.parent.name[:-2]] * (1 + seed)
        evaluation = Evaluation(request.env, (mean,) * request.episodes, (900,) * request.episodes)
        return None, Score(request, "last", 1_000_000, request.protocol, evaluation)

    monkeypatch.setattr("pixelq.agents.evaluation.players.score", score)


def evaluate(*words: Any) -> Any:
    command = ["evaluate", *map(str, words), "--episodes", "2", "--processes", "1", "--device", "cpu"]
    return run_here(command)


def test_a_score_is_known_again_by_its_flicker(runs: list[Path], tmp_path: Path) -> None:
    file = tmp_path / "scores.jsonl"
    for flags, played in (
        ([], ["sticky"]),
        (["--flicker", "0.5"], ["sticky+flicker=0.5"]),
        (["--flicker", "0"], []),
        ([], []),
    ):
        PLAYED.clear()
        ended = evaluate(runs[0], "--results", file, *flags)
        assert ended.code == 0, ended
        assert [request.protocol for request in PLAYED] == played
    ended = evaluate(*runs, "--suite", "atari5", "--flicker", "0.5")
    assert "dqn, evaluated as sticky+flicker=0.5 · " in ended.out, ended
    ended = evaluate(runs[0], "--flicker", "1.5")
    assert (ended.code, "--flicker must be a probability in [0, 1), got 1.5" in ended.err) == (2, True), ended
    line = json.loads(file.read_text().splitlines()[0])
    file.write_text(json.dumps(line | {"flicker": 0.5}) + "\n")  # as 0.1.0 wrote it
    PLAYED.clear()
    assert evaluate(runs[0], "--results", file, "--flicker", "0.5").code == 0
    assert PLAYED == []
    file.write_text(json.dumps(line | {"flicker": "half"}) + "\n")
    ended = evaluate(runs[0], "--results", file)
    assert (ended.code, "holds something else than scores" in ended.err) == (2, True), ended


def test_aggregates_of_a_suite(runs: list[Path]) -> None:
    ended = evaluate(*runs, "--suite", "atari5", "--json")
    assert ended.code == 0, ended.err
    figures = json.loads(ended.out)
    assert figures["suite"] == "atari5"
    assert [values["env"] for values in figures["evaluations"]] == [id_of(game) for game in ATARI5] * 2
    ((name, found),) = figures["aggregates"].items()
    assert name == "dqn"
    assert found["seeds"] == [0, 1]
    scores = np.array(
        [[human_normalized_score(game, MEANS[game] * (1 + seed)) for game in ATARI5] for seed in (0, 1)], float
    )
    assert found["mean"]["value"] == pytest.approx(scores.mean())
    assert found["iqm"]["value"] == pytest.approx(np.sort(scores.ravel())[3:-3].mean(), rel=0.5)
    assert found["iqm"]["value"] == pytest.approx(aggregates({"": scores})[""].iqm.value)
    assert found["mean"]["low"] < found["mean"]["value"] < found["mean"]["high"]
    percent = 100 * scores.mean(0).clip(min=0)
    weights = np.array([ATARI5_WEIGHTS[game] for game in ATARI5])
    assert found["atari57_median"]["value"] == pytest.approx((10 ** (weights @ np.log10(1 + percent)) - 1) / 100)


def test_what_people_see(runs: list[Path], tmp_path: Path) -> None:
    both = evaluate(*runs, "--suite", "atari5", "--results", tmp_path / "scores.jsonl")
    assert both.code == 0, both.err
    lines = both.out.splitlines()
    assert len(lines) == 10 + 1 + 5
    assert lines[10] == "dqn · 2 seeds · human-normalised"
    assert lines[11].startswith("  interquartile mean ")
    assert "95% interval" in lines[11]
    assert lines[-1].startswith("  median of 57, by Atari-5 ")
    assert evaluate(*runs, "--suite", "atari5", "--results", tmp_path / "scores.jsonl").out == both.out
    single = evaluate(*runs[:5], "--suite", "atari5").out.splitlines()
    assert single[5] == "dqn · 1 seed · human-normalised"
    assert not any("interval" in line for line in single[5:])  # one seed says nothing of others


def test_wrong_suites(runs: list[Path], tmp_path: Path) -> None:
    shutil.copytree(runs[0] / "checkpoints" / "step_0000250000", tmp_path / "bare")
    mixed = Path(shutil.copytree(runs[9], tmp_path / "mixed", symlinks=True))
    (mixed / "checkpoints" / "latest").rename(mixed / "checkpoints" / "best")
    (mixed / "checkpoints" / "step_0000260000").mkdir()  # so that the best is not the last
    missing = sorted(set(ATARI26) - set(ATARI5))
    for words, message in (
        ([*runs[1:5], "--suite", "atari5"], f"lack {ATARI5[0]}; --suite atari5 takes all its games and no others"),
        ([*runs, "--suite", "atari26"], f"lack {', '.join(missing[:5])} and {len(missing) - 5} more"),
        ([*runs[:9], "--suite", "atari5"], f"dqn lacks seed 1 on {ATARI5[4]}"),
        ([*runs, tmp_path / "bare", "--suite", "atari5"], "is of a run that is not at"),
        (
            [*runs[:9], mixed / "checkpoints" / "best", "--suite", "atari5"],
            "some policies are the best of their run and others the last; give --which",
        ),
    ):
        ended = evaluate(*words)
        assert (ended.code, ended.err.count("\n")) == (2, 1), ended
        assert message in ended.err
        assert PLAYED == []


def test_a_suite_takes_the_last_checkpoint_of_each_run(runs: list[Path], tmp_path: Path) -> None:
    """The best one is a maximum over its run."""
    kept = Path(shutil.copytree(runs[0], tmp_path / runs[0].name, symlinks=True))
    (kept / "checkpoints" / "latest").rename(kept / "checkpoints" / "best")
    shutil.copytree(kept / "checkpoints" / "step_0000250000", kept / "checkpoints" / "step_0000250008")
    (kept / "checkpoints" / "latest").symlink_to("step_0000250008")
    of_suite = [kept, *runs[1:5], "--suite", "atari5"]
    for command, step in ((of_suite, "step_0000250008"), ([kept, "--which", "best"], "step_0000250000")):
        PLAYED.clear()
        evaluate(*command, "--results", tmp_path / f"{step}.jsonl")
        assert PLAYED[0].checkpoint.name == step


def test_a_suite_takes_the_best_of_each_run_wherever_they_lie(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the best is the last, as in all but the first of these runs."""
    kept = [Path(shutil.copytree(run, tmp_path / run.name, symlinks=True)) for run in runs]
    for run in kept:
        (run / "checkpoints" / "best").symlink_to("step_0000250000")
    last = kept[0] / "checkpoints" / "step_0000250008"
    shutil.copytree(kept[0] / "checkpoints" / "step_0000250000", last)
    (kept[0] / "checkpoints" / "latest").unlink()
    (kept[0] / "checkpoints" / "latest").symlink_to(last.name)

    def score(request: Any, **_: Any) -> tuple[None, Score]:
        evaluation = Evaluation(request.env, (100.0,) * 2, (900,) * 2)
        return None, Score(request, mark_of(request.checkpoint), 1_000_000, request.protocol, evaluation)

    monkeypatch.setattr("pixelq.agents.evaluation.players.score", score)
    ended = evaluate(*kept, "--suite", "atari5", "--which", "best", "--json")
    assert ended.code == 0, ended.err
    figures = json.loads(ended.out)
    assert sorted({values["mark"] for values in figures["evaluations"]}) == ["best", "best and last"]
    assert {name: each["seeds"] for name, each in figures["aggregates"].items()} == {"dqn, best checkpoint": [0, 1]}

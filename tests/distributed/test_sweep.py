"""Sweeps end as if nothing had happened to them; most train with a stand-in that starts at once."""

import csv
import dataclasses
import json
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pixelq.agents import InvalidSpec, sweep, sweep_status
from pixelq.agents.distributed import process
from pixelq.agents.distributed.cells import cells_of
from pixelq.agents.distributed.folder import _steps_taken
from pixelq.agents.distributed.process import Job, Outcome
from pixelq.agents.distributed.running import RunningCells
from pixelq.agents.distributed.spec import spec_of
from pixelq.agents.distributed.sweep import LaunchOptions
from tests.support.runs import ROOT, TINY, Child, Harness, assert_same, run_here, words

pytestmark = pytest.mark.linux
PROGRAM = [sys.executable, "-S", str(ROOT / "tests" / "support" / "stand_ins" / "pixelq_train.py")]
QUICK = {"pixelq.agents.distributed.process.PROGRAM": PROGRAM}
SPEC: dict[str, Any] = {
    "envs": ["pixelq/Catch-v0", "CartPole-v1"],
    "presets": ["classic"],
    "seeds": [0, 1],
    "steps": 60,
}
CATCH = "pixelq-Catch-v0-classic-seed"


def toml(values: dict[str, Any]) -> str:
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items() if not isinstance(value, dict)]
    for name, table in values.items():
        if isinstance(table, dict):
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def command(folder: Path, name: str = "sweep", launcher: str = "local", jobs: int = 4, **spec: Any) -> list[str]:
    path = folder / "spec.toml"
    path.write_text(toml(SPEC | spec))
    flags = ["--out", str(folder / name), "--launcher", launcher, "--no-report", "--jobs", str(jobs)]
    return ["sweep", str(path), *flags]


def figures(sweep: Path) -> dict[str, bytes]:
    """What a sweep's runs leave, but where they lie."""
    files = [path for path in sorted(sweep.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    kept = [path for path in files if "logs" not in path.relative_to(sweep).parts]
    return {str(path.relative_to(sweep)): path.read_bytes().replace(bytes(sweep), b"SWEEP") for path in kept}


def wait_for(pattern: str, folder: Path, child: Child | None = None) -> Path:
    deadline = time.monotonic() + 240
    while not (found := list(folder.glob(pattern))):
        assert time.monotonic() < deadline, child.wait(0.0) if child is not None else pattern
        time.sleep(0.01)
    return found[0]


def finished_steps(sweep: Path) -> list[int]:
    return [int(list(csv.DictReader(path.open()))[-1]["step"]) for path in sorted(sweep.glob("*/evaluations.csv"))]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Sweeps of this process train with the stand-in."""
    monkeypatch.setattr(process, "PROGRAM", PROGRAM)
    return monkeypatch


def test_a_sweep_that_is_killed_ends_as_one_that_was_not(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = harness.run(command(tmp_path, "whole"), QUICK)
    assert whole.code == 0, whole.err
    expected = figures(tmp_path / "whole")
    assert len(expected) == 4 * 5 + 3
    assert finished_steps(tmp_path / "whole") == [60] * 4
    drawn = random.Random(0)
    killed = command(tmp_path, "killed", jobs=2)
    (tmp_path / "run.py").write_text(
        f"""
import os, sys
os.environ["STAND_IN"] = '{{"seconds": 0.02}}'
from pixelq.agents.distributed import process
from pixelq.scripts.main import main
process.PROGRAM = {PROGRAM!r}
sys.exit(main({killed!r}))
"""
    )
    kills = 0
    while kills < 8:
        child = harness.start(["script", str(tmp_path / "run.py"), str(tmp_path)])
        time.sleep(drawn.uniform(0.2, 0.9))
        child.send(signal.SIGKILL)
        ended = child.wait()
        kills += 1
        if ended.code == 0:
            break
    assert kills > 3  # it was under way when it was killed
    ended = harness.run(killed, QUICK)
    assert ended.code == 0, ended.err
    assert figures(tmp_path / "killed") == expected


@pytest.mark.slow
def test_a_cell_is_the_run_of_its_flags(harness: Harness, tmp_path: Path) -> None:
    """With the program itself, killed once: weights, tables and settings are those of `pixelq train`."""
    settings = {"hidden": 8, "batch_size": 4, "learning_starts": 50, "replay_capacity": 100}
    flags = {"num_envs": 2, "device": "cpu", "final_episodes": 2, "evaluation_episodes": 2, "checkpoint_every": 40}
    spec = {"envs": ["pixelq/Catch-v0"], "seeds": [3], "steps": 200, "agent": settings, **flags}
    alone = harness.run(["train", *words(TINY, seed=3, checkpoint_every=40, out=tmp_path / "alone")])
    assert alone.code == 0, alone.err
    of_sweep = command(tmp_path, **spec)
    child = harness.start(of_sweep)
    run = wait_for("sweep/*/checkpoints/step_*", tmp_path, child).parent.parent
    child.send(signal.SIGKILL)
    assert child.wait().code == -signal.SIGKILL
    ended = harness.start(of_sweep).wait(120.0)
    assert ended.code == 0, ended.err
    assert json.loads((run / "config.json").read_text())["resumed"]
    assert_same(tmp_path / "alone", run)


def test_what_failed_is_tried_again_and_named(tmp_path: Path, quick: pytest.MonkeyPatch) -> None:
    fails = {f"{CATCH}0": 2, f"{CATCH}1": 9}
    quick.setenv("STAND_IN", json.dumps({"fails": fails}))
    ended = run_here(command(tmp_path, retries=2))
    assert ended.code == 1
    last = ended.err.splitlines()[-1]
    assert last == (
        f"pixelq sweep: 1 run has failed: {CATCH}1 (pixelq train: it fails); see {tmp_path / 'sweep' / 'logs'}"
    )
    tries = {path.stem: len(path.read_text()) for path in (tmp_path / "sweep" / "logs").glob("*.tries")}
    assert tries == {f"{CATCH}0": 3, f"{CATCH}1": 3, "CartPole-v1-classic-seed0": 1, "CartPole-v1-classic-seed1": 1}
    states = {cell.name: (cell.state, cell.step, cell.problem) for cell in sweep_status(tmp_path / "sweep")}
    assert states[f"{CATCH}1"] == ("failed", 0, "pixelq train: it fails")
    assert states[f"{CATCH}0"] == ("finished", 60, None)
    rows = json.loads((tmp_path / "sweep" / "scores.json").read_text())["runs"]
    assert [row["final"]["mean"] is None for row in rows] == [False, True, False, False]
    quick.setenv("STAND_IN", "{}")  # started again, it does what is left
    assert run_here(command(tmp_path)).code == 0
    assert len((tmp_path / "sweep" / "logs" / f"{CATCH}0.tries").read_text()) == 3


def test_a_run_that_is_stopped_again_and_again_without_a_step_has_failed(
    tmp_path: Path, quick: pytest.MonkeyPatch
) -> None:
    """One that is preempted goes on as often as it must, but only while it gets somewhere."""
    quick.setenv("STAND_IN", json.dumps({"stops": [f"{CATCH}1"]}))
    ended = run_here(command(tmp_path, envs=["pixelq/Catch-v0"], retries=1))
    assert (ended.code, f"1 run has failed: {CATCH}1" in ended.err) == (1, True)
    tries = {path.stem: len(path.read_text()) for path in (tmp_path / "sweep" / "logs").glob("*.tries")}
    assert tries == {f"{CATCH}0": 1, f"{CATCH}1": 3}  # the first one may have been preempted


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_stops_all_runs_with_a_checkpoint(harness: Harness, tmp_path: Path, number: int, code: int) -> None:
    flags, program = command(tmp_path, steps=2000), tmp_path / "run.py"
    program.write_text(
        f"""
import os, sys
os.environ["STAND_IN"] = '{{"seconds": 0.01}}'
from pixelq.agents.distributed import process
from pixelq.scripts.main import main
process.PROGRAM = {PROGRAM!r}
sys.exit(main({flags!r}))
"""
    )
    child = harness.start(["script", str(program), str(tmp_path)])
    for seed in (0, 1):
        wait_for(f"sweep/{CATCH}{seed}/checkpoint.json", tmp_path, child)
    child.send(number)
    assert child.wait().code == code
    states = {cell.name: cell for cell in sweep_status(tmp_path / "sweep")}
    assert {cell.state for cell in states.values()} == {"stopped"}
    for name, cell in states.items():
        kept = json.loads((tmp_path / "sweep" / name / "checkpoint.json").read_text())[0]
        assert 0 < cell.step <= kept < 2000
        assert json.loads((tmp_path / "sweep" / "logs" / f"{name}.json").read_text())["code"] == 143
    assert harness.run(command(tmp_path, steps=2000), QUICK).code == 0
    assert finished_steps(tmp_path / "sweep") == [2000] * 4


def test_a_sweep_is_extended_but_not_changed(tmp_path: Path, quick: pytest.MonkeyPatch) -> None:
    assert run_here(command(tmp_path, num_envs=2)).code == 0
    tries = tmp_path / "sweep" / "logs"
    assert (
        run_here(command(tmp_path, num_envs=2, envs=["CartPole-v1"], seeds=[1, 2], agent={"n_step": [1, 3]})).code == 0
    )
    began = {path.stem: len(path.read_text()) for path in tries.glob("*.tries")}
    assert began == {
        **{f"{CATCH}{seed}": 1 for seed in (0, 1)},  # left out, and kept
        **{f"CartPole-v1-classic-seed{seed}": 1 for seed in (0, 1, 2)},  # whose n_step is 3
        **{f"CartPole-v1-classic-n_step=1-seed{seed}": 1 for seed in (1, 2)},
    }
    assert len(sweep_status(tmp_path / "sweep")) == 4
    before = figures(tmp_path / "sweep")
    for changes, sentence in (
        ({"num_envs": 4}, "num_envs must be 2 as in the run"),
        ({"num_envs": 2, "log_every": 7}, "log_every must be left out as in the run"),
        ({"num_envs": 2, "steps": 59}, "steps must be at least 60 as in the run"),
    ):
        ended = run_here(command(tmp_path, **changes))
        assert (ended.code, ended.err.count("\n")) == (2, 1)
        assert sentence in ended.err
    assert figures(tmp_path / "sweep") == before
    assert run_here(command(tmp_path, num_envs=2, steps=80)).code == 0  # goes on
    assert sorted(finished_steps(tmp_path / "sweep")) == [60] * 3 + [80] * 4


def test_steps_that_no_run_has_taken_can_be_taken_back(tmp_path: Path, quick: pytest.MonkeyPatch) -> None:
    """A raise is written down before any run goes on; what a run has taken is in its own files."""
    few: dict[str, Any] = {"envs": ["CartPole-v1"], "seeds": [0]}
    assert run_here(command(tmp_path, **few)).code == 0
    recorded, run = tmp_path / "sweep" / "sweep.json", tmp_path / "sweep" / "CartPole-v1-classic-seed0"
    recorded.write_text(recorded.read_text().replace('"steps": 60', '"steps": 80'))
    ended = run_here(command(tmp_path, steps=59, **few))
    sentence = f"steps must be at least 60 as in the run {run}, got 59; raise it, or use another --out"
    assert (ended.code, ended.err) == (2, f"pixelq sweep: {sentence}\n")
    assert run_here(command(tmp_path, steps=60, **few)).code == 0
    assert json.loads(recorded.read_text())["cells"][run.name]["steps"] == 60
    assert len((tmp_path / "sweep" / "logs" / f"{run.name}.tries").read_text()) == 1  # nothing was left to do


@pytest.mark.parametrize(
    ("files", "least"),
    [
        ({}, 64),
        ({"checkpoints/step_0000000070": None}, 70),  # written after the last row
        ({"checkpoints/step_0000000084": None}, 80),  # several environments go on together
        ({"config.json": "{"}, 100),
    ],
)
def test_the_steps_of_a_run_are_read_from_its_files(files: dict[str, str | None], least: int, tmp_path: Path) -> None:
    config = {"env": "CartPole-v1", "protocol": None, "agent": {}, "steps": 80}
    for name, text in ({"config.json": json.dumps(config), "metrics.csv": "step\n32\n64\n"} | files).items():
        if text is None:
            (tmp_path / name).mkdir(parents=True)
        else:
            (tmp_path / name).write_text(text)
    assert _steps_taken(tmp_path, 100) == least


def test_a_job_that_ended_at_fewer_steps_is_submitted_again(tmp_path: Path, quick: pytest.MonkeyPatch) -> None:
    """It is from before these were raised, and has not failed; but one that gets nowhere is not tried for ever."""

    class Adopting:
        """Runs the first job with fewer steps, as one that was sent to SLURM by a driver that was killed."""

        def __init__(self, steps: list[int]) -> None:
            self.steps, self.done = steps, list[tuple[str, Outcome]]()

        def submit(self, jobs: Sequence[Job]) -> list[Job]:
            for job in jobs:
                steps = self.steps.pop(0)
                ended = process.run_cell(dataclasses.replace(job, cell=dataclasses.replace(job.cell, steps=steps)))
                (job.run / "final_evaluation.json").unlink() if steps < job.cell.steps else None
                self.done.append((job.cell.name, ended))
            return list(jobs)

        def ended(self) -> list[tuple[str, Outcome]]:
            done, self.done = self.done, []
            return done

    (cell,) = cells_of(spec_of(SPEC | {"envs": ["CartPole-v1"], "seeds": [0]}))
    for out, steps, state in (("raised", [40, 60], "finished"), ("stuck", [40, 40], "failed")):
        launcher: Any = Adopting(steps)
        running = RunningCells(tmp_path / out, 0, launcher)
        (tmp_path / out).mkdir()
        running.add([Job(cell, tmp_path / out)])
        while running.is_busy:
            running.poll()
        found = running.states[cell.name]
        assert (found.state, found.tries, launcher.steps) == (state, int(state == "failed"), [])


def test_the_status_of_a_sweep_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sweep.json").write_text(json.dumps({"cells": {"run": {"steps": 60, "flags": {}}}}))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert [(cell.name, cell.state, cell.steps) for cell in sweep_status("~")] == [("run", "waiting", 60)]


def test_scores_are_those_of_the_runs(tmp_path: Path, quick: pytest.MonkeyPatch) -> None:
    assert run_here(command(tmp_path, agent={"gamma": [0.9, 0.99]})).code == 0
    found = json.loads((tmp_path / "sweep" / "scores.json").read_text())
    with (tmp_path / "sweep" / "scores.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(found["runs"]) == len(table) == 8
    for row, line in zip(found["runs"], table, strict=True):
        run = tmp_path / "sweep" / row["run"]
        final = json.loads((run / "final_evaluation.json").read_text())
        last = list(csv.DictReader((run / "evaluations.csv").open()))[-1]
        assert (row["final"]["mean"], row["final"]["ci95_low"]) == (final["mean"], final["ci95"][0])
        assert (float(line["final_mean"]), float(line["last_mean"])) == (final["mean"], float(last["mean"]))
        assert line["gamma"] == ("0.9" if "gamma=0.9-" in row["run"] else "")
        assert row["agent"] == ({"gamma": 0.9} if line["gamma"] else {})
    agents = {agent["env"]: agent for agent in found["agents"]}
    means = [row["last"]["mean"] for row in found["runs"] if row["env"] == "CartPole-v1"]
    assert agents["CartPole-v1"]["mean"] in (sum(means[:2]) / 2, sum(means[2:]) / 2)


def test_two_sweeps_do_not_share_a_folder(tmp_path: Path, harness: Harness) -> None:
    program = tmp_path / "run.py"
    program.write_text(
        f"""
import os, sys
os.environ["STAND_IN"] = '{{"seconds": 0.05}}'
from pixelq.agents.distributed import process
from pixelq.scripts.main import main
process.PROGRAM = {PROGRAM!r}
sys.exit(main({command(tmp_path)!r}))
"""
    )
    child = harness.start(["script", str(program), str(tmp_path)])
    wait_for("sweep/*/checkpoint.json", tmp_path, child)
    ended = run_here(command(tmp_path))
    assert ended == (
        2,
        "",
        f"pixelq sweep: another sweep runs in {tmp_path / 'sweep'}; wait for it, stop it, or use another --out\n",
    )
    states = run_here(["sweep", "--status", str(tmp_path / "sweep")])  # from anywhere
    assert "training" in states.out
    child.send(signal.SIGTERM)
    assert child.wait().code == 143


@pytest.mark.parametrize(
    ("changes", "flags", "sentence"),
    [
        ({"epochs": 3}, [], "unknown field 'epochs' of the specification; fields of the agent stand under [agent]"),
        ({"seed": [1]}, [], "unknown field 'seed' of the specification; did you mean 'seeds'?"),
        ({"steps": 0}, [], "steps must be an integer of at least 1, got 0"),
        ({"seeds": []}, [], "seeds must be a list of integers of at least 0, at least one, got []"),
        ({"seeds": 3}, [], "seeds must be a list of integers of at least 0, at least one, got 3"),
        ({"envs": ["CartPol-v1"]}, [], "unknown environment 'CartPol-v1'; did you mean 'CartPole-v1'?"),
        ({"envs": ["atari6"]}, [], "one of the suites atari5, atari26, atari57"),
        ({"presets": ["rainbo"]}, [], "rainbow"),
        ({"agent": {"gama": 0.9}}, [], "unknown field 'gama' of the agent's configuration; did you mean 'gamma'?"),
        ({"agent": {"gamma": [0.9, 2]}}, [], "the preset classic, gamma 2 cannot be run: gamma must be in [0, 1]"),
        ({"preset": {"dqn": {}}}, [], "preset.dqn must be of a preset in presets, got"),
        ({"preset": {"classic": 3}}, [], "preset.classic must be a table of fields of the agent, got 3"),
        ({"agent": {"gamma": []}}, [], "agent.gamma must have a value, got an empty list"),
        ({"protocol": 3}, [], "protocol must be text, got 3"),
        ({"agent": {"replay_capacity": 10**12}}, [], "of memory, and"),
        ({"device": "tpu"}, [], "device must be auto, cpu, cuda or cuda:N"),
        ({}, ["--launcher", "cloud"], "--launcher must be one of local, ray, slurm, got 'cloud'"),
        ({}, ["--launcher", "ray", "--ray-address", "127.0.0.1:1"], "no Ray cluster answers at '127.0.0.1:1'"),
        ({}, ["--launcher", "ray", "--ray-address", "x"], "--ray-address must be HOST:PORT"),
        ({}, ["--ray-address", "127.0.0.1:1"], "--ray-address is for --launcher ray; give that too, or leave it out"),
        ({}, ["--slurm.partition", "gpu"], "--slurm is for --launcher slurm; give that too, or leave it out"),
        ({}, ["--gpus", "2"], "--gpus must be in [0, 1]"),
        ({}, ["--jobs", "0"], "--jobs must be at least 1, got 0"),
    ],
)
def test_bad_input_gets_a_sentence_and_writes_nothing(
    tmp_path: Path, quick: pytest.MonkeyPatch, changes: dict[str, Any], flags: list[str], sentence: str
) -> None:
    given = command(tmp_path, **changes)
    given = given[: given.index("--launcher")] + given[given.index("--launcher") + 2 :]
    ended = run_here([*given, *flags])
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended.err
    assert sentence in ended.err
    assert os.listdir(tmp_path) == ["spec.toml"]


@pytest.mark.parametrize(("module", "launcher", "extra"), [("ray", "ray", "ray"), ("submitit", "slurm", "slurm")])
def test_a_missing_library_is_named(
    tmp_path: Path, quick: pytest.MonkeyPatch, module: str, launcher: str, extra: str
) -> None:
    quick.setitem(sys.modules, module, None)
    ended = run_here(command(tmp_path, launcher=launcher))
    assert ended.code == 2
    assert f"pip install 'pixelq[{extra}]'" in ended.err
    assert os.listdir(tmp_path) == ["spec.toml"]


def test_slurm_that_is_absent_is_named(tmp_path: Path, quick: pytest.MonkeyPatch) -> None:
    quick.setenv("PATH", str(tmp_path / "nothing"))
    ended = run_here(command(tmp_path, launcher="slurm"))
    assert (ended.code, "needs SLURM, whose sbatch is not here" in ended.err) == (2, True)
    assert os.listdir(tmp_path) == ["spec.toml"]


def test_a_run_of_something_else_is_left_alone(tmp_path: Path, quick: pytest.MonkeyPatch) -> None:
    (tmp_path / "sweep" / f"{CATCH}1").mkdir(parents=True)
    ended = run_here(command(tmp_path))
    assert (ended.code, "is not of this sweep; move it" in ended.err) == (2, True)
    assert [path.name for path in (tmp_path / "sweep").iterdir()] == [f"{CATCH}1"]


def test_from_python(tmp_path: Path, quick: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    result = sweep(
        SPEC, tmp_path / "sweep", LaunchOptions(jobs=3), lambda cells: seen.append(sum(c.is_finished for c in cells))
    )
    assert ([cell.state for cell in result.cells], result.failed) == (["finished"] * 4, [])
    assert (seen[0], seen[-1]) == (0, 4)
    with pytest.raises(InvalidSpec, match="steps is missing"):
        sweep({"envs": ["CartPole-v1"], "presets": ["classic"], "seeds": [0]}, tmp_path / "other")
    assert not (tmp_path / "other").exists()

"""Searches with Optuna: most train with a stand-in, whose scores are best at a learning rate of 1e-3."""

import csv
import json
import math
import os
import re
import runpy
import shlex
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelq.agents import AgentConfig, InvalidRun, InvalidSpec, TuneOptions, tune, tune_status
from pixelq.agents.config.agent_config import check_value, search_range
from pixelq.agents.config.search_ranges import Between
from pixelq.agents.distributed import local, process
from pixelq.agents.distributed import tune as tune_module
from pixelq.agents.distributed.local import LocalLauncher
from pixelq.agents.distributed.needs import needs_of
from pixelq.agents.distributed.search_space import Numbers, search_space
from pixelq.agents.distributed.study import NAME, STUDY, Study
from pixelq.agents.distributed.sweep import LaunchOptions
from pixelq.agents.distributed.trials import plan_of, reports, scores_of, value_of
from pixelq.agents.distributed.tune_folder import TrialState, TuneStatus
from pixelq.agents.errors import UserError
from pixelq.scripts.flags.train import read
from tests.distributed.test_sweep import PROGRAM, toml, wait_for
from tests.support.cases import IS_FULL, examples, representative
from tests.support.runs import ROOT, Harness, run_here

optuna = pytest.importorskip("optuna")
pytestmark = pytest.mark.linux
SPEC: dict[str, Any] = {
    "envs": ["pixelq/Catch-v0"],
    "presets": ["classic"],
    "seeds": [0, 1],
    "steps": 40,
    "search": {"learning_rate": {"low": 1e-5, "high": 1e-1, "log": True}, "n_step": [1, 3, 5]},
}
PEAK = {"peak": ["learning_rate", 1e-3, 1e-3]}
CATCH = "pixelq-Catch-v0-classic-seed"


def spec_text(values: dict[str, Any]) -> str:
    """A specification in TOML; `tests.distributed.test_sweep.toml` has no tables in tables."""
    search = values.get("search")
    if not isinstance(search, dict):
        return toml(values)
    lines = []
    for name, each in search.items():
        inside = (
            ", ".join(f"{key} = {json.dumps(value)}" for key, value in each.items()) if isinstance(each, dict) else ""
        )
        lines.append(f"{name} = " + (f"{{{inside}}}" if isinstance(each, dict) else json.dumps(each)))
    rest = {key: value for key, value in values.items() if key != "search"}
    return toml(rest) + "[search]\n" + "\n".join(lines) + "\n"


def command(folder: Path, name: str = "tuning", trials: int = 8, jobs: int = 1, **spec: Any) -> list[str]:
    path = folder / "spec.toml"
    path.write_text(spec_text(SPEC | spec))
    return ["tune", str(path), "--out", str(folder / name), "--trials", str(trials), "--jobs", str(jobs)]


def program(folder: Path, arguments: list[str], seconds: float) -> list[str]:
    """A script that searches with the stand-in, each of whose steps takes some seconds."""
    (folder / "run.py").write_text(
        f"""
import os, sys
os.environ["STAND_IN"] = {json.dumps(PEAK | {"seconds": seconds})!r}
from pixelq.agents.distributed import process, tune
from pixelq.scripts.main import main
process.PROGRAM, process.POLL, process.LOOK, tune.POLL, tune.REFRESH = {PROGRAM!r}, 0.01, 0.01, 0.01, 0.05
sys.exit(main({arguments!r}))
"""
    )
    return ["script", str(folder / "run.py"), str(folder)]


def trials_of(out: Path) -> list[dict[str, Any]]:
    return list(json.loads((out / "trials.json").read_text())["trials"])


def final_mean(out: Path, run: str) -> float:
    return float(json.loads((out / run / "final_evaluation.json").read_text())["mean"])


def steps_of(out: Path, run: str) -> int:
    return int(json.loads((out / run / "checkpoint.json").read_text())[0])


def trained(job: process.Job, should_stop: Callable[[], bool]) -> process.Outcome:
    """How a cell ends that is trained by the stand-in within this process, in place of `process.run_cell`."""
    asked = job.sweep / process.LOGS / f"{job.cell.name}.{process.STOP}"
    heed, said = list[Callable[..., Any]](), list[str]()

    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        if should_stop() or asked.exists():
            heed[0](signal.SIGTERM, None)

    (job.sweep / process.LOGS).mkdir(exist_ok=True)
    words = job.cell.words(job.run, resume=(job.run / "config.json").exists())
    inside = runpy.run_path(PROGRAM[-1])["main"].__globals__
    inside["sys"] = SimpleNamespace(argv=["pixelq", *words])
    inside["time"] = SimpleNamespace(sleep=sleep)
    inside["signal"] = SimpleNamespace(SIGTERM=signal.SIGTERM, signal=lambda number, own: heed.append(own))
    inside["print"] = said.append
    return process.Outcome(inside["main"](), said[-1] if said else "")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Searches of this process train with the stand-in, and look often at how it goes."""
    monkeypatch.setattr(local, "run_cell", trained)
    monkeypatch.setattr(tune_module, "POLL", 0.002)
    monkeypatch.setattr(tune_module, "REFRESH", 0.05)
    monkeypatch.setenv("STAND_IN", json.dumps(PEAK))
    return monkeypatch


# What a search finds


@pytest.mark.slow
def test_a_search_finds_what_scores_best(tmp_path: Path, quick: pytest.MonkeyPatch) -> None:
    ended = run_here([*command(tmp_path, trials=14, jobs=2), "--pruner", "none", "--seed", "3"])
    assert ended.code == 0, ended.err
    out = tmp_path / "tuning"
    trials, kept = trials_of(out), json.loads((out / "trials.json").read_text())
    assert [trial["number"] for trial in trials] == list(range(14))
    assert {trial["state"] for trial in trials} == {"complete"}
    assert trials[0]["settings"] == {"learning_rate": 1e-3, "n_step": 3}  # the preset's own
    for trial in trials:
        assert trial["runs"] == [f"trial{trial['number']:04}-{CATCH}{seed}" for seed in (0, 1)]
        assert trial["value"] == pytest.approx(statistics.mean(final_mean(out, run) for run in trial["runs"]))
        rate, config = (
            trial["settings"]["learning_rate"],
            json.loads((out / trial["runs"][1] / "config.json").read_text()),
        )
        assert 1e-5 <= rate <= 1e-1
        assert config["agent"].get("learning_rate", 1e-3) == rate
        assert config["agent"].get("n_step", 3) == trial["settings"]["n_step"]
    assert len({trial["settings"]["learning_rate"] for trial in trials}) > 10
    best = max(trials, key=lambda trial: trial["value"])
    assert kept["best"] == best["number"] == 0
    assert f"best: trial 0 with {best['value']:,.4g}, the mean of 2 runs" in ended.out
    assert sum(kept["importances"].values()) == pytest.approx(1.0)
    with (out / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(float(row["value"]), float(row["learning_rate"])) for row in rows] == [
        (trial["value"], trial["settings"]["learning_rate"]) for trial in trials
    ]
    storage = optuna.storages.RDBStorage(f"sqlite:///{out / STUDY}")
    found = optuna.load_study(study_name=None, storage=storage)  # the only one, as dashboards find it
    assert [trial.value for trial in found.trials] == [trial["value"] for trial in trials]
    assert found.best_trial.number == 0


@pytest.mark.slow
def test_the_command_at_the_end_trains_the_best(tmp_path: Path, quick: pytest.MonkeyPatch) -> None:
    quick.setenv("STAND_IN", json.dumps({"peak": ["learning_rate", 0.02, 1e-3]}))
    spec = {"agent": {"gamma": 0.9, "double": True}, "num_envs": 2}
    ended = run_here(command(tmp_path, trials=6, **spec))
    assert ended.code == 0, ended.err
    line = ended.out.splitlines()[-1]
    assert line.startswith("pixelq train --env pixelq/Catch-v0 --preset classic --seed 0 --steps 40 ")
    args = read(shlex.split(line)[2:])
    found = json.loads((tmp_path / "tuning" / "trials.json").read_text())
    best = found["trials"][found["best"]]
    assert found["best"] != 0
    assert args.agent.learning_rate == best["settings"]["learning_rate"]
    assert (args.agent.n_step, args.agent.gamma, args.agent.double) == (best["settings"]["n_step"], 0.9, True)
    assert (args.num_envs, args.evaluate_every) == (2, 4)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_what_is_drawn_depends_on_seed_and_number(tmp_path: Path, sampler: Any) -> None:
    plan = plan_of(SPEC)

    def drawn(name: str, seed: int, values: list[float]) -> list[dict[str, Any]]:
        found = []
        made = Study(
            tmp_path / name, plan.space, TuneOptions(30, sampler, "none", seed), usual=None, first=4, longest=80
        )
        for value in values:
            trial = made.next()
            found.append(trial.params)
            trial.complete(value)
        made.close()
        return found

    values = [(7 * k % 13) / 13 for k in range(12)]
    whole = drawn("whole", 0, values)
    assert drawn("pieces", 0, values[:5]) + drawn("pieces", 0, values[5:11]) + drawn("pieces", 0, values[11:]) == whole
    assert len({trial["learning_rate"] for trial in whole}) == 12
    assert all(trial["learning_rate"] == float(f"{trial['learning_rate']:.4g}") for trial in whole)
    assert drawn("other", 1, values)[:3] != whole[:3]
    differs = drawn("values", 0, [1 - value for value in values])
    assert differs[:10] == whole[:10]  # drawn at random
    assert (differs[10:] == whole[10:]) == (sampler == "random")


@pytest.mark.slow
def test_a_trial_that_was_being_made_when_a_search_was_killed_is_made_as_planned(tmp_path: Path) -> None:
    plan, options = plan_of(SPEC), TuneOptions(pruner="none")

    def opened(name: str) -> Study:
        return Study(tmp_path / name, plan.space, options, usual=None, first=4, longest=80)

    expected = opened("whole").next().params
    for name, begin in {
        "waiting": lambda made: None,
        "empty": lambda made: made.study.ask(),
        "half": lambda made: plan.space[0].drawn(made.study.ask()),
    }.items():
        made = opened(name)
        made.study.enqueue_trial(made._drawn([]))
        begin(made)
        made.close()
        made = opened(name)
        trials = made.unfinished() or [made.next()]
        assert [trial.params for trial in trials] == [expected]
        assert len(made.trials()) == 1
        made.close()


# Pruning


def best_until(trial: Any, step: int) -> float:
    return max(value for at, value in trial.intermediate_values.items() if at <= step)


@pytest.mark.parametrize("seconds", [0.0, pytest.param(0.006, marks=pytest.mark.slow)])
def test_trials_below_the_median_are_stopped(tmp_path: Path, quick: pytest.MonkeyPatch, seconds: float) -> None:
    quick.setenv("STAND_IN", json.dumps(PEAK | {"seconds": seconds}))
    search = [*command(tmp_path, trials=12, evaluate_every=20), "--sampler", "random", "--seed", "7"]
    ended = run_here(search)
    assert ended.code == 0, ended.err
    out = tmp_path / "tuning"
    trials = optuna.load_study(study_name=NAME, storage=f"sqlite:///{out / STUDY}").trials
    pruned = [trial.number for trial in trials if trial.state.name == "PRUNED"]
    assert pruned == [6, 7, 9, 11]
    complete, stopped = list[Any](), list[int]()
    for trial in trials:
        steps = sorted(trial.intermediate_values)
        assert steps == list(range(20, steps[-1] + 1, 20))
        for step in steps:
            others = [each.intermediate_values[step] for each in complete]
            is_poor = len(complete) >= 5 and best_until(trial, step) < statistics.median(others)
            assert is_poor == (trial.number in pruned and step == steps[-1]), (trial.number, step)
        first, second = (f"trial{trial.number:04}-{CATCH}{seed}" for seed in (0, 1))
        if trial.number in pruned:
            assert steps == [20]  # its first run is worse from its first evaluation on
            assert not (out / second).exists()
            if steps_of(out, first) < 40:  # with a checkpoint
                stopped.append(trial.number)
                assert not (out / first / "final_evaluation.json").exists()
        else:
            complete.append(trial)
            assert steps[-1] == 80
    assert (len(stopped) > 1) == (seconds > 0)
    told = [line for line in ended.err.splitlines() if re.match(r"trial \d+: pruned at step 20 with ", line)]
    assert len(told) == len(pruned)
    states = {trial["number"]: (trial["state"], trial["value"]) for trial in trials_of(out)}
    assert {states[number] for number in pruned} == {("pruned", None)}
    assert run_here(search).code == 0
    for number in pruned:  # may still run elsewhere, as jobs of SLURM do
        assert (out / "logs" / f"trial{number:04}-{CATCH}0.stop").exists()


@pytest.mark.slow
def test_with_hyperband_some_are_stopped(tmp_path: Path, quick: pytest.MonkeyPatch) -> None:
    ended = run_here([*command(tmp_path, trials=12, seeds=[0]), "--sampler", "random", "--pruner", "hyperband"])
    assert ended.code == 0, ended.err
    trials = trials_of(tmp_path / "tuning")
    assert {trial["state"] for trial in trials} == {"complete", "pruned"}
    assert all(trial["step"] < 40 for trial in trials if trial["state"] == "pruned")


STEPS = st.lists(st.integers(1, 10), max_size=6, unique=True).map(sorted)
TABLES = st.lists(
    st.tuples(
        STEPS.flatmap(lambda steps: st.tuples(*(st.tuples(st.just(s), st.floats(-9, 9)) for s in steps))), st.booleans()
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=examples(200), deadline=None)
@given(runs=TABLES, together=st.integers(1, 5), cut=st.integers(0, 10), data=st.data())
def test_what_is_reported_never_changes(runs: Any, together: int, cut: int, data: Any) -> None:
    tables, over = [list(table) for table, _ in runs], [is_over for _, is_over in runs]
    whole = list(reports(tables, over, together, 10))
    assert [step for step, _ in whole] == sorted({step for step, _ in whole})
    earlier = [table[: data.draw(st.integers(0, len(table)))] for table in tables]
    was_over = [
        is_over and len(table) == len(before) for is_over, table, before in zip(over, tables, earlier, strict=True)
    ]
    before = list(reports(earlier, was_over, together, 10))
    assert whole[: len(before)] == before


def test_reports_are_means_of_the_runs_that_go_together() -> None:
    one, two, three = [(5, 1.0), (10, 2.0)], [(5, 3.0), (10, 6.0)], [(5, 10.0), (10, 13.0)]
    assert list(reports([one, two, three], [True] * 3, 3, 10)) == [(5, 14 / 3), (10, 7.0)]
    assert list(reports([one, two, three], [True] * 3, 1, 10)) == [
        *[(5, 1.0), (10, 2.0)],
        *[(15, 2.5), (20, 4.0)],
        *[(25, 6.0), (30, 7.0)],
    ]
    assert list(reports([one, two, three], [True] * 3, 2, 10)) == [(5, 2.0), (10, 4.0), (15, 6.0), (20, 7.0)]
    assert list(reports([one, two[:1], []], [True, False, False], 2, 10)) == [(5, 2.0)]
    assert list(reports([one, [(5, 3.0)]], [True, True], 2, 10)) == [(5, 2.0), (10, 2.5)]  # stopped by a callback
    assert list(reports([[], [(5, 3.0)]], [True, True], 2, 10)) == []  # the first has failed
    assert list(reports([one[:1], two], [False, True], 1, 10)) == [(5, 1.0)]  # the first has not ended


def test_trials_are_compared_at_the_steps_at_which_evaluations_were_due(tmp_path: Path) -> None:
    """Several environments go a few steps beyond them, differently in each run."""
    plan = plan_of(SPEC | {"steps": 2_050, "evaluate_every": 500})
    header = "step,episodes,mean,median,std,ci95_low,ci95_high,human_normalized\n"
    for cell, steps in zip(plan.cells, ([505, 1_005, 1_500, 2_001, 2_055], [501, 1_000, 1_507, 1_600]), strict=True):
        (tmp_path / cell.name).mkdir()
        rows = [f"{step},10,{step}.5,0,0,0,0,\n" for step in steps]
        (tmp_path / cell.name / "evaluations.csv").write_text(header + "".join(rows))
    assert scores_of(plan, tmp_path, plan.cells) == [
        [(500, 505.5), (1_000, 1_005.5), (1_500, 1_500.5), (2_000, 2_001.5), (2_050, 2_055.5)],
        [(500, 501.5), (1_000, 1_000.5), (1_500, 1_507.5), (1_600, 1_600.5)],  # stopped by a callback
    ]


# Kills, signals and failures


KILLS = """
import json, os, random, signal, sys, time
from pathlib import Path
import optuna.storages._rdb.storage, optuna.pruners, optuna.samplers
from pixelq.agents.distributed import process, tune
from pixelq.scripts.main import main

def start(arguments, seconds):
    child = os.fork()
    if child == 0:
        os.environ["STAND_IN"] = json.dumps({"peak": ["learning_rate", 1e-3, 1e-3], "seconds": seconds})
        os._exit(main(arguments))
    return child

def code_of(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def starts():
    return sum(path.read_text().count("$ pixelq") for path in Path(killed[3]).glob("logs/*.log"))

whole, killed, program, kills = json.loads(sys.argv[1])
process.PROGRAM, process.POLL, process.LOOK, tune.POLL, tune.REFRESH = program, 0.01, 0.01, 0.02, 0.1
codes = [code_of(start(whole, 0.0))]
drawn = random.Random(1)
for _ in range(kills):
    begun, child = starts(), start(killed, 0.006)
    while starts() == begun:
        time.sleep(0.02)
    time.sleep(drawn.uniform(0.0, 0.4))
    os.kill(child, signal.SIGKILL)
    codes.append(code_of(child))
print(json.dumps([*codes, code_of(start(killed, 0.0))]))
"""


@pytest.mark.slow
def test_a_search_that_is_killed_ends_as_one_that_was_not(tmp_path: Path) -> None:
    few: dict[str, Any] = {"trials": 20} if IS_FULL else {"trials": 8, "seeds": [0]}
    kills = 8 if IS_FULL else 3
    whole, killed = (command(tmp_path, name, **few) for name in ("whole", "killed"))
    given = json.dumps([whole, killed, PROGRAM, kills])
    done = subprocess.run(
        [sys.executable, "-c", KILLS, given], capture_output=True, text=True, timeout=280, check=False
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [0, *[-signal.SIGKILL] * kills, 0], done.stderr
    for name in ("trials.json", "trials.csv", "tune.json"):
        text = (tmp_path / "killed" / name).read_text()
        assert text == (tmp_path / "whole" / name).read_text(), name
    trials = trials_of(tmp_path / "killed")
    assert {trial["state"] for trial in trials} == {"complete", "pruned"}
    for trial in trials:
        if trial["state"] == "complete":
            for run in trial["runs"]:
                for file in ("evaluations.csv", "metrics.csv", "checkpoint.json"):
                    one, other = (tmp_path / name / run / file for name in ("killed", "whole"))
                    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("number", "code"), representative([(signal.SIGTERM, 143), (signal.SIGINT, 130)], [(signal.SIGTERM, 143)])
)
def test_a_signal_stops_all_runs_with_a_checkpoint(harness: Harness, tmp_path: Path, number: int, code: int) -> None:
    slow = command(tmp_path, trials=3, jobs=2, steps=2000, evaluate_every=500)
    child = harness.start(program(tmp_path, slow, 0.005))
    for seed in (0, 1):
        wait_for(f"tuning/trial0000-{CATCH}{seed}/checkpoint.json", tmp_path, child)
    child.send(number)
    assert child.wait(200.0).code == code
    out = tmp_path / "tuning"
    status = tune_status(out)
    assert [trial.state for trial in status.trials] == ["running"]
    assert [(cell.state, 0 < cell.step < 2000) for cell in status.cells] == [("stopped", True)] * 2
    steps = [steps_of(out, f"trial0000-{CATCH}{seed}") for seed in (0, 1)]
    ended = harness.start(program(tmp_path, slow, 0.0)).wait(120.0)
    assert ended.code == 0, ended.err
    assert [trial["state"] for trial in trials_of(out)] == ["complete"] * 3
    log = (out / "logs" / f"trial0000-{CATCH}0.log").read_text()
    assert log.count("--resume") == 1
    assert all(0 < step < 2000 for step in steps)


def test_settings_that_cannot_be_run_make_a_failed_trial(tmp_path: Path, quick: pytest.MonkeyPatch) -> None:
    spec = {"agent": {"replay_capacity": 1000}, "search": {"batch_size": [64, 2000], "learning_rate": {}}}
    spec["evaluate_every"] = 20
    ended = run_here([*command(tmp_path, trials=8, seeds=[0], **spec), "--sampler", "random"])
    assert ended.code == 0, ended.err
    trials = trials_of(tmp_path / "tuning")
    assert len(trials) == 8
    failed = [trial for trial in trials if trial["settings"]["batch_size"] == 2000]
    assert [trial["state"] for trial in failed] == ["failed"] * len(failed)
    assert len(failed) == 2
    sentence = "cannot be run: batch_size must be at most replay_capacity, got 2000"
    assert all(trial["problem"].endswith(sentence) for trial in failed)
    assert sum(trial["state"] == "complete" for trial in trials) >= 5
    assert all(not (tmp_path / "tuning" / run).exists() for trial in failed for run in trial["runs"])
    rates = [trial["settings"]["learning_rate"] for trial in trials]
    assert len(set(rates)) == 8
    assert all(rate == float(f"{rate:.4g}") for rate in rates)


def test_runs_that_fail_make_a_failed_trial(tmp_path: Path, quick: pytest.MonkeyPatch) -> None:
    first = f"trial0001-{CATCH}0"
    quick.setenv("STAND_IN", json.dumps(PEAK | {"fails": {first: 9}}))
    ended = run_here(command(tmp_path, trials=3, retries=0))
    assert ended.code == 0, ended.err
    out = tmp_path / "tuning"
    assert [trial["state"] for trial in trials_of(out)] == ["complete", "failed", "complete"]
    assert trials_of(out)[1]["problem"] == f"{first}: pixelq train: it fails"
    assert not (out / f"trial0001-{CATCH}1").exists()  # it was not wanted any more
    assert "trial 1: failed (" in ended.err


def test_a_search_without_a_complete_trial_says_why(tmp_path: Path, quick: pytest.MonkeyPatch) -> None:
    quick.setenv("STAND_IN", json.dumps({"fails": {f"trial{k:04}-{CATCH}0": 9 for k in range(2)}}))
    ended = run_here(command(tmp_path, trials=2, retries=0))
    assert ended.code == 1
    last = ended.err.splitlines()[-1]
    assert last == f"pixelq tune: no trial is complete, of 2; the last: trial0001-{CATCH}0: pixelq train: it fails"


# Launching


class Elsewhere:
    """A launcher that is not of this machine, although its runs are."""

    def __init__(self, jobs: Any, options: LaunchOptions) -> None:
        self.own = LocalLauncher(jobs, needs_of(job.cell for job in jobs), options.jobs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)


@pytest.mark.parametrize(
    ("launcher", "jobs", "trials", "runs"),
    [("local", 1, 1, 1), ("local", 3, 2, 3), ("local", 4, 2, 4), ("slurm", 3, 2, 3), ("ray", None, 4, 8)],
)
def test_so_many_run_at_once(
    tmp_path: Path, quick: pytest.MonkeyPatch, launcher: Any, jobs: int | None, trials: int, runs: int
) -> None:
    seen: list[tuple[int, int]] = []
    if launcher != "local":
        quick.setattr(tune_module, "make_launcher", Elsewhere)
    submit = LocalLauncher.submit

    def spied(self: LocalLauncher, jobs: Any) -> Any:
        taken = submit(self, jobs)
        seen.append((len({name[:9] for name in self.running}), len(self.running)))
        return taken

    longest = list[int]()
    study = tune_module.Study

    def spied_study(*arguments: Any, **options: Any) -> Study:
        longest.append(options["longest"])
        return study(*arguments, **options)

    quick.setattr(LocalLauncher, "submit", spied)
    quick.setattr(tune_module, "Study", spied_study)
    few = {**SPEC, "evaluate_every": 40}
    status = tune(few, tmp_path / "tuning", LaunchOptions(launcher, jobs), TuneOptions(4, "random", "none"))
    assert [trial.state for trial in status.trials] == ["complete"] * 4
    assert max(each for each, _ in seen) == trials
    assert max(each for _, each in seen) == runs
    assert json.loads((tmp_path / "tuning" / "tune.json").read_text())["together"] == min(jobs or 8, 2)
    assert longest == [80 if jobs == 1 else 40]  # the seeds one after the other, or at once


def test_from_python(tmp_path: Path, quick: pytest.MonkeyPatch) -> None:
    values = {**SPEC, "evaluate_every": 40, "search": ["learning_rate", "double"]}
    status = tune(values, tmp_path / "tuning", LaunchOptions(jobs=2), TuneOptions(3, "random", "none", 7))
    assert status.best is not None
    assert status.best.value == max(trial.value or 0.0 for trial in status.trials)
    for trial in status.trials:
        assert trial.value == statistics.mean(final_mean(tmp_path / "tuning", run) for run in trial.runs)
    assert {type(trial.settings["double"]) for trial in status.trials} == {bool}
    assert tune_status(tmp_path / "tuning") == status
    more = tune(values, tmp_path / "tuning", LaunchOptions(jobs=2), TuneOptions(4, "random", "none", 7))
    assert (more.total, more.trials[:3]) == (4, status.trials)
    with pytest.raises(UserError, match="`trials` must be at least 4, as so many have begun"):
        tune(values, tmp_path / "tuning", LaunchOptions(jobs=2), TuneOptions(2, "random", "none", 7))
    assert tune_status(tmp_path / "tuning").trials == more.trials
    with pytest.raises(UserError, match="`seed` must be at least 0, got -1"):
        tune(values, tmp_path / "other", search=TuneOptions(seed=-1))
    equals = TrialState(0, "complete", 1.0, {}, ()), TrialState(1, "complete", 1.0, {}, ())
    assert TuneStatus(2, equals).best == equals[0]


def test_status_is_only_read(tmp_path: Path, quick: pytest.MonkeyPatch) -> None:
    ended = run_here(command(tmp_path, trials=2, evaluate_every=20))
    assert ended.code == 0, ended.err
    out = tmp_path / "tuning"
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    quick.setitem(sys.modules, "optuna", None)  # which it does not need
    shown = run_here(["tune", "--status", str(out)])
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.splitlines()[0].startswith("trial 0: ")
    assert shown.out.splitlines()[-1] == ended.out.splitlines()[-1]
    values = json.loads(run_here(["tune", "--status", str(out), "--json"]).out)
    assert (values["total"], len(values["trials"]), values["importances"]) == (2, 2, {})
    assert values["best"] == json.loads(before[out / "trials.json"])["best"]
    assert [trial["step"] for trial in values["trials"]] == [80, 80]
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    final = json.loads(before[out / f"trial0000-{CATCH}1" / "final_evaluation.json"]) | {"mean": None}
    (out / f"trial0000-{CATCH}1" / "final_evaluation.json").write_text(json.dumps(final))
    plan = plan_of(SPEC)
    with pytest.raises(InvalidRun, match=f"trial0000-{CATCH}1 has no mean return; did no episode end"):
        value_of(plan, out, plan.cells_of(0, {}))
    ended = run_here(["tune", "--status", str(tmp_path)])
    assert (ended.code, ended.err) == (
        2,
        f"pixelq tune: no search in {tmp_path} (No such file or directory); give the folder of one\n",
    )


@pytest.mark.slow
def test_damaged_files_are_named(tmp_path: Path, quick: pytest.MonkeyPatch) -> None:
    search = command(tmp_path, trials=1, seeds=[0])
    assert run_here(search).code == 0
    for name in ("trials.json", "tune.json"):
        path = tmp_path / "tuning" / name
        whole = path.read_text()
        for text in (
            "",
            "[]",
            "{",
            '{"trials": 3}',
            '{"trials": [{"number": -1}], "total": 1}',
            whole.replace("together", "x"),
        ):
            path.write_text(text)
            if text != whole:
                ended = run_here(["tune", "--status", str(tmp_path / "tuning")])
                assert (ended.code, f"{name} is damaged (" in ended.err, ended.err.count("\n")) == (2, True, 1)
        assert run_here(search).code == (2 if name == "tune.json" else 0)


# Bad input

RATE = {"learning_rate": {"low": 1e-5, "high": 1e-2}}


@pytest.mark.parametrize(
    ("changes", "flags", "sentence"),
    [
        ({"search": {}}, [], "search must be a table of fields of the agent, such as learning_rate = {}, got {}"),
        ({"search": 3}, [], "search must be a table of fields of the agent"),
        ({"search": {"gama": {}}}, [], "unknown field 'gama' of the agent's configuration; did you mean 'gamma'?"),
        ({"search": ["gama"]}, [], "unknown field 'gama' of the agent's configuration; did you mean 'gamma'?"),
        (
            {"search": {"gamma": 0.9}},
            [],
            "search.gamma must be {low = ..., high = ..., log = true} or a list of values",
        ),
        ({"search": {"gamma": [0.9]}}, [], "search.gamma must have two values or more, each once, got [0.9]"),
        ({"search": {"gamma": [0.9, 0.9]}}, [], "search.gamma must have two values or more, each once"),
        ({"search": {"gamma": [0.9, 2]}}, [], "search.gamma must be in [0, 1], got 2"),
        ({"search": {"head": ["scalar", "scaler"]}}, [], "search.head must be one of scalar"),
        ({"search": {"gamma": {"min": 0.5}}}, [], "unknown entry 'min' of search.gamma; there are low, high and log"),
        ({"search": {"gamma": {"low": 0.9}}}, [], "search.gamma must be {low = ..., high = ..., log = true} or a list"),
        ({"search": {"learning_starts": {}}}, [], "search.learning_starts must be {low = ..., high = ..., log = true}"),
        ({"search": ["learning_starts"]}, [], "search.learning_starts must be {low = ..., high = ..., log = true}"),
        ({"search": {"encoder_layers": {}}}, [], "search.encoder_layers must be a list of values"),
        ({"search": {"double": {"low": 0}}}, [], "search.double must be a list of values, got {low = 0}"),
        (
            {"search": {"gamma": {"low": 0.9, "high": 0.9}}},
            [],
            "search.gamma.low must be less than its high, got 0.9 and 0.9",
        ),
        ({"search": {"gamma": {"low": 0.9, "high": 2}}}, [], "search.gamma must be in [0, 1], got 2"),
        (
            {"search": {"gamma": {"low": 0, "high": 1, "log": True}}},
            [],
            "search.gamma.low must be greater than 0 with log",
        ),
        ({"search": {"gamma": {"low": "a", "high": 1}}}, [], "search.gamma.low must be a finite number, got 'a'"),
        ({"search": {"gamma": {"low": 0, "high": 1, "log": 1}}}, [], "search.gamma.log must be true or false, got 1"),
        ({"search": {"n_step": {"low": 1, "high": 2.5}}}, [], "search.n_step must have an integer as low and as high"),
        (
            {"search": {"learning_rate": {"low": 0}}},
            [],
            "search.learning_rate.low must be greater than 0 with log, got 0",
        ),
        ({"agent": {"n_step": 3}}, [], "n_step must have a value or a range under [search], not both"),
        ({"agent": {"gamma": [0.9, 0.99]}}, [], "agent must have one value of each field in a search"),
        ({"presets": ["classic", "nature"]}, [], "presets must have one name in a search, got 2"),
        (
            {"envs": ["pixelq/Catch-v0", "CartPole-v1"]},
            [],
            "whose human-normalised scores are averaged; pixelq/Catch-v0 has none",
        ),
        ({"seeds": 3}, [], "seeds must be a list of integers of at least 0, at least one, got 3"),
        ({"evaluate_every": 41}, [], "evaluate_every must be at most steps (40) in a search, got 41; trials are"),
        ({"epochs": 3}, [], "unknown field 'epochs' of the specification"),
        ({}, ["--trials", "0"], "--trials must be at least 1, got 0"),
        ({}, ["--sampler", "grid"], "--sampler must be one of tpe, random, got 'grid'"),
        ({}, ["--jobs", "0"], "--jobs must be at least 1, got 0"),
        ({"agent": {"replay_capacity": 10**12}}, [], "of memory, and"),
    ],
)
def test_bad_input_gets_a_sentence_and_writes_nothing(
    tmp_path: Path, quick: pytest.MonkeyPatch, changes: dict[str, Any], flags: list[str], sentence: str
) -> None:
    ended = run_here([*command(tmp_path, **changes), *flags])
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended.err
    assert sentence in ended.err
    assert os.listdir(tmp_path) == ["spec.toml"]


def test_optuna_that_is_missing_is_named(tmp_path: Path, quick: pytest.MonkeyPatch) -> None:
    quick.setitem(sys.modules, "optuna", None)
    ended = run_here(command(tmp_path))
    assert (ended.code, "a search needs Optuna: pip install 'pixelq[tune]'" in ended.err) == (2, True)
    assert os.listdir(tmp_path) == ["spec.toml"]


def test_a_folder_has_one_search(tmp_path: Path, quick: pytest.MonkeyPatch) -> None:
    assert run_here(command(tmp_path, trials=1)).code == 0
    out = tmp_path / "tuning"
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for changes, flags, sentence in (
        ({"envs": ["CartPole-v1"]}, [], "envs must be ['pixelq/Catch-v0'] as in the search that"),
        ({"seeds": [0]}, [], "seeds must be [0, 1] as in the search"),
        ({"steps": 50}, [], "steps must be 40 as in the search"),
        ({"num_envs": 2}, [], "num_envs must be "),
        ({"agent": {"gamma": 0.9}}, [], "agent must be {} as in the search"),
        ({"search": {"learning_rate": {}, "n_step": [1, 3, 5]}}, [], "search.learning_rate must be {'low': 1e-05, "),
        ({"search": {"n_step": [1, 3, 5]}}, [], "search.learning_rate must be {'low'"),
        ({"search": SPEC["search"] | {"gamma": {}}}, [], "search.gamma must be left out as in the search"),
        ({}, ["--pruner", "none"], "pruner must be 'median' as in the search"),
        ({}, ["--seed", "1"], "seed must be 0 as in the search"),
    ):
        ended = run_here([*command(tmp_path, trials=1, **changes), *flags])
        assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
        assert sentence in ended.err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert run_here(command(tmp_path, trials=1, device="cpu")).code == 0  # changes no figure
    plain = {key: value for key, value in SPEC.items() if key != "search"}
    (tmp_path / "sweep.toml").write_text(toml(plain))
    ended = run_here(["sweep", str(tmp_path / "sweep.toml"), "--out", str(out)])
    assert (ended.code, "is the folder of a search; continue it with pixelq tune" in ended.err) == (2, True)
    sweep = ["sweep", str(tmp_path / "sweep.toml"), "--out", str(tmp_path / "sweep"), "--no-report"]
    assert run_here(sweep).code == 0
    ended = run_here(command(tmp_path, "sweep"))
    assert (ended.code, "is the folder of a sweep; continue it with pixelq sweep" in ended.err) == (2, True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / STUDY).write_text("no study")
    ended = run_here(command(tmp_path, "other"))
    assert (ended.code, "study.db is not of this search; move it" in ended.err) == (2, True)


def test_a_study_of_something_else_or_damaged_is_left_alone(tmp_path: Path) -> None:
    plan, path = plan_of(SPEC), tmp_path / STUDY

    def opened() -> Study:
        return Study(path, plan.space, TuneOptions(), usual=plan.usual(), first=4, longest=80)

    made = opened()
    made.next().complete(1.0)
    made.close()
    whole, unread, foreign = path.read_bytes(), "cannot be read as a study (", "is not the study of this search"
    changed = {
        "UPDATE studies SET study_name = 'other'": foreign,
        "UPDATE study_directions SET direction = 'MINIMIZE'": foreign,
        """UPDATE trial_params SET distribution_json = replace(distribution_json, '1e-05', '1e-06')""": foreign,
        "UPDATE trial_params SET param_name = 'gamma' WHERE param_name = 'n_step'": foreign,
    }
    cases = {b"no study": unread, whole[: len(whole) // 2]: unread, whole[:40000] + bytes(8192) + whole[48192:]: unread}
    for statement, sentence in changed.items():
        path.write_bytes(whole)
        with closing(sqlite3.connect(path)) as file:
            assert file.execute(statement).rowcount > 0
            file.commit()
        cases[path.read_bytes()] = sentence
    path.unlink()
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE places (url TEXT)")
    cases[path.read_bytes()] = foreign
    assert len(cases) == 8
    for text, sentence in cases.items():
        path.write_bytes(text)
        with pytest.raises(InvalidRun, match=re.escape(sentence)):
            opened()
        assert path.read_bytes() == text
    path.write_bytes(whole)
    made = opened()
    assert [trial.value for trial in made.trials()] == [1.0]
    made.close()


def test_a_search_is_neither_cut_nor_mixed_with_another(tmp_path: Path, quick: pytest.MonkeyPatch) -> None:
    assert run_here(command(tmp_path, trials=1)).code == 0
    out = tmp_path / "tuning"
    study = optuna.load_study(study_name=NAME, storage=f"sqlite:///{out / STUDY}")
    study.enqueue_trial({"learning_rate": 1e-2, "n_step": 5})  # as if killed before it was begun
    assert run_here(command(tmp_path, trials=2)).code == 0
    assert [(each["state"], each["settings"]["n_step"]) for each in trials_of(out)] == [
        ("complete", 3),
        ("complete", 5),
    ]
    ended = run_here(command(tmp_path, trials=1))
    assert (ended.code, "--trials must be at least 2, as so many have begun in" in ended.err) == (2, True), ended.err
    (out / STUDY).write_bytes(b"no study")
    before = {path: path.read_bytes() for path in out.rglob("[!.]*") if path.is_file()}
    with pytest.raises(InvalidRun, match=r"study.db cannot be read as a study .*; restore it"):
        tune(SPEC, out, LaunchOptions(jobs=1), TuneOptions(3))
    assert {path: path.read_bytes() for path in out.rglob("[!.]*") if path.is_file()} == before
    (out / STUDY).write_bytes(b"")  # an older one would do: the runs are of other trials
    with pytest.raises(InvalidRun, match=r"study.db has no trial 0, of which trial0000-.* is; restore it"):
        tune(SPEC, out, LaunchOptions(jobs=1), TuneOptions(3))
    for name, sentence in ((STUDY, "study.db is missing, which says what trial0000"), ("tune.json", "is not of this")):
        (out / name).unlink()
        before = {path: path.read_bytes() for path in out.rglob("[!.]*") if path.is_file()}  # without the lock
        ended = run_here(command(tmp_path, trials=3))
        assert (ended.code, sentence in ended.err, ended.err.count("\n")) == (2, True, 1), ended.err
        assert {path: path.read_bytes() for path in out.rglob("[!.]*") if path.is_file()} == before


@pytest.mark.slow
def test_two_searches_do_not_share_a_folder(tmp_path: Path, harness: Harness) -> None:
    child = harness.start(program(tmp_path, command(tmp_path, steps=4000), 0.01))
    wait_for("tuning/*/checkpoint.json", tmp_path, child)
    ended = run_here(command(tmp_path, steps=4000))
    sentence = f"another search runs in {tmp_path / 'tuning'}; wait for it, stop it, or use another --out"
    assert ended == (2, "", f"pixelq tune: {sentence}\n")
    child.send(signal.SIGTERM)
    assert child.wait(200.0).code == 143


# Ranges


FIELDS = [name for name in AgentConfig.__dataclass_fields__ if search_range(name) is not None]
RANGED = [name for name, field in AgentConfig.__dataclass_fields__.items() if field.metadata["search"] is not None]
BARE = {key: value for key, value in SPEC.items() if key != "search"}


@settings(max_examples=examples(100), deadline=None)
@given(names=st.lists(st.sampled_from(FIELDS), min_size=1, max_size=6, unique=True), seed=st.integers(0, 2**32 - 1))
def test_what_is_drawn_from_the_fields_own_ranges_fits_them(names: list[str], seed: int) -> None:
    space = search_space({**BARE, "search": names})
    drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
    for each in space:
        label = each.rounded(each.drawn(drawn))
        value = each.setting(label)
        check_value(each.name, value)
        assert each.label(value) == label
        usual = search_range(each.name)
        if isinstance(usual, Between):
            assert usual.low <= value <= usual.high
        else:
            assert usual is not None
            assert value in usual


@settings(max_examples=examples(200), deadline=None)
@given(
    low=st.floats(1e-9, 1e9),
    width=st.integers(-9, 9).flatmap(lambda power: st.floats(1e-1, 1.0).map(lambda share: share * 10.0**power)),
    share=st.floats(0, 1),
    is_count=st.booleans(),
)
def test_rounded_numbers_stay_in_range(low: float, width: float, share: float, is_count: bool) -> None:
    bounds = (int(low), int(low) + 1 + int(width)) if is_count else (low, max(low + width, math.nextafter(low, 1e10)))
    numbers = Numbers("x", *bounds, False)
    value = bounds[0] + share * (bounds[1] - bounds[0])
    value = min(max(int(value) if is_count else value, bounds[0]), bounds[1])
    rounded = numbers.rounded(value)
    assert bounds[0] <= rounded <= bounds[1]
    assert type(rounded) is type(bounds[0])
    assert abs(rounded - value) <= 1e-3 * abs(value)
    assert is_count or abs(rounded - value) <= 2e-3 * (bounds[1] - bounds[0]) + math.ulp(value)


def test_narrow_ranges_have_many_values() -> None:
    drawn = {Numbers("gamma", 0.999, 0.9999, False).rounded(0.999 + k * 8.9876e-6) for k in range(101)}
    assert len(drawn) == 101
    assert max(len(str(value)) for value in drawn) == len("0.9991234")
    assert Numbers("gamma", 0.5, 1.0, False).rounded(0.123456789 + 0.5) == 0.6235


def test_the_table_of_ranges_is_that_of_the_fields() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \| .* \|$", (ROOT / "docs" / "tuning.md").read_text(), re.MULTILINE)
    shown = {}
    for name in RANGED:
        usual = AgentConfig.__dataclass_fields__[name].metadata["search"]
        if isinstance(usual, Between):
            shown[name] = f"{usual.low:.6g} to {usual.high:.6g}" + (", log" if usual.log else "")
        else:
            shown[name] = ", ".join(f"{value:g}" for value in usual)
    assert {name: text for name, text in rows if name in AgentConfig.__dataclass_fields__} == shown


def test_ranges_are_completed_from_the_fields() -> None:
    given = {
        "learning_rate": {"high": 1e-3},
        "n_step": {},
        "gamma": {"low": 0.5, "high": 1},
        "double": {},
        "lstm": ["None", 8],
    }
    space = search_space({**BARE, "search": given | {"encoder_layers": [[64], [128, 64]]}})
    assert [each.record() for each in space] == [
        {"low": 1e-5, "high": 1e-3, "log": True},
        {"low": 1, "high": 20, "log": True},
        {"low": 0.5, "high": 1.0, "log": False},
        [False, True],
        ["None", 8],
        [[64], [128, 64]],
    ]
    lstm, layers = space[-2], space[-1]
    assert (lstm.label(None), lstm.setting("None"), layers.label((64,)), layers.setting("[64]")) == (
        "None",
        "None",
        "[64]",
        [64],
    )
    assert (plan_of(SPEC).evaluate_every, plan_of(SPEC).usual()) == (4, {"learning_rate": 1e-3, "n_step": 3})
    assert plan_of({**SPEC, "search": {"learning_rate": {"low": 0.002}}}).usual() is None  # 1e-3 is outside
    plan = plan_of({**SPEC, "search": given | {"encoder_layers": [[64], [128, 64]]}})
    (cell, _) = plan.cells_of(3, {"encoder_layers": [128, 64], "lstm": "None", "n_step": 7})
    assert (cell.name, cell.config.encoder_layers, cell.config.lstm, cell.config.n_step) == (
        f"trial0003-{CATCH}0",
        (128, 64),
        None,
        7,
    )


def test_games_are_valued_by_their_normalised_scores(tmp_path: Path) -> None:
    plan = plan_of({**SPEC, "envs": ["ALE/Pong-v5", "ALE/Breakout-v5"], "presets": ["quick_dqn"], "seeds": [0]})
    scores = [plan.score(cell, mean) for cell, mean in zip(plan.cells, (21.0, 1.7), strict=True)]
    assert scores == pytest.approx([(21.0 + 20.7) / (14.6 + 20.7), 0.0])
    with pytest.raises(InvalidSpec, match="n_step must have a value or a range"):
        plan_of({**SPEC, "preset": {"classic": {"n_step": 3}}})
    with pytest.raises(InvalidSpec, match="has none"):
        plan_of({**SPEC, "envs": ["ALE/Pong-v5", "CartPole-v1"], "presets": ["classic"]})


@pytest.mark.slow
def test_a_real_search_of_catch(harness: Harness, tmp_path: Path) -> None:
    """With the program itself: what cannot learn is pruned or last, and a trial's run is that of its command."""
    spec = {
        "seeds": [0],
        "steps": 2000,
        "num_envs": 8,
        "device": "cpu",
        "evaluate_every": 500,
        "agent": {"hidden": 32, "learning_starts": 200, "epsilon_steps": 800},
        "search": {"learning_rate": [1e-9, 3e-3]},
    }
    ended = harness.start([*command(tmp_path, trials=8, jobs=2, **spec), "--sampler", "random"]).wait(280.0)
    assert ended.code == 0, ended.err
    trials = [trial for trial in trials_of(tmp_path / "tuning") if trial["state"] == "complete"]
    rates = {rate: [t["value"] for t in trials if t["settings"]["learning_rate"] == rate] for rate in (1e-9, 3e-3)}
    assert max(rates[1e-9], default=-1.0) < min(rates[3e-3])
    words = shlex.split(ended.out.splitlines()[-1])[1:]
    assert "3" in words[words.index("--agent.learning-rate") + 1]
    alone = harness.start([*words, "--out", str(tmp_path / "alone")]).wait(120.0)
    assert alone.code == 0, alone.err
    best = json.loads((tmp_path / "tuning" / "trials.json").read_text())["best"]
    run = tmp_path / "tuning" / trials_of(tmp_path / "tuning")[best]["runs"][0]
    assert (tmp_path / "alone" / "evaluations.csv").read_bytes() == (run / "evaluations.csv").read_bytes()

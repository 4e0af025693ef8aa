"""Callbacks: what they are told and when, how they stop a training, what they keep, and what their errors do."""

import copy
import dataclasses
import json
import os
import signal
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pixelq.agents import (
    DQN,
    Callback,
    InvalidConfig,
    StopAfter,
    StopAtScore,
    StopWithoutProgress,
    Training,
    UserError,
)
from pixelq.agents.distributed.states import state_of
from pixelq.agents.errors import CallbackFailed
from pixelq.agents.experience.ring import Ring
from pixelq.agents.training import stopping
from pixelq.agents.training.hooks import Hooks
from pixelq.envs import EnvironmentFailed, make_vec
from tests.support.cases import representative
from tests.support.masked_envs import Corridor
from tests.support.runs import TINY as FLAGS
from tests.support.runs import assert_same, column, run_here, table, words
from tests.training.test_again import TINY

OPTIONS: dict[str, Any] = {"evaluate_every": 60, "evaluation_episodes": 2, "checkpoint_every": 40, "log_every": 50}


def new(config: Any = TINY) -> tuple[DQN, Any]:
    envs = make_vec("pixelq/Catch-v0", 2, 0)
    return DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=2), envs


def train(steps: int, out: Path | None, *callbacks: Callback, **options: Any) -> DQN:
    """Train a new agent, or the one of the run that is there."""
    agent, envs = new()
    resume = out is not None and (out / "checkpoints").exists()
    if resume:
        agent = DQN.load(out / "checkpoints" / "latest", "cpu")  # type: ignore[operator]
    evaluation_envs = make_vec("pixelq/Catch-v0", 2, 9)
    options = {"evaluation_envs": evaluation_envs} | OPTIONS | options
    return agent.learn(envs, steps - agent.step, out, resume=resume, callbacks=callbacks, **options)


def config_of(run: Path) -> Any:
    return json.loads((run / "config.json").read_text())


class Log(Callback):
    """Notes what it is told, and does what it is asked to at an event of a step."""

    def __init__(self, event: str = "", step: int = -1, act: Any = None) -> None:
        self.told: list[tuple[str, int]] = []
        self.event, self.step, self.act = event, step, act
        self.answer: bool | None = None

    def note(self, event: str, training: Training) -> Any:
        self.told.append((event, training.step))
        if event == self.event and training.step >= self.step:
            return self.act(training)
        return None

    def on_training_start(self, training: Training) -> Any:
        return self.note("start", training)

    def on_step(self, training: Training) -> Any:
        return self.note("step", training)

    def on_metrics(self, training: Training, row: dict[str, Any]) -> Any:
        assert (row["step"], row["updates"]) == (training.step, training.agent.updates)
        if training.out is not None:
            assert column(training.out / "metrics.csv", "step")[-1] == training.step
        return self.note("metrics", training)

    def on_checkpoint(self, training: Training, path: Path) -> Any:
        assert DQN.load(path, "cpu").step == training.step
        return self.note("checkpoint", training)

    def on_evaluation(self, training: Training, evaluation: Any) -> Any:
        assert training.out is not None
        assert column(training.out / "evaluations.csv", "mean")[-1] == pytest.approx(evaluation.mean)
        return self.note("evaluation", training)

    def on_training_end(self, training: Training) -> None:
        self.note(f"end: {training.phase}", training)

    def rare(self) -> list[tuple[str, int]]:
        return [each for each in self.told if each[0] != "step"]


def test_events_come_in_order_and_change_nothing(tmp_path: Path) -> None:
    log, second = Log(), Log()
    train(100, tmp_path / "run", log, second)
    assert log.told == second.told
    assert log.rare() == [
        ("start", 0),
        ("checkpoint", 40),
        ("metrics", 50),
        ("checkpoint", 60),
        ("evaluation", 60),
        ("checkpoint", 80),
        ("metrics", 100),
        ("checkpoint", 100),
        ("evaluation", 100),
        ("end: finished", 100),
    ]
    steps = [step for event, step in log.told if event == "step"]
    assert sorted(set(steps)) == list(range(2, 101, 2))
    assert len(steps) == 50 + 5  # five only reset
    assert log.told.index(("step", 40)) == log.told.index(("checkpoint", 40)) - 1  # so that its state is in it
    assert config_of(tmp_path / "run")["callbacks"] == ["tests.training.test_callbacks:Log"] * 2
    train(100, tmp_path / "without")
    for file in ("network.safetensors", "learner.safetensors", "rows.zst"):
        name = f"checkpoints/step_0000000100/{file}"
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()


def test_steps_are_told_of_where_somebody_listens() -> None:
    class Deaf(Callback):
        def on_metrics(self, training: Training, row: dict[str, Any]) -> None:
            pass

    training: Any = None
    assert Hooks([Deaf(), Deaf()], training, []).on_step is None
    assert Hooks([Deaf(), Log()], training, [])._steppers == ["Log"]
    listening: Any = Deaf()
    listening.on_step = lambda training: None
    assert Hooks([Deaf(), listening], training, [])._steppers == ["Deaf 2"]
    assert list(Hooks([Deaf(), Deaf(), Log(), Deaf()], training, []).callbacks) == ["Deaf", "Deaf 2", "Log", "Deaf 3"]


@pytest.mark.parametrize(
    ("event", "step", "at"),
    representative(
        [("step", 46, 46), ("metrics", 50, 50), ("checkpoint", 40, 40), ("evaluation", 60, 60), ("start", 0, 2)],
        keep={("metrics", 50, 50), ("start", 0, 2)},
    ),
)
def test_a_stopped_training_ends_as_at_its_last_step_and_can_go_on(
    tmp_path: Path, event: str, step: int, at: int
) -> None:
    def stop(training: Training) -> Any:
        return np.bool_(False) if event in ("step", "start") else training.stop("enough")  # type: ignore[func-returns-value]

    log, run = Log(event, step, stop), tmp_path / "run"
    agent = train(200, run, log)
    assert agent.step == at
    assert log.rare()[-3:] == [("checkpoint", at), ("evaluation", at), ("end: finished", at)]
    why = {"step": "on_step returned False", "start": "on_training_start returned False"}.get(event, "enough")
    assert config_of(run)["stopped"] == {"step": at, "callback": "Log", "why": why}
    assert config_of(run)["steps"] == 200
    progress = json.loads((run / "progress.json").read_text())
    assert (progress["phase"], progress["step"], progress["steps"]) == ("finished", at, at)
    train(200, run)
    assert column(run / "evaluations.csv", "step")[-1] == 200
    assert "stopped" not in config_of(run)
    (entry,) = config_of(run)["resumed"]
    assert entry["why_not"] == "callbacks: tests.training.test_callbacks:Log before, none now"


def test_a_stopped_run_that_lost_its_final_evaluation_makes_up_for_it(tmp_path: Path) -> None:
    """Sweeps ask for no more steps than it has; whoever wants more gets more."""
    run = tmp_path / "sweep" / "run"
    flags = words(FLAGS, evaluate_every=40, final_episodes=1, evaluation_episodes=1, out=run)
    stops = ["--callback", "StopAtScore(score=-1)"]
    assert run_here(["train", *flags, *stops]).code == 0
    stopped, rows = config_of(run)["stopped"], table(run / "metrics.csv")
    assert (stopped["step"], state_of(run.parent, "run", 200).state) == (40, "finished")
    (run / "final_evaluation.json").unlink()
    assert state_of(run.parent, "run", 200).state == "stopped"
    ended = run_here(["train", "--resume", "--out", str(run), "--steps", "40", *stops])
    assert (ended.code, "  stopped   at step 40 of 200 by the callback StopAtScore: " in ended.out) == (0, True)
    assert f"pixelq train --resume --out {run} --steps 200 " in ended.out
    assert (config_of(run)["stopped"], config_of(run)["steps"]) == (stopped, 200)
    assert (table(run / "metrics.csv"), state_of(run.parent, "run", 200).state) == (rows, "finished")
    assert (run / "final_evaluation.json").exists()
    assert run_here(["train", "--resume", "--out", str(run), "--steps", "80"]).code == 0
    assert (config_of(run)["steps"], column(run / "metrics.csv", "step")[-1]) == (80, 80)
    assert "stopped" not in config_of(run)


class Counter(Callback):
    """Counts events, and stops when it has counted enough."""

    def __init__(self, most: int = 10**6) -> None:
        self.most = most
        self.counts: dict[str, int] = {}

    def count(self, event: str) -> None:
        self.counts[event] = self.counts.get(event, 0) + 1

    def on_step(self, training: Training) -> bool:
        self.count("step")
        if self.counts["step"] == 50:  # from a state, a change of the agent's settings
            training.agent.config = dataclasses.replace(training.agent.config, learning_rate=0.01)
        return self.counts["step"] < self.most

    def on_metrics(self, training: Training, row: dict[str, Any]) -> None:
        self.count("row")

    def on_checkpoint(self, training: Training, path: Path) -> None:
        self.count("checkpoint")

    def on_evaluation(self, training: Training, evaluation: Any) -> None:
        self.count(f"evaluation of {training.step}: {evaluation.mean}")

    def state(self) -> dict[str, Any]:
        return self.counts

    def load_state(self, values: dict[str, Any]) -> None:
        self.counts = values


class Killed(BaseException):
    pass


def test_a_run_with_callbacks_that_keep_their_state_goes_on_exactly(tmp_path: Path) -> None:
    """Killed between two checkpoints, and between an evaluation's row and the callback that is told of it."""

    def kill(training: Training) -> None:
        raise Killed

    whole, killed = Counter(), Counter()
    train(200, tmp_path / "whole", whole)
    for event, step in (("step", 70), ("evaluation", 120), ("step", 150)):
        killed = Counter()
        with pytest.raises(Killed):
            train(200, tmp_path / "killed", Log(event, step, kill), killed)
        changed = config_of(tmp_path / "killed")
        changed["callbacks"] = ["tests.training.test_callbacks:Counter"]  # the one that kills is no part of the run
        (tmp_path / "killed" / "config.json").write_text(json.dumps(changed))
    killed = Counter()
    train(200, tmp_path / "killed", killed)
    assert whole.counts["step"] == 111  # eleven only reset
    assert sum(name.startswith("evaluation") for name in whole.counts) == 4
    assert killed.counts == whole.counts
    last = config_of(tmp_path / "killed")["resumed"][-1]
    assert (last["exact"], last["why_not"]) == (True, None)
    assert config_of(tmp_path / "killed")["changes"] == [{"step": 120, "before": {"learning_rate": 2.5e-4}}]
    agent = DQN.load(tmp_path / "killed" / "checkpoints" / "latest", "cpu")
    assert agent.config.learning_rate == 0.01
    for run in ("whole", "killed"):  # entries of the middle, in which the callback that kills took part
        (tmp_path / run / "config.json").unlink()
        for path in (tmp_path / run / "checkpoints").glob("step_*"):
            if path.name != "step_0000000200":
                for file in path.iterdir():
                    file.unlink()
    assert_same(tmp_path / "whole", tmp_path / "killed")


class Stateless(Callback):
    def on_step(self, training: Training) -> None:
        pass


class Watcher(Log):
    watches_only = True


def test_a_resumed_run_says_what_its_callbacks_changed(tmp_path: Path) -> None:
    for callbacks in ((Stateless(),), (Stateless(), Watcher()), (Log(),), (Log(),), (StopAfter(hours=1),)):
        steps = 40 + 40 * len(config_of(tmp_path / "run")["resumed"]) + 40 if (tmp_path / "run").exists() else 40
        train(steps, tmp_path / "run", *callbacks)
    here = "tests.training.test_callbacks"
    assert [entry["why_not"] for entry in config_of(tmp_path / "run")["resumed"]] == [
        None,  # a callback without attributes needs no state, and one that watches changes nothing
        f"callbacks: {here}:Stateless before, {here}:Log now",
        "the callback Log kept no state",
        f"callbacks: {here}:Log before, pixelq.agents:StopAfter now",
    ]


def fail(training: Training) -> None:
    raise KeyError("lost")


@pytest.mark.parametrize(
    ("event", "step", "kept"),
    representative(
        [("step", 46, 46), ("metrics", 50, 50), ("checkpoint", 40, 40), ("evaluation", 60, 60)],
        keep={("step", 46, 46), ("evaluation", 60, 60)},
    ),
)
def test_an_error_keeps_what_was_learned(tmp_path: Path, event: str, step: int, kept: int) -> None:
    log, other = Log(event, step, fail), Log()
    with pytest.raises(CallbackFailed) as failed:
        train(200, tmp_path / "run", other, log)
    latest = tmp_path / "run" / "checkpoints" / "latest"
    assert str(failed.value) == (
        f"the callback Log 2 failed in on_{event} at step {step}: KeyError: 'lost'; "
        f"the last good checkpoint is {latest}"
    )
    assert isinstance(failed.value.__cause__, KeyError)
    assert DQN.load(latest, "cpu").step == kept
    assert (log.told[-1], other.told[-1]) == (("end: failed", step),) * 2
    assert json.loads((tmp_path / "run" / "progress.json").read_text())["phase"] == "failed"
    train(100, tmp_path / "run")
    assert column(tmp_path / "run" / "evaluations.csv", "step") == [60, 100]


def test_a_run_goes_on_exactly_after_an_error_of_a_callback_that_only_watches(tmp_path: Path) -> None:
    """It fails at a step with a row of metrics, before the row is written and another callback is told."""
    whole, failed = Counter(), Counter()
    train(100, tmp_path / "whole", whole)
    with pytest.raises(CallbackFailed):
        train(100, tmp_path / "failed", Watcher("step", 50, fail), failed)
    assert failed.counts["row"] == 1
    failed = Counter()
    train(100, tmp_path / "failed", failed)
    (entry,) = config_of(tmp_path / "failed")["resumed"]
    assert (entry["step"], entry["exact"]) == (50, True)
    assert column(tmp_path / "failed" / "metrics.csv", "step") == [50, 100]
    for name in ("updates", "episodes", "return_mean", "loss", "q_discrepancy"):
        assert column(tmp_path / "failed" / "metrics.csv", name) == column(tmp_path / "whole" / "metrics.csv", name)
    assert failed.counts.pop("checkpoint") == whole.counts.pop("checkpoint") + 1  # that of step 50
    assert failed.counts == whole.counts


def test_a_training_that_cannot_begin_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def error_of(envs: Any) -> str:
        agent = DQN(envs.single_observation_space, envs.single_action_space, TINY, device="cpu")
        with pytest.raises((EnvironmentFailed, InvalidConfig)) as error:
            agent.learn(envs, 40, tmp_path / "a" / "b", callbacks=[Log()])
        assert list(tmp_path.iterdir()) == []
        return str(error.value)

    masked = Corridor.allowed
    with monkeypatch.context() as patched:
        patched.setattr(Corridor, "allowed", lambda env: 0 * masked(env))
        assert error_of(make_vec(Corridor, 2)).endswith("allows an action, got none in environment 0")
    with monkeypatch.context() as patched:
        patched.setattr(Corridor, "reset", lambda env, **_: 1 / 0)
        assert "ZeroDivisionError" in error_of(make_vec(Corridor, 2))
    with monkeypatch.context() as patched:
        patched.setattr(Ring, "keep_masks", lambda ring, num_actions: fail_of_memory())
        assert error_of(make_vec(Corridor, 2)) == "no memory for masks"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs = make_vec(Corridor, 2)
        agent = DQN(envs.single_observation_space, envs.single_action_space, TINY, device="cpu")
        with pytest.raises(UserWarning, match="nothing is learned up to step 20"):
            agent.learn(envs, 20, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
    agent.learn(envs, 40, tmp_path / "run")


def fail_of_memory() -> None:
    raise InvalidConfig("no memory for masks")


def test_a_callback_that_cannot_start_leaves_no_folder(tmp_path: Path) -> None:
    first = Log()
    with pytest.raises(CallbackFailed, match="the callback Log 2 failed in on_training_start at step 0: KeyError"):
        train(40, tmp_path / "a" / "b", first, Log("start", 0, fail))
    assert list(tmp_path.iterdir()) == []
    assert first.rare() == [("start", 0), ("end: failed", 0)]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")

    def refuse(training: Training) -> None:
        raise UserError("not so")  # which has a sentence of its own

    with pytest.raises(UserError, match=r"^not so$"):
        train(40, tmp_path / "mine", Log("start", 0, refuse))
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    train(40, tmp_path / "mine")


def test_the_end_is_told_after_a_signal_and_to_all(tmp_path: Path) -> None:
    log = Log("step", 46, lambda training: (training.step == 46 and os.kill(os.getpid(), signal.SIGTERM)) or None)
    with pytest.raises(SystemExit):
        train(200, tmp_path / "run", log)
    assert log.rare()[-2:] == [("checkpoint", 48), ("end: stopped", 48)]
    first, last = Log("end: finished", 0, fail), Log()
    with pytest.raises(CallbackFailed, match="the callback Log failed in on_training_end at step 60"):
        train(60, tmp_path / "other", first, last)
    assert last.told[-1] == ("end: finished", 60)
    assert DQN.load(tmp_path / "other", "cpu").step == 60


@pytest.mark.parametrize("answer", ["no", 0, np.zeros(2)])
def test_an_event_answers_with_a_bool_or_nothing(tmp_path: Path, answer: Any) -> None:
    with pytest.raises(CallbackFailed) as failed:
        train(200, tmp_path / "run", Log("metrics", 50, lambda training: answer))
    assert str(failed.value).startswith(
        f"the callback Log failed in on_metrics at step 50: it must return True, False or None, got {answer!r}; "
    )
    assert DQN.load(tmp_path / "run", "cpu").step == 50


def leave(training: Training) -> None:
    sys.exit(3)


def interrupt(training: Training) -> None:
    raise KeyboardInterrupt


def test_a_callback_that_leaves_the_process_loses_nothing(tmp_path: Path) -> None:
    with pytest.raises(CallbackFailed, match="the callback Log failed in on_step at step 46: SystemExit: 3; the last"):
        train(200, tmp_path / "left", Log("step", 46, leave))
    assert DQN.load(tmp_path / "left", "cpu").step == 46
    log = Log("step", 46, lambda training: interrupt(training) if training.step == 46 else None)
    with pytest.raises(KeyboardInterrupt):
        train(200, tmp_path / "cut", log)
    assert log.rare()[-2:] == [("checkpoint", 48), ("end: stopped", 48)]
    assert DQN.load(tmp_path / "cut", "cpu").step == 48

    def end_twice(training: Training) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        sys.exit(7)  # as the second signal would

    with pytest.raises(SystemExit) as left:
        train(200, tmp_path / "twice", Log("step", 46, end_twice))
    assert left.value.code == 7


@pytest.mark.parametrize(
    ("values", "since"),
    [({"set": {1}}, 0), ([1], 50), ({"much": "x" * 2**20}, 0), ({1: 27}, 0), ({"a": [{"b": {None: 1}}]}, 0)],
)
def test_a_state_that_no_file_holds_is_refused(tmp_path: Path, values: Any, since: int) -> None:
    class Odd(Callback):
        step = 0

        def on_step(self, training: Training) -> None:
            self.step = training.step

        def state(self) -> Any:
            return values if self.step >= since else {}

    with pytest.raises(CallbackFailed, match="the state of the callback Odd must be a dict of JSON values"):
        train(60, tmp_path / "run", Odd())
    if since:
        assert DQN.load(tmp_path / "run", "cpu").step == 60  # without the state
    else:
        assert list(tmp_path.iterdir()) == []  # found before the first step


class Misspelt(Callback):
    def on_stepp(self, training: Training) -> None:
        pass


class Unknown(Callback):
    def on_lunch(self, training: Training) -> None:
        pass


@pytest.mark.parametrize(
    ("callbacks", "sentence"),
    [
        (Stateless(), "callbacks must be a list of pixelq.agents.Callback, got <"),
        ([Stateless], "callbacks must be instances of pixelq.agents.Callback, got <.*; make one by calling the class"),
        ([print], "callbacks must be instances of pixelq.agents.Callback, got <built-in function print>$"),
        ([Callback()], "callbacks must be of subclasses of pixelq.agents.Callback, which itself does nothing$"),
        ([Misspelt()], "the callback Misspelt has on_stepp, which is no event; did you mean on_step?"),
        ([Unknown()], "the callback Unknown has on_lunch, which is no event; there are on_training_start, on_step, "),
    ],
)
def test_what_is_no_callback_is_refused(tmp_path: Path, callbacks: Any, sentence: str) -> None:
    agent, envs = new()
    with pytest.raises(InvalidConfig, match=sentence):
        agent.learn(envs, 20, tmp_path / "run", callbacks=callbacks)
    assert not (tmp_path / "run").exists()


# --- those that stop --------------------------------------------------------------------------------------------------


def test_a_training_stops_at_a_score(tmp_path: Path) -> None:
    assert train(200, tmp_path / "run", StopAtScore(score=-1.0)).step == 60  # every score of Catch is at least −1
    assert config_of(tmp_path / "run")["stopped"]["callback"] == "StopAtScore"
    assert train(200, None, StopAtScore(score=1.1)).step == 200
    agent, envs = new(dataclasses.replace(TINY, train_every=50))
    agent.learn(envs, 1_200, log_every=50, callbacks=[StopAtScore(score=-1.0, of="training")])
    assert agent.step % 50 == 0
    assert 100 <= agent.episodes < 106  # the first row after a hundred episodes
    loaded, others = copy.deepcopy(agent), new()[1]
    before = loaded.episodes
    loaded.learn(others, 2_400, log_every=50, callbacks=[StopAtScore(score=-1.0, of="training")])
    assert 100 <= loaded.episodes - before < 106  # of this training
    with pytest.raises(InvalidConfig, match=r"StopAtScore needs evaluations; give learn `evaluation_envs`, or of='"):
        agent.learn(envs, 100, tmp_path / "other", callbacks=[StopAtScore(score=1.0)])
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("why", "said"), [(None, "it asked for the end"), (np.float32(3), "3.0"), ("", "it asked for the end")]
)
def test_whatever_is_said_of_the_end_is_a_text(tmp_path: Path, why: Any, said: str) -> None:
    assert train(200, tmp_path / "run", Log("step", 20, lambda training: training.stop(why))).step == 20
    assert config_of(tmp_path / "run")["stopped"]["why"] == said


def test_a_training_stops_after_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now, begun = time.monotonic(), []

    def monotonic() -> float:
        begun.append(0)
        return now + 60 * len(begun)  # a minute between two looks at the clock

    monkeypatch.setattr(stopping, "time", SimpleNamespace(monotonic=monotonic))
    agent, envs = new()
    callback = StopAfter(hours=0.1, minutes=1.0, seconds=1.0)
    agent.learn(envs, 100, callbacks=[callback])
    assert agent.step == 2 * 8  # seven minutes and a second


def test_a_training_stops_without_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    means = iter([0.0, -1.0, 0.5, 0.5, 0.2, 0.4, 9.0])

    class Patience(StopWithoutProgress):
        def on_evaluation(self, training: Training, evaluation: Any) -> None:
            super().on_evaluation(training, dataclasses.replace(evaluation, returns=(next(means),)))

    options = {"evaluate_every": 10, "checkpoint_every": 10}
    assert train(200, tmp_path / "run", Patience(evaluations=3), **options).step == 60
    assert config_of(tmp_path / "run")["stopped"]["why"] == "3 evaluations did not surpass 0.5"
    means = iter([0.0] * 20)
    assert train(200, None, Patience(evaluations=3, after=55), **options).step == 90


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: StopAtScore(score=float("nan")), "score must be a number, got nan"),
        (lambda: StopAtScore(score="18"), "score must be a number, got '18'"),  # type: ignore[arg-type]
        (lambda: StopAtScore(score=1, of="games"), "of must be 'evaluation' or 'training', got 'games'"),
        (StopAfter, "the time must be positive; give hours, minutes or seconds"),
        (lambda: StopAfter(hours=-1), "hours must be a number of at least 0, got -1"),
        (lambda: StopAfter(hours=10**400), f"hours must be a number of at least 0, got 1{'0' * 79}"),
        (lambda: StopWithoutProgress(evaluations=0), "evaluations must be at least 1, got 0"),
    ],
)
def test_impossible_ends_are_refused(make: Any, sentence: str) -> None:
    with pytest.raises(InvalidConfig) as refused:
        make()
    assert str(refused.value) == sentence


def test_evaluations_without_progress_are_counted_across_a_resume() -> None:
    first, second = StopWithoutProgress(evaluations=2), StopWithoutProgress(evaluations=2)
    said: list[str] = []
    training: Any = SimpleNamespace(step=10, stop=said.append)
    for mean in (1.0, 0.5):
        first.on_evaluation(training, SimpleNamespace(mean=mean))  # type: ignore[arg-type]
    second.load_state(first.state())
    second.on_evaluation(training, SimpleNamespace(mean=0.7))  # type: ignore[arg-type]
    assert said == ["2 evaluations did not surpass 1"]

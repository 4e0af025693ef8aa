"""`pixelq benchmark --to-score`: turns of equal time, figures of a race, and entries that train as their sources do."""

import dataclasses
import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pixelq.agents import preset
from pixelq.scripts.benchmarks import race, race_cleanrl, race_pixelq, racing
from pixelq.scripts.benchmarks.race import Raced, entries_of, figures_of, medians, score_after
from pixelq.scripts.benchmarks.race_shown import draw_race, median_curve
from pixelq.scripts.benchmarks.racing import GAMES, Clock, Conditions, Described, Entry, Refused, Report
from pixelq.scripts.main import main

CONDITIONS = Conditions("ALE/Pong-v5", "nature", 15.0, "cpu")
DESCRIBED = Described("1.0", {"source": "a test"})


class Stopped(Exception):
    """Ends a stand-in's training."""


class Asked:
    """The other process, for a clock: gives slices and notes reports."""

    def __init__(self, *slices: float) -> None:
        self.slices, self.reports = list(slices), list[Report]()

    def send(self, report: Report) -> None:
        self.reports.append(report)

    def recv(self) -> float:
        if not self.slices:
            raise Stopped
        return self.slices.pop(0)


class Ticks:
    """A clock that notes steps and returns, and ends the training after a number of ticks."""

    def __init__(self, most: int) -> None:
        self.most, self.steps, self.returns = most, list[int](), list[float]()

    def tick(self, steps: int, returns: Any = ()) -> None:
        self.steps.append(steps)
        self.returns += returns
        if len(self.steps) == self.most:
            raise Stopped


class StandIn:
    """The process of an entry with a fixed speed that plays a game a second, and has its score after some seconds."""

    def __init__(self, entry: Entry, seed: int) -> None:
        self.speed, self.arrives = {"ours": (100, 37.5 + seed), "late": (50, 50.0), "peer": (10, 900.0)}[entry.name]
        self.now = 0.0
        self.sent = False

    def send(self, until: float) -> None:
        assert until > self.now
        self.now = self.arrives if self.now < self.arrives <= until else until

    def recv(self) -> Described | Report:
        if not self.sent:
            self.sent = True
            return DESCRIBED
        arrived = self.arrives if self.now >= self.arrives else None
        score = self.now / self.arrives * 15.0
        return Report(self.now, int(self.now * self.speed), int(self.now), score, arrived, 2)


OURS = Entry("ours", "m", "R", "d", options={"preset": "quick"}, is_ours=True)
LATE, PEER = OURS._replace(name="late"), Entry("peer", "m", "R")


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def process(target: Any, entry: Entry, conditions: Conditions, seed: int) -> Iterator[StandIn]:
        assert (target, conditions) == (racing.race_on, CONDITIONS)
        yield StandIn(entry, seed)

    monkeypatch.setattr(race, "process", process)


def test_a_clock_counts_only_its_own_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(racing.time, "perf_counter", lambda: now[0])
    other = Asked(2.0, 4.0, 9.0)
    clock = Clock(other, to_score=1.0)  # type: ignore[arg-type]
    wait = other.recv

    def waits_long() -> float:
        now[0] += 1_000
        return wait()

    other.recv = waits_long  # type: ignore[method-assign]
    clock.start()
    for step in range(1, 5):  # half a second each
        now[0] += 0.5
        clock.tick(8 * step, [-1.0] if step == 2 else [])
    (first,) = other.reports
    assert first[:5] == (2.0, 32, 1, -1.0, None)
    now[0] += 1.0
    clock.tick(40, [2.0] * (GAMES - 1))  # together with the first game
    arrived = other.reports[1]
    assert arrived[:3] == (3.0, 40, GAMES)
    assert arrived.score == pytest.approx((2 * (GAMES - 1) - 1) / GAMES)
    assert arrived.seconds_to_score == 3.0
    now[0] += 5.0
    clock.tick(48, [-50.0])  # later the score sinks, and the first game is forgotten
    now[0] += 0.5
    clock.tick(56)
    assert len(other.reports) == 2
    now[0] += 0.5
    with pytest.raises(Stopped):
        clock.tick(64)
    assert other.reports[2][:5] == (9.0, 64, GAMES + 1, (2 * (GAMES - 1) - 50) / GAMES, 3.0)


def test_a_score_needs_enough_games() -> None:
    clock = Clock(Asked(1e9), to_score=1.0)  # type: ignore[arg-type]
    clock.start()
    clock.tick(1, [5.0] * (GAMES - 1))
    with pytest.raises(Stopped):
        clock.tick(2, [5.0])


def test_after_its_training_an_entry_rests() -> None:
    other = Asked(100.0, 200.0)
    clock = Clock(other, to_score=99.0)  # type: ignore[arg-type]
    clock.start()
    clock.tick(10, [3.0])
    with pytest.raises(Stopped):
        clock.rest()
    assert [(each.steps, each.score) for each in other.reports] == [(10, 3.0)] * 2
    assert other.reports[1].seconds == 200.0


@pytest.mark.usefixtures("stand_ins")
def test_a_race_ends_for_all_when_ours_arrives() -> None:
    kept: list[int] = []
    raced = race.race([OURS, PEER], CONDITIONS, [0, 2], 1_200.0, lambda all_: kept.append(len(all_)))
    assert [(each.seed, each.entry.name, each.seconds) for each in raced] == [
        (0, "ours", 37.5),
        (0, "peer", 37.5),
        (2, "ours", 39.5),
        (2, "peer", 39.5),
    ]
    assert [report.seconds for report in raced[1].reports] == [10.0, 20.0, 30.0, 37.5]
    assert kept == [2] * 4 + [4] * 4
    figures = figures_of(raced, CONDITIONS, 1_200.0)
    assert figures["arrivals"] == [
        {"entry": "ours", "seed": seed, "seconds": at, "scores": {"ours": 15.0, "peer": round(at / 60, 3)}}
        for seed, at in ((0, 37.5), (2, 39.5))
    ]
    assert figures["runs"][1]["curve"][0] == (10.0, 100, 0.167)
    assert [run["seconds_to_score"] for run in figures["runs"]] == [37.5, None, 39.5, None]
    found = medians(figures)
    assert found["ours"]["to_score"] == [37.5, 39.5]
    assert found["peer"]["at_arrival"] == {"ours": pytest.approx(38.5 / 60, abs=1e-3)}
    assert found["peer"]["steps_per_second"] == pytest.approx(10, rel=0.01)
    assert (figures["random"], figures["human"]) == (-20.7, 14.6)
    assert json.loads(json.dumps(figures))["entries"]["peer"] == {"version": "1.0", "settings": {"source": "a test"}}


@pytest.mark.usefixtures("stand_ins")
def test_a_race_lasts_until_the_last_of_our_presets_arrives_or_its_time_is_over() -> None:
    def ends(seconds: float, *entries: Entry) -> list[float]:
        return [each.seconds for each in race.race(entries, CONDITIONS, [0], seconds, lambda _: None)]

    assert ends(1_200.0, OURS, LATE, PEER) == [50.0, 50.0, 50.0]
    assert ends(45.0, OURS, LATE, PEER) == [45.0, 45.0, 45.0]
    assert ends(1_200.0, LATE, OURS, PEER) == [50.0, 50.0, 50.0]


@pytest.mark.usefixtures("stand_ins")
def test_the_file_holds_the_race_also_if_it_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, picture = tmp_path / "race.json", tmp_path / "race.png"
    rounds = [0]

    def interrupted(raced: Any) -> str:
        rounds[0] += 1
        if rounds[0] == 6:
            raise KeyboardInterrupt
        return "seed"

    monkeypatch.setattr(race, "_standing", interrupted)
    monkeypatch.setattr("pixelq.scripts.benchmark.entries_of", lambda *_: [OURS, PEER])
    monkeypatch.setattr("pixelq.scripts.benchmark.conditions_of", lambda *_: CONDITIONS)
    flags = ["--json", str(file), "--picture", str(picture), "--device", "cpu"]
    assert main(["benchmark", "--to-score", "15", *flags]) == 130
    figures = json.loads(file.read_text())
    assert [run["seconds"] for run in figures["runs"]] == [20.0, 20.0]
    assert figures["most_seconds"] == 1_200
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_score_at_a_time_is_that_of_the_first_point_from_it_on() -> None:
    curve = [(10.0, 1, None), (20.0, 2, -20.0), (30.0, 3, -10.0)]
    assert [score_after(curve, at) for at in (5.0, 10.1, 20.0, 20.0004, 25.0, 31.0)] == [None, -20, -20, -20, -10, -10]
    assert score_after([], 1.0) is None


def test_the_median_is_of_moments_that_all_seeds_have() -> None:
    one = np.array([[0.0, 0.0], [10.0, 10.0]])
    two, three = one + np.array([2.0, 100.0]), one + np.array([4.0, -100.0])
    middle = median_curve([one, two, three])
    assert (middle[0, 0], middle[-1, 0]) == (4.0, 10.0)
    np.testing.assert_allclose(middle[:, 1], middle[:, 0])  # one lies between the others
    assert len(median_curve([one, one + 20.0])) == 0


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_the_picture_has_a_line_for_each_entry_and_seed(ending: str, tmp_path: Path) -> None:
    reports = [Report(60.0 * i, i, i, None if i == 0 else i - 21.0, None, 1) for i in range(5)]
    raced = [Raced(seed, entry, DESCRIBED, reports) for seed in (0, 1) for entry in (OURS, PEER)]
    raced.append(Raced(2, OURS, DESCRIBED, []))
    figures = json.loads(json.dumps(figures_of(raced, CONDITIONS, 240.0)))
    path = tmp_path / f"race.{ending}"
    draw_race(figures, path)
    beginning = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[ending]
    assert path.read_bytes().startswith(beginning)
    if ending == "svg":
        text = path.read_text()
        assert text.count("stroke-width: 0.7") == 4  # thin lines of two seeds of two entries
        for name in ("ours 1.0", "peer 1.0", "random -20.7", "human 14.6", "to reach 15"):
            assert f"<!-- {name} -->" in text


def racer(name: str, protocol: str = "nature", **options: Any) -> Any:
    entry = entries_of("quick", name, None)[-1]
    module = importlib.import_module(f"pixelq.scripts.benchmarks.{entry.module}")
    return getattr(module, entry.racer)(CONDITIONS._replace(protocol=protocol), 0, **entry.options, **options)


@pytest.mark.slow
def test_ours_trains_a_preset_on_whole_games(monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(preset("dqn"), replay_capacity=8_000, learning_starts=8_000, frame_size=42)
    defaults = dataclasses.replace(race_pixelq.defaults_of("dqn"), agent=config)
    monkeypatch.setattr(race_pixelq, "defaults_of", {"quick": defaults}.get)
    made = racer("none", "sticky")
    assert made.settings()["agent"] == config.to_dict()
    assert made.settings()["num_envs"] == defaults.num_envs == 8
    assert made.envs.protocol.name == "sticky"
    assert made.envs.single_observation_space.shape == (4, 42, 42)
    play, sums, ended = made.envs.recv, np.zeros(8), list[float]()

    def played() -> Any:
        outcome = play()
        nonlocal sums
        sums = sums + outcome[1]
        for i in np.flatnonzero(outcome[2] | outcome[3]):
            ended.append(sums[i])
            sums[i] = 0.0
        return outcome

    made.envs.recv = played
    clock = Ticks(950)
    with pytest.raises(Exception, match="Stopped"):
        made.train(clock)
    assert clock.steps[:2] == [8, 16]
    assert clock.returns == ended
    assert len(ended) >= 1
    assert max(ended) < -15


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["nature", pytest.param("sticky", marks=pytest.mark.slow)])
def test_sb3_has_the_settings_of_its_zoo(protocol: str) -> None:
    sb3 = racer("sb3", protocol)
    model = sb3.model
    assert (model.learning_starts, model.buffer_size, model.batch_size, model.gamma) == (100_000, 100_000, 32, 0.99)
    assert (model.target_update_interval, model.gradient_steps, model.learning_rate) == (1_000, 1, 1e-4)
    assert model.train_freq.frequency == 4
    assert (model.exploration_fraction, model.exploration_final_eps) == (0.1, 0.01)
    ale = model.get_env().unwrapped.envs[0].unwrapped.ale
    assert ale.getFloat("repeat_action_probability") == (0.25 if protocol == "sticky" else 0.0)
    clock = Ticks(1_000)
    with pytest.raises(Stopped):
        sb3.train(clock)
    assert clock.steps == list(range(1, 1_001))
    assert model.exploration_rate == pytest.approx(1 - 0.99 * 1_000 / 1e6, abs=2e-6)
    assert len(clock.returns) == 1
    assert -21 <= clock.returns[0] <= -17


@pytest.mark.slow
def test_cleanrl_has_the_defaults_of_its_script(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [race_cleanrl.epsilon_at(step) for step in (0, 500_000, 1_000_000, 2_000_000)] == pytest.approx(
        [1.0, 0.505, 0.01, 0.01]
    )
    assert race_cleanrl.most_rows(None) == 1_000_000
    assert race_cleanrl.most_rows(28_224_000) == 500
    monkeypatch.setattr(race_cleanrl, "free_memory", lambda device: 2 * 28_224 * 2_000)
    monkeypatch.setattr(race_cleanrl, "LEARNING_STARTS", 980)
    cleanrl = racer("cleanrl")
    assert cleanrl.settings()["buffer_size"] == 2_000
    assert "2,000 in place of 1,000,000" in cleanrl.settings()["differences"]
    before = [p.clone() for p in cleanrl.target.parameters()]
    drawn: list[int] = []
    sample = cleanrl.replay.sample
    monkeypatch.setattr(cleanrl.replay, "sample", lambda size: drawn.append(size) or sample(size))
    clock = Ticks(1_000)
    with pytest.raises(Stopped):
        cleanrl.train(clock)  # the steps 0 to 999
    assert drawn == [32] * 4  # at 984, 988, 992 and 996
    assert all(torch.equal(a, b) for a, b in zip(before, cleanrl.target.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(before, cleanrl.network.parameters(), strict=True))
    assert len(clock.returns) == 1
    assert -21 <= clock.returns[0] <= -17


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--against", "sb3,nobody"], "--against must be names among sb3, cleanrl, or none, in a race, got 'nobody'"),
        (["--against", "tianshou"], "in a race, got 'tianshou'"),
        (["--presets", "quik"], "did you mean 'quick'"),
        (["--updates", "all"], "--to-score and --updates measure different things; give only one of them"),
        (["--env", "CartPole-v1"], "--env must be an Atari game, such as ALE/Pong-v5, got CartPole-v1"),
        (["--to-score", "nan"], "--to-score must be a finite number, got nan"),
        (["--seeds", "0,x"], "--seeds must be integers of at least 0, separated by commas, got 0,x"),
        (["--seeds=-1"], "got -1"),
        (["--turns", "3"], "--turns is not for a race; leave it out"),
        (["--replay-capacity", "100"], "--replay-capacity is not for a race; leave it out"),
        (["--seconds", "0"], "--seconds must be a positive number, got 0.0"),
        (["--picture", "race.txt"], "--picture must be a file that ends in .png, .pdf, .svg, got race.txt"),
    ],
)
def test_wrong_input_is_one_line(flags: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", *([] if "--to-score" in flags else ["--to-score", "15"]), *flags]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


def test_flags_of_a_race_need_one(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--seeds", "1"]) == 2
    assert "--seeds is for a race, which --to-score starts; leave it out\n" in capfd.readouterr().err


def test_an_entry_that_cannot_race_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refuses(StandIn):
        def recv(self) -> Any:
            return Refused("no memory")

    @contextmanager
    def process(target: Any, entry: Entry, *_: Any) -> Iterator[StandIn]:
        yield Refuses(entry, 0)

    monkeypatch.setattr(race, "process", process)
    with pytest.raises(race.UserError, match="ours cannot race: no memory"):
        race.race([OURS], CONDITIONS, [0], 10.0, lambda _: None)


@pytest.mark.slow
def test_a_real_race(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file, picture = tmp_path / "race.json", tmp_path / "race.png"
    flags = ["--presets", "quick,pqn", "--against", "sb3,cleanrl", "--seconds", "8", "--seeds", "0", "--device", "cpu"]
    assert main(["benchmark", "--to-score", "-15", *flags, "--json", str(file), "--picture", str(picture)]) == 0
    figures = json.loads(file.read_text())
    runs = {run["entry"]: run for run in figures["runs"]}
    assert list(runs) == ["pixelq quick", "pixelq pqn", "sb3", "cleanrl"]
    for run in runs.values():
        assert 8 <= run["seconds"] < 16
        assert run["seconds_to_score"] is None
        assert len(run["curve"]) >= 15
        assert run["steps"] > 100
        assert run["threads"] >= 1
        seconds = [at for at, _, _ in run["curve"]]
        assert seconds == sorted(seconds)
    assert figures["protocol"] == "envpool"
    assert figures["entries"]["sb3"]["version"][0].isdigit()
    assert picture.exists()
    assert "not reached" in capfd.readouterr().out

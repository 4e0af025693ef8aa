"""`pixelq benchmark --growth`: points that differ in one size, work that is counted, and what grows faster than it."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from matplotlib.axes import Axes

from pixelq.agents import DQN, PQN, InvalidConfig
from pixelq.scripts import benchmark
from pixelq.scripts.benchmarks import growth, growth_points, growth_shown
from pixelq.scripts.benchmarks.growth import (
    Grown,
    Measured,
    Ready,
    StepWork,
    block_of,
    config_at,
    faster,
    relative_work,
    series_figures,
    update_cost,
)
from pixelq.scripts.benchmarks.growth_points import ALL, TITLES, Point, core_counts, names_of, series_of, usual
from pixelq.scripts.benchmarks.peers import Turn, measure
from pixelq.scripts.benchmarks.update_cost import ACTIONS, OBSERVATIONS
from pixelq.scripts.flags.benchmark import read
from pixelq.scripts.main import main

CPU = torch.device("cpu")
TINY = {
    "dqn": Point("dqn", num_envs=2, frame_stack=2, frame_size=42, replay_capacity=100, batch_size=4),
    "pqn": Point("pqn", num_envs=1, frame_stack=2, frame_size=42),
}


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that can bind processes to cores, whose user has chosen no number of threads."""
    for name in growth_points.CHOSEN_THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None, raising=False)


def ready(updates: float = 1.0, gflop: float = 1.0, gigabytes: float = 1.0, live: float = 1.0) -> Ready:
    return Ready(StepWork(updates, gflop, gigabytes), live, store_mib=100.0, environments_mib=10.0, threads=2)


def measured(seconds: dict[int, list[float]], readies: dict[int, Ready], memory: dict[int, float]) -> Measured:
    """A series of DQN's batch sizes whose turns of 100 steps took some seconds."""
    points = {size: replace(usual("dqn"), batch_size=size) for size in readies}
    runs = {size: [Turn(100, 25, each, memory[size], None) for each in taken] for size, taken in seconds.items()}
    return Measured(growth_points.Series("batch", "dqn", points), readies, runs, {})


@pytest.mark.usefixtures("bound")
def test_points_of_a_series_differ_in_its_size_alone() -> None:
    assert (usual("dqn").num_envs, usual("dqn").replay_capacity, usual("dqn").batch_size) == (8, 20_000, 32)
    assert (usual("pqn").num_envs, usual("pqn").frame_size) == (16, 42)
    for name in TITLES:
        for series in series_of(name, cores=2):
            field, sizes = growth_points.FIELDS[name], list(series.points)
            assert sizes == sorted(sizes)
            for size, point in series.points.items():
                assert asdict(point) == asdict(usual(series.algorithm)) | {field: size}
    ends = {name: [min(one.points), max(one.points)] for name in TITLES for one in series_of(name, 2)[:1]}
    assert ends == {
        "envs": [1, 128],
        "replay": [10_000, 1_000_000],
        "batch": [32, 512],
        "cores": [1, 2],
        "stack": [1, 8],
        "frame": [42, 168],
    }
    assert [series.algorithm for name in TITLES for series in series_of(name, 2)].count("pqn") == 3
    assert [core_counts(cores) for cores in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]


@pytest.mark.usefixtures("bound")
def test_series_are_named(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    args = read(["--growth", "--json"])
    assert (args.growth, args.series_to_measure, args.seconds, args.turns) == (ALL, list(TITLES), 8.0, 3)
    args = read(["--growth", "frame, envs,frame", "--seconds", "2"])
    assert (args.series_to_measure, args.seconds, args.turns) == (["envs", "frame"], 2.0, 3)
    assert (read([]).seconds, read([]).turns) == (60.0, 5)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert names_of(ALL) == [name for name in TITLES if name != "cores"]
    for flags, message in (
        (["cores"], "--growth cannot measure cores: OMP_NUM_THREADS fixes the number of threads; unset it, or leave"),
        (["envs,size"], "--growth must be names among envs, replay, batch, cores, stack, frame, got 'size'\n"),
        (["envs", "--num-envs", "4"], "--num-envs is not for --growth, which has its own points; leave it out"),
        (["envs", "--algorithm", "pqn"], "--algorithm is not for --growth"),
        (["envs", "--startup"], "--startup and --growth measure different things"),
    ):
        assert main(["benchmark", "--growth", *flags]) == 2
        err = capfd.readouterr().err
        assert message in err
        assert err.count("\n") == 1


@pytest.mark.parametrize("algorithm", ["dqn", "pqn"])
def test_work_is_what_the_training_does(algorithm: str) -> None:
    point = TINY[algorithm]
    trainer = Grown(point, "ALE/Pong-v5", "cpu")
    if algorithm == "dqn":
        assert trainer.store.time == trainer.store.length == 50  # full
    trainer.warm_up()
    turn = measure(trainer, 8 * trainer.block, "cpu")
    found = trainer.ready()
    assert turn.updates / turn.steps == found.work.updates == {"dqn": 1 / 4, "pqn": 1}[algorithm]
    assert trainer.agent.epsilon == 0.01
    assert found.store_mib == pytest.approx(trainer.store.ring.nbytes / 2**20, rel=0.01)
    assert found.threads == 1


def test_the_work_of_an_update_by_hand() -> None:
    """Multiplications as in the test of `--updates`; a batch has both observations."""
    config = config_at(replace(usual("dqn"), batch_size=8))
    cost = update_cost(DQN(OBSERVATIONS, ACTIONS, config, device=CPU), 8)
    first, others = 20 * 20 * 32 * 256, 9 * 9 * 64 * 512 + 7 * 7 * 64 * 576 + 3_136 * 512 + 512 * 6
    assert cost.gflop == pytest.approx(2 * 8 * (3 * first + 4 * others) / 1e9, rel=1e-6)
    weights = 4 * (8_224 + 32_832 + 36_928 + 3_136 * 512 + 512 + 512 * 6 + 6)
    assert cost.gigabytes > (7 * weights + 8 * 2 * 2 * 4 * 84 * 84) / 1e9  # at least Adam's, and the batch
    assert [block_of(config, num_envs) for num_envs in (1, 6, 128)] == [4, 12, 128]
    # A minibatch of PQN has a sixteenth of the rows, and no target network has to be read.
    pqn = PQN(OBSERVATIONS, ACTIONS, config_at(replace(usual("pqn"), frame_size=84)), device=CPU)
    one, four = (update_cost(pqn, num_envs).gflop for num_envs in (1, 4))
    assert four == pytest.approx(4 * one)


def test_growth_is_time_over_the_work_that_grows_most() -> None:
    assert relative_work(StepWork(1, 6, 2), StepWork(2, 2, 2)) == 3
    assert relative_work(StepWork(1, 1, 1), StepWork(2, 2, 2)) == 1  # a step is still played
    readies = {32: ready(), 64: ready(gflop=2.0, gigabytes=1.5, live=1.5), 128: ready(gflop=4.0, live=2.0)}
    seconds = {32: [1.0, 2.0, 1.0], 64: [2.0, 3.0, 1.8], 128: [4.4, 8.9, 4.3]}
    figures = series_figures(measured(seconds, readies, {32: 310.0, 64: 410.0, 128: 560.0}))
    one, two, three = figures["points"]
    assert [point["relative_work"] for point in figures["points"]] == [1, 2, 4]
    assert one["growth_runs"] == [1, 1, 1]
    assert two["growth_runs"] == pytest.approx([1.0, 0.75, 0.9])
    assert three["growth_runs"] == pytest.approx([1.1, 1.1125, 1.075])
    assert (two["growth"], three["growth"]) == pytest.approx((0.9, 1.1))
    assert (three["steps_per_second"], three["updates_per_second"]) == pytest.approx((100 / 4.4, 25 / 4.4))
    # Memory but for the store and the environments: 200, 300 and 450 MiB
    assert [point["memory_growth"] for point in figures["points"]] == pytest.approx([1, 1.5 / 1.5, 2.25 / 2])
    assert [list(point["faster_since"]) for point in figures["points"]] == [[], [], ["32", "64"]]
    assert three["faster_since"] == pytest.approx({"32": 1.075, "64": 1.1})
    assert [list(point["memory_faster_since"]) for point in figures["points"]] == [[], [], ["32", "64"]]
    assert faster({"series": [figures]}) == [
        "dqn, batch: time grows faster than the work from 64 to 128, 1.10 times as much",
        "dqn, batch: memory grows faster than the work from 64 to 128, 1.12 times as much",
    ]
    seconds[128][1] = 6.2  # 0.78 and 1.03 times the work in one turn: that may be the machine
    assert series_figures(measured(seconds, readies, dict.fromkeys(readies, 310.0)))["points"][2]["faster_since"] == {}


def test_a_point_that_was_not_measured_is_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    found = measured({64: [1.0], 128: []}, {64: ready(), 128: ready()}, {64: 200.0, 128: 200.0})
    found.left_out[32] = "no memory"
    figures = series_figures(found)
    assert [point["size"] for point in figures["points"]] == [64]
    assert figures["points"][0]["growth"] == 1
    growth_shown.show_growth({"env": "x", "device": "cpu", "series": [figures]}, benchmark.Console())
    out = capfd.readouterr().out
    assert "batch 32 is left out: no memory" in out
    assert "nothing grows faster than its work" in out


def test_a_process_binds_itself_and_says_why_it_cannot_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise InvalidConfig("no memory for a replay")

    bound, sent = [], []
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 3, 7}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda *arguments: bound.append(arguments), raising=False)
    monkeypatch.setattr(growth, "Grown", no_memory)
    connection = SimpleNamespace(send=sent.append)
    growth.serve(connection, replace(usual("dqn"), cores=2), "ALE/Pong-v5", "cpu")
    growth.serve(connection, usual("dqn"), "ALE/Pong-v5", "cpu")
    assert (bound, sent) == ([(0, [3, 5])], ["no memory for a replay"] * 2)


class OneProcess:
    """Stands in for the process of a point and the connection to it; those of 64 end after their first turn."""

    def __init__(self, point: Point) -> None:
        self.size, self.asked = point.batch_size, [None]

    def send(self, seconds: float) -> None:
        self.asked.append(seconds)

    def recv(self) -> Any:
        asked = self.asked.pop()
        if self.size == 128:
            return "no memory for a replay"
        if asked is None:
            return ready(gflop=self.size / 32, gigabytes=1.0)
        if self.size == 64 and len(OneProcess.turns) >= 3:
            raise EOFError
        OneProcess.turns.append((self.size, asked))
        return Turn(100, 25, self.size / 32, 300.0, None)

    turns: ClassVar[list[tuple[int, float]]] = []


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def process(_: Callable[..., None], point: Point, *__: object) -> Iterator[OneProcess]:
        yield OneProcess(point)

    OneProcess.turns = []
    monkeypatch.setattr(growth, "process", process)
    monkeypatch.setattr(growth_points, "SIZES", {"dqn": {"batch": (32, 64, 128), "stack": (1, 2)}})


@pytest.mark.usefixtures("stand_ins")
def test_points_take_turns_and_the_file_and_the_picture_have_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    written, drawn = [], []
    write, plot = benchmark.write_json, Axes.errorbar
    monkeypatch.setattr(benchmark, "write_json", lambda *a, **k: (written.append(json.dumps(a[0])), write(*a, **k)))
    monkeypatch.setattr(Axes, "errorbar", lambda *a, **k: (drawn.append((list(a[1]), list(a[2]))), plot(*a, **k))[1])
    file, picture = tmp_path / "growth.json", tmp_path / "growth.png"
    flags = ["--growth", "batch,stack", "--seconds", "6", "--turns", "2", "--device", "cpu"]
    assert main(["benchmark", *flags, "--json", str(file), "--picture", str(picture)]) == 0
    assert OneProcess.turns[:3] == [(32, 3.0), (64, 3.0), (32, 3.0)]
    assert len(written) == 4 + 1  # after each round of both series, and at the end
    assert [len(json.loads(text)["series"]) for text in written] == [1, 1, 2, 2, 2]
    figures = json.loads(file.read_text())
    batch, stack = figures["series"]
    assert [point["size"] for point in batch["points"]] == [32, 64]
    assert [len(point["runs"]) for point in batch["points"]] == [2, 1]
    assert batch["left_out"].keys() == {"64", "128"}
    assert batch["left_out"]["128"] == "no memory for a replay"
    assert [point["growth"] for point in batch["points"]] == [1, 1]
    assert [point["size"] for point in stack["points"]] == [1, 2]
    # The picture
    assert drawn == [
        ([point["size"] for point in series["points"]], [point["steps_per_second"] for point in series["points"]])
        for series in (batch, stack)
    ]
    assert picture.read_bytes().startswith(b"\x89PNG")
    # The tables
    assert "100 (100–100)" in capfd.readouterr().out
    assert growth_shown.main([str(file)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert sum(line.startswith(("| 32 ", "| 64 ", "| 1 ", "| 2 ")) for line in lines) == 4
    assert "## DQN: transitions in a batch" in lines
    assert "128 is left out: no memory for a replay." in lines


@pytest.mark.usefixtures("stand_ins")
def test_what_was_measured_before_an_interruption_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(connection: OneProcess) -> Any:
        if len(OneProcess.turns) == 4:
            raise KeyboardInterrupt
        return OneProcess.recv(connection)

    monkeypatch.setattr(growth, "receive", lambda _, connection: interrupted(connection))
    monkeypatch.setattr(growth_points, "SIZES", {"dqn": {"batch": (32, 96)}})
    file, picture = tmp_path / "growth.json", tmp_path / "growth.png"
    flags = ["--growth", "batch", "--seconds", "6", "--turns", "3", "--device", "cpu", "--json", str(file)]
    assert main(["benchmark", *flags, "--picture", str(picture)]) == 130
    assert [len(point["runs"]) for point in json.loads(file.read_text())["series"][0]["points"]] == [2, 2]
    assert picture.exists()


@pytest.mark.slow
def test_points_are_measured_in_their_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth_points, "SIZES", {"dqn": {"batch": (4, 8)}, "pqn": {"envs": (1, 2)}})
    monkeypatch.setattr(growth_points, "usual", TINY.get)
    file = tmp_path / "growth.json"
    flags = ["--growth", "envs,batch", "--seconds", "0.4", "--turns", "2", "--device", "cpu", "--json", str(file)]
    assert main(["benchmark", *flags]) == 0
    pqn, dqn = json.loads(file.read_text())["series"]
    for series, updates in ((pqn, [1, 1 / 2]), (dqn, [1 / 4, 1 / 4])):
        assert series["left_out"] == {}
        for point, expected in zip(series["points"], updates, strict=True):
            assert point["updates"] / point["steps"] == pytest.approx(expected, rel=0.05)
            assert len(point["runs"]) == 2
            assert 100 < point["rest_mib"] < point["peak_memory_mib"] < 4000
    work = [point["work_per_step"]["gflop"] for point in dqn["points"]]
    assert 1.5 < work[1] / work[0] < 2

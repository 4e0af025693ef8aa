"""How cells share a machine: cores, GPUs and memory, with processes that end when the test says so."""

import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelq.agents import InvalidSpec
from pixelq.agents.distributed import local
from pixelq.agents.distributed.cells import cells_of
from pixelq.agents.distributed.local import LocalLauncher, Machine
from pixelq.agents.distributed.needs import Need
from pixelq.agents.distributed.process import Job, Outcome
from pixelq.agents.distributed.spec import spec_of
from tests.support.cases import examples

JOBS = [
    Job(cell, Path("/nowhere"))
    for cell in cells_of(
        spec_of({"envs": ["CartPole-v1"], "presets": ["classic"], "seeds": list(range(8)), "steps": 1, "device": "cpu"})
    )
]


class Held:
    """Stands for `run_cell`: a process that ends when it is let go."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.let_go: dict[str, threading.Event] = {job.cell.name: threading.Event() for job in JOBS}

    def __call__(self, job: Job, should_stop: Any) -> Outcome:
        self.jobs[job.cell.name] = job
        self.let_go[job.cell.name].wait(30)
        return Outcome(0)


@settings(max_examples=examples(30), deadline=None)
@given(
    sizes=st.lists(st.integers(1, 10), min_size=8, max_size=8),
    memory=st.integers(10, 30),
    cores=st.integers(1, 5),
    most=st.one_of(st.none(), st.integers(1, 9)),
    order=st.randoms(use_true_random=False),
)
def test_memory_and_cores_are_never_exceeded(
    sizes: list[int], memory: int, cores: int, most: int | None, order: Any
) -> None:
    needs = {job.cell.name: Need(1, size - 1) for job, size in zip(JOBS, sizes, strict=True)}
    held, numbers = Held(), tuple(range(10, 10 + cores))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "run_cell", held)
        patch.delenv("OMP_NUM_THREADS", raising=False)
        launcher = LocalLauncher(JOBS, needs, most, None, Machine(numbers, memory, {}))
        waiting, ended = list(JOBS), []
        while waiting or launcher.running:
            waiting = waiting[len(launcher.submit(waiting)) :]
            running = launcher.running
            assert running  # it never stands still
            assert sum(sum(needs[name]) for name in running) <= memory
            assert len(running) <= (most or cores)
            taken = [launcher._cores_of(place.slot) for place in running.values()]
            assert all(set(each) <= set(numbers) and each for each in taken)
            if launcher.slots <= cores:
                assert sum(map(len, taken)) == len(set().union(*taken))  # nobody shares a core
            name = order.choice(sorted(running))
            held.let_go[name].set()
            running[name].thread.join()
            ended += [name for name, _ in launcher.ended()]
    assert sorted(ended) == sorted(needs)


def test_gpus_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held()
    monkeypatch.setattr(local, "run_cell", held)
    monkeypatch.setattr(local, "resolve_device", lambda _: type("Device", (), {"type": "cuda"}))
    needs = {job.cell.name: Need(1, 30) for job in JOBS}
    launcher = LocalLauncher(JOBS, needs, None, 0.5, Machine(tuple(range(8)), 1000, {"0": 100, "MIG-1": 50}))
    assert len(launcher.submit(JOBS)) == 3  # two halves of the first; the second has memory for one
    gpus = [place.gpu for place in launcher.running.values()]
    assert sorted(map(str, gpus)) == ["0", "0", "MIG-1"]
    assert gpus[:2] != ["0", "0"]  # the least used one first
    for event in held.let_go.values():
        event.set()
    launcher.close()
    with pytest.raises(InvalidSpec, match=r"needs 0.0 GB of memory, and 0.0 GB are free; lower replay_capacity"):
        LocalLauncher(JOBS, needs, None, 0.5, Machine((0,), 1000, {"0": 29}))


@pytest.mark.parametrize(("cores", "most", "threads"), [(2, 2, 1), (4, 2, None), (1, 3, 1)])
def test_a_run_has_the_threads_of_its_cores(
    cores: int, most: int, threads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held()
    monkeypatch.setattr(local, "run_cell", held)
    needs = {job.cell.name: Need(1, 1) for job in JOBS}
    for own, expected in ((None, threads), ("3", 3)):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if own is not None:
            monkeypatch.setenv("OMP_NUM_THREADS", own)
        launcher = LocalLauncher(JOBS, needs, most, None, Machine(tuple(range(cores)), 1000, {}))
        assert len(launcher.submit(JOBS)) == most
        for event in held.let_go.values():
            event.set()
        launcher.close()
        assert {job.threads for job in held.jobs.values()} == {expected}

"""Which cells become jobs of SLURM, in arrays of limited size, with a stand-in for what sends them."""

import json
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelq.agents import UserError
from pixelq.agents.distributed import slurm
from pixelq.agents.distributed.cells import cells_of
from pixelq.agents.distributed.needs import Need
from pixelq.agents.distributed.process import LOGS, Job
from pixelq.agents.distributed.spec import spec_of
from tests.support.cases import examples

SPEC = {"envs": ["CartPole-v1"], "presets": ["classic"], "seeds": list(range(8)), "steps": 1, "device": "cpu"}
CELLS = cells_of(spec_of(SPEC))


NEEDS = {cell.name: Need(1, 1) for cell in CELLS}


@contextmanager
def stand_in(before: dict[str, str], most_jobs: int = 1000) -> Iterator[tuple[list[Job], list[list[str]]]]:
    """Cells in a folder whose jobs of before are alive, and the names of those that are sent together."""
    pytest.importorskip("submitit")
    sent: list[list[str]] = []

    def map_array(self: Any, task: Any, jobs: Sequence[Job]) -> list[Any]:
        sent.append([job.cell.name for job in jobs])
        return [SimpleNamespace(job_id=f"2_{job.cell.name}") for job in jobs]

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        (Path(folder) / LOGS).mkdir()
        (Path(folder) / LOGS / slurm.JOBS).write_text(json.dumps(before))
        patch.setattr(slurm, "_alive_jobs", lambda: set(before.values()))
        patch.setattr(slurm, "MOST_JOBS", most_jobs)
        patch.setattr("submitit.SlurmExecutor.__init__", lambda self, *_, **__: None)
        patch.setattr("submitit.SlurmExecutor.update_parameters", lambda self, **_: None)
        patch.setattr("submitit.SlurmExecutor.map_array", map_array)
        yield [Job(cell, Path(folder)) for cell in CELLS], sent


@settings(max_examples=examples(30), deadline=None)
@given(st.sets(st.integers(0, 7)), st.integers(1, 9))
def test_every_cell_is_taken_once_and_those_alive_are_not_sent_again(alive: set[int], most: int) -> None:
    before = {CELLS[i].name: f"1_{i}" for i in alive}
    with stand_in(before, most) as (jobs, sent):
        launcher = slurm.SlurmLauncher(jobs, NEEDS, None, 1, None, {})
        waiting, taken = jobs, []
        while waiting:  # as the sweep does, which drops as many of the first as were taken
            given_over = launcher.submit(waiting)
            taken += given_over
            waiting = waiting[len(given_over) :]
    assert taken == jobs
    assert all(1 <= len(names) <= most for names in sent)
    assert [name for names in sent for name in names] == [cell.name for cell in CELLS if cell.name not in before]
    assert set(launcher.jobs) == {cell.name for cell in CELLS}


def test_what_comes_later_waits_for_room() -> None:
    with stand_in({}) as (jobs, sent):
        launcher = slurm.SlurmLauncher(jobs, NEEDS, 3, 1, None, {})
        assert launcher.parameters["array_parallelism"] == 3
        assert launcher.submit(jobs[:2]) == jobs[:2]
        assert launcher.submit(jobs[2:]) == jobs[2:3]
        assert launcher.submit(jobs[3:]) == []
        launcher.alive.remove(launcher.jobs.pop(jobs[0].cell.name))
        assert launcher.submit(jobs[3:]) == jobs[3:4]
        assert list(map(len, sent)) == [2, 1, 1]
        launcher.jobs.clear()
        launcher.alive.clear()
        assert launcher.submit(jobs) == jobs  # one array, of which SLURM runs three at once


def test_jobs_that_are_left_of_a_killed_sweep_take_room_too() -> None:
    with stand_in({CELLS[i].name: f"1_{i}" for i in (0, 1, 5)}) as (jobs, sent):
        launcher = slurm.SlurmLauncher(jobs, NEEDS, 4, 1, None, {})
        assert launcher.submit(jobs) == jobs[:3]
        assert sent == [[CELLS[2].name]]


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"time": "1:00:00"}, "`slurm` time must be an integer number of minutes, at least 1, got '1:00:00'"),
        ({"time": 0}, "`slurm` time must be an integer number of minutes, at least 1, got 0"),
        (
            {"signal_delay_s": "90s"},
            "`slurm` signal_delay_s must be an integer number of seconds, at least 1, got '90s'",
        ),
        ({"time": 1}, "`slurm` time must be longer than signal_delay_s (90 seconds), got 1 min"),
        ({"additional_parameters": "x"}, "`slurm` additional_parameters must be a table, got 'x'"),
        ({"tyme": 1}, "`slurm` has no parameter 'tyme'; submitit has "),
    ],
)
def test_parameters_that_do_not_fit_are_refused(parameters: dict[str, Any], sentence: str) -> None:
    with stand_in({}) as (jobs, _), pytest.raises(UserError) as caught:
        slurm.SlurmLauncher(jobs, NEEDS, None, 1, None, parameters)
    assert str(caught.value).startswith(sentence)


@pytest.mark.linux
def test_a_signal_that_comes_before_a_job_is_ready_is_heeded_then(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = "import signal; print(signal.SIGUSR2 in signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    words = [*shlex.split(slurm._python()), "-c", shown]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "True\n"
    came: list[str] = []
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    handler = signal.signal(signal.SIGUSR2, lambda *_: came.append("signal"))
    monkeypatch.setattr(slurm, "run_cell", lambda *_: came.append("run"))
    try:
        signal.raise_signal(signal.SIGUSR2)  # to this thread; other threads of the tests' process do not block it
        assert came == []
        slurm.CellTask()(Job(CELLS[0], Path()))
    finally:
        signal.signal(signal.SIGUSR2, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert came == ["signal", "run"]

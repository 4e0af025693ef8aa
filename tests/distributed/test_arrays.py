"""Which cells become jobs of SLURM, in arrays of limited size, with a stand-in for what sends them."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelq.agents.distributed import slurm
from pixelq.agents.distributed.cells import cells_of
from pixelq.agents.distributed.needs import Need
from pixelq.agents.distributed.process import LOGS, Job
from pixelq.agents.distributed.spec import spec_of
from tests.support.cases import examples

SPEC = {"envs": ["CartPole-v1"], "presets": ["classic"], "seeds": list(range(8)), "steps": 1, "device": "cpu"}
CELLS = cells_of(spec_of(SPEC))


@settings(max_examples=examples(30), deadline=None)
@given(st.sets(st.integers(0, 7)), st.integers(1, 9))
def test_every_cell_is_taken_once_and_those_alive_are_not_sent_again(alive: set[int], most: int) -> None:
    pytest.importorskip("submitit")
    sent: list[list[str]] = []

    def map_array(self: Any, task: Any, jobs: Sequence[Job]) -> list[Any]:
        sent.append([job.cell.name for job in jobs])
        return [SimpleNamespace(job_id=f"2_{job.cell.name}") for job in jobs]

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        jobs = [Job(cell, Path(folder)) for cell in CELLS]
        before = {CELLS[i].name: f"1_{i}" for i in alive}
        (Path(folder) / LOGS).mkdir()
        (Path(folder) / LOGS / slurm.JOBS).write_text(json.dumps(before))
        patch.setattr(slurm, "_alive_jobs", lambda: set(before.values()))
        patch.setattr(slurm, "MOST_JOBS", most)
        patch.setattr("submitit.SlurmExecutor.__init__", lambda self, *_, **__: None)
        patch.setattr("submitit.SlurmExecutor.update_parameters", lambda self, **_: None)
        patch.setattr("submitit.SlurmExecutor.map_array", map_array)
        launcher = slurm.SlurmLauncher(jobs, {cell.name: Need(1, 1) for cell in CELLS}, None, 1, None, {})
        waiting, taken = jobs, []
        while waiting:  # as the sweep does, which drops as many of the first as were taken
            given_over = launcher.submit(waiting)
            taken += given_over
            waiting = waiting[len(given_over) :]
    assert taken == jobs
    assert all(1 <= len(names) <= most for names in sent)
    assert [name for names in sent for name in names] == [cell.name for cell in CELLS if cell.name not in before]
    assert set(launcher.jobs) == {cell.name for cell in CELLS}

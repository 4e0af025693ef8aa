"""A long run at the smallest sizes: memory and file handles stay as they are, and so does the speed.

Speed is counted in steps per second of the process's own computing time, so that other work on the machine does not
show.
"""

import ctypes
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import pytest
import torch

from pixelq.agents.runs.tables import read_run
from pixelq.agents.storage.checkpoint import pack_tensors
from tests.support.runs import TINY, words

WARM_UP = 0.35
"""Share of the time after which nothing may grow any more: by then the replay is full and every buffer was used."""


@dataclass
class Samples:
    """What a process took, sampled while it ran."""

    resident: list[float] = field(default_factory=list)  # MB
    handles: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    computed: list[float] = field(default_factory=list)  # seconds of processor time

    def sample(self, pid: int, run: Path) -> None:
        """Adds what it takes now."""
        process = Path("/proc") / str(pid)
        self.resident.append(int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6)
        self.handles.append(len(list((process / "fd").iterdir())))
        times = (process / "stat").read_text().rpartition(")")[2].split()
        self.computed.append((int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK"))
        last = (run / "metrics.csv").read_text().rpartition("\n")[0].rpartition("\n")[2] if run.exists() else ""
        self.steps.append(int(last.split(",")[0]) if last[:1].isdigit() else 0)

    def speeds(self, parts: int) -> list[float]:
        """Steps per second of processor time in so many equal parts of the time after the warm-up."""
        begin = int(WARM_UP * len(self.steps))
        bounds = [begin + (len(self.steps) - 1 - begin) * i // parts for i in range(parts + 1)]
        return [
            (self.steps[b] - self.steps[a]) / (self.computed[b] - self.computed[a])
            for a, b in itertools.pairwise(bounds)
        ]


def soak(out: Path, seconds: float) -> Samples:
    """Trains for so long, with checkpoints and evaluations all the while, and stops the run in good order."""
    flags = words(TINY, steps=10**9, checkpoint_every=500, evaluate_every=2000, out=out)
    command = [sys.executable, "-m", "pixelq.scripts.main", "train", *flags]
    samples = Samples()
    with (out.parent / "stderr").open("w") as errors:
        environ = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=errors)
        try:
            metrics = out / "metrics.csv"
            while not metrics.exists() or metrics.read_text().count("\n") < 2:  # until the first row
                assert process.poll() is None, (out.parent / "stderr").read_text()
                time.sleep(0.1)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                samples.sample(process.pid, out)
                time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 143
        finally:
            process.kill()
            process.wait()
    return samples


def assert_flat(samples: Samples, seconds: float) -> None:
    begin = int(WARM_UP * len(samples.resident))
    resident, handles, speeds = samples.resident[begin:], samples.handles[begin:], samples.speeds(4)
    figures = {
        "seconds": seconds,
        "steps": samples.steps[-1],
        "resident_mb": [min(resident), median(resident), max(resident)],
        "handles": [min(handles), max(handles)],
        "steps_per_second_of_computing": speeds,
    }
    print(json.dumps(figures))
    assert max(resident) < 1.02 * median(resident)
    assert min(resident) > 0.98 * median(resident)
    assert median(handles[len(handles) // 2 :]) == median(handles[: len(handles) // 2])
    assert max(handles) <= min(handles) + 4  # a table, a checkpoint's file and its folder while they are written
    assert 0.75 < speeds[-1] / speeds[0] < 1.35


@pytest.mark.slow
@pytest.mark.linux
def test_five_seconds(tmp_path: Path) -> None:
    """The handles alone, as memory and speed settle more slowly."""
    samples = soak(tmp_path / "run", 5)
    half = len(samples.handles) // 2
    assert max(samples.handles[half:]) <= max(samples.handles[:half]) + 4
    assert samples.steps[-1] > 0


@pytest.mark.slow
@pytest.mark.linux
@pytest.mark.timeout(400)
def test_two_minutes(tmp_path: Path) -> None:
    assert_flat(soak(tmp_path / "run", 120), 120)
    rows = read_run(tmp_path / "run").metrics
    assert int(rows[-1]["step"]) > 20_000


@pytest.mark.slow
@pytest.mark.linux
@pytest.mark.timeout(4_500)
def test_an_hour(tmp_path: Path) -> None:
    assert_flat(soak(tmp_path / "run", 3_600), 3_600)


def test_packing_makes_no_types() -> None:
    """One for each size would stay for good, and the sizes of what is written differ from checkpoint to checkpoint."""
    before = len(ctypes.Array.__subclasses__())
    sizes = [len(pack_tensors({"a": torch.zeros(10_007 + i, dtype=torch.uint8)})) for i in range(50)]
    assert len(set(sizes)) == 50
    assert len(ctypes.Array.__subclasses__()) == before


def test_growth_would_be_seen() -> None:
    steady = Samples([100.0] * 200, [20] * 200, list(range(0, 20_000, 100)), [i / 10 for i in range(200)])
    assert_flat(steady, 100)
    for name, values in (
        ("resident", [100.0 + i / 20 for i in range(200)]),
        ("handles", [20 + i // 20 for i in range(200)]),
        ("computed", [(i / 100) ** 2 for i in range(200)]),
    ):
        growing = Samples(**{**vars(steady), name: values})
        with pytest.raises(AssertionError):
            assert_flat(growing, 100)

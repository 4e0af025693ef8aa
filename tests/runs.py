"""Runs of ``pixelq train`` that come to grief, and what two runs' folders have in common."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TIMES = {"wall_seconds", "interval_seconds", "steps_per_second"}


def without_times(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in TIMES}


def contents(run: Path) -> dict[str, Any]:
    """All that a run keeps, but times, where it lies and what says that it was resumed."""
    found: dict[str, Any] = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if path.is_symlink():
            found[name] = path.readlink()
        elif path.name == "metrics.csv":
            with path.open(newline="") as file:
                found[name] = [without_times(row) for row in csv.DictReader(file)]
        elif path.name == "config.json":
            found[name] = {k: v for k, v in json.loads(path.read_text()).items() if k != "resumed"}
        elif path.name == "run.json":
            found[name] = without_times(json.loads(path.read_text()))
        elif path.name == "checksums.sha256":
            found[name] = [line for line in path.read_text().splitlines() if not line.endswith("run.json")]
        elif path.name == "final_evaluation.json":
            found[name] = path.read_text().replace(str(run), "RUN")
        elif path.is_file() and not path.name.startswith("events.out"):
            found[name] = path.read_bytes()
    return found


def assert_same(one: Path, other: Path) -> None:
    ours, theirs = contents(one), contents(other)
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    for name in ours:
        assert ours[name] == theirs[name], f"{name}: {str(ours[name])[:500]} and {str(theirs[name])[:500]}"


def copied(run: Path, to: Path) -> Path:
    """A copy of a folder in the place of what is there."""
    shutil.rmtree(to, ignore_errors=True)
    return Path(shutil.copytree(run, to, symlinks=True))


DIED, COMPLETED = 9, 8
"""Exit codes of ``tests/nursery.py``."""


class Ended(NamedTuple):
    """How a command ended: its exit code, or minus the signal that killed it, and what it printed."""

    code: int
    out: str
    err: str


class Nursery:
    """The process of ``tests/nursery.py``."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "nursery.py")],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def ask(self, **request: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, arguments: list[str], patches: dict[str, Any] | None = None, fault: Any = ()) -> "Child":
        """Starts a command, with module attributes replaced, and with a fault: its name, its options."""
        pid = self.ask(verb="start", arguments=arguments, patches=patches or {}, fault=fault)
        return Child(self, pid)

    def run(self, arguments: list[str], patches: dict[str, Any] | None = None, fault: Any = ()) -> Ended:
        """Runs a command to its end."""
        return self.start(arguments, patches, fault).wait()

    def close(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


class Child(NamedTuple):
    """A command that runs."""

    nursery: Nursery
    pid: int

    def send(self, number: int) -> None:
        os.kill(self.pid, number)  # as the nursery waits for it only when asked, the id is nobody else's

    def wait(self, timeout: float = 60.0) -> Ended:
        return Ended(*self.nursery.ask(verb="wait", child=self.pid, timeout=timeout))

    def wait_for(self, path: Path, timeout: float = 60.0) -> None:
        """Waits until a file is there."""
        deadline = time.monotonic() + timeout
        while not path.exists():
            assert time.monotonic() < deadline, self.wait(0.0)
            time.sleep(0.001)


CATCH = {
    "--env": "pixelq/Catch-v0",
    "--preset": "classic",
    "--steps": "120",
    "--num-envs": "2",
    "--device": "cpu",
    "--checkpoint-every": "4",
    "--evaluate-every": "50",
    "--log-every": "14",
    "--keep": "2",
    "--final-episodes": "2",
    "--evaluation-episodes": "2",
    "--agent.hidden": "8",
    "--agent.batch-size": "4",
    "--agent.learning-starts": "20",
    "--agent.train-every": "3",  # so that checkpoints are written between updates
    "--agent.replay-capacity": "60",
}
BLOCKS = {"pixelq.agents.replay_files.BLOCK_BYTES": 2**11}
"""So that a replay of 60 rows has several blocks."""


def train(out: Path, *, resume: bool = False, **changes: Any) -> list[str]:
    """The command line of a training, or of its resuming with the flags that it needs."""
    if resume:
        flags = {"--out": str(out), "--device": "cpu"}
    else:
        flags = CATCH | {"--out": str(out)} | {"--" + name.replace("_", "-"): str(v) for name, v in changes.items()}
    return ["train", *(["--resume"] if resume else []), *(word for pair in flags.items() for word in pair)]


def unfinished(run: Path) -> list[Path]:
    """What lies in a run's folder half written or half removed."""
    return [path for path in run.rglob(".*") if path.suffix in (".partial", ".old", ".removed")]

"""Runs of ``pixelq train`` that come to grief, and what two runs' folders have in common."""

import contextlib
import csv
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from pixelq.agents.runs.progress import PROGRESS
from pixelq.scripts.main import main

ROOT = Path(__file__).resolve().parents[2]
TIMES = {"wall_seconds", "interval_started", "steps_per_second"}


def without_times(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in TIMES}


def _is_run_state(name: str) -> bool:
    return re.fullmatch(r"(run|rank\d+)\.json", name) is not None


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
        elif _is_run_state(path.name):
            found[name] = without_times(json.loads(path.read_text()))
        elif path.name == "checksums.sha256":
            found[name] = [line for line in path.read_text().splitlines() if not _is_run_state(line.split()[-1])]
        elif path.name == "final_evaluation.json":
            found[name] = path.read_text().replace(str(run), "RUN")
        elif path.is_file() and path.name != PROGRESS and not path.name.startswith("events.out"):
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
"""Exit codes of a child of ``tests/harness.py`` that died where it should have, and of one that was never there."""


class Ended(NamedTuple):
    """How a command ended: its exit code, or minus the signal that killed it, and what it printed."""

    code: int
    out: str
    err: str


def run_here(arguments: list[str]) -> Ended:
    """Runs a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    return Ended(code, out.getvalue(), err.getvalue())


def table(path: Path) -> list[dict[str, float | None]]:
    """The rows of a CSV file; an empty cell is None."""
    with path.open(newline="") as file:
        return [
            {name: None if cell == "" else float(cell) for name, cell in row.items()} for row in csv.DictReader(file)
        ]


def column(path: Path, name: str) -> list[Any]:
    return [row[name] for row in table(path)]


class Harness:
    """The process of ``tests/harness.py``."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.harness"],
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

    def start(
        self,
        arguments: list[str],
        patches: dict[str, Any] | None = None,
        fault: Any = (),
        env: dict[str, str] | None = None,
    ) -> "Child":
        """Starts a command, with module attributes replaced, and with a fault: its name, its options."""
        pid = self.ask(verb="start", arguments=arguments, patches=patches or {}, fault=fault, env=env or {})
        return Child(self, pid)

    def start_learners(self, arguments: list[str], size: int = 2, fault: Any = (), of: int = 0) -> list["Child"]:
        """Starts a command as torchrun does, in several processes; the fault is that of one of them."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        common = {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1"}
        common |= {"MASTER_PORT": str(port)}
        return [
            self.start(
                arguments, BLOCKS, fault if rank == of else (), common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            )
            for rank in range(size)
        ]

    def run(self, arguments: list[str], patches: dict[str, Any] | None = None, fault: Any = ()) -> Ended:
        """Runs a command to its end."""
        return self.start(arguments, patches, fault).wait()

    def close(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


class Child(NamedTuple):
    """A command that runs."""

    harness: Harness
    pid: int

    def send(self, number: int) -> None:
        os.kill(self.pid, number)  # as the harness waits for it only when asked, the id is nobody else's

    def wait(self, timeout: float = 60.0) -> Ended:
        return Ended(*self.harness.ask(verb="wait", child=self.pid, timeout=timeout))

    def wait_for(self, path: Path, timeout: float = 60.0) -> None:
        """Waits until a file is there."""
        deadline = time.monotonic() + timeout
        while not path.exists():
            assert time.monotonic() < deadline, self.wait(0.0)
            time.sleep(0.001)


TINY = {
    "--env": "pixelq/Catch-v0",
    "--preset": "classic",
    "--steps": "200",
    "--num-envs": "2",
    "--device": "cpu",
    "--final-episodes": "2",
    "--evaluation-episodes": "2",
    "--agent.hidden": "8",
    "--agent.batch-size": "4",
    "--agent.learning-starts": "50",
    "--agent.replay-capacity": "100",
}
"""Flags of a short run of Catch."""
OFTEN_SAVED = TINY | {
    "--steps": "120",
    "--checkpoint-every": "4",
    "--evaluate-every": "50",
    "--log-every": "14",
    "--keep": "2",
    "--agent.learning-starts": "20",
    "--agent.train-every": "3",  # so that checkpoints are written between updates
    "--agent.replay-capacity": "60",
}
AT_THE_END: dict[str, Any] = {"method": "train.evaluate_saved", "call": 1}
"""When the evaluation begins that ends a training."""
BLOCKS = {"pixelq.agents.runs.replay_files.BLOCK_BYTES": 2**11}
"""So that a replay of 60 rows has several blocks."""


def words(flags: dict[str, str], **changes: Any) -> list[str]:
    """Flags as they stand in a command line; a keyword replaces one: ``num_envs=0`` is ``--num-envs 0``."""
    flags = flags | {"--" + name.replace("_", "-"): str(value) for name, value in changes.items()}
    return [word for pair in flags.items() for word in pair]


def train(out: Path, *, resume: bool = False, **changes: Any) -> list[str]:
    """The command line of a training that saves often, or of its resuming with the flags that it needs."""
    if resume:
        return ["train", "--resume", "--out", str(out), "--device", "cpu"]
    return ["train", *words(OFTEN_SAVED, out=out, **changes)]


def unfinished(run: Path) -> list[Path]:
    """What lies in a run's folder half written or half removed."""
    return [path for path in run.rglob(".*") if path.suffix in (".partial", ".old", ".removed")]

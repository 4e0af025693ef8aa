"""A process that has imported everything, and forks a child for each command or script that a test runs, or kills.

It reads JSON lines from stdin and answers each with one on stdout; ``tests/runs.py`` has the other end.
"""

import contextlib
import fcntl
import importlib
import json
import os
import resource
import runpy
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pixelq.agents.learning.learner import Learner
from pixelq.agents.runs.checkpoints import RunCheckpoints
from pixelq.agents.runs.folder import RunFolder
from pixelq.agents.training import recorder
from pixelq.envs import GymnasiumVec
from pixelq.scripts import main as program
from pixelq.scripts import train
from tests.support.runs import COMPLETED, DIED

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink"}
"""Audit events of system calls that change a folder; the events come before the calls."""

OWNERS: dict[str, Any] = {"RunCheckpoints": RunCheckpoints, "RunFolder": RunFolder, "train": train}
OWNERS["GymnasiumVec"] = GymnasiumVec


def die_in(method: str, at: int, call: int = 1) -> None:
    """Dies before the ``at``-th change of the disk that is made in the ``call``-th call of a method.

    A file is changed when it is opened to be written, when half of its bytes are there, and when it is synced.
    """
    name, attribute = method.split(".")
    owner = OWNERS[name]
    inside, calls, changes = False, 0, 0
    original, fsync = getattr(owner, attribute), os.fsync

    def change() -> None:
        nonlocal changes
        changes += inside
        if inside and changes == at:
            os._exit(DIED)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in CHANGES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            change()

    def spied_fsync(descriptor: int) -> None:
        nonlocal changes
        if inside and fcntl.fcntl(descriptor, fcntl.F_GETFL) & (os.O_WRONLY | os.O_RDWR):
            changes += 1
            if changes == at:
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
                os._exit(DIED)
        change()
        fsync(descriptor)

    def spied(*arguments: Any) -> Any:
        nonlocal inside, calls
        calls += 1
        inside = calls == call
        result = original(*arguments)
        if inside:
            os._exit(COMPLETED)
        return result

    sys.addaudithook(hook)
    os.fsync = spied_fsync
    setattr(owner, attribute, spied)


def stop_in_evaluation(number: int, evaluation: int) -> None:
    """Sends a signal to this process while the ``evaluation``-th evaluation is played."""
    original, calls = recorder.evaluate, 0

    def evaluate(*arguments: Any, should_stop: Callable[[], bool], **options: Any) -> Any:
        nonlocal calls
        calls += 1
        asked = 0

        def asking() -> bool:
            nonlocal asked
            asked += 1
            if calls == evaluation and asked == 5:
                os.kill(os.getpid(), number)
            return should_stop()

        return original(*arguments, should_stop=asking, **options)

    recorder.evaluate = evaluate


def before(method: str, call: int, act: Callable[[], None]) -> None:
    """Acts before the ``call``-th call of a method."""
    name, attribute = method.split(".")
    original, calls = getattr(OWNERS[name], attribute), 0

    def spied(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            act()
        return original(*arguments, **options)

    setattr(OWNERS[name], attribute, spied)


def stop_before(method: str, call: int, number: int) -> None:
    """Sends a signal to this process."""
    before(method, call, lambda: os.kill(os.getpid(), number))


def sleep_before(method: str, call: int, seconds: float) -> None:
    """Waits."""
    before(method, call, lambda: time.sleep(seconds))


def limit_files(method: str, call: int, size: int) -> None:
    """From then on no file can become longer than ``size`` bytes."""
    before(method, call, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY)))


def fill_disk(method: str, call: int, path: str, room: int) -> None:
    """A file at ``path`` takes all of the disk but ``room`` bytes."""

    def fill() -> None:
        free = os.statvfs(Path(path).parent)
        with open(path, "wb", buffering=0) as file:
            file.write(bytes(max(0, free.f_bavail * free.f_frsize - room)))

    before(method, call, fill)


def spoil_loss(update: int) -> None:
    """The loss of the ``update``-th update is not a number."""
    original, calls = Learner.update, 0

    def spoilt(self: Any, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        result = original(self, *arguments)
        return result._replace(loss=result.loss * float("nan")) if calls == update else result

    Learner.update = spoilt  # type: ignore[method-assign]


FAULTS: dict[str, Callable[..., None]] = {
    fault.__name__: fault
    for fault in (
        die_in,
        stop_in_evaluation,
        stop_before,
        sleep_before,
        limit_files,
        fill_disk,
        spoil_loss,
    )
}


PIPES: dict[int, tuple[int, int]] = {}
"""Where the children's stdout and stderr can be read; they print less than a pipe holds."""


def run_script(path: str, folder: str) -> int:
    """Runs a Python script in a folder."""
    os.chdir(folder)
    sys.argv, sys.path[0] = [path], str(Path(path).parent)
    runpy.run_path(path, run_name="__main__")
    return 0


def start(arguments: list[str], patches: dict[str, Any], fault: list[Any], env: dict[str, str]) -> int:
    """Forks a child that runs ``pixelq`` with these arguments, or ``script PATH FOLDER``, and returns its id."""
    pipes = [os.pipe(), os.pipe()]
    child = os.fork()
    if child:
        for _, end in pipes:
            os.close(end)
        PIPES[child] = (pipes[0][0], pipes[1][0])
        return child
    code: Any = 1
    try:
        for number, (_, end) in zip((1, 2), pipes, strict=True):
            os.dup2(end, number)
            os.close(end)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(env)
        for name, value in patches.items():
            module, _, attribute = name.rpartition(".")
            setattr(importlib.import_module(module), attribute, value)
        if fault:
            FAULTS[fault[0]](**fault[1])
        code = run_script(*arguments[1:]) if arguments[0] == "script" else program.main(arguments)
    except SystemExit as error:
        code = error.code
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(child: int, timeout: float) -> list[Any]:
    """A child's exit code, or minus the signal that ended it, and what it printed; it is killed when it takes long."""
    deadline = time.monotonic() + timeout
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            printed = []
            for end in PIPES.pop(child):
                with open(end, encoding="utf-8") as file:
                    printed.append(file.read())
            return [os.waitstatus_to_exitcode(status), *printed]
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.001)


def warm_up() -> None:
    """Trains for a moment, for what is imported or made only then; without updates, as autograd survives no fork."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        out = f"{folder}/run"
        flags = "--env pixelq/Catch-v0 --steps 8 --evaluation-episodes 1 --final-episodes 1 --device cpu"
        assert program.main(["train", *flags.split(), "--agent.hidden", "8", "--out", out]) == 0


def serve() -> None:
    torch.set_num_threads(1)
    warm_up()
    assert len(os.listdir("/proc/self/task")) == 1  # what a fork would lose
    for line in sys.stdin:
        request = json.loads(line)
        verb = {"start": start, "wait": wait}[request.pop("verb")]
        print(json.dumps(verb(**request)), flush=True)


if __name__ == "__main__":
    serve()

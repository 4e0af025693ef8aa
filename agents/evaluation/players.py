"""Scores of many policies at once, each played in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait

import torch

from pixelq.agents.errors import RunFailed
from pixelq.agents.evaluation.scoring import Request, Score, score
from pixelq.envs import import_module


def score_all(requests: Sequence[Request], processes: int, modules: Sequence[str] = ()) -> Iterator[Score]:
    """Play many checkpoints, `processes` at once, and yield each score when it is ready.

    Args:
        requests: What to play.
        processes: Number of processes; 1 for this one.
        modules: Names of modules that register environments, which each process imports.

    Raises:
        InvalidCheckpoint, InvalidEnv: See `score`; raised for the first that fails.
        RunFailed: If a process was killed.
    """
    if processes == 1:
        yield from (score(request)[1] for request in requests)
        return
    context = multiprocessing.get_context("spawn")  # a fork would share the emulator's threads
    threads = max(1, (os.cpu_count() or 1) // processes)
    waiting = list(reversed(requests))
    players = {}
    try:
        for _ in range(min(processes, len(requests))):
            ours, theirs = context.Pipe()
            player = context.Process(target=_play, args=(theirs, threads, tuple(modules)), daemon=True)
            with safe_path():
                player.start()
            theirs.close()  # so that the pipe ends with the player
            players[ours] = player
            _send(ours, waiting.pop())
        for _ in requests:
            connection = wait(list(players))[0]
            assert isinstance(connection, Connection)
            result = _receive(connection)
            if waiting:
                _send(connection, waiting.pop())
            else:
                players.pop(connection)
                connection.close()
            if isinstance(result, Exception):
                raise result
            yield result
    finally:
        for player in players.values():
            player.kill()  # an episode may take minutes


def _send(connection: Connection, request: Request) -> None:
    with suppress(BrokenPipeError):  # a killed process is noticed when its answer is awaited
        connection.send(request)


def _receive(connection: Connection) -> Score | Exception:
    try:
        result: Score | Exception = connection.recv()
    except (EOFError, OSError) as error:
        raise RunFailed(
            "a process that played was killed, perhaps for lack of memory; give fewer `processes`"
        ) from error
    return result


@contextmanager
def safe_path() -> Iterator[None]:
    """Keep the working folder off the path of processes that are started meanwhile.

    Python puts it there, and a file `multiprocessing.py` in it would run before anything of ours.
    """
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


def _play(connection: Connection, threads: int, modules: Sequence[str]) -> None:
    """Answer requests until the pipe ends; the main function of a process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends without a traceback; the parent reports it
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for module in modules:
        import_module(module)
    with suppress(EOFError):
        while True:
            connection.send(_answer(connection.recv()))


def _answer(request: Request) -> Score | Exception:
    try:
        return score(request)[1]
    except Exception as error:
        error.add_note("".join(traceback.format_exception(error)))  # a traceback does not pass through a pipe
        return error


def _end_with_parent() -> None:
    """End this process when its parent ends, which a killed parent cannot ask for."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

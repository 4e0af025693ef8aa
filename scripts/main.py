"""`pixelq VERB …`: runs the verb's script, and turns its errors into exit codes."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Sequence

VERBS = {
    "train": "train an agent and keep its run in a folder",
    "evaluate": "play full episodes with a saved policy",
    "report": "make a page of runs that opens in any browser",
    "watch": "show a run's progress live in the browser",
    "compare": "lay runs beside published learning curves",
    "benchmark": "measure training speed against other libraries",
    "acceptance": "run the GPU tests, the benchmark and Pong up to a score, in ten minutes",
    "presets": "list the presets",
}

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Environment variables that say how OpenMP's threads wait."""

ENDING = ("SIGTERM", "SIGHUP", "SIGUSR1")
"""Signals that end a verb in good order, beside SIGINT."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `pixelq`, and return the exit code: 0 for success, 2 for wrong input, 1 for anything else.

    Args:
        arguments: The command line without `pixelq`; None for that of this process.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: pixelq VERB [flags]   (pixelq VERB --help lists the flags)\n")
        print("\n".join(f"  {verb:<10} {summary}" for verb, summary in VERBS.items()))
        return 0
    if arguments[0] not in VERBS:
        print(f"pixelq: unknown verb {arguments[0]!r}; there are {', '.join(VERBS)}", file=sys.stderr)
        return 2
    return run(arguments[0], arguments[1:])


def run(verb: str, arguments: Sequence[str] | None = None) -> int:
    """Run one verb, and return the exit code; 128 and its number if a signal stopped it.

    Args:
        verb: Name of the verb, or of another module in this folder with a function `main`.
        arguments: The command line without `pixelq VERB`; None for that of this process.
    """
    if verb != "benchmark":  # whose libraries are all measured as they are
        let_threads_sleep()
    numbers = [getattr(signal, name) for name in ENDING if hasattr(signal, name)]
    is_main = threading.current_thread() is threading.main_thread()
    found = {number: signal.getsignal(number) for number in numbers if is_main}
    # What this process was started to ignore stays ignored, such as SIGHUP under nohup.
    handlers = {number: handler for number, handler in found.items() if handler not in (signal.SIG_IGN, None)}
    for number in handlers:
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        code = _run(verb, arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print(f"pixelq {verb}: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def let_threads_sleep() -> None:
    """Let OpenMP's threads sleep while they wait, unless the user has chosen something else.

    By default they spin, which takes the cores from other processes: two runs on two cores are then tens of times
    slower than one after the other. OpenMP reads this when PyTorch is imported.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "passive"


def _run(verb: str, arguments: Sequence[str] | None) -> int:
    # Loaded by name, because they import PyTorch. So help needs not wait for it, a signal meanwhile finds its handler,
    # and a process that the benchmark starts from this one does not load our libraries beside those it measures.
    errors, envs = importlib.import_module("pixelq.agents.errors"), importlib.import_module("pixelq.envs")
    try:
        importlib.import_module(f"pixelq.scripts.{verb}").main(sys.argv[1:] if arguments is None else arguments)
    except (errors.UserError, envs.InvalidEnv) as error:
        print(f"pixelq {verb}: {error}", file=sys.stderr)
        return 2
    except (errors.RunFailed, envs.EnvironmentFailed) as error:
        print(f"pixelq {verb}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""``pixelq VERB …``: finds the verb's script and turns what goes wrong into an exit code."""

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
    "acceptance": "run a GPU's tests, the benchmark and Pong up to a score, in ten minutes",
    "presets": "list the presets",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs ``pixelq`` and returns the exit code: 0 done, 2 wrong input, 1 anything else."""
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
    """Runs one verb; the user's errors become one line on stderr and exit code 2, a stop by a signal 130 or 143."""
    before = signal.getsignal(signal.SIGTERM)
    is_main = threading.current_thread() is threading.main_thread()
    if is_main:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        code = _run(verb, arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print(f"pixelq {verb}: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)


def _run(verb: str, arguments: Sequence[str] | None) -> int:
    from pixelq.agents import InvalidCheckpoint, InvalidConfig, InvalidRun, RunUnwritable, TrainingDiverged
    from pixelq.agents.errors import InvalidScores, MissingExtra, RunFailed, UserError
    from pixelq.envs import EnvironmentFailed, InvalidEnv

    try:
        module = importlib.import_module(f"pixelq.scripts.{verb}")
        module.main(sys.argv[1:] if arguments is None else arguments)
    except (
        InvalidCheckpoint,
        InvalidConfig,
        InvalidEnv,
        InvalidRun,
        InvalidScores,
        MissingExtra,
        UserError,
    ) as error:
        print(f"pixelq {verb}: {error}", file=sys.stderr)
        return 2
    except (EnvironmentFailed, RunFailed, RunUnwritable, TrainingDiverged) as error:
        print(f"pixelq {verb}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`pixelq VERB …`: reads the verb's flags, runs its script, and turns errors into exit codes."""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.metadata import version

from pixelq.scripts.streams import lasting_streams

VERBS = {
    "train": "train an agent and save the run in a folder",
    "sweep": "train many runs, on this machine or a cluster",
    "tune": "search for the best settings of an agent, on this machine or a cluster",
    "evaluate": "play full episodes with a saved policy",
    "report": "write an HTML report on runs",
    "status": "print the progress of runs",
    "watch": "show the progress of runs live in the browser",
    "compare": "compare runs with published learning curves",
    "export": "export a policy as ONNX, TorchScript, torch.export or stable-baselines3 zip",
    "convert": "convert a stable-baselines3 zip file to a checkpoint",
    "push": "upload a policy to the Hugging Face Hub",
    "benchmark": "compare training speed with other libraries",
    "acceptance": "run the GPU tests, the benchmarks and three training runs, in ten minutes",
    "presets": "list the presets, or show the settings of one",
}
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
"""Errors of the operating system that no verb expects everywhere: a full disk, a limit, rights that have changed."""
USAGE = """usage: pixelq VERB [flags]   (pixelq VERB --help lists the flags)

{verbs}

  --version  print the version
  --tyro-print-completion bash|zsh|fish|tcsh  print a completion script for a shell"""

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Environment variables that say how OpenMP's threads wait."""
SPINS = 3000
"""Turns that a thread spins before it sleeps, about 0.03 ms: as long as between two operations of an update."""

ENDING = ("SIGTERM", "SIGHUP", "SIGUSR1")
"""Signals that end a verb in good order, beside SIGINT."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `pixelq`, and return the exit code.

    It is 0 for success, 2 for wrong input, 128 and its number if a signal stopped it, and 1 for anything else. Work
    goes on when standard output can no longer be written; the exit code is then 1 instead of 0.

    Args:
        arguments: The command line without `pixelq`; None for that of this process.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments and arguments[0] in VERBS:
        return run(arguments[0], arguments[1:])
    return _enter("pixelq", lambda: _without_verb(arguments))


def run(verb: str, arguments: Sequence[str] | None = None) -> int:
    """Run one verb, and return the exit code as `main` does.

    Args:
        verb: Name of the verb, or of another module in this folder that has flags.
        arguments: The command line without `pixelq VERB`; None for that of this process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if verb not in ("benchmark", "acceptance"):  # which measure libraries as they are
        let_threads_sleep()
    numbers = [getattr(signal, name) for name in ENDING if hasattr(signal, name)]
    is_main = threading.current_thread() is threading.main_thread()
    found = {number: signal.getsignal(number) for number in numbers if is_main}
    # What this process was started to ignore stays ignored, such as SIGHUP under nohup.
    handlers = {number: handler for number, handler in found.items() if handler not in (signal.SIG_IGN, None)}
    for number in handlers:
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        return _enter(f"pixelq {verb}", lambda: _run(verb, arguments))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def let_threads_sleep() -> None:
    """Let OpenMP's threads sleep soon while they wait, unless the user has chosen something else.

    By default they spin for milliseconds, which takes the cores from emulators and from other processes: two runs on
    two cores are then tens of times slower than one after the other. Threads that sleep at once have to be woken for
    each operation, which makes an update a tenth slower; only GNU's library, which PyTorch has on Linux, can be told to
    spin for a while. OpenMP reads this when PyTorch is imported.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)


def _without_verb(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE.format(verbs="\n".join(f"  {verb:<10} {summary}" for verb, summary in VERBS.items())))
    elif arguments[0] in ("-V", "--version"):
        print(f"pixelq {version('pixelq')}")
    elif arguments[0].startswith("--tyro-"):
        importlib.import_module("pixelq.scripts.completion").main(arguments)
    else:
        shown = importlib.import_module("pixelq.agents.errors").printable(arguments[0], 80)
        close = difflib.get_close_matches(arguments[0].lower(), VERBS, 1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(VERBS)}"
        print(f"pixelq: unknown verb '{shown}'; {hint}", file=sys.stderr)
        return 2
    return 0


def _run(verb: str, arguments: Sequence[str]) -> int:
    # Loaded by name. PyTorch takes seconds to load, so flags are read before the modules that need it are imported; a
    # signal meanwhile finds its handler; and a process that the benchmark starts from this one does not load our
    # libraries beside those it measures.
    try:
        args = importlib.import_module(f"pixelq.scripts.flags.{verb}").read(arguments)
    except Exception:
        torchrun = importlib.import_module("pixelq.agents.config.torchrun")
        if (found := torchrun.place()) is not None and found.rank > 0:
            torchrun.leave_it_to_the_first()
        raise
    importlib.import_module(f"pixelq.scripts.{getattr(args, 'script', verb)}").main(args)
    return 0


def _enter(name: str, act: Callable[[], int]) -> int:
    """Return the exit code of what is done for the command `name`, which stands before each error."""
    with lasting_streams() as (out, _):
        try:
            code = act()
        except KeyboardInterrupt:
            print(f"{name}: stopped", file=sys.stderr)
            code = 130
        except SystemExit as stop:  # of `--help`, of a signal, or of a part that failed
            code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
            if not isinstance(stop.code, int | None):  # of a module of the user's
                print(f"{name}: {stop.code}", file=sys.stderr)
        except Exception as error:
            code, sentence = _meaning(error)
            print(f"{name}: {sentence}", file=sys.stderr)
        out.flush()
        if out.error is None or code != 0:
            return code
        if out.error.errno != errno.EPIPE:  # whose reader has seen enough
            print(f"{name}: standard output cannot be written ({out.error.strerror})", file=sys.stderr)
        return 1


def _meaning(error: Exception) -> tuple[int, str]:
    """Return the exit code and the sentence of an error that is for the user; any other error is raised again."""
    errors = importlib.import_module("pixelq.agents.errors")
    if isinstance(error, errors.UserError):
        return 2, _with_flags(str(error))
    if isinstance(error, errors.RunFailed):
        return 1, _with_flags(str(error))
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        what = errors.printable(f"{error.filename or 'a file'} cannot be written or read ({error.strerror})")
        return 1, what
    envs = importlib.import_module("pixelq.envs.errors")
    if isinstance(error, envs.InvalidEnv):
        return 2, str(error)
    if isinstance(error, envs.EnvironmentFailed):
        return 1, str(error)
    raise error


def _with_flags(sentence: str) -> str:
    """Return a sentence in which parameters in backticks are named as flags; see `pixelq.agents.errors`."""

    def flag(found: re.Match[str]) -> str:
        value = "" if found[2] in (None, "True") else f" {found[2]}"
        return f"--{found[1].replace('_', '-')}{value}"

    return re.sub(r"`([a-z][a-z_]*)(?:=(\w+))?`", flag, sentence)


if __name__ == "__main__":
    sys.exit(main())

"""Turns this process into a command that ends in good order when its parent dies, and is bound to cores.

It is run as a file, by `pixelq.agents.distributed.process`, and imports nothing that takes long:
`bound.py PARENT CORE,CORE,... COMMAND`. Linux only.
"""

import contextlib
import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Bind the process, and become the command."""
    parent, cores, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != int(parent):  # it died before
        sys.exit(128 + signal.SIGTERM)
    if cores:
        with contextlib.suppress(OSError):  # the process may use others by now
            os.sched_setaffinity(0, map(int, cores.split(",")))
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # submitit's, which SLURM sends to all processes of a job
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()

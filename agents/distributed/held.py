"""Starts Python with SIGUSR2 blocked, so that SLURM's signal waits until the job can handle it.

It is run as a file, by the jobs of `pixelq.agents.distributed.slurm`, and imports nothing that takes long:
`held.py ARGUMENTS-OF-PYTHON`.
"""

import os
import signal
import sys


def main() -> None:
    """Hold the signal back, and become Python."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])


if __name__ == "__main__":
    main()

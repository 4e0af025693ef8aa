"""The entries that `pixelq benchmark` measures, and the process in which each of them runs.

An entry's module is imported only in its process, so that no entry's memory holds another's libraries.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import torch

from pixelq.envs import is_atari
from pixelq.scripts.benchmarks.pqn_work import PQNWork
from pixelq.scripts.benchmarks.work import Trainer, Work

WARM_UP_STEPS = 64
"""Steps after the replay is full, before any are timed; what a library sets up at its first update lies in them."""
WARM_UP_SHARE = 0.1
"""Share of a turn's time that passes unmeasured first: caches and threads wake from the other entry's turn."""
EXTRA = "'pixelq[benchmark]'"
NOBODY = "none"
"""Value of `--against` for a measurement of our own agent alone."""


class Entry(NamedTuple):
    """A library to measure."""

    module: str
    """Module in this folder."""
    trainer: str
    """Class in it; it is given the work and the name of the device."""
    distribution: str | None
    """Name in the package index, for the version; None for what is no package."""
    needs: Mapping[str, str] = {}
    """Modules that our package does not depend on, and the argument of `pip install` for each."""
    label: str = ""
    """Text in place of a version where there is no distribution."""

    def version(self) -> str:
        """Return the installed version, or the label."""
        return self.label if self.distribution is None else version(self.distribution)

    def make(self, work: Work | PQNWork, device: str) -> Trainer:
        """Return the library's agent with its environments.

        Args:
            work: The work to do.
            device: `cpu` or `cuda`.
        """
        trainer: Trainer = getattr(importlib.import_module(f"{__package__}.{self.module}"), self.trainer)(work, device)
        return trainer


OURS, OURS_BFLOAT16 = "pixelq", "pixelq-bfloat16"
PEERS = {
    "sb3": Entry("peer_sb3", "StableBaselines3", "stable-baselines3", {"cv2": EXTRA}),
    "cleanrl": Entry("peer_cleanrl", "CleanRL", None, {"cv2": EXTRA}, "our writing"),
    "tianshou": Entry("peer_tianshou", "Tianshou", "tianshou", {"tianshou": "tianshou", "cv2": EXTRA}),
}
"""Entries of other libraries, by name."""
OWN = {OURS: Entry("peer_pixelq", "Pixelq", "pixelq"), OURS_BFLOAT16: Entry("peer_pixelq", "PixelqBfloat16", "pixelq")}
"""Our own entries, by name."""
ENTRIES = {OURS: OWN[OURS], **PEERS, OURS_BFLOAT16: OWN[OURS_BFLOAT16]}
SMALL_ENTRIES = {OURS: OWN[OURS], "sb3": PEERS["sb3"]}
"""Entries that do work outside Atari, by name."""
PQN_ENTRIES = {
    OURS: Entry("peer_pixelq_pqn", "PixelqPQN", "pixelq"),
    "cleanrl": Entry("peer_cleanrl_pqn", "CleanRLPQN", None, {}, "our writing"),
}
"""Entries that do the work of PQN, by name."""


class Turn(NamedTuple):
    """Measurements of one turn."""

    steps: int
    """Number of agent steps."""
    updates: int
    """Number of updates."""
    seconds: float
    """Time that they took."""
    peak_memory_mib: float
    """Peak memory of the process up to now, including everything it has loaded."""
    peak_device_memory_mib: float | None
    """Peak memory that PyTorch has reserved on the GPU; None without a GPU."""


def entries_of(work: Work | PQNWork) -> Mapping[str, Entry]:
    """Return the entries that do a work, by name."""
    if isinstance(work, PQNWork):
        return PQN_ENTRIES
    return ENTRIES if is_atari(work.env) else SMALL_ENTRIES


def serve(connection: Connection, name: str, work: Work | PQNWork, device: str) -> None:
    """Warm an entry up, say so, then take a turn for each number of seconds received; the main function of a process.

    When None is received, one of our own entries answers with the milliseconds per step in each part of the loop.

    Args:
        connection: Connection to the process that measures.
        name: Name of the entry.
        work: The work to do.
        device: `cpu` or `cuda`.
    """
    os.dup2(2, 1)  # stdout belongs to the parent
    try:
        trainer = entries_of(work)[name].make(work, device)
        trainer.learn(work.replay_capacity + WARM_UP_STEPS)
        turn = measure(trainer, WARM_UP_STEPS, device)
        connection.send(turn)
        while True:
            seconds: float | None = connection.recv()
            if seconds is None:  # a turn of the same length, part by part
                connection.send(trainer.milliseconds_per_step(turn.steps))  # type: ignore[attr-defined]
                continue
            for share in (WARM_UP_SHARE, 1.0):
                turn = measure(trainer, _steps_in(share * seconds, turn, work), device)
            connection.send(turn)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass  # the parent has ended


def _steps_in(seconds: float, last: Turn, work: Work | PQNWork) -> int:
    """Return how many steps fit into a time at the last turn's speed, such that the number of updates is whole."""
    block = work.num_envs * work.train_every
    return block * max(1, round(seconds * last.steps / last.seconds / block))


def measure(trainer: Trainer, steps: int, device: str) -> Turn:
    """Return the measurements of a training of `steps` more steps."""
    steps_before, updates_before = trainer.counts()
    start = time.perf_counter()
    trainer.learn(steps)
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    steps_after, updates_after = trainer.counts()
    on_device = torch.cuda.max_memory_reserved() / 2**20 if device == "cuda" else None
    return Turn(steps_after - steps_before, updates_after - updates_before, seconds, peak_memory_mib(), on_device)


def peak_memory_mib() -> float:
    """Return the largest resident memory of this process."""
    if sys.platform == "linux":  # where ru_maxrss would start from that of the parent, which spawned this process
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10
    else:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes

"""The launcher `local`: processes on this machine, with its cores, its GPUs and its memory shared out."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from pixelq.agents.config.device import resolve_device
from pixelq.agents.config.machine_limits import free_memory, usable_cores
from pixelq.agents.distributed.needs import Need
from pixelq.agents.distributed.process import Job, Outcome, run_cell
from pixelq.agents.errors import InvalidSpec, RunFailed, UserError, one_line

SHARE = 0.95
"""Share of the free memory that cells may take."""
_ASK_GPUS = """
import json, torch
print(json.dumps([torch.cuda.mem_get_info(gpu)[0] for gpu in range(torch.cuda.device_count())]))
"""


@dataclass(frozen=True)
class Machine:
    """What of a machine cells may use."""

    cores: tuple[int, ...]
    """Numbers of the cores."""
    memory: float
    """Bytes of memory."""
    gpus: Mapping[str, float]
    """Bytes of memory of each GPU, by its name for CUDA."""


@dataclass
class _Place:
    """What a running cell takes."""

    thread: threading.Thread
    slot: int
    gpu: str | None
    need: Need
    outcome: Outcome | None = None
    error: OSError | None = None


def this_machine(*, with_gpus: bool) -> Machine:
    """Return what of this machine is free.

    Args:
        with_gpus: Whether GPUs are to be used; without, none is looked for.
    """
    everything = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    free = free_memory(torch.device("cpu"))
    gpus: dict[str, float] = {}
    if with_gpus:  # asked in another process, since asking takes memory of a GPU
        asked = subprocess.run([sys.executable, "-c", _ASK_GPUS], capture_output=True, text=True, check=False)
        if asked.returncode != 0:
            raise RunFailed(f"the memory of the GPUs cannot be found out: {asked.stderr.strip()[-200:]}")
        sizes = json.loads(asked.stdout)
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        names = [name.strip() for name in visible.split(",")] if visible else [str(i) for i in range(len(sizes))]
        gpus = {name: SHARE * size for name, size in zip(names, sizes, strict=False)}
    memory = math.inf if free is None else SHARE * free
    return Machine(tuple(everything)[: usable_cores()], memory, gpus)


class LocalLauncher:
    """Runs cells in processes on this machine: at most so many at once, and never more than memory is there for.

    Args:
        jobs: The cells that may come.
        needs: What each needs, by name.
        most: Most cells at once; None for as many as there are cores, or places on GPUs.
        gpu_share: Share of a GPU that a cell takes, in (0, 1].
        machine: What may be used; None for what is free on this machine.

    Raises:
        InvalidSpec: If a cell needs more memory than there is.
        InvalidConfig: If there is no such device.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        needs: Mapping[str, Need],
        most: int | None = None,
        gpu_share: float | None = None,
        machine: Machine | None = None,
    ) -> None:
        on_gpu = any(_is_on_gpu(job) for job in jobs)
        if gpu_share == 0 and on_gpu:
            raise UserError('`gpus` must be above 0 with `launcher=local`; set device = "cpu" in SPEC to use none')
        self.machine = machine or this_machine(with_gpus=on_gpu)
        self.needs, self.on_gpu = dict[str, Need](), set[str]()
        self.places_on_gpu = math.floor(1 / (gpu_share or 1.0) + 1e-9)
        self.expect(jobs, needs)
        usual = self.places_on_gpu * len(self.machine.gpus) if on_gpu else len(self.machine.cores)
        greatest = max((self._on_host(job.cell.name) for job in jobs), default=1)
        fit = len(jobs) if math.isinf(self.machine.memory) else int(self.machine.memory // greatest)
        self.slots = max(1, most if most is not None else min(usual, len(jobs), fit))
        self.running: dict[str, _Place] = {}
        self.stopping = threading.Event()

    def expect(self, jobs: Sequence[Job], needs: Mapping[str, Need]) -> None:
        """Check that some more cells can run.

        Raises:
            InvalidSpec: If one needs more memory than there is.
            InvalidConfig: If there is no such device.
        """
        self.needs |= needs
        self.on_gpu |= {job.cell.name for job in jobs if _is_on_gpu(job)}
        for job in jobs:
            self._check_fits(job.cell.name)

    def submit(self, jobs: Sequence[Job]) -> list[Job]:
        """Start the first of some cells, as many as there is room for, and return them."""
        started: list[Job] = []
        for job in jobs:
            name = job.cell.name
            slot = next((i for i in range(self.slots) if all(p.slot != i for p in self.running.values())), None)
            gpu = self._free_gpu(name) if name in self.on_gpu else None
            if slot is None or (name in self.on_gpu and gpu is None) or self._on_host(name) > self._free_memory():
                break
            cores = self._cores_of(slot)
            threads = int(own) if (own := os.environ.get("OMP_NUM_THREADS", "")).isdecimal() else None
            if threads is None and (len(cores) == 1 or not sys.platform.startswith("linux")):
                threads = len(cores)  # bound to several cores, a run finds out itself how many its network is worth
            bound = dataclasses.replace(job, cores=cores, threads=threads, gpu=gpu)
            thread = threading.Thread(target=self._run, args=(bound,), name=name, daemon=True)
            self.running[name] = _Place(thread, slot, gpu, self.needs[name])
            thread.start()
            started.append(job)
        return started

    def ended(self) -> list[tuple[str, Outcome]]:
        """Return the cells that have ended since this was asked last, and how.

        Raises:
            RunFailed: If the sweep's folder cannot be written.
        """
        found = []
        for name, place in list(self.running.items()):
            if place.thread.is_alive():
                continue
            del self.running[name]
            if place.error is not None:
                raise RunFailed(f"{name} cannot be run ({place.error.strerror})") from place.error
            if place.outcome is not None:
                found.append((name, place.outcome))
        return found

    def stop(self) -> None:
        """Ask all running cells to stop with a checkpoint, and wait for them."""
        if self.stopping.is_set():
            return
        self.stopping.set()
        while any(place.thread.is_alive() for place in self.running.values()):
            for place in self.running.values():
                place.thread.join(0.1)  # a second signal is heeded in between

    def close(self) -> None:
        """Stop what still runs."""
        self.stop()

    def _run(self, job: Job) -> None:
        place = self.running[job.cell.name]
        try:
            place.outcome = run_cell(job, self.stopping.is_set)
        except OSError as error:
            place.error = error
        except Exception as error:  # such as a value that no command line can have
            place.outcome = Outcome(1, one_line(error))

    def _cores_of(self, slot: int) -> tuple[int, ...]:
        """Return the cores of a slot: equal shares, or one of them where there are more slots than cores."""
        cores, number = self.machine.cores, len(self.machine.cores)
        if self.slots >= number:
            return (cores[slot % number],)
        return cores[slot * number // self.slots : (slot + 1) * number // self.slots]

    def _on_host(self, name: str) -> int:
        need = self.needs[name]
        return need.process + (0 if name in self.on_gpu else need.learning)

    def _free_memory(self) -> float:
        return self.machine.memory - sum(map(self._on_host, self.running))

    def _free_gpu(self, name: str) -> str | None:
        """Return the GPU with the fewest cells among those with room for one more; None if there is none."""
        on_each = {gpu: [p for p in self.running.values() if p.gpu == gpu] for gpu in self.machine.gpus}
        free = [
            gpu
            for gpu, places in on_each.items()
            if len(places) < self.places_on_gpu
            and sum(p.need.learning for p in places) + self.needs[name].learning <= self.machine.gpus[gpu]
        ]
        return min(free, key=lambda gpu: len(on_each[gpu]), default=None)

    def _check_fits(self, name: str) -> None:
        size, free = self._on_host(name), self.machine.memory
        if size <= free and name in self.on_gpu:
            size, free = self.needs[name].learning, max(self.machine.gpus.values(), default=0.0)
        if size > free:
            raise InvalidSpec(
                f"{name} needs {size / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free; lower replay_capacity"
            )


def _is_on_gpu(job: Job) -> bool:
    return resolve_device(job.cell.flags.device).type == "cuda"

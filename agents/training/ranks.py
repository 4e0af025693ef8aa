"""Several learners of one training: the processes that `torchrun` starts, each with a share of it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelq.agents.config.device import resolve_device
from pixelq.agents.config.integers import checked_integer
from pixelq.agents.config.machine_limits import usable_cores
from pixelq.agents.config.torchrun import Place, place
from pixelq.agents.errors import InvalidConfig, InvalidRun, LearnerLost, RunFailed, UserError, one_line
from pixelq.envs import InvalidEnv, make_vec
from pixelq.envs.checks import PartOfSeed

PATIENCE = timedelta(days=1)
"""How long learners wait for each other: for the first one's evaluations, which may take hours."""
REPORT_SECONDS = 3.0
"""Seconds in which another learner may say why it has failed."""
LEARNERS = "learners"
"""Entry of config.json with the number of learners."""


class Ranks:
    """The learners of one training, which `torchrun` has started as processes, and the place of this one among them.

    Each learner has its own share of the environments, of every batch and of the replay. The gradients are averaged, so
    that an update is that of one learner with the whole batch. All take the same steps at the same time.

    Each process calls `learn` with the same arguments, but for its share of the environments, which `make_vec` makes.
    The first one writes the run to `out`, evaluates, shows progress and has the callbacks.

    Args:
        place: The place of this process.
        device: Device on which it learns.

    Attributes:
        rank: Number of this learner, from 0 on.
        size: Number of learners.
        device: Device on which this one learns.
        pending: Signals that ask this process to stop.
        received: Those that all learners know of.
    """

    def __init__(self, place: Place, device: torch.device) -> None:
        import torch.distributed as dist
        from torch.distributed.distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        self.rank, self.size, self.device, self._place = place.rank, place.size, device, place
        self.pending: list[int] = []
        self.received: list[int] = []
        self._parent = os.getppid()
        self._dist = dist
        store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
        self._store = PrefixStore("pixelq", store)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)

    @classmethod
    def join(cls, device: str = "auto") -> Self | None:
        """Join the learners that `torchrun` has started; return None in a process that it has not, or only one.

        Args:
            device: `auto` for a GPU of its own if there is one, `cpu` or `cuda`.

        Raises:
            InvalidConfig: If there is no such device, or there are fewer GPUs than learners.
            RunFailed: If PyTorch was built without its distributed package.
        """
        found = place()
        if found is None:
            return None
        if not torch.distributed.is_available():
            raise RunFailed("this build of PyTorch has no distributed package, which several learners need")
        resolved = resolve_device(device)
        if resolved.type == "cuda":
            gpus = torch.cuda.device_count()
            if found.local_size > gpus:
                raise InvalidConfig(
                    f"each learner needs a GPU of its own, got {found.local_size} learners on a machine with {gpus}; "
                    "start fewer, or use `device=cpu`"
                )
            resolved = torch.device("cuda", found.local_rank)
            torch.cuda.set_device(resolved)
        return cls(found, resolved)

    def make_vec(
        self,
        id: str | Callable[..., gymnasium.Env[Any, Any]],
        num_envs: int = 8,
        seed: int = 0,
        *args: Any,
        **more: Any,
    ) -> Any:
        """Make this learner's share of N environments; together they are those of `pixelq.envs.make_vec`.

        Args:
            id, seed, args, more: See `make_vec`.
            num_envs: Number of environments of all learners, N.

        Raises:
            InvalidConfig: If the learners cannot have equal shares.
        """
        num_envs = checked_integer("num_envs", num_envs, 1)
        if num_envs % self.size:
            raise InvalidConfig(f"num_envs must be a multiple of the {self.size} learners, got {num_envs:,}")
        share = num_envs // self.size
        more = {"num_threads": max(1, usable_cores() // self._place.local_size)} | more
        return make_vec(id, share, PartOfSeed(seed, self.rank * share), *args, **more)

    def begin(self) -> list[int]:
        """Begin a training, and return the list of the signals that all learners know of."""
        self.pending.clear()
        self.received.clear()
        return self.received

    # What all learners call at the same time
    def sum(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all learners."""
        self._call(lambda: self._dist.all_reduce(tensor))

    def least(self, tensor: Tensor) -> Tensor:
        """Return the least of a tensor over all learners, element by element."""
        found = tensor.clone()
        self._call(lambda: self._dist.all_reduce(found, self._dist.ReduceOp.MIN))
        return found

    def table(self, *values: int) -> NDArray[np.int64]:
        """Return some integers of each learner, [learners, integers]."""
        rows = torch.zeros((self.size, len(values)), dtype=torch.int64)
        rows[self.rank] = torch.tensor([int(value) for value in values])
        self.sum(rows)
        found: NDArray[np.int64] = rows.numpy()
        return found

    def meet(self, *values: int) -> NDArray[np.int64]:
        """Return what `table` does, and let all learners know of a signal that any of them has received.

        If `torchrun` itself has died, that counts as its signal to stop.
        """
        if not self.pending and os.getppid() != self._parent:
            self.pending.append(signal.SIGTERM)
        found = self.table(self.pending[0] if self.pending else 0, *values)
        number = int(found[:, 0].max())
        for signals in (self.pending, self.received):
            if number and not signals:
                signals.append(number)
        return found[:, 1:]

    def wait(self) -> None:
        """Wait until all learners are here."""
        self.table(0)

    def gather(self, data: bytes) -> list[bytes]:
        """Return the bytes of each learner to the first one, and nothing to the others."""
        sizes = self.table(len(data))[:, 0].tolist()
        if self.rank > 0:
            if data:
                self._call(lambda: self._dist.send(torch.frombuffer(bytearray(data), dtype=torch.uint8), 0))
            return []
        found = [data]
        for rank, size in enumerate(sizes[1:], 1):
            part = torch.empty(size, dtype=torch.uint8)
            if size:
                self._call(lambda part=part, rank=rank: self._dist.recv(part, rank))  # type: ignore[misc]
            found.append(part.numpy().tobytes())
        return found

    def gather_values(self, values: Any) -> list[Any]:
        """Return JSON values of each learner to the first one, and nothing to the others."""
        return [json.loads(data) for data in self.gather(json.dumps(values).encode())]

    def from_first(self, text: str) -> str:
        """Return the text of the first learner to all of them."""
        data = bytearray(text.encode())
        size = int(self.table(len(data))[0, 0])
        part = torch.zeros(size, dtype=torch.uint8)
        if self.rank == 0 and size:
            part = torch.frombuffer(data, dtype=torch.uint8)
        if size:
            self._call(lambda: self._dist.broadcast(part, 0))
        return part.numpy().tobytes().decode()

    def _call(self, act: Callable[[], Any]) -> None:
        """Communicate with the other learners.

        Raises:
            LearnerLost: If one of them is gone.
        """
        try:
            act()
        except RuntimeError as error:
            raise LearnerLost(
                f"another learner is gone ({one_line(error)}); the run can be resumed with `resume=True`"
            ) from error

    # The end
    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Leave the other learners afterwards, and leave errors that another learner tells of to that one.

        Raises:
            SystemExit: In place of such an error, and of Ctrl-C where this is not the first learner.
        """
        try:
            yield
        except KeyboardInterrupt:
            if self.rank > 0:
                raise SystemExit(128 + signal.SIGINT) from None
            raise
        except Exception as error:
            with suppress(RuntimeError):  # of the store
                self._store.set(f"failed/{self.rank}", type(error).__name__)
                if self._is_told(error):
                    raise SystemExit(2 if isinstance(error, UserError | InvalidEnv) else 1) from None
            raise
        finally:
            with suppress(RuntimeError):
                self._dist.destroy_process_group()

    def _is_told(self, error: Exception) -> bool:
        """Return whether another learner tells of an error, or of what has led to it."""
        kind, is_lost = type(error).__name__, isinstance(error, LearnerLost)
        others = [rank for rank in range(self.size) if rank != self.rank] if is_lost else range(min(self.rank, 1))
        end = time.monotonic() + REPORT_SECONDS
        while others and time.monotonic() < end:
            told = [self._store.get(name).decode() for rank in others if self._store.check([name := f"failed/{rank}"])]
            if any(each != kind if is_lost else each == kind for each in told):
                return True
            time.sleep(0.1)
        return False


def check_learners(config: Mapping[str, Any], out: Path, ranks: Ranks | None) -> None:
    """Check that a run goes on with as many learners as it has had.

    Args:
        config: Contents of its config.json.
        out: Its folder.
        ranks: The learners; None for a single one.

    Raises:
        InvalidRun: If it does not.
    """
    own, now = config.get(LEARNERS, 1), 1 if ranks is None else ranks.size
    if own != now:
        how = "without torchrun" if own == 1 else f"by torchrun with {own!r:.20} learners in all"
        raise InvalidRun(f"the run in {out} has {own!r:.20} learners, got {now}; resume it {how}")

"""Transfers of a step's values to the device of the rows."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Casting = Literal["same_kind", "unsafe"]


class Buffers(NamedTuple):
    """Host memory for the values of one step, by name, and the event after which it may be written again."""

    values: dict[str, Tensor]
    is_read: Any


class StepTransfer:
    """Sends the values of steps to a GPU through pinned memory, so that neither the host nor the GPU waits.

    The transfers of a step stand in the GPU's queue behind the updates that were launched before them. So there are
    buffers for two steps, which take turns: while those of the last step may still be read, those of the step before it
    are written again.

    Args:
        device: Device to which values are sent, which is not a CPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._turns = [Buffers({}, self._event()) for _ in range(2)]

    def _event(self) -> Any:
        return torch.cuda.Event() if self.device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def add(self, name: str, shape: torch.Size, dtype: torch.dtype) -> None:
        """Make buffers for values of a shape and type, under a name."""
        for buffers in self._turns:
            buffers.values[name] = torch.empty(shape, dtype=dtype, pin_memory=self.device.type == "cuda")

    def turn(self) -> None:
        """Begin a step: use the other buffers, when the GPU has read them."""
        last, following = self._turns
        if last.is_read is not None:
            last.is_read.record(torch.cuda.current_stream(self.device))
            following.is_read.synchronize()
        self._turns = [following, last]

    def send(self, name: str, values: NDArray[Any], to: Tensor, casting: Casting = "unsafe") -> None:
        """Copy values [K, ...] to a tensor of the same shape on the device, once a step for each name.

        Args:
            name: Name of the buffers.
            values: The values; there may be fewer than the buffers have room for.
            to: Where to copy them.
            casting: Which casts are allowed, see `numpy.copyto`.
        """
        buffer = self._turns[0].values[name][: len(values)]
        np.copyto(buffer.numpy(), values, casting=casting)
        to.copy_(buffer, non_blocking=True)

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers."""
        return sum(buffer.nbytes for buffers in self._turns for buffer in buffers.values.values())

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy or a pickled agent has: events belong to one process, and pinned memory is made anew."""
        made = self._turns[0].values
        return {"device": self.device, "made": {name: (each.shape, each.dtype) for name, each in made.items()}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore what `__getstate__` returned."""
        StepTransfer.__init__(self, state["device"])
        for name, (shape, dtype) in state["made"].items():
            self.add(name, shape, dtype)

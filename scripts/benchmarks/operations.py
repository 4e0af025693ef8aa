"""A recorder of the operations that PyTorch is given, as a CUDA graph would keep them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITS = frozenset("_local_scalar_dense nonzero masked_select is_nonzero equal unique _unique2".split())
"""Operations whose result the host waits for."""
WITHOUT_KERNEL = frozenset(
    "detach empty empty_like empty_strided new_empty new_empty_strided set_ resize_ _unsafe_view alias lift_fresh "
    "_reshape_alias".split()
)
"""Operations that compute nothing, beside views: they make or describe memory."""


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the operations that run while it is entered.

    Attributes:
        noted: Each operation with its arguments, for a comparison: of tensors the shape, and the address of memory that
            was there before.
        computing: Number of operations that compute, by name. Each is about one kernel on a GPU.
        free: Number of those that only describe memory.
        waits: Names of operations that ask for a tensor's value, which cannot be captured.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.noted: list[tuple[object, ...]] = []
        self.computing: Counter[str] = Counter()
        self.free = 0
        self.waits: list[str] = []
        self._own: dict[int, torch.UntypedStorage] = {}  # memory that was made here; held, so that none is used again

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name.startswith("_record_function"):  # of the profiler, with a handle of its own each time
            return func(*args, **(kwargs or {}))
        if name in WAITS:
            self.waits.append(name)
        inputs = tree_leaves((args, kwargs or {}))
        self.noted.append((str(func), *map(self._described, inputs)))
        if func.is_view or name in WITHOUT_KERNEL:
            self.free += 1
        else:
            self.computing[name] += 1
        out = func(*args, **(kwargs or {}))
        if not func._schema.is_mutable:
            given = {each.untyped_storage().data_ptr() for each in inputs if isinstance(each, torch.Tensor)}
            for tensor in tree_leaves(out):
                if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in given:  # no view
                    self._own[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return out

    def _described(self, value: object) -> object:
        if isinstance(value, torch.Tensor):
            address = value.untyped_storage().data_ptr()
            return (*value.shape, "made here" if address in self._own or value.numel() == 0 else address)
        return type(value) if isinstance(value, torch.Generator) else repr(value)

"""A tree of sums that finds the place of a prefix sum in a few steps."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


class SumTree:
    """Numbers and the sums of ever larger groups of them, to find the place of a prefix sum in a few steps.

    Each node has `BRANCHES` children, so that a million numbers have four levels, each of which takes a handful of
    tensor operations. A change recomputes a node as the sum of its children, so that rounding errors do not add up.

    Args:
        capacity: Number of numbers; all are 0 at first.
        device: Device of the tensors.
    """

    BRANCHES = 32
    """Children of a node."""

    def __init__(self, capacity: int, device: torch.device | str = "cpu") -> None:
        sizes = [-(-capacity // self.BRANCHES)]  # groups in each level, leaves first
        while sizes[-1] > 1:
            sizes.append(-(-sizes[-1] // self.BRANCHES))
        # Nodes of each level in groups [groups, BRANCHES], the root's group first.
        self.levels = [torch.zeros(size, self.BRANCHES, dtype=torch.float64, device=device) for size in reversed(sizes)]
        self._zero = torch.zeros((), dtype=torch.float64, device=device)

    @property
    def leaves(self) -> Tensor:
        """Numbers, padded with zeros."""
        return self.levels[-1].view(-1)

    @property
    def total(self) -> Tensor:
        """Sum of the numbers, []."""
        return self.levels[0].sum()

    @property
    def nbytes(self) -> int:
        """Bytes of all levels."""
        return sum(level.nbytes for level in self.levels)

    def set(self, index: Tensor, value: Tensor) -> None:
        """Set the numbers at index [M] to value [M] or []; if an index occurs twice, one of its values is set."""
        self.leaves[index] = value.double()
        for parents, children in zip(self.levels[-2::-1], self.levels[:0:-1], strict=True):
            index = index // self.BRANCHES
            parents.view(-1)[index] = children[index].sum(1)

    def load(self, levels: list[Tensor], alive: Tensor) -> None:
        """Restore all levels, because sums computed again in another order might be rounded differently.

        Args:
            levels: The levels, as in the attribute of that name.
            alive: Index [M] of the numbers above 0.

        Raises:
            ValueError: If a node is not the sum of its children, or other numbers are above 0.
        """
        leaves = levels[-1].view(-1)
        is_sum = all(
            torch.allclose(parents.view(-1)[: len(children)], children.sum(1), rtol=1e-9, atol=0)
            and not parents.view(-1)[len(children) :].any()  # a node without children must be 0
            for parents, children in itertools.pairwise(levels)
        )
        is_alive = torch.zeros(len(leaves), dtype=torch.bool).index_fill_(0, alive.cpu(), True)
        if not is_sum or not leaves.isfinite().all() or not torch.equal(leaves.cpu() > 0, is_alive):
            raise ValueError("the priorities are not those of the rows that may be drawn")
        for own, level in zip(self.levels, levels, strict=True):
            own.copy_(level)

    def find(self, prefix: Tensor) -> Tensor:
        """Return the index [B] of the number in which a prefix sum [B], in [0, total), lies.

        It is never the index of a 0, however sums are rounded, unless all numbers are 0.
        """
        group = torch.zeros(prefix.shape, dtype=torch.int64, device=prefix.device)
        left = prefix.double()
        for level in self.levels:
            sums = level[group].cumsum(1)  # [B, BRANCHES]
            # Rounding may push the remainder to the end of the group, or past it.
            left = left.minimum(sums[:, -1].nextafter(self._zero))
            child = torch.searchsorted(sums, left[:, None], right=True).clamp_(max=self.BRANCHES - 1)  # [B, 1]
            left = left - torch.where(child > 0, sums.gather(1, (child - 1).clamp_(min=0)), 0.0)[:, 0]
            group = group * self.BRANCHES + child[:, 0]
        return group

"""A tree of sums, in which a prefix sum is found in a few steps."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


class SumTree:
    """Numbers, and the sums of ever larger groups of them: finds where a prefix sum lies in a few steps for any size.

    Each node has ``BRANCHES`` children, so that a million numbers are four levels, each a handful of tensor
    operations. A node is always the sum of its children, computed anew: nothing drifts.

    Args:
        capacity: how many numbers; they start as 0.
        device: where they lie.
    """

    BRANCHES = 32

    def __init__(self, capacity: int, device: torch.device | str = "cpu") -> None:
        sizes = [-(-capacity // self.BRANCHES)]  # groups of each level, leaves first
        while sizes[-1] > 1:
            sizes.append(-(-sizes[-1] // self.BRANCHES))
        # Each level as its nodes in groups [groups, BRANCHES]: root group first.
        self.levels = [torch.zeros(size, self.BRANCHES, dtype=torch.float64, device=device) for size in reversed(sizes)]
        self._zero = torch.zeros((), dtype=torch.float64, device=device)

    @property
    def leaves(self) -> Tensor:
        """The numbers, padded with zeros."""
        return self.levels[-1].view(-1)

    @property
    def total(self) -> Tensor:
        """Their sum, []."""
        return self.levels[0].sum()

    @property
    def nbytes(self) -> int:
        """Bytes of all levels."""
        return sum(level.nbytes for level in self.levels)

    def set(self, index: Tensor, value: Tensor) -> None:
        """Sets the numbers at index [M] to value [M] or []; of equal indices one wins."""
        self.leaves[index] = value.double()
        for parents, children in zip(self.levels[-2::-1], self.levels[:0:-1], strict=True):
            index = index // self.BRANCHES
            parents.view(-1)[index] = children[index].sum(1)

    def load(self, levels: list[Tensor], alive: Tensor) -> None:
        """Puts back all levels: sums that are added anew, in another order, might round otherwise.

        Raises:
            ValueError: they are no sums, or the numbers above 0 are not those at index ``alive`` [M].
        """
        leaves = levels[-1].view(-1)
        is_sum = all(
            torch.allclose(parents.view(-1)[: len(children)], children.sum(1), rtol=1e-9, atol=0)
            and not parents.view(-1)[len(children) :].any()  # beyond its children there is nothing to be found
            for parents, children in itertools.pairwise(levels)
        )
        is_alive = torch.zeros(len(leaves), dtype=torch.bool).index_fill_(0, alive.cpu(), True)
        if not is_sum or not leaves.isfinite().all() or not torch.equal(leaves.cpu() > 0, is_alive):
            raise ValueError("the priorities are not those of the rows that may be drawn")
        for own, level in zip(self.levels, levels, strict=True):
            own.copy_(level)

    def find(self, prefix: Tensor) -> Tensor:
        """Index [B] of the number in which the prefix sum [B] lies, in [0, total); never of a 0, however it is rounded.

        If all numbers are 0, the answer is an index all the same.
        """
        group = torch.zeros(prefix.shape, dtype=torch.int64, device=prefix.device)
        left = prefix.double()
        for level in self.levels:
            sums = level[group].cumsum(1)  # [B, BRANCHES]
            # Rounding may push what is left to the end of the group, or past it.
            left = left.minimum(sums[:, -1].nextafter(self._zero))
            child = torch.searchsorted(sums, left[:, None], right=True).clamp_(max=self.BRANCHES - 1)  # [B, 1]
            left = left - torch.where(child > 0, sums.gather(1, (child - 1).clamp_(min=0)), 0.0)[:, 0]
            group = group * self.BRANCHES + child[:, 0]
        return group

"""Which rows of the replay are drawn: uniformly, or in proportion to a priority."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from pixelq.agents.experience.sum_tree import SumTree
from pixelq.agents.storage.validation import fitting, restore_generator


class Sampler(Protocol):
    """What the replay asks of a sampler; rows are int64 indices into the ring."""

    generator: torch.Generator

    def extend(self, rows: Tensor) -> None:
        """These rows may be drawn from now on; they come in the order of writing."""

    def drop(self, count: int) -> None:
        """The ``count`` oldest rows may be drawn no longer."""

    def __len__(self) -> int:
        """How many rows may be drawn."""

    def sample(self, batch_size: int) -> tuple[Tensor, Tensor | None]:
        """Rows int64 [B], and importance weights float32 [B]; None where all are 1."""

    def update(self, rows: Tensor, priority: Tensor) -> None:
        """Sets the priorities [B] of rows [B] that were drawn."""

    def state(self) -> dict[str, Tensor]:
        """What ``load_state`` needs beside the rows that may be drawn, to go on with the same draws."""

    def load_state(self, rows: Tensor, state: dict[str, Tensor]) -> None:
        """Puts back ``state``, with the rows [M] that may be drawn in the order of writing.

        Raises:
            ValueError: it is not the state of such a sampler.
        """

    @property
    def nbytes(self) -> int:
        """Bytes of its bookkeeping."""


class UniformSampler:
    """Every row with the same probability, with replacement.

    The rows stand in a queue in the order of writing, so that drawing needs no rejection.

    Args:
        rows: rows of the ring.
        generator: of the draws; its device is the sampler's.
    """

    def __init__(self, rows: int, generator: torch.Generator) -> None:
        self.generator = generator
        self.queue = torch.zeros(rows, dtype=torch.int32, device=generator.device)
        self.first = self.last = 0  # places in the queue, counted from the beginning: [first, last)
        # The same on the device: a captured update reads them where they are, and would keep numbers as they were.
        self._range = torch.zeros(2, dtype=torch.int64, device=generator.device)

    def extend(self, rows: Tensor) -> None:
        """See ``Sampler``."""
        places = torch.arange(self.last, self.last + len(rows), device=self.queue.device) % len(self.queue)
        self.queue[places] = rows.to(torch.int32)
        self.last += len(rows)
        self._range[1] = self.last

    def oldest(self, count: int) -> Tensor:
        """The ``count`` oldest rows, int64."""
        places = torch.arange(self.first, self.first + count, device=self.queue.device) % len(self.queue)
        return self.queue[places].long()

    def drop(self, count: int) -> None:
        """See ``Sampler``."""
        self.first += count
        self._range[0] = self.first

    def __len__(self) -> int:
        """How many rows may be drawn."""
        return self.last - self.first

    @property
    def count(self) -> Tensor:
        """How many rows may be drawn, int64 [] on the device."""
        return self._range[1] - self._range[0]

    def sample(self, batch_size: int) -> tuple[Tensor, None]:
        """Rows int64 [B]; no weights."""
        # In 53 bits, so that no row of a ring of any size is likelier than another by more than a part in 10⁹.
        draw = torch.rand(batch_size, dtype=torch.float64, generator=self.generator, device=self.queue.device)
        place = self._range[0] + (draw * self.count).long()
        return self.queue[place % len(self.queue)].long(), None

    def update(self, rows: Tensor, priority: Tensor) -> None:
        """Does nothing: all rows are alike."""

    def state(self) -> dict[str, Tensor]:
        """See ``Sampler``."""
        return {"first": self._range[:1].cpu(), "generator": self.generator.get_state()}

    def load_state(self, rows: Tensor, state: dict[str, Tensor]) -> None:
        """See ``Sampler``."""
        first = int(fitting(state, "first", torch.zeros(1, dtype=torch.int64)))
        if len(rows) > len(self.queue) or not 0 <= first <= 2**62:
            raise ValueError(f"{len(rows)} rows from {first:,} on are not those of a queue of {len(self.queue)}")
        self.first = self.last = first
        self.extend(rows)
        self._range[0] = first
        restore_generator(self.generator, state, "generator")

    @property
    def nbytes(self) -> int:
        """Bytes of the queue."""
        return self.queue.nbytes


class PrioritizedSampler:
    """Rows in proportion to their priority to the power α (Schaul et al. 2016, section 3.3, proportional variant).

    P(i) = (1 − u) pᵢ^α / Σ p^α + u / M, drawn in B strata of equal probability; weights (M P(i))^−β over the batch's
    maximum. A new row has the greatest priority that was ever given.

    Args:
        rows: rows of the ring.
        generator: of the draws; its device is the sampler's.
        alpha: exponent of the priorities.
        beta: exponent of the weights; fill the tensor of that name to anneal it.
        epsilon: added to every priority.
        uniform: u, share of uniform draws (DQN Zoo has 0.001).
    """

    def __init__(
        self,
        rows: int,
        generator: torch.Generator,
        *,
        alpha: float = 0.5,
        beta: float = 0.4,
        epsilon: float = 1e-6,
        uniform: float = 0.0,
    ) -> None:
        self.generator, self.device = generator, generator.device
        self.alpha, self.epsilon, self.uniform = alpha, epsilon, uniform
        self.beta = torch.tensor(beta, dtype=torch.float64, device=self.device)
        self.everything = UniformSampler(rows, generator)
        self.tree = SumTree(rows, self.device)
        self.max_priority = torch.ones((), dtype=torch.float64, device=self.device)

    def extend(self, rows: Tensor) -> None:
        """See ``Sampler``; the rows take the greatest priority."""
        self.everything.extend(rows)
        self.tree.set(rows, self._power(self.max_priority))

    def drop(self, count: int) -> None:
        """See ``Sampler``."""
        self.tree.set(self.everything.oldest(count), torch.zeros((), device=self.device))
        self.everything.drop(count)

    def __len__(self) -> int:
        """How many rows may be drawn."""
        return len(self.everything)

    def sample(self, batch_size: int) -> tuple[Tensor, Tensor]:
        """Rows int64 [B], and importance weights float32 [B]."""
        total = self.tree.total
        strata = torch.arange(batch_size, dtype=torch.float64, device=self.device)
        draw = torch.rand(batch_size, dtype=torch.float64, generator=self.generator, device=self.device)
        rows = self.tree.find((strata + draw) * (total / batch_size))
        if self.uniform > 0:
            coin = torch.rand(batch_size, generator=self.generator, device=self.device)
            rows = torch.where(coin < self.uniform, self.everything.sample(batch_size)[0], rows)
        share = self.tree.leaves[rows]  # P(i), but for a factor that the weights lose anyway
        if self.uniform > 0:
            share = (1 - self.uniform) * share / total + self.uniform / self.everything.count
        return rows, ((share.min() / share) ** self.beta).float()

    def update(self, rows: Tensor, priority: Tensor) -> None:
        """See ``Sampler``; a row that was overwritten or dropped since it was drawn is left out."""
        # Not a number would poison the sums for good; the loop reports the loss that it came from.
        priority = priority.double().nan_to_num(nan=0.0, posinf=0.0)
        self.max_priority.copy_(self.max_priority.maximum(priority.max()))  # in place: a captured update reads it
        alive = self.tree.leaves[rows] > 0
        self.tree.set(rows, torch.where(alive, self._power(priority), 0.0))

    def state(self) -> dict[str, Tensor]:
        """See ``Sampler``."""
        levels = {f"level.{i}": level.cpu() for i, level in enumerate(self.tree.levels)}
        return self.everything.state() | levels | {"max_priority": self.max_priority.cpu()}

    def load_state(self, rows: Tensor, state: dict[str, Tensor]) -> None:
        """See ``Sampler``."""
        levels = [fitting(state, f"level.{i}", level) for i, level in enumerate(self.tree.levels)]
        max_priority = fitting(state, "max_priority", self.max_priority)
        if not 0 <= float(max_priority) < torch.inf:
            raise ValueError(f"max_priority is {float(max_priority)}")
        self.everything.load_state(rows, state)
        self.tree.load(levels, rows)
        self.max_priority.copy_(max_priority)

    def _power(self, priority: Tensor) -> Tensor:
        # Above 0 in any case: 0 marks the rows that may not be drawn.
        return ((priority + self.epsilon) ** self.alpha).clamp(min=1e-30)

    @property
    def nbytes(self) -> int:
        """Bytes of queue and tree."""
        return self.everything.nbytes + self.tree.nbytes

"""Samplers: which rows of the replay are drawn, uniformly or in proportion to a priority."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from pixelq.agents.experience.sum_tree import SumTree
from pixelq.agents.storage.validation import fitting, restore_generator

LEAST = 1e-30
"""Least priority to the power α; 0 marks rows that may not be drawn."""


class Sampler(Protocol):
    """Draws rows of the replay; rows are int64 indices into the ring."""

    generator: torch.Generator
    """Generator of the draws."""

    def extend(self, rows: Tensor) -> None:
        """Add rows, in the order of writing, to those that may be drawn."""

    def drop(self, count: int) -> None:
        """Remove the `count` oldest rows from those that may be drawn."""

    def withdraw(self, count: int) -> None:
        """Remove the `count` newest rows from those that may be drawn."""

    def __len__(self) -> int:
        """Return the number of rows that may be drawn."""

    def sample(self, batch_size: int) -> tuple[Tensor, Tensor | None]:
        """Draw rows int64 [B] with replacement, and their importance weights float32 [B]; None if all are 1."""

    def update(self, rows: Tensor, priority: Tensor) -> None:
        """Set the priorities [B] of rows [B] that were drawn."""

    def set_beta(self, beta: float) -> None:
        """Set the exponent of the importance weights."""

    def set_priorities(self, alpha: float, epsilon: float, uniform: float) -> None:
        """Set how priorities are turned into probabilities; see `PrioritizedSampler`."""

    def state(self) -> dict[str, Tensor]:
        """Return the state with which `load_state` continues the same draws, without the rows that may be drawn."""

    def load_state(self, rows: Tensor, state: dict[str, Tensor]) -> None:
        """Restore a state.

        Args:
            rows: Rows [M] that may be drawn, in the order of writing.
            state: State that `state` returned.

        Raises:
            ValueError: If it is not the state of such a sampler.
        """

    @property
    def nbytes(self) -> int:
        """Bytes of the bookkeeping."""


class UniformSampler:
    """Draws every row with the same probability.

    The rows stand in a queue in the order of writing, so that drawing needs no rejection.

    Args:
        rows: Number of rows in the ring.
        generator: Generator of the draws; its device is the sampler's.
    """

    def __init__(self, rows: int, generator: torch.Generator) -> None:
        self.generator = generator
        self.queue = torch.zeros(rows, dtype=torch.int32, device=generator.device)
        self.first = self.last = 0  # places in the queue, counted from the first ever: [first, last)
        # The same on the device, where a captured update reads them; it would not see Python numbers change.
        self._range = torch.zeros(2, dtype=torch.int64, device=generator.device)

    def extend(self, rows: Tensor) -> None:
        """See `Sampler`."""
        begin = self.last % len(self.queue)
        room = len(self.queue) - begin  # up to the queue's end
        self.queue[begin : begin + len(rows)] = rows[:room]
        if len(rows) > room:
            self.queue[: len(rows) - room] = rows[room:]
        self.last += len(rows)
        self._note(1, self.last)

    def oldest(self, count: int) -> Tensor:
        """Return the `count` oldest rows, int64."""
        places = torch.arange(self.first, self.first + count, device=self.queue.device) % len(self.queue)
        return self.queue[places].long()

    def drop(self, count: int) -> None:
        """See `Sampler`."""
        self.first += count
        self._note(0, self.first)

    def newest(self, count: int) -> Tensor:
        """Return the `count` newest rows, int64."""
        places = torch.arange(self.last - count, self.last, device=self.queue.device) % len(self.queue)
        return self.queue[places].long()

    def withdraw(self, count: int) -> None:
        """See `Sampler`."""
        self.last -= count
        self._note(1, self.last)

    def _note(self, end: int, place: int) -> None:
        """Write one end of the range to the device; without a GPU as NumPy does, in a tenth of the time."""
        if self._range.device.type == "cpu":
            self._range.numpy()[end] = place
        else:
            self._range[end] = place

    def __len__(self) -> int:
        """Return the number of rows that may be drawn."""
        return self.last - self.first

    @property
    def count(self) -> Tensor:
        """Number of rows that may be drawn, int64 [] on the device."""
        return self._range[1] - self._range[0]

    def sample(self, batch_size: int) -> tuple[Tensor, None]:
        """See `Sampler`; there are no weights."""
        # 53 random bits, so that even in a large ring no row is more likely than another by more than a part in 10⁹.
        draw = torch.rand(batch_size, dtype=torch.float64, generator=self.generator, device=self.queue.device)
        place = self._range[0] + (draw * self.count).long()
        return self.queue[place % len(self.queue)].long(), None

    def update(self, rows: Tensor, priority: Tensor) -> None:
        """Do nothing: all rows have the same priority."""

    def set_beta(self, beta: float) -> None:
        """Do nothing: all weights are 1."""

    def set_priorities(self, alpha: float, epsilon: float, uniform: float) -> None:
        """Do nothing: all rows have the same priority."""

    def state(self) -> dict[str, Tensor]:
        """See `Sampler`."""
        return {"first": self._range[:1].cpu(), "generator": self.generator.get_state()}

    def load_state(self, rows: Tensor, state: dict[str, Tensor]) -> None:
        """See `Sampler`."""
        first = int(fitting(state, "first", torch.zeros(1, dtype=torch.int64)))
        if len(rows) > len(self.queue) or not 0 <= first <= 2**62:
            raise ValueError(f"a queue of {len(self.queue)} cannot hold {len(rows)} rows from {first:,} on")
        self.first = self.last = first
        self.extend(rows)
        self._note(0, first)
        restore_generator(self.generator, state, "generator")

    @property
    def nbytes(self) -> int:
        """See `Sampler`."""
        return self.queue.nbytes


class PrioritizedSampler:
    """Draws rows in proportion to their priority to the power α (Schaul et al. 2016, section 3.3).

    This is the proportional variant. P(i) = (1 − u) pᵢ^α / Σ p^α + u / M, drawn in B strata of equal probability. The
    weights are (M P(i))^−β, divided by the greatest of the batch. A new row has the greatest priority that was ever
    set.

    Args:
        rows: Number of rows in the ring.
        generator: Generator of the draws; its device is the sampler's.
        alpha: Exponent of the priorities, α.
        beta: Exponent of the weights, β.
        epsilon: Constant added to every priority.
        uniform: Share of uniform draws, u (DQN Zoo has 0.001).
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
        self.uniform_sampler = UniformSampler(rows, generator)
        self.tree = SumTree(rows, self.device)
        self.max_priority = torch.ones((), dtype=torch.float64, device=self.device)
        self.least: Callable[[Tensor], Tensor] | None = None  # the minimum over several learners

    def extend(self, rows: Tensor) -> None:
        """See `Sampler`; the rows take the greatest priority."""
        self.uniform_sampler.extend(rows)
        self.tree.set(rows, self._power(self.max_priority))

    def drop(self, count: int) -> None:
        """See `Sampler`."""
        self.tree.set(self.uniform_sampler.oldest(count), torch.zeros((), device=self.device))
        self.uniform_sampler.drop(count)

    def withdraw(self, count: int) -> None:
        """See `Sampler`; the rows lose their priorities."""
        self.tree.set(self.uniform_sampler.newest(count), torch.zeros((), device=self.device))
        self.uniform_sampler.withdraw(count)

    def __len__(self) -> int:
        """Return the number of rows that may be drawn."""
        return len(self.uniform_sampler)

    def sample(self, batch_size: int) -> tuple[Tensor, Tensor]:
        """See `Sampler`."""
        total = self.tree.total
        strata = torch.arange(batch_size, dtype=torch.float64, device=self.device)
        draw = torch.rand(batch_size, dtype=torch.float64, generator=self.generator, device=self.device)
        rows = self.tree.find((strata + draw) * (total / batch_size))
        if self.uniform > 0:
            coin = torch.rand(batch_size, generator=self.generator, device=self.device)
            rows = torch.where(coin < self.uniform, self.uniform_sampler.sample(batch_size)[0], rows)
        share = self.tree.leaves[rows]  # P(i) but for a factor, which cancels in the weights
        if self.uniform > 0:
            share = (1 - self.uniform) * share / total + self.uniform / self.uniform_sampler.count
        least = share.min()
        if self.least is not None:  # each of them draws as many rows, from a total of its own
            of_total = 1.0 if self.uniform > 0 else total
            least = self.least(least / of_total) * of_total
        return rows, ((least / share) ** self.beta).float()

    def update(self, rows: Tensor, priority: Tensor) -> None:
        """See `Sampler`; rows that were overwritten or dropped since they were drawn are left out."""
        # A NaN would make all sums NaN forever; the training loop reports the loss that it came from.
        priority = priority.double().nan_to_num(nan=0.0, posinf=0.0)
        self.max_priority.copy_(self.max_priority.maximum(priority.max()))  # in place: a captured update reads it
        alive = self.tree.leaves[rows] > 0
        self.tree.set(rows, torch.where(alive, self._power(priority), 0.0))

    def set_beta(self, beta: float) -> None:
        """See `Sampler`."""
        self.beta.fill_(beta)  # in place: a captured update reads it

    def set_priorities(self, alpha: float, epsilon: float, uniform: float) -> None:
        """See `Sampler`.

        The priorities so far are kept, as (p + ε)^α with the new α and the ε with which they were set. Those that α = 0
        has made equal stay so.
        """
        if alpha != self.alpha:
            rows = (self.tree.leaves > 0).nonzero().flatten()
            exponent = alpha / self.alpha if self.alpha > 0 else 1.0
            self.tree.set(rows, (self.tree.leaves[rows] ** exponent).clamp(min=LEAST))
        self.alpha, self.epsilon, self.uniform = alpha, epsilon, uniform

    def state(self) -> dict[str, Tensor]:
        """See `Sampler`."""
        levels = {f"level.{i}": level.cpu() for i, level in enumerate(self.tree.levels)}
        return self.uniform_sampler.state() | levels | {"max_priority": self.max_priority.cpu()}

    def load_state(self, rows: Tensor, state: dict[str, Tensor]) -> None:
        """See `Sampler`."""
        levels = [fitting(state, f"level.{i}", level) for i, level in enumerate(self.tree.levels)]
        max_priority = fitting(state, "max_priority", self.max_priority)
        if not 0 <= float(max_priority) < torch.inf:
            raise ValueError(f"max_priority must be a finite number of at least 0, got {float(max_priority)}")
        self.uniform_sampler.load_state(rows, state)
        self.tree.load(levels, rows)
        self.max_priority.copy_(max_priority)

    def _power(self, priority: Tensor) -> Tensor:
        # Always above 0, which marks the rows that may not be drawn.
        return ((priority + self.epsilon) ** self.alpha).clamp(min=LEAST)

    @property
    def nbytes(self) -> int:
        """See `Sampler`."""
        return self.uniform_sampler.nbytes + self.tree.nbytes

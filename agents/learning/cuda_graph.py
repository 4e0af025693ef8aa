"""One update from the draw of its rows to its end, and the same captured as a CUDA graph, alone or with several."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pixelq.agents.errors import RunFailed
from pixelq.agents.experience.replay import Replay
from pixelq.agents.experience.rollout import Drawn, Rollout
from pixelq.agents.learning.gradient import GradientLearner, Gradients, Update
from pixelq.agents.learning.learner import Learner
from pixelq.agents.learning.rollout_learner import RolloutLearner

EAGER_UPDATES = 3
"""Calls before the capture, in which libraries choose their kernels and optimisers create their state."""
UPDATES_PER_GRAPH = 8
"""Updates from a replay that one graph holds, where as many are due at once."""


def update_from_replay(learner: Learner, replay: Replay) -> Update:
    """Draw a batch, learn from it, give its rows their new priorities, and move the target network with `target_tau`.

    A target network that is copied at its own period is not moved here.
    """
    batch = replay.sample(learner.config.batch_size)
    update = learner.update(batch)
    assert batch.row is not None
    replay.update_priorities(batch.row, update.priority)
    if learner.config.target_tau is not None:
        learner.soft_update_target(learner.config.target_tau)
    return update


def update_from_rollout(learner: RolloutLearner, rollout: Rollout, drawn: Drawn) -> Update:
    """Gather the minibatch of rows that were drawn, and learn from it."""
    return learner.update(rollout.gather(drawn))


def make_updates(learner: Learner, replay: Replay) -> Callable[[int], Iterator[Update]]:
    """Return a function that runs a number of updates from a replay, as fast as device and configuration allow.

    Each update is run when the iterator is asked for it, or `UPDATES_PER_GRAPH` of them when it is asked for the first;
    then all have the priorities of the last. What was captured is kept by the learner for as long as what it reads
    exists.
    """
    update = partial(update_from_replay, learner, replay)
    if not can_capture(learner):
        return lambda count: (update() for _ in range(count))
    if learner.captured is None or learner.captured[0] is not replay:
        learner.captured = replay, CapturedUpdates(learner, update, (learner.generator, replay.sampler.generator))
    updates: CapturedUpdates = learner.captured[1]
    return updates


def make_rollout_update(learner: RolloutLearner, rollout: Rollout) -> Callable[[Drawn], Update]:
    """Return `update_from_rollout` of these two; see `make_updates`."""
    if not can_capture(learner):
        return partial(update_from_rollout, learner, rollout)
    if learner.captured is None or learner.captured[0] is not rollout:

        def update(*fields: Tensor) -> Update:
            return update_from_rollout(learner, rollout, Drawn(*fields))

        learner.captured = rollout, CapturedUpdate(learner, update, (learner.generator,))
    captured: CapturedUpdate = learner.captured[1]
    return lambda drawn: captured(*(field for field in drawn if field is not None))


def can_capture(learner: GradientLearner) -> bool:
    """Return whether the learner's updates can be captured, and are to be.

    What own parts do cannot be known, and a graph would silently repeat the branches that its capture took. Sums over
    several learners are not captured.
    """
    if learner.device.type != "cuda" or learner.reduce is not None:
        return False
    return learner.config.cuda_graph and not learner.config.has_own_parts


class Side:
    """The stream on which a learner's graphs are captured, and the memory that they share.

    Sharing is safe, because nothing in it is read after the replay of another graph.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @cached_property
    def stream(self) -> torch.cuda.Stream:
        """The stream."""
        return torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]

    @cached_property
    def pool(self) -> Any:
        """The memory pool."""
        return torch.cuda.graph_pool_handle()

    def run(self, update: Callable[[], Update]) -> Update:
        """Run an ordinary update on the stream, so that autograd remembers no other one."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result = update()
        current.wait_stream(self.stream)
        return result


class CapturedUpdate:
    """An update that is launched as a whole: at batch 32, launching single kernels takes a GPU longer than computing.

    For inputs of each shape, the first `EAGER_UPDATES` calls are ordinary updates. Then the sequence of kernels is
    captured once, and replayed. What changes between updates (the rows that may be drawn, step size, β, weights) lies
    in tensors that are written in place; inputs are copied to such tensors. After `Learner.reset`, which creates new
    moments, a new capture is needed.

    Args:
        learner: The learner, on a GPU.
        update: The update to capture, a function of the inputs.
        generators: Generators of all random numbers that it draws, on the GPU.
        side: Where it is captured; shared by the captured updates of one learner.
    """

    def __init__(
        self,
        learner: GradientLearner,
        update: Callable[..., Update],
        generators: Sequence[torch.Generator],
        side: Side | None = None,
    ) -> None:
        self.learner, self.update, self.generators = learner, update, generators
        self.side = side or Side(learner.device)
        self.calls: Counter[tuple[torch.Size, ...]] = Counter()
        self.captures: dict[tuple[torch.Size, ...], Capture] = {}

    def __call__(self, *inputs: Tensor) -> Update:
        """Run one update. Its losses and mean values stay as they are; all else is overwritten by the next call.

        Raises:
            RunFailed: If the update cannot be captured.
        """
        shapes = tuple(tensor.shape for tensor in inputs)
        if shapes not in self.captures:
            self.calls[shapes] += 1
            if self.calls[shapes] <= EAGER_UPDATES:
                return self.side.run(partial(self.update, *inputs))
            self.captures[shapes] = self._capture(inputs)
        capture = self.captures[shapes]
        for kept, given in zip(capture.inputs, inputs, strict=True):
            kept.copy_(given)
        capture.graph.replay()
        self.learner.gradients = capture.gradients  # not those of another graph
        result = capture.result
        return result._replace(loss=result.loss.clone(), q_mean=result.q_mean.clone())

    def _capture(self, inputs: Sequence[Tensor]) -> Capture:
        graph, kept = torch.cuda.CUDAGraph(), tuple(tensor.clone() for tensor in inputs)
        try:
            # Generators keep their seeds, and the context of a graph waits, on whatever GPU is the current one.
            with torch.cuda.device(self.side.device), without_collection():
                for generator in self.generators:
                    graph.register_generator_state(generator)
                with torch.cuda.graph(graph, pool=self.side.pool, stream=self.side.stream):
                    result = self.update(*kept)
        except RuntimeError as error:
            advice = "set cuda_graph to False (--agent.no-cuda-graph)"
            raise RunFailed(f"the update could not be captured as a CUDA graph: {error}; {advice}") from error
        return Capture(graph, kept, result, self.learner.gradients)


@contextmanager
def without_collection() -> Iterator[None]:
    """Collect garbage before and not within: the end of another graph during a capture would invalidate it."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class Capture(NamedTuple):
    """A graph, and the tensors that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    result: Update
    gradients: Gradients | None


class CapturedUpdates:
    """Updates from a replay, one in a graph, or `UPDATES_PER_GRAPH` where so many are due at once.

    A graph of several draws, learns and writes priorities as often, one after the other, so the result is the same. It
    saves the time between two graphs, in which the GPU waits for the host.

    Args:
        learner, generators: See `CapturedUpdate`.
        update: One update.
    """

    def __init__(self, learner: Learner, update: Callable[[], Update], generators: Sequence[torch.Generator]) -> None:
        def several() -> Update:
            updates = [update() for _ in range(UPDATES_PER_GRAPH)]
            losses, means = (torch.stack(values) for values in zip(*((u.loss, u.q_mean) for u in updates), strict=True))
            return Update(losses, means, updates[-1].priority)

        side = Side(learner.device)
        self.one = CapturedUpdate(learner, update, generators, side)
        self.several = CapturedUpdate(learner, several, generators, side)

    def __call__(self, count: int) -> Iterator[Update]:
        """Run `count` updates; see `make_updates`."""
        for _ in range(count // UPDATES_PER_GRAPH):
            update = self.several()
            for loss, q_mean in zip(update.loss, update.q_mean, strict=True):
                yield Update(loss, q_mean, update.priority)
        for _ in range(count % UPDATES_PER_GRAPH):
            yield self.one()

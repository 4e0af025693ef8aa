"""One update from sampling to priorities, and the same captured as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from pixelq.agents.experience.replay import Replay
from pixelq.agents.learning.gradient import Update
from pixelq.agents.learning.learner import Learner

EAGER_UPDATES = 3
"""Updates before the capture, in which libraries choose their kernels and optimisers create their state."""


def update_from_replay(learner: Learner, replay: Replay) -> Update:
    """Draw a batch, learn from it, and give its rows their new priorities."""
    batch = replay.sample(learner.config.batch_size)
    update = learner.update(batch)
    assert batch.row is not None
    replay.update_priorities(batch.row, update.priority)
    return update


def make_update(learner: Learner, replay: Replay) -> Callable[[], Update]:
    """Return `update_from_replay` of these two, as fast as the device and the configuration allow.

    A captured update is kept by the learner for as long as what it has captured exists.
    """
    update = partial(update_from_replay, learner, replay)
    # What own parts do cannot be known, and a graph would silently repeat the branches that its capture took. Sums over
    # several learners are not captured.
    is_captured = learner.config.cuda_graph and not learner.config.has_own_parts and learner.reduce is None
    if learner.device.type != "cuda" or not is_captured:
        return update
    if learner.captured is not None and learner.captured[0] is replay:
        captured: CapturedUpdate = learner.captured[1]
        return captured
    captured = CapturedUpdate(update, (learner.generator, replay.sampler.generator), learner.device)
    learner.captured = replay, captured
    return captured


class CapturedUpdate:
    """An update that is launched as a whole: at batch 32, launching single kernels takes a GPU longer than computing.

    The first `EAGER_UPDATES` calls are ordinary updates. Then the sequence of kernels is captured once and replayed.
    What changes between updates (the rows that may be drawn, step size, β, weights) lies in tensors that are written in
    place. After `Learner.reset`, which creates new ones, a new capture is needed.

    Args:
        update: The update to capture.
        generators: Generators of all random numbers that it draws, on the GPU.
        device: The GPU.
    """

    def __init__(
        self, update: Callable[[], Update], generators: Sequence[torch.Generator], device: torch.device
    ) -> None:
        self.update, self.generators, self.device = update, generators, device
        self.calls = 0
        self.captured: tuple[torch.cuda.CUDAGraph, Update] | None = None  # the graph, and its outputs

    def __call__(self) -> Update:
        """Run one update. Its loss and mean value stay as they are; its priorities are overwritten by the next call."""
        self.calls += 1
        if self.calls <= EAGER_UPDATES:
            return self._on_separate_stream()
        if self.captured is None:
            self.captured = self._capture()
        graph, result = self.captured
        graph.replay()
        return result._replace(loss=result.loss.clone(), q_mean=result.q_mean.clone())

    def _on_separate_stream(self) -> Update:
        """Run an ordinary update on the stream of a capture, so that autograd remembers no other one."""
        current, stream = torch.cuda.current_stream(self.device), self._stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            update = self.update()
        current.wait_stream(stream)
        return update

    def _capture(self) -> tuple[torch.cuda.CUDAGraph, Update]:
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph, stream=self._stream()):
            return graph, self.update()

    def _stream(self) -> torch.cuda.Stream:
        return torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]

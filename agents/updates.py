"""One update from sampling to priorities, and the same captured as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable

import torch

from pixelq.agents.learner import Learner, Update
from pixelq.agents.replay import Replay

EAGER_UPDATES = 3
"""Updates before the capture: libraries choose their kernels and optimisers make their state in them."""


def update_from_replay(learner: Learner, replay: Replay) -> Update:
    """Draws a batch, learns from it and gives its rows their new priorities."""
    batch = replay.sample(learner.config.batch_size)
    update = learner.update(batch)
    replay.update_priorities(batch, update.priority)
    return update


def make_updater(learner: Learner, replay: Replay) -> Callable[[], Update]:
    """``update_from_replay`` of these two, as fast as the device and the configuration allow."""
    if learner.device.type == "cuda" and learner.config.cuda_graph:
        return CapturedUpdate(learner, replay)
    return lambda: update_from_replay(learner, replay)


class CapturedUpdate:
    """``update_from_replay``, launched as a whole: at batch 32 a GPU takes longer to be told than to compute.

    The first ``EAGER_UPDATES`` calls are ordinary updates; then the sequence of kernels is captured once and replayed.
    What changes between updates (the rows that may be drawn, step size, β, weights) lies in tensors that are written in
    place. After ``Learner.reset``, which makes new ones, a new capture is needed.

    Args:
        learner: on a GPU.
        replay: on the same one.
    """

    def __init__(self, learner: Learner, replay: Replay) -> None:
        self.learner, self.replay = learner, replay
        self.calls = 0
        self.captured: tuple[torch.cuda.CUDAGraph, Update] | None = None  # and what each replay of it writes anew

    def __call__(self) -> Update:
        """One update; what it returns stays as it is."""
        self.calls += 1
        if self.calls <= EAGER_UPDATES:
            return self._on_a_stream_of_its_own()
        if self.captured is None:
            self.captured = self._capture()
        graph, result = self.captured
        graph.replay()
        return Update(*(tensor.clone() for tensor in result))

    def _on_a_stream_of_its_own(self) -> Update:
        """An ordinary update where a capture would run, so that autograd remembers no other stream."""
        device = self.learner.device
        current, stream = torch.cuda.current_stream(device), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            update = update_from_replay(self.learner, self.replay)
        current.wait_stream(stream)
        return update

    def _capture(self) -> tuple[torch.cuda.CUDAGraph, Update]:
        graph = torch.cuda.CUDAGraph()
        for generator in (self.learner.generator, self.replay.sampler.generator):
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            return graph, update_from_replay(self.learner, self.replay)

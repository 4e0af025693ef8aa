"""One update from sampling to priorities, and the same captured as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from pixelq.agents.experience.replay import Replay
from pixelq.agents.learning.learner import Learner, Update

EAGER_UPDATES = 3
"""Updates before the capture: libraries choose their kernels and optimisers make their state in them."""


def update_from_replay(learner: Learner, replay: Replay) -> Update:
    """Draws a batch, learns from it and gives its rows their new priorities."""
    batch = replay.sample(learner.config.batch_size)
    update = learner.update(batch)
    replay.update_priorities(batch, update.priority)
    return update


def make_updater(learner: Learner, replay: Replay) -> Callable[[], Update]:
    """``update_from_replay`` of these two, as fast as the device and the configuration allow.

    A capture is kept by the learner, for as long as what it has captured is there.
    """
    if learner.device.type != "cuda" or not learner.config.cuda_graph:
        return lambda: update_from_replay(learner, replay)
    if learner.captured is not None and learner.captured[0] is replay:
        updater: CapturedUpdate = learner.captured[1]
        return updater
    generators = (learner.generator, replay.sampler.generator)
    updater = CapturedUpdate(lambda: update_from_replay(learner, replay), generators, learner.device)
    learner.captured = replay, updater
    return updater


class CapturedUpdate:
    """An update, launched as a whole: at batch 32 a GPU takes longer to be told than to compute.

    The first ``EAGER_UPDATES`` calls are ordinary updates; then the sequence of kernels is captured once and replayed.
    What changes between updates (the rows that may be drawn, step size, β, weights) lies in tensors that are written in
    place. After ``Learner.reset``, which makes new ones, a new capture is needed.

    Args:
        update: what to capture.
        generators: of all random numbers that it draws, on the GPU.
        device: the GPU.
    """

    def __init__(
        self, update: Callable[[], Update], generators: Sequence[torch.Generator], device: torch.device
    ) -> None:
        self.update, self.generators, self.device = update, generators, device
        self.calls = 0
        self.captured: tuple[torch.cuda.CUDAGraph, Update] | None = None  # and what each replay of it writes anew

    def __call__(self) -> Update:
        """One update. Loss and mean value stay as they are; the priorities are those of the last call."""
        self.calls += 1
        if self.calls <= EAGER_UPDATES:
            return self._on_a_stream_of_its_own()
        if self.captured is None:
            self.captured = self._capture()
        graph, result = self.captured
        graph.replay()
        return result._replace(loss=result.loss.clone(), q_mean=result.q_mean.clone())

    def _on_a_stream_of_its_own(self) -> Update:
        """An ordinary update where a capture would run, so that autograd remembers no other stream."""
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

"""How far a run is, for progress.json and the progress line."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from pixelq.agents.agent import Agent
from pixelq.agents.runs.progress import (
    EVALUATING,
    FAILED,
    FINISHED,
    STOPPED,
    TRAINING,
    Progress,
    ProgressFile,
)
from pixelq.agents.training.interval import Episodes
from pixelq.agents.training.progress_line import ProgressLine

SPANS = 15
"""Number of the latest spans between two writes from which the speed is computed: half a minute."""


class Stopwatch:
    """Wall-clock seconds of a run, over all the times that it was resumed.

    Attributes:
        before: Seconds of the run before this training.
    """

    def __init__(self) -> None:
        self.before = 0.0
        self.start()

    def start(self) -> None:
        """Start at `before`."""
        self._begun = time.monotonic() - self.before

    @property
    def seconds(self) -> float:
        """Seconds of the run so far."""
        return time.monotonic() - self._begun


class ProgressReporter:
    """Tells a file, and whoever reads the plain lines, how far a run is.

    Args:
        file: The file.
        agent: The agent that is trained.
        episodes: The episodes under way.
        stopwatch: Time of the run.
        last_step: Agent step at which the run ends.
        evaluate_every: Steps between evaluations.
        frames_per_step: Emulator frames in an agent step.
        received: Signals that ask the run to stop.
        line: Progress line, whose plain lines say the same.
    """

    def __init__(
        self,
        file: ProgressFile,
        agent: Agent,
        episodes: Episodes,
        stopwatch: Stopwatch,
        *,
        last_step: int,
        evaluate_every: int,
        frames_per_step: int,
        received: list[int],
        line: ProgressLine,
    ) -> None:
        self.file, self.agent, self.episodes, self.stopwatch = file, agent, episodes, stopwatch
        self.last_step, self.evaluate_every, self.frames_per_step = last_step, evaluate_every, frames_per_step
        self.received, self.line = received, line
        self.phase = TRAINING
        self.evaluation_seconds = 0.0  # of the last evaluation
        self.spans: deque[tuple[float, int]] = deque(maxlen=SPANS)  # seconds and steps of training
        self.start()

    def start(self) -> None:
        """Begin to measure the speed: what opening and restoring a run took is no training."""
        self._begin_span()

    def tick(self) -> None:
        """Write the file and print a line if they are due; called at every step of the loop."""
        if self.file.is_due or self.line.is_due:
            self._end_span()
            self._tell()

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Report an evaluation while the context lasts."""
        begun = time.monotonic()
        self._end_span()
        self.phase = EVALUATING
        self._write()
        try:
            yield
        finally:
            self.phase = TRAINING
            self._begin_span()
            self.evaluation_seconds = time.monotonic() - begun

    def stops_evaluation(self) -> bool:
        """Report what is due, and return whether a signal asks to stop; called at every evaluation step."""
        if self.file.is_due or self.line.is_due:
            self._tell()
        return bool(self.received)

    def end(self) -> None:
        """Report that the run is finished, or that a signal stopped it."""
        self._end_span()
        self.phase = STOPPED if self.received else FINISHED
        self._write()
        if self.phase == FINISHED:
            self.line.end(self.progress())

    def close(self) -> None:
        """Report that the run failed, unless `end` was called or a second signal cut it short."""
        if self.phase in (TRAINING, EVALUATING):
            self.phase = STOPPED if self.received else FAILED
            self._write()

    def progress(self) -> Progress:
        """Return how far the run is."""
        agent = self.agent
        # Speed and time left
        seconds, steps = (sum(column) for column in zip((0.0, 0), *self.spans, strict=True))
        speed = steps / seconds if steps and seconds else None
        every, last = self.evaluate_every, self.last_step  # at each multiple of the period, and at the last step
        evaluations = -(-last // every) - agent.step // every if agent.step < last else 0
        steps_left = max(0, self.last_step - agent.step)  # several environments may go a few steps beyond the last
        left = None if speed is None else steps_left / speed + evaluations * self.evaluation_seconds
        return Progress(
            phase=self.phase,
            written=time.time(),
            step=agent.step,
            steps=self.last_step,
            frames=agent.step * self.frames_per_step,
            episodes=agent.episodes,
            updates=agent.updates,
            epsilon=float(agent.epsilons_of_all(len(self.episodes.done)).mean()),
            steps_per_second=speed,
            seconds_left=left,
            wall_seconds=self.stopwatch.seconds,
            returns=tuple(x if math.isfinite(x) else None for x in self.episodes.returns.tolist()),
            lengths=tuple(self.episodes.lengths.tolist()),
        )

    def _begin_span(self) -> None:
        self._span_begun, self._span_step = time.monotonic(), self.agent.step

    def _end_span(self) -> None:
        now, step = time.monotonic(), self.agent.step
        if step > self._span_step:
            self.spans.append((now - self._span_begun, step - self._span_step))
        self._begin_span()

    def _tell(self) -> None:
        """Write the file and print a line, each if it is due."""
        if self.file.is_due:
            self._write()
        if self.line.is_due:
            self.line.report(self.progress())

    def _write(self) -> None:
        if self.file.path is not None:
            self.file.write(self.progress())

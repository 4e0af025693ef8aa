"""progress.json of a run's folder: how far the run has come, for whoever watches it from another process."""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixelq.agents.storage.files import read_regular, replace_file

if TYPE_CHECKING:
    from pixelq.agents.training.loop import Loop

PROGRESS = "progress.json"
EVERY = 2.0
"""Seconds between writings, at least."""
SPANS = 15
"""Times between writings over which the speed is a mean: half a minute."""
MOST_BYTES = 2**20
TRAINING, EVALUATING, FINISHED, STOPPED, FAILED = "training", "evaluating", "finished", "stopped", "failed"
PHASES = (TRAINING, EVALUATING, FINISHED, STOPPED, FAILED)
"""What a run does; it is finished when its last step is done, stopped by a signal, failed by an error."""


@dataclass(frozen=True)
class Progress:
    """How far a run has come; counts are of the whole run, also over what was resumed."""

    phase: str
    """One of ``PHASES``."""
    written: float
    """When this was so, in seconds since 1970."""
    step: int
    """Agent steps."""
    steps: int
    """Agent steps at the run's end."""
    frames: int
    """Frames of the emulator."""
    episodes: int
    """Training episodes that ended."""
    updates: int
    """Updates of the network."""
    epsilon: float
    """Probability of a random action."""
    steps_per_second: float | None
    """Agent steps a second while training, over the last half minute; None before it is known."""
    seconds_left: float | None
    """Until the last step, with the evaluations until then; None before the speed is known."""
    wall_seconds: float
    """Of the run so far."""
    returns: tuple[float | None, ...]
    """[N], raw return so far of each environment's episode; None where it is no finite number."""
    lengths: tuple[int, ...]
    """[N], steps so far."""


class ProgressFile:
    """Writes progress.json every two seconds, and gives up quietly where it cannot.

    Args:
        loop: whose progress it is; without a folder nothing is written.
    """

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        out = loop.options.out
        self.path = None if out is None else out / PROGRESS
        self.phase = TRAINING
        self.evaluation_seconds = 0.0  # of the last evaluation
        self.spans: deque[tuple[float, int]] = deque(maxlen=SPANS)  # seconds and steps of training
        self.begun, self.begun_step = time.monotonic(), loop.agent.step  # of the present span
        self.due = math.inf if self.path is None else 0.0

    def tick(self) -> None:
        """Writes the file if it is due; called at every step of the loop."""
        if time.monotonic() >= self.due:
            self._end_span()
            self._write()

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Around an evaluation."""
        begun = time.monotonic()
        self._end_span()
        self.phase = EVALUATING
        self._write()
        try:
            yield
        finally:
            self.phase = TRAINING
            self.begun = time.monotonic()
            self.evaluation_seconds = self.begun - begun

    def stops_evaluation(self) -> bool:
        """As ``tick``, at every step of an evaluation; whether a signal asks it to stop."""
        if time.monotonic() >= self.due:
            self._write()
        return bool(self.loop.received)

    def end(self) -> None:
        """Writes that the run is finished, or that a signal stopped it."""
        self._end_span()
        self.phase = STOPPED if self.loop.received else FINISHED
        self._write()

    def close(self) -> None:
        """Writes that the run failed, unless ``end`` was called or a second signal cut it short."""
        if self.phase in (TRAINING, EVALUATING):
            self.phase = STOPPED if self.loop.received else FAILED
            self._write()

    def progress(self) -> Progress:
        """What the file says now."""
        loop, agent, now = self.loop, self.loop.agent, time.monotonic()
        seconds, steps = (sum(column) for column in zip((0.0, 0), *self.spans, strict=True))
        speed = steps / seconds if steps and seconds else None
        evaluations = math.ceil((loop.last_step - agent.step) / loop.options.evaluate_every)
        left = None if speed is None else (loop.last_step - agent.step) / speed + evaluations * self.evaluation_seconds
        return Progress(
            phase=self.phase,
            written=time.time(),
            step=agent.step,
            steps=loop.last_step,
            frames=agent.step * loop.frames_per_step,
            episodes=agent.episodes,
            updates=agent.updates,
            epsilon=float(agent.epsilons(loop.envs.num_envs).mean()),
            steps_per_second=speed,
            seconds_left=left,
            wall_seconds=now - loop.wall_start,
            returns=tuple(x if math.isfinite(x) else None for x in loop.interval.running_return.tolist()),
            lengths=tuple(loop.interval.running_length.tolist()),
        )

    def _end_span(self) -> None:
        now, step = time.monotonic(), self.loop.agent.step
        if step > self.begun_step:
            self.spans.append((now - self.begun, step - self.begun_step))
        self.begun, self.begun_step = now, step

    def _write(self) -> None:
        self.due = time.monotonic() + EVERY
        if self.path is not None:
            with suppress(OSError):  # no run ends for want of being watched; what it needs has errors of its own
                replace_file(self.path, json.dumps(asdict(self.progress())).encode(), synced=False)


def read_progress(run: Path) -> Progress | None:
    """What progress.json of a run's folder says; None where there is none, or it is damaged."""
    try:
        values = json.loads(read_regular(run / PROGRESS, MOST_BYTES), parse_constant=_refuse)
    except (OSError, ValueError, RecursionError):
        return None
    return _checked(values)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _checked(values: Any) -> Progress | None:
    """The values as a progress, or None where one is missing or of another kind; what is not known is left out."""
    names = Progress.__dataclass_fields__
    if not isinstance(values, dict) or not names.keys() <= values.keys():
        return None
    known = {name: values[name] for name in names}
    lists = [known.pop("returns"), known.pop("lengths")]
    if not all(isinstance(values, list) for values in lists) or len(lists[0]) != len(lists[1]):
        return None
    counts = ("step", "steps", "frames", "episodes", "updates")
    optional = ("steps_per_second", "seconds_left")
    fits = (
        known.pop("phase") in PHASES
        and all(_is_count(known.pop(name)) for name in counts)
        and all(known[name] is None or _is_number(known[name]) for name in optional)
        and all(_is_number(value) for name, value in known.items() if name not in optional)
        and all(value is None or _is_number(value) for value in lists[0])
        and all(_is_count(value) for value in lists[1])
    )
    if not fits:
        return None
    return Progress(**{name: values[name] for name in names} | {"returns": tuple(lists[0]), "lengths": tuple(lists[1])})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and _is_number(value) and value >= 0

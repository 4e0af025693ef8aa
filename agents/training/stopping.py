"""Callbacks that stop a training: at a score, after a time, or without progress."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

from pixelq.agents.config.integers import checked_integer, plain
from pixelq.agents.errors import InvalidConfig
from pixelq.agents.evaluation.evaluate import Evaluation
from pixelq.agents.training.callbacks import Callback, Training
from pixelq.agents.training.interval import RECENT


@dataclass
class StopAtScore(Callback):
    """Stops a training that has reached a score.

    Args:
        score: The score, a mean return.
        of: `evaluation` for the mean of an evaluation; `training` for that of the last 100 training episodes, which is
            read at every row of metrics once this training has had 100.

    Raises:
        InvalidConfig: If an argument is out of range.
    """

    score: float
    of: str = "evaluation"

    def __post_init__(self) -> None:
        _check_number("score", self.score, -math.inf)
        if self.of not in ("evaluation", "training"):
            raise InvalidConfig(f"of must be 'evaluation' or 'training', got {self.of!r:.80}")
        self._before: int | None = None  # episodes of the agent before the training

    def on_training_start(self, training: Training) -> None:
        """Check that there is something to read the score from."""
        if self.of == "evaluation":
            _check_evaluations(training, "StopAtScore", "or of='training' for the mean of training episodes")
        if self._before is None:
            self._before = training.agent.episodes

    def on_evaluation(self, training: Training, evaluation: Evaluation) -> None:
        """Stop if the evaluation reached the score."""
        if self.of == "evaluation" and evaluation.mean >= self.score:
            training.stop(f"an evaluation reached {evaluation.mean:g}")

    def on_metrics(self, training: Training, row: dict[str, Any]) -> None:
        """Stop if the training episodes reached the score."""
        mean = row["return_mean_100"]
        assert self._before is not None
        has_all = row["episodes"] - self._before >= RECENT  # for a loaded agent, the mean is over fewer at first
        if self.of == "training" and has_all and mean is not None and mean >= self.score:
            training.stop(f"the last {RECENT} training episodes reached {mean:g}")

    def on_training_end(self, training: Training) -> None:
        """Forget the training, since the next one may be another agent's."""
        self._before = None

    def state(self) -> dict[str, Any]:
        """Return the number of episodes of the agent before the training."""
        return {"before": self._before}

    def load_state(self, values: dict[str, Any]) -> None:
        """Restore what `state` returned; older runs have nothing."""
        self._before = values.get("before", 0)


@dataclass
class StopAfter(Callback):
    """Stops a training after a time, evaluations included, which begins anew when the run is resumed.

    Args:
        hours, minutes, seconds: The time, their sum.

    Raises:
        InvalidConfig: If the time is not positive.
    """

    hours: float = 0.0
    minutes: float = 0.0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        for name in ("hours", "minutes", "seconds"):
            _check_number(name, getattr(self, name), 0.0)
        self._limit = 3600 * self.hours + 60 * self.minutes + self.seconds
        if self._limit <= 0:
            raise InvalidConfig("the time must be positive; give hours, minutes or seconds")

    def on_training_start(self, training: Training) -> None:
        """Start the clock."""
        self._end = time.monotonic() + self._limit

    def on_step(self, training: Training) -> None:
        """Stop if the time is over."""
        if time.monotonic() >= self._end:
            training.stop(f"{self._limit:g} seconds are over")

    def state(self) -> dict[str, Any]:
        """Return nothing: the time begins anew."""
        return {}


@dataclass
class StopWithoutProgress(Callback):
    """Stops a training whose best evaluation is no longer surpassed.

    Args:
        evaluations: Number of evaluations, one after another, that may stay at or below the best one before them.
        after: Agent step before which evaluations do not count.

    Raises:
        InvalidConfig: If an argument is out of range.
    """

    evaluations: int = 10
    after: int = 0

    def __post_init__(self) -> None:
        self.evaluations = checked_integer("evaluations", self.evaluations, 1)
        self.after = checked_integer("after", self.after, 0)
        self._best: float | None = None
        self._since = 0  # evaluations after the best one

    def on_training_start(self, training: Training) -> None:
        """Check that there are evaluations."""
        _check_evaluations(training, "StopWithoutProgress")

    def on_evaluation(self, training: Training, evaluation: Evaluation) -> None:
        """Stop if this is one evaluation too many without progress."""
        if training.step < self.after:
            return
        if self._best is None or evaluation.mean > self._best:
            self._best, self._since = evaluation.mean, 0
            return
        self._since += 1
        if self._since >= self.evaluations:
            training.stop(f"{self._since} evaluations did not surpass {self._best:g}")

    def state(self) -> dict[str, Any]:
        """Return the best mean, and the number of evaluations since."""
        return {"best": self._best, "since": self._since}

    def load_state(self, values: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self._best, self._since = values["best"], values["since"]


def _check_number(name: str, value: object, least: float) -> None:
    """Check that a value is a finite number that is not too small.

    Raises:
        InvalidConfig: If it is not.
    """
    value = plain(value)
    try:
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        is_number = False
    if not is_number or value < least:  # type: ignore[operator]
        raise InvalidConfig(f"{name} must be a number{' of at least 0' if least == 0 else ''}, got {value!r:.80}")


def _check_evaluations(training: Training, name: str, otherwise: str = "") -> None:
    """Check that a training has evaluations.

    Raises:
        InvalidConfig: If it has none.
    """
    if training.options.evaluation_envs is None:
        raise InvalidConfig(f"{name} needs evaluations; give learn `evaluation_envs`{otherwise and f', {otherwise}'}")

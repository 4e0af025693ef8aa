"""What a row of metrics is about: episodes, updates and time since the row before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelq.agents.storage.validation import count, fitting, number

State = tuple[dict[str, Any], dict[str, Tensor]]
"""JSON values and arrays that a checkpoint holds of a part of the loop."""


RECENT = 100
"""Number of the last episodes whose mean is reported too: an interval without an episode's end has no mean."""


class Episode(NamedTuple):
    """A training episode that has ended."""

    total: float
    """Raw return."""
    length: int
    """Agent steps."""


class Episodes:
    """The episodes under way in N environments.

    Args:
        num_envs: Number of environments, N.

    Attributes:
        done: bool [N], whether the last step ended the episode; the next step only resets the environment.
        returns: [N], raw return so far.
        lengths: int64 [N], agent steps so far.
    """

    def __init__(self, num_envs: int) -> None:
        self.done: NDArray[np.bool_] = np.zeros(num_envs, dtype=bool)
        self.returns, self.lengths = np.zeros(num_envs), np.zeros(num_envs, dtype=np.int64)

    def step(self, reward: NDArray[Any], done: NDArray[np.bool_]) -> list[Episode]:
        """Count a step with rewards and ends [N], and return the episodes that it ended."""
        self.returns += reward
        self.lengths += ~self.done
        ended = []
        for i in np.flatnonzero(done):
            ended.append(Episode(float(self.returns[i]), int(self.lengths[i])))
            self.returns[i], self.lengths[i] = 0.0, 0
        self.done = done
        return ended

    def cut(self) -> None:
        """Forget the episodes under way, which will not end."""
        self.done[:] = False
        self.returns[:], self.lengths[:] = 0.0, 0

    def leave_out(self, envs: NDArray[np.bool_], done: NDArray[np.bool_]) -> None:
        """Forget the episodes of some environments, bool [N], in which there was no step.

        Args:
            envs: The environments.
            done: Whether there is no step in the next row either, bool [N].
        """
        self.returns[envs], self.lengths[envs] = 0.0, 0
        self.done = np.where(envs, done, self.done)

    def _fields(self) -> dict[str, NDArray[Any]]:
        return {"done": self.done, "running_return": self.returns, "running_length": self.lengths}

    def state(self) -> dict[str, Tensor]:
        """Return the arrays that `load_state` restores."""
        return {name: torch.from_numpy(values) for name, values in self._fields().items()}

    def load_state(self, arrays: dict[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            ValueError: If it is the state of other episodes.
        """
        for name, own in self._fields().items():
            own[:] = fitting(arrays, name, torch.from_numpy(own)).numpy()


class Interval:
    """What has happened since the last row of metrics; the losses stay on the learner's device until the next one.

    Args:
        step: Agent step at which it begins.

    Attributes:
        episodes: Episodes that have ended.
        losses: Step, loss [] and mean q-value [] of each update.
        recent: The last episodes that ended before the interval, at most `RECENT`.
    """

    def __init__(self, step: int) -> None:
        self.episodes: list[Episode] = []
        self.recent: deque[Episode] = deque(maxlen=RECENT)
        self.begin(step, 0.0)

    def begin(self, step: int, wall_seconds: float) -> None:
        """Begin the next interval at an agent step, `wall_seconds` after the start of the run."""
        self.step, self.started = step, wall_seconds
        self.recent.extend(self.episodes)
        self.episodes = []
        self.losses: list[tuple[int, Tensor, Tensor]] = []

    def loss_values(self) -> Tensor:
        """Return loss and mean q-value of each update [updates, 2] on the CPU; only here the learner is waited for."""
        if not self.losses:
            return torch.zeros(0, 2)
        losses, values = [loss for _, loss, _ in self.losses], [q_mean for *_, q_mean in self.losses]
        return torch.stack([torch.stack(losses), torch.stack(values)], 1).cpu()

    def bad_losses(self) -> list[tuple[int, float]]:
        """Return step and loss of each update whose loss is not finite."""
        losses = self.loss_values()[:, 0]
        return [(self.losses[i][0], float(losses[i])) for i in (~losses.isfinite()).nonzero().flatten().tolist()]

    def row(self, step: int, wall_seconds: float) -> dict[str, float | None]:
        """Return what metrics say of the interval up to an agent step, `wall_seconds` into the run."""
        returns, lengths = _columns(self.episodes)
        last_returns, last_lengths = _columns([*self.recent, *self.episodes][-RECENT:])
        loss, q_mean = self.loss_values().mean(0).tolist() if self.losses else (None, None)
        return {
            "return_mean": _mean(returns),
            "return_median": float(np.median(returns)) if returns else None,
            "length_mean": _mean(lengths),
            "return_mean_100": _mean(last_returns),
            "length_mean_100": _mean(last_lengths),
            "loss": loss,
            "q_mean": q_mean,
            "steps_per_second": (step - self.step) / max(wall_seconds - self.started, 1e-9),
        }

    def state(self) -> State:
        """Return what `load_state` restores."""
        returns, lengths = _columns(self.episodes)
        recent_returns, recent_lengths = _columns(self.recent)
        arrays = {
            "returns": torch.tensor(returns, dtype=torch.float64),
            "lengths": torch.tensor(lengths, dtype=torch.int64),
            "recent_returns": torch.tensor(recent_returns, dtype=torch.float64),
            "recent_lengths": torch.tensor(recent_lengths, dtype=torch.int64),
            "loss_steps": torch.tensor([step for step, *_ in self.losses], dtype=torch.int64),
            "losses": self.loss_values(),
        }
        return {"interval_step": self.step, "interval_started": self.started}, arrays

    def load_state(self, values: dict[str, Any], arrays: dict[str, Tensor], device: torch.device) -> None:
        """Restore what `state` returned, with the losses on a device; older runs have no recent episodes.

        Raises:
            ValueError: If it is not the state of an interval.
        """
        updates = len(arrays.get("loss_steps", ""))
        episodes = _episodes(arrays, "returns", "lengths")
        has_recent = "recent_returns" in arrays
        recent = _episodes(arrays, "recent_returns", "recent_lengths") if has_recent else []
        steps = fitting(arrays, "loss_steps", torch.zeros(updates, dtype=torch.int64))
        losses = fitting(arrays, "losses", torch.zeros(updates, 2)).to(device)
        self.begin(count(values, "interval_step"), number(values, "interval_started"))
        self.episodes, self.recent = episodes, deque(recent, maxlen=RECENT)
        self.losses = [(step, loss, q) for step, (loss, q) in zip(steps.tolist(), losses, strict=True)]


def _columns(episodes: Iterable[Episode]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return the returns and the lengths of episodes."""
    episodes = tuple(episodes)
    return tuple(episode.total for episode in episodes), tuple(episode.length for episode in episodes)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _episodes(arrays: dict[str, Tensor], returns: str, lengths: str) -> list[Episode]:
    """Return the episodes that two arrays of a checkpoint hold."""
    ended = len(arrays.get(returns, ""))
    totals = fitting(arrays, returns, torch.zeros(ended, dtype=torch.float64))
    steps = fitting(arrays, lengths, torch.zeros(ended, dtype=torch.int64))
    return [Episode(*pair) for pair in zip(totals.tolist(), steps.tolist(), strict=True)]

"""What a row of metrics tells of: the episodes that ended since the last one, the updates and the time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelq.agents.storage.validation import count, fitting, number


class Interval:
    """The running episodes, and what has happened since the last row of metrics.

    Args:
        num_envs: environments, N.
        step: agent step at which it begins.

    Attributes:
        done: bool [N], the last step ended an episode.
    """

    def __init__(self, num_envs: int, step: int) -> None:
        self.done: NDArray[np.bool_] = np.zeros(num_envs, dtype=bool)
        self.running_return, self.running_length = np.zeros(num_envs), np.zeros(num_envs, dtype=np.int64)
        self.begin(step, 0.0)

    def begin(self, step: int, wall_seconds: float) -> None:
        """Begins the next interval at an agent step and so many seconds of the run; the episodes go on."""
        self.step, self.started = step, wall_seconds
        self.finished: list[tuple[float, int]] = []  # return and length of the episodes that ended
        self.losses: list[tuple[int, Tensor, Tensor]] = []  # step, loss and mean q of the updates

    def count(self, reward: NDArray[Any], done: NDArray[np.bool_]) -> int:
        """Counts a step of the environments, with rewards and ends [N]; returns how many episodes ended."""
        self.running_return += reward
        self.running_length += ~self.done  # the step after an end only resets
        for i in np.flatnonzero(done):
            self.finished.append((float(self.running_return[i]), int(self.running_length[i])))
            self.running_return[i], self.running_length[i] = 0.0, 0
        self.done = done
        return int(done.sum())

    def cut(self) -> None:
        """Forgets the running episodes: they will not end."""
        self.done[:] = False
        self.running_return[:], self.running_length[:] = 0.0, 0

    def loss_values(self) -> Tensor:
        """Loss and mean q of each update [updates, 2], on the CPU: the one place that waits for the learner."""
        if not self.losses:
            return torch.zeros(0, 2)
        losses, values = [loss for _, loss, _ in self.losses], [q_mean for *_, q_mean in self.losses]
        return torch.stack([torch.stack(losses), torch.stack(values)], 1).cpu()

    def bad_losses(self) -> list[tuple[int, float]]:
        """Step and loss of each update whose loss is not finite."""
        losses = self.loss_values()[:, 0]
        return [(self.losses[i][0], float(losses[i])) for i in (~losses.isfinite()).nonzero().flatten().tolist()]

    def row(self, step: int, wall_seconds: float) -> dict[str, float | None]:
        """The columns of metrics.csv that tell of the interval up to an agent step and so many seconds of the run."""
        returns, lengths = zip(*self.finished, strict=True) if self.finished else ((), ())
        loss, q_mean = self.loss_values().mean(0).tolist() if self.losses else (None, None)
        return {
            "return_mean": float(np.mean(returns)) if returns else None,
            "return_median": float(np.median(returns)) if returns else None,
            "length_mean": float(np.mean(lengths)) if lengths else None,
            "loss": loss,
            "q_mean": q_mean,
            "steps_per_second": (step - self.step) / max(wall_seconds - self.started, 1e-9),
        }

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """JSON values and arrays that ``load_state`` puts back."""
        returns, lengths = zip(*self.finished, strict=True) if self.finished else ((), ())
        arrays = {
            "done": torch.from_numpy(self.done),
            "running_return": torch.from_numpy(self.running_return),
            "running_length": torch.from_numpy(self.running_length),
            "returns": torch.tensor(returns, dtype=torch.float64),
            "lengths": torch.tensor(lengths, dtype=torch.int64),
            "loss_steps": torch.tensor([step for step, *_ in self.losses], dtype=torch.int64),
            "losses": self.loss_values(),
        }
        return {"interval_step": self.step, "interval_started": self.started}, arrays

    def load_state(self, state: dict[str, Any], arrays: dict[str, Tensor], device: torch.device) -> None:
        """Puts back what ``state`` gave.

        Raises:
            ValueError: it is not the state of such an interval.
        """
        ended, updates = (len(arrays.get(name, "")) for name in ("returns", "loss_steps"))
        returns = fitting(arrays, "returns", torch.zeros(ended, dtype=torch.float64))
        lengths = fitting(arrays, "lengths", torch.zeros(ended, dtype=torch.int64))
        steps = fitting(arrays, "loss_steps", torch.zeros(updates, dtype=torch.int64))
        losses = fitting(arrays, "losses", torch.zeros(updates, 2)).to(device)
        for name in ("done", "running_return", "running_length"):
            own = getattr(self, name)
            own[:] = fitting(arrays, name, torch.from_numpy(own)).numpy()
        self.begin(count(state, "interval_step"), number(state, "interval_started"))
        self.finished = list(zip(returns.tolist(), lengths.tolist(), strict=True))
        self.losses = [(step, loss, q) for step, (loss, q) in zip(steps.tolist(), losses, strict=True)]

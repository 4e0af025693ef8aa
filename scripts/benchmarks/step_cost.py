"""The parts of the training loop, timed from outside, and a picture of where a step's time goes."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from pixelq.agents import Policy, Replay
from pixelq.agents.experience.rollout import Rollout
from pixelq.agents.learning.cuda_graph import CapturedUpdate
from pixelq.agents.learning.learner import Learner
from pixelq.agents.learning.rollout_learner import RolloutLearner
from pixelq.agents.results.style import plain_style
from pixelq.envs import AtariVec
from pixelq.envs.gymnasium_vec import GymnasiumVec

PARTS: dict[str, tuple[tuple[type, str], ...]] = {
    "emulation, started": ((AtariVec, "send"), (GymnasiumVec, "send")),
    "emulation, waited for": ((AtariVec, "recv"), (GymnasiumVec, "recv")),
    "inference": ((Policy, "explore"),),
    "replay": (
        *((Replay, name) for name in ("observe", "latest", "complete", "sample", "update_priorities")),
        *((Rollout, name) for name in ("observe", "latest", "complete", "targets")),
    ),
    "update": ((Learner, "update"), (RolloutLearner, "update"), (CapturedUpdate, "__call__")),
}
"""Methods whose time belongs to a part; calls of another part's methods inside them belong to that part."""
REST = "rest"


@contextmanager
def timed_parts(device: torch.device) -> Iterator[dict[str, float]]:
    """Time the parts of every loop that runs in the context.

    On a GPU each part waits until the device has finished, so that parts do not overlap.

    Yields:
        Seconds in each part so far.
    """
    seconds = dict.fromkeys(PARTS, 0.0)
    running: list[list[Any]] = []  # parts, and the moment since when a part's own time runs

    def switch() -> None:
        if device.type == "cuda" and not torch.cuda.is_current_stream_capturing():
            torch.cuda.synchronize(device)
        now = time.perf_counter()
        if running:
            part, since = running[-1]
            seconds[part] += now - since

    def resume() -> None:
        if running:
            running[-1][1] = time.perf_counter()

    def timed(part: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            switch()
            running.append([part, time.perf_counter()])
            try:
                return method(*args, **kwargs)
            finally:
                switch()
                running.pop()
                resume()

        return wrapper

    originals = [(owner, name, getattr(owner, name)) for methods in PARTS.values() for owner, name in methods]
    for part, methods in PARTS.items():
        for owner, name in methods:
            setattr(owner, name, timed(part, getattr(owner, name)))
    try:
        yield seconds
    finally:
        for owner, name, method in originals:
            setattr(owner, name, method)


def milliseconds_per_step(learn: Callable[[int], None], steps: int, device: torch.device) -> dict[str, float]:
    """Return the milliseconds per agent step in each part of the loop and in the rest.

    Args:
        learn: Trains for a number of steps.
        steps: The number of steps to train for.
        device: Device of the agent.
    """
    with timed_parts(device) as seconds:
        start = time.perf_counter()
        learn(steps)
        whole = time.perf_counter() - start
    parts = seconds | {REST: max(0.0, whole - sum(seconds.values()))}
    return {part: 1e3 * value / steps for part, value in parts.items()}


@plain_style()
def draw_steps(costs: dict[str, dict[str, float]], title: str, path: Path, unit: str) -> None:
    """Draw a bar of the parts for each entry, in milliseconds per step.

    Args:
        costs: What `milliseconds_per_step` returned for each entry.
        title: Title of the picture.
        path: The file, which is written.
        unit: What a step is.
    """
    from matplotlib.figure import Figure  # half a second to import

    figure = Figure(figsize=(8, 1.6 + 0.6 * len(costs)), dpi=120, layout="constrained")
    axes = figure.subplots()
    for colour, part in enumerate((*PARTS, REST)):
        left = [sum(list(cost.values())[:colour]) for cost in costs.values()]
        widths = [cost[part] for cost in costs.values()]
        axes.barh(list(costs), widths, left=left, label=part, color=f"C{colour}")
    axes.invert_yaxis()
    axes.set_xlabel(f"milliseconds per {unit}")
    axes.set_title(title, fontsize=10)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path)

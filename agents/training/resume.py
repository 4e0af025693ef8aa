"""Exact resume: the states of the loop's parts, merged into a checkpoint and restored from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray
from torch import Tensor

from pixelq.agents.agent import Agent
from pixelq.agents.errors import InvalidCheckpoint, one_line
from pixelq.agents.runs.checkpoints import RunCheckpoints
from pixelq.agents.runs.machine import arithmetic, changes_of_arithmetic
from pixelq.agents.training.collector import Collector
from pixelq.agents.training.interval import State
from pixelq.agents.training.recorder import Recorder
from pixelq.agents.training.rollout_updater import RolloutUpdater
from pixelq.agents.training.updater import Updater


class Part(Protocol):
    """A part of the loop, whose state is in every checkpoint."""

    def state(self) -> State:
        """Return what `load_state` restores."""

    def load_state(self, values: dict[str, Any], arrays: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""


def run_state(parts: Sequence[Part], agent: Agent) -> State:
    """Return the merged state of the parts, and what the arithmetic of the agent depends on."""
    values: dict[str, Any] = {"arithmetic": arithmetic(agent.device, is_compiled=agent.config.compile_update)}
    arrays: dict[str, Tensor] = {}
    for part in parts:
        part_values, part_arrays = part.state()
        values |= part_values
        arrays |= part_arrays
    return values, arrays


def restore_run(
    checkpoints: RunCheckpoints,
    collector: Collector,
    updater: Updater | RolloutUpdater,
    recorder: Recorder,
    say: Callable[[str], None],
    standing: NDArray[Any] | None = None,
) -> dict[str, Any]:
    """Restore the parts as they were when the run's checkpoint at the agent's step was written.

    Args:
        checkpoints: The run's checkpoints.
        collector, updater, recorder: The parts.
        say: Called with sentences about what is restored.
        standing: Observations that the environments show if this process has left them at that step; else None.

    Returns:
        An entry of `resumed` in config.json: the step, whether the run goes on exactly, and what has changed.

    Raises:
        InvalidCheckpoint: If the checkpoint is damaged, or of another run or agent.
    """
    agent = collector.agent
    path = checkpoints.path(agent.step)
    say(f"going on from {path}")
    checkpoints.check_weights(agent.step, dict(agent.network.state_dict()))
    # State of the parts
    values, arrays, lost = checkpoints.read(agent.step)
    try:
        for part in (collector, updater, recorder):
            part.load_state(values, arrays)
        collector.check_actions()
        before = values["arithmetic"]
        if not isinstance(before, dict) or "device" not in before:
            raise ValueError("arithmetic does not name the device")
    except (LookupError, TypeError, ValueError) as error:
        raise InvalidCheckpoint(f"{path} does not fit this run: {one_line(error)}") from error
    # Replay and environments
    if lost is not None:
        lost = f"an empty replay: {lost}"
        updater.refill()
        collector.restart_episodes(cut=False)
    else:
        lost = collector.restore_envs(standing)
        if lost is not None:
            collector.restart_episodes(cut=True)
    # Report
    changes = [lost] if lost else changes_of_arithmetic(before, agent.device, is_compiled=agent.config.compile_update)
    lost = "; ".join([*changes, *recorder.hooks.changes]) or None
    if recorder.ranks is not None:  # the first of several learners tells for all
        lost = next((each for each in recorder.ranks.gather_values(lost) if each), lost)
    how = "exactly" if lost is None else f"but not exactly ({lost})"
    say(f"resumed at step {agent.step:,}, {how}")
    return {"step": agent.step, "exact": lost is None, "why_not": lost}

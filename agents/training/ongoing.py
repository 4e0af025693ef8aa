"""What is kept between two calls of `learn`, so that the second goes on where the games stand."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, Self

from gymnasium.vector import VectorEnv
from torch import Tensor

from pixelq.agents.agent import Agent
from pixelq.agents.training.collector import Collector
from pixelq.agents.training.rollout_updater import RolloutUpdater
from pixelq.agents.training.updater import Updater
from pixelq.envs.plays import plays


@dataclass(frozen=True)
class Ongoing:
    """The loop between two calls of `learn`: the state of its parts, and the environments, which stand where they are.

    The state is what a checkpoint would hold. Environments and replay are not part of it, because they are still there.
    """

    envs: weakref.ref[VectorEnv] | None
    """The environments; None in a copy, which begins new episodes."""
    plays: tuple[int, int]
    """Their plays, which others would have changed."""
    rows: int
    """Time steps in the replay."""
    step: int
    """Agent step."""
    beyond: int
    """Steps that several environments took beyond the last step, by which the next calls are shorter."""
    values: dict[str, Any]
    """JSON values of the parts' states."""
    arrays: dict[str, Tensor]
    """Arrays of the parts' states."""

    @classmethod
    def of(cls, collector: Collector, updater: Updater | RolloutUpdater, last_step: int) -> Self:
        """Return what is kept of the parts after a call of `learn` up to a step."""
        agent = collector.agent
        values: dict[str, Any] = {}
        arrays: dict[str, Tensor] = {}
        for part_values, part_arrays in (collector.standing(), updater.state(), collector.interval.state()):
            values |= part_values
            arrays |= {name: tensor.clone() for name, tensor in part_arrays.items()}
        beyond = max(0, agent.step - last_step)
        envs = collector.envs
        return cls(weakref.ref(envs), plays(envs), collector.replay.time, agent.step, beyond, values, arrays)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy or a pickled agent has."""
        return {**vars(self), "envs": None}

    def is_of(self, agent: Agent) -> bool:
        """Return whether the agent and its replay are as they were, also if both have been copied."""
        replay = agent.replay
        return replay is not None and (replay.time, agent.step) == (self.rows, self.step)

    def restore(self, collector: Collector, updater: Updater | RolloutUpdater) -> None:
        """Let new parts of the loop go on."""
        collector.load_state(self.values, self.arrays)
        updater.load_state(self.values, self.arrays)
        interval = collector.interval
        interval.load_state(self.values, self.arrays, collector.agent.device)
        interval.step, interval.started = self.step, 0.0  # its speed is that of this call


def ongoing_in(agent: Agent, envs: VectorEnv) -> Ongoing | None:
    """Return what an agent goes on from in environments; None if it begins new episodes in them.

    It goes on if its last training was in the same environments, and nobody has reset or stepped them since, as far as
    that can be known, nor changed the replay.
    """
    kept = agent.ongoing
    if not isinstance(kept, Ongoing) or not kept.is_of(agent):
        return None
    is_there = kept.envs is not None and kept.envs() is envs
    return kept if is_there and kept.plays == plays(envs) else None


def end_ongoing(agent: Agent) -> None:
    """End the episodes under way, in the agent's replay too, because the next training is of other episodes."""
    kept = agent.ongoing
    # The rows of the replay are what counts: somebody may have set the agent's step, to let schedules begin anew.
    if isinstance(kept, Ongoing) and agent.replay is not None and agent.replay.time == kept.rows:
        masks = kept.arrays.get("masks")
        agent.replay.cut(kept.arrays["obs"].numpy(), None if masks is None else masks.numpy())
    agent.ongoing = None

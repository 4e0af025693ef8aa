"""An estimate of the kernels that an update launches on a GPU, counted on the CPU.

`python -m pixelq.scripts.benchmarks.kernels [PRESETS]` lists the operations that compute in an update of each preset,
from the draw of its batch to the new priorities. Most are one kernel each; a convolution's backward pass is two or
three, and cuDNN's LSTM many.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import NamedTuple
from unittest.mock import patch

import torch
from rich.console import Console
from rich.table import Table

from pixelq.agents import DQN, PQN, AgentConfig, preset
from pixelq.agents.config.presets import PRESET_NUM_ENVS
from pixelq.agents.experience.ring import row_bytes
from pixelq.agents.learning.cuda_graph import EAGER_UPDATES, update_from_replay
from pixelq.agents.learning.optimizers import CapturableRAdam
from pixelq.scripts.benchmarks.operations import Operations
from pixelq.scripts.benchmarks.update_cost import ACTIONS, pictures, presets_of, random_replay, random_rollout

CPU = torch.device("cpu")
COPIES = 2
"""Copies of the results of a captured update: its loss and its mean value."""
SMALL = 16
"""Rows of a batch; their number does not change that of the operations."""


class Count(NamedTuple):
    """Operations of one update."""

    operations: Operations
    """All, from the draw to the priorities."""
    in_learner: int
    """Those that compute in the learner: without the draw and the priorities."""
    around: int
    """Those that are launched beside the graph: the draw of a minibatch's rows, copies of inputs and of results."""
    replay_gigabytes: float
    """Size of the full replay without priorities, or of the rollout."""

    @property
    def computing(self) -> int:
        """Number of operations that compute."""
        return self.operations.computing.total()


def count_operations(name: str) -> Count:
    """Return the operations of an update of a preset, with what differs on a GPU as it is there."""
    config = preset(name)
    # While an update is captured, an LSTM goes step by step.
    with patch("pixelq.networks.lstm.is_capturing", lambda x: True):
        return _of_replay(config) if config.algorithm == "dqn" else _of_rollout(config, PRESET_NUM_ENVS[name])


def _of_replay(config: AgentConfig) -> Count:
    capacity, config = config.replay_capacity, dataclasses.replace(config, batch_size=SMALL)
    agent = DQN(pictures(config), ACTIONS, config, device=CPU)
    replay = random_replay(config, CPU)
    for _ in range(EAGER_UPDATES):
        update_from_replay(agent.learner, replay)
    with Operations() as operations:
        update_from_replay(agent.learner, replay)
    batch = replay.sample(SMALL)
    with Operations() as learning:
        agent.learner.update(batch)
    space = pictures(config)
    size = capacity * row_bytes(space.shape, space.dtype, config.frame_stack)
    return Count(operations, learning.computing.total(), COPIES, size / 1e9)


def _of_rollout(config: AgentConfig, num_envs: int) -> Count:
    agent = PQN(pictures(config), ACTIONS, config, device=CPU)
    learner, (optimizer,) = agent.learner, agent.learner.optimizers.values()
    group = optimizer.param_groups[0]
    if config.optimizer == "radam":  # which is another one on a CPU
        parts = group["params"], group["lr"], group["eps"], group["weight_decay"]
        learner.optimizers["optimizer"] = CapturableRAdam(*parts)
    rollout = random_rollout(config, num_envs, CPU)
    target = rollout.targets(0.99, config.td_lambda, config.reward_clip)
    rows = rollout.draw(target, config.minibatches, 1)
    learner.update(rollout.gather(next(rows)))
    with Operations() as drawing:
        drawn = next(rows)
    with Operations() as gathering:
        batch = rollout.gather(drawn)
    with Operations() as learning:
        learner.update(batch)
    in_learner = learning.computing.total()
    learning.computing += gathering.computing
    learning.free += gathering.free
    around = drawing.computing.total() + sum(field is not None for field in drawn) + COPIES
    return Count(learning, in_learner, around, rollout.ring.nbytes / 1e9)


def main() -> None:
    """Print a table."""
    names = presets_of(sys.argv[1] if len(sys.argv) > 1 else "all")
    table = Table(title="operations of an update", caption="Without views and what only makes memory.")
    table.add_column("preset")
    for heading in ("compute", "of the learner", "launches", "views", "replay, GB", "most frequent"):
        table.add_column(heading, justify="left" if heading == "most frequent" else "right")
    for name in names:
        count = count_operations(name)
        common = ", ".join(f"{number} {each}" for each, number in count.operations.computing.most_common(4))
        launches = f"1 graph + {count.around}"
        numbers = (str(count.computing), str(count.in_learner), launches, str(count.operations.free))
        table.add_row(name, *numbers, f"{count.replay_gigabytes:.2f}", common)
    Console(width=max(120, Console().width)).print(table)


if __name__ == "__main__":
    main()

"""Our own agent on our own environments."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch

from pixelq.agents import DQN, AgentConfig
from pixelq.envs import make_vec
from pixelq.scripts.benchmarks.step_cost import milliseconds_per_step
from pixelq.scripts.benchmarks.work import Work


class Pixelq:
    """Our agent on our environments.

    Args:
        work: The work to do.
        device: `cpu` or `cuda`.
    """

    precision: ClassVar[str | None] = None
    """Precision of the update's products in place of that of the work; None leaves it."""

    def __init__(self, work: Work, device: str) -> None:
        work = replace(work, precision=self.precision or work.precision)
        self.envs = make_vec(work.env, work.num_envs, work.seed, work.protocol)
        spaces = self.envs.single_observation_space, self.envs.single_action_space
        self.agent = DQN(*spaces, config_of(work), device=device, seed=work.seed)

    def learn(self, steps: int) -> None:
        """Train without a run folder, so that nothing is written; every call continues the episodes of the last."""
        self.agent.learn(self.envs, steps)

    def counts(self) -> tuple[int, int]:
        """Return the numbers of steps and updates."""
        return self.agent.step, self.agent.updates

    def milliseconds_per_step(self, steps: int) -> dict[str, float]:
        """Train for `steps` more steps, and return the milliseconds per step in each part of the loop."""
        return milliseconds_per_step(self.learn, steps, torch.device(self.agent.device))


class PixelqBfloat16(Pixelq):
    """Our agent, with the products of an update in bfloat16."""

    precision = "bfloat16"


def config_of(work: Work) -> AgentConfig:
    """Return the configuration of an agent that does the work."""
    own = ("env", "num_envs", "protocol", "network", "epsilon", "seed")  # the other fields have the agent's names
    config = {name: value for name, value in vars(work).items() if name not in own} | {
        "encoder": work.network,
        "learning_starts": work.replay_capacity,
        "epsilon_start": 1.0,
        "epsilon_end": work.epsilon,
        "epsilon_steps": 1,
    }
    return AgentConfig.from_dict(config)

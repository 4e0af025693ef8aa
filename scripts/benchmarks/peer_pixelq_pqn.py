"""Our own PQN on our own environments."""

from __future__ import annotations

import torch

from pixelq.agents import PQN, AgentConfig
from pixelq.envs import make_vec
from pixelq.scripts.benchmarks.pqn_work import PQNWork
from pixelq.scripts.benchmarks.step_cost import milliseconds_per_step


class PixelqPQN:
    """Our agent on our environments.

    Args:
        work: The work to do.
        device: `cpu` or `cuda`.
    """

    def __init__(self, work: PQNWork, device: str) -> None:
        self.envs = make_vec(work.env, work.num_envs, work.seed, work.protocol)
        spaces = self.envs.single_observation_space, self.envs.single_action_space
        self.agent = PQN(*spaces, config_of(work), device=device, seed=work.seed)

    def learn(self, steps: int) -> None:
        """Train without a run folder, so that nothing is written; every call continues the episodes of the last."""
        self.agent.learn(self.envs, steps)

    def counts(self) -> tuple[int, int]:
        """Return the numbers of steps and updates."""
        return self.agent.step, self.agent.updates

    def milliseconds_per_step(self, steps: int) -> dict[str, float]:
        """Train for `steps` more steps, and return the milliseconds per step in each part of the loop."""
        return milliseconds_per_step(self.learn, steps, torch.device(self.agent.device))


def config_of(work: PQNWork) -> AgentConfig:
    """Return the configuration of an agent that does the work."""
    same = "rollout_length minibatches epochs hidden precision td_lambda gamma optimizer learning_rate max_grad_norm"
    return AgentConfig(
        algorithm="pqn",
        **{name: getattr(work, name) for name in same.split()},
        loss="squared",
        encoder=work.network,
        channel_norm=True,
        learning_starts=1,
        epsilon_start=work.epsilon,
        epsilon_end=work.epsilon,
        epsilon_steps=1,
    )

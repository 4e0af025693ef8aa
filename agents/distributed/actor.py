"""An actor: a vector environment and a policy in a process of their own, which play blocks of rows."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelq.agents.acting.policy import Policy
from pixelq.agents.agent import Agent
from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.config.at_step import epsilons_at
from pixelq.agents.distributed.block import Block, Recording, state_rows
from pixelq.agents.errors import InvalidConfig
from pixelq.agents.experience.store import Store
from pixelq.agents.storage.checkpoint import unpack_tensors
from pixelq.agents.training.collector import Collector, Restarts
from pixelq.agents.training.interval import Interval
from pixelq.envs import EnvironmentFailed, import_module, make_vec
from pixelq.envs.interface import frame_stack_of


@dataclass(frozen=True)
class Plan:
    """What an actor plays, and as which part of the whole."""

    env: Any
    """First argument of `make_vec`."""
    arguments: dict[str, Any]
    """Keyword arguments of `make_vec`, without the number and the seed."""
    modules: tuple[str, ...]
    """Modules to import first, which register environments or parts of the network."""
    path: tuple[str, ...]
    """Folders where the learner finds modules."""
    config: AgentConfig
    """The agent's configuration."""
    encoder: nn.Module | None
    """Encoder that was handed over when the agent was made; None for the configuration's."""
    has_masks: bool
    """Whether the agent has been trained with action masks."""
    first: int
    """Number of the actor's first environment among those of all actors."""
    num_envs: int
    """Number of the actor's environments, n."""
    total: int
    """Number of environments of all actors, N."""
    steps: int
    """Rows in a block, T."""
    period: int | None
    """Time steps between two stored states of the LSTM; None if none are stored."""
    device: str
    """Device of the policy."""
    env_seed: int
    """Seed of the environments."""
    seed: int
    """Seed of the exploration."""
    version: str
    """Version of this package where the learner runs."""


@dataclass(frozen=True)
class Weights:
    """A version of the policy."""

    number: int
    """Number of the version; another number means other weights."""
    network: bytes
    """The network's weights, as a safetensors file."""
    config: AgentConfig
    """The agent's configuration, which callbacks may change."""


class ActorPolicy(Policy):
    """A policy for some of the environments of all actors: of a ladder of ε it has its own rungs.

    Args:
        envs: The environments.
        plan: Which of all they are.

    Attributes:
        episodes: Number of episodes that have ended.
    """

    def __init__(self, envs: VectorEnv, plan: Plan) -> None:
        spaces = envs.single_observation_space, envs.single_action_space
        super().__init__(*spaces, plan.config, device=plan.device, seed=plan.seed, encoder=plan.encoder)
        self.plan, self.episodes = plan, 0
        self.wants_values = plan.config.algorithm == "pqn"
        self.action_masks = plan.has_masks
        self.recording = Recording(plan.num_envs, frame_stack_of(envs), self.device)

    def epsilons(self, num_envs: int) -> NDArray[np.float64]:
        """See `Policy`."""
        return epsilons_at(self.config, self.step, self.plan.total)[self.plan.first :][:num_envs]

    def keep_values(self, obs: NDArray[Any] | Tensor, q: Tensor) -> None:
        """See `Policy`; they are part of the block."""
        self.recording.keep_values(q)


class _NoRestarts(Restarts):
    """The learner decides whether an actor with environments that fail is started anew."""

    def restart(self, envs: VectorEnv, error: EnvironmentFailed) -> NoReturn:
        raise error


class Actor:
    """Plays blocks of rows, each with the weights that it is given.

    Rows are written by the same collector as in a training without actors.

    Args:
        plan: What it plays. Nothing is made before `begin`, whose errors reach the learner.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._version: int | None = None

    def begin(self, weights: Weights, step: int) -> Block:
        """Make environments and policy, start episodes, and return what they show, without outcomes.

        Args:
            weights: The policy.
            step: Agent step of the learner.

        Raises:
            InvalidConfig: If this package has another version here.
            InvalidEnv: If the environments cannot be made.
            EnvironmentFailed: If they fail.
        """
        plan = self.plan
        if plan.version != version("pixelq"):
            raise InvalidConfig(
                f"all nodes of the cluster must have pixelq {plan.version}, got {version('pixelq')} on one of them"
            )
        sys.path.extend(folder for folder in plan.path if folder not in sys.path and os.path.isdir(folder))
        for module in plan.modules:
            import_module(module)
        envs = make_vec(plan.env, plan.num_envs, plan.env_seed, **plan.arguments)
        self.policy = policy = ActorPolicy(envs, plan)
        # Of an agent the collector needs what a policy has, and of a replay what the recording has.
        agent, store = cast(Agent, policy), cast(Store, policy.recording)
        self.interval = Interval(0)
        self.collector = Collector(agent, envs, store, self.interval, _NoRestarts(agent, print, str))
        self._load(weights, step)
        self.collector.start()
        self._act()
        return policy.recording.take()

    def play(self, weights: Weights, step: int, time: int) -> Block:
        """Play T steps, and return them.

        Args:
            weights: The policy, from the second action on; the first one has been chosen at the end of the last block.
            step: Agent step of the learner.
            time: Time step of the block's first row in the learner's ring.

        Raises:
            EnvironmentFailed: If an environment fails.
        """
        self._load(weights, step)
        recording = self.policy.recording
        recording.wanted = state_rows(time, self.plan.steps, self.plan.period)
        for _ in range(self.plan.steps):
            self.collector.receive()
            self._act()
        self.interval.begin(0, 0.0)  # the learner counts the episodes
        return recording.take()

    def _load(self, weights: Weights, step: int) -> None:
        """Take over a version of the policy."""
        self.policy.step = step
        if weights.number == self._version:
            return
        self._version = weights.number
        if weights.config != self.policy.config:
            self.policy.configure(weights.config)
        self.policy.network.load_state_dict(unpack_tensors(Path("weights"), weights.network))

    def _act(self) -> None:
        """Act, and advance the step by which all actors together have come further meanwhile."""
        policy, before = self.policy, self.policy.step
        self.collector.act()
        policy.step = before + (policy.step - before) * self.plan.total // self.plan.num_envs


def shares(num_envs: int, actors: int) -> Sequence[tuple[int, int]]:
    """Return the first environment and the number of environments of each actor."""
    sizes = [len(part) for part in np.array_split(np.arange(num_envs), actors)]
    return [(sum(sizes[:k]), size) for k, size in enumerate(sizes)]

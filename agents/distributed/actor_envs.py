"""Environments that actors play, for `learn`."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, NoReturn

import gymnasium
from gymnasium.vector import VectorWrapper

from pixelq.agents.agent import Agent
from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.config.integers import checked_integer
from pixelq.agents.config.parts import is_handed_over
from pixelq.agents.config.seeds import actor_seed
from pixelq.agents.distributed.actor import Plan, shares
from pixelq.agents.distributed.actor_collector import ActorCollector
from pixelq.agents.distributed.engine import Engine, RayEngine
from pixelq.agents.distributed.team import Seat, Team
from pixelq.agents.errors import InvalidConfig
from pixelq.agents.experience.ring import row_bytes
from pixelq.agents.experience.store import Store
from pixelq.agents.storage.json_values import is_number
from pixelq.agents.training.collector import Collector, Restarts
from pixelq.agents.training.interval import Interval
from pixelq.envs import is_atari, make_vec
from pixelq.envs.interface import frame_stack_of

BLOCK = 16
"""Rows of an environment in a block, unless it is chosen otherwise."""
WEIGHTS = 2**27
"""Bytes of a local object store for weights of a few versions: 28 MB each for the largest network of the presets."""


class ActorEnvs(VectorWrapper):
    """N environments that are played by Ray actors, each with some of the environments and a policy.

    `learn` takes them like any others: `agent.learn(ActorEnvs("ALE/Pong-v5", 64, actors=8), 10_000_000)`. What is
    learned does not depend on where they are played, except that actions come from slightly older weights. With one
    actor, blocks of one row and `ahead=0` it is the same training, number for number, as in `make_vec(...)`.

    An actor that dies is replaced, and its episodes are cut off. `learn` starts the actors and ends them, so each call
    begins new episodes. `close` leaves the cluster, or ends that of this machine.

    Args:
        id, num_envs, seed: See `pixelq.envs.make_vec`; N is over all actors.
        protocol, arguments: Further arguments of `make_vec`.
        actors: Number of actors, at most N.
        address: `HOST:PORT` of a Ray cluster's head, or `auto` for the one that this machine is part of; None starts
            one here. If Ray runs in this process already, it is used.
        gpus: GPUs of each actor, or a fraction of one; without one it computes on a core.
        modules: Modules to import in each actor first, which register environments or parts of the network.
        block: Rows of an environment in a block; a PQN's are always its rollouts.
        ahead: Blocks that an actor may play beyond the one that the learner takes next; always 0 for a PQN, whose
            rollouts are played with weights that have learned from the last.

    Raises:
        InvalidConfig: If an argument is out of range.
        InvalidEnv: See `make_vec`.
        MissingExtra: If Ray is not installed.
        UserError: If no cluster answers at the address, or it is too small for the actors.
    """

    def __init__(
        self,
        id: str | Callable[..., gymnasium.Env[Any, Any]],
        num_envs: int = 8,
        seed: int = 0,
        protocol: Any = "sticky",
        *,
        actors: int = 1,
        address: str | None = None,
        gpus: float = 0.0,
        modules: Sequence[str] = (),
        block: int = BLOCK,
        ahead: int = 1,
        **arguments: Any,
    ) -> None:
        self._total = checked_integer("num_envs", num_envs, 1)
        self.actors = checked_integer("actors", actors, 1)
        if self.actors > self._total:
            raise InvalidConfig(f"actors must be at most the {self._total:,} environments, got {self.actors:,}")
        if not is_number(gpus, 0.0, 1.0):
            raise InvalidConfig(f"gpus must be a number in [0, 1], got {gpus!r:.80}")
        self._block, self._ahead = checked_integer("block", block, 1), checked_integer("ahead", ahead, 0)
        self._seed, self._gpus, self._modules = seed, gpus, tuple(modules)
        self._arguments = {"protocol": protocol, **arguments}
        self._id = id
        super().__init__(make_vec(id, 1, seed, **self._arguments))  # what all of them are like
        if isinstance(id, str) and is_atari(id):
            self._arguments |= {"num_threads": 1}
        self._engine = self._make_engine(address)

    def _make_engine(self, address: str | None) -> Engine:
        space = self.single_observation_space
        row = row_bytes(space.shape or (), space.dtype, frame_stack_of(self.env)) * 2  # type: ignore[arg-type]
        in_flight = row * self._total * self._block * (self._ahead + 2) + WEIGHTS
        return RayEngine(address, self.actors, self._gpus, in_flight)

    @property
    def num_envs(self) -> int:  # type: ignore[override]
        """Number of environments of all actors."""
        return self._total

    def reset(self, **_: Any) -> NoReturn:
        """Refuse, because only `learn` plays them.

        Raises:
            InvalidConfig: Always.
        """
        raise InvalidConfig("environments of actors are played by learn alone; make others with pixelq.envs.make_vec")

    def step(self, actions: Any) -> NoReturn:
        """Refuse; see `reset`."""
        self.reset()

    def close(self, **kwargs: Any) -> None:
        """Leave the cluster, or end that of this machine."""
        self._engine.close()
        super().close(**kwargs)

    def description(self) -> dict[str, Any]:
        """See `PlayedElsewhere`."""
        return {"actors": self.actors}

    def make_collector(
        self, agent: Agent, replay: Store, interval: Interval, restarts: Restarts, received: list[int]
    ) -> Collector:
        """See `PlayedElsewhere`."""
        config, begun = agent.config, agent.step
        is_pqn = config.algorithm == "pqn"
        steps, ahead = (config.rollout_length, 0) if is_pqn else (self._block, self._ahead)
        period = _period(config)

        def seat(k: int, first: int, size: int) -> Seat:
            return Seat(k, lambda starts: self._plan(agent, k, first, size, steps, period, starts, begun), first, size)

        def make_team() -> Team:
            seats = [seat(k, *share) for k, share in enumerate(shares(self._total, self.actors))]
            return Team(
                self._engine,
                seats,
                agent,
                restarts,
                steps=steps,
                period=period,
                ahead=ahead,
                stops=lambda: bool(received),
            )

        return ActorCollector(agent, self, replay, interval, restarts, make_team)

    def _plan(
        self, agent: Agent, k: int, first: int, size: int, steps: int, period: int | None, starts: int, begun: int
    ) -> Plan:
        """Return what the k-th actor plays; see `Plan`.

        Args:
            agent: The agent.
            k, first, size: Number of the actor, of its first environment and of its environments.
            steps, period: Rows in a block, and time steps between two states of the LSTM.
            starts: How often the actor has been started before.
            begun: Agent step at which the training began.
        """
        is_alone = (self.actors, starts, begun) == (1, 0, 0)  # as in a training without actors
        seeds = (
            (self._seed, agent.seed)
            if is_alone
            else (actor_seed(self._seed, k, starts, begun), actor_seed(agent.seed, k, starts, begun))
        )
        own = is_handed_over(agent.config.encoder)
        return Plan(
            env=self._id,
            arguments=self._arguments,
            modules=self._modules,
            path=tuple(sys.path),
            config=agent.config,
            encoder=copy.deepcopy(agent.network.encoder).cpu() if own else None,
            has_masks=agent.action_masks,
            first=first,
            num_envs=size,
            total=self._total,
            steps=steps,
            period=period,
            device="cuda" if self._gpus else "cpu",
            env_seed=seeds[0],
            seed=seeds[1],
            version=version("pixelq"),
        )


def _period(config: AgentConfig) -> int | None:
    """Return the time steps between two stored states of the LSTM; None if none are stored."""
    if config.lstm is None:
        return None
    if config.algorithm == "pqn":
        return config.rollout_length
    return config.sequence_period if config.sequence_state == "stored" else None

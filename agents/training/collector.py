"""A step of the environments in two halves, so that there is time to learn in between."""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from pixelq.agents.errors import InvalidConfig
from pixelq.agents.evaluation.evaluate import check_resets
from pixelq.envs import fact, is_atari

if TYPE_CHECKING:
    from pixelq.agents.dqn import DQN


def check_games(agent: DQN, envs: VectorEnv, evaluation_envs: VectorEnv | None = None) -> None:
    """Sees that an agent can learn, and be evaluated, in these environments.

    Raises:
        InvalidConfig: they reset in another way, or their observations and actions are not the agent's.
    """
    check_resets(envs)
    if not agent.fits(envs):
        raise InvalidConfig("the environments' spaces are not the agent's; make the agent from these environments")
    if evaluation_envs is not None:
        check_resets(evaluation_envs)
        if not agent.fits(evaluation_envs):
            raise InvalidConfig("the evaluation environments' spaces are not the agent's; make them like the others")


def note_games(agent: DQN, envs: VectorEnv) -> None:
    """Notes what an agent is trained in; ``config.frame_stack`` becomes that of Atari environments, with a warning."""
    asked_for, stack = agent.config.frame_stack, fact(envs, "frame_stack", agent.config.frame_stack)
    if is_atari(fact(envs, "env_id", "")) and stack != asked_for:
        agent.config = agent.learner.config = dataclasses.replace(agent.config, frame_stack=stack)
        warnings.warn(
            f"the configuration said frame_stack {asked_for}, but the environments stack {stack}; now it says {stack}. "
            f"For {asked_for}, make them with make_vec(..., frame_stack={asked_for}), and the agent from them",
            stacklevel=5,  # whoever called learn
        )
    agent.env_id = fact(envs, "env_id", None)
    agent.protocol = getattr(fact(envs, "protocol", None), "name", None)
    agent.flicker = fact(envs, "flicker", 0.0)


class Games:
    """Vector environments that play in the background from ``send`` to ``recv``; those that cannot step in ``recv``.

    So both are the same training, number for number.
    """

    def __init__(self, envs: VectorEnv) -> None:
        self.envs = envs
        # Asked of the class: a wrapper that hands its environments' methods on would be left out of the step.
        self.in_background = hasattr(type(envs), "send")
        self.actions: NDArray[np.int64] | None = None  # sent and not received

    def send(self, actions: NDArray[np.int64]) -> None:
        """Begins a step with actions [N]."""
        if self.in_background:
            self.envs.send(actions)  # type: ignore[attr-defined]
        self.actions = actions

    def recv(self) -> tuple[Any, ...]:
        """What ``step`` returns."""
        actions, self.actions = self.actions, None
        return self.envs.recv() if self.in_background else self.envs.step(actions)  # type: ignore[attr-defined]

    def settle(self) -> None:
        """Waits for a step that is under way, so that the environments can be reset."""
        if self.actions is not None and self.in_background:
            self.recv()

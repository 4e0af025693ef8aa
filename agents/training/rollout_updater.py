"""The rollout updater: the updates of the network when a rollout is complete."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pixelq.agents.agent import Agent
from pixelq.agents.config.at_step import gamma_at, learning_rate_at
from pixelq.agents.experience.rollout import Rollout
from pixelq.agents.learning.rollout_learner import RolloutLearner
from pixelq.agents.training.interval import Interval, State


class RolloutUpdater:
    """Updates the network from each rollout, in minibatches, for some epochs; in place of `Updater`.

    The values of the observation after the last step are those that acting has there, so the updates run while the
    environments play the first step of the next rollout. Its action is that of the weights before the updates.

    Args:
        agent: The agent that learns.
        rollout: What it learns from.
        interval: Told the loss and the mean q-value of each update.
    """

    def __init__(self, agent: Agent, rollout: Rollout, interval: Interval) -> None:
        assert isinstance(agent.learner, RolloutLearner)
        self.agent, self.rollout, self.interval = agent, rollout, interval
        self.learner = agent.learner

    def learn(self, before: int) -> None:
        """Run the updates of a rollout that is complete; `before` is the step before the last one."""
        if self.rollout.is_complete:
            if self.agent.step >= self.agent.config.learning_starts:
                self._learn()
            self.rollout.begin()

    def _learn(self) -> None:
        agent, config, rollout = self.agent, self.agent.config, self.rollout
        self.learner.set_learning_rate(learning_rate_at(config, agent.step))
        target = rollout.targets(gamma_at(config, agent.step), config.td_lambda, config.reward_clip)
        for batch in rollout.minibatches(target, config.minibatches, config.epochs):
            update = self.learner.update(batch)
            agent.updates += 1
            self.learner.drop_subnormals(agent.updates)
            self.interval.losses.append((agent.step, update.loss, update.q_mean))

    def state(self) -> State:
        """Return what `load_state` restores: nothing, since all of it is the rollout's."""
        return {}, {}

    def load_state(self, values: dict[str, Any], arrays: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""

    def refill(self) -> None:
        """Go on with an empty rollout, which needs no more than to be filled."""

"""The updater: the updates of the network that the steps call for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from pixelq.agents.agent import Agent
from pixelq.agents.config.at_step import (
    gamma_at,
    has_scheduled_returns,
    learning_rate_at,
    n_step_at,
    priority_beta_at,
)
from pixelq.agents.config.schedules import crossed
from pixelq.agents.experience.replay import Replay
from pixelq.agents.learning.cuda_graph import make_updates
from pixelq.agents.learning.learner import Learner
from pixelq.agents.storage.validation import count
from pixelq.agents.training.interval import Interval, State


class Updater:
    """Updates the network `gradient_steps` times every `train_every` steps, and the target network at its own period.

    Args:
        agent: The agent that learns.
        replay: What it learns from.
        interval: Told the loss and the mean q-value of each update.
        rows: Returns what there is to draw from; None for the length of the replay.

    Attributes:
        learn_from: Agent step of the first update. A new replay is filled first, also when the agent is not new.
        steps_owed: Steps that have not been answered by an update yet.
    """

    def __init__(self, agent: Agent, replay: Replay, interval: Interval, rows: Callable[[], int] | None = None) -> None:
        assert isinstance(agent.learner, Learner)
        self._rows = rows or replay.__len__
        self.agent, self.replay, self.interval = agent, replay, interval
        self.learner = agent.learner
        self.learn_from = agent.config.learning_starts + (agent.step if replay.time == 0 else 0)
        self.steps_owed = 0
        self._learn_from_empty = self.learn_from

    def learn(self, before: int) -> None:
        """Run the updates that the steps since the step `before` call for."""
        agent, config = self.agent, self.agent.config
        if agent.step < self.learn_from or self._rows() < self.learner.config.batch_size:
            return
        self.steps_owed += agent.step - max(before, self.learn_from)
        # Schedules
        if config.learning_rate_steps is not None or callable(config.learning_rate):
            agent.learner.set_learning_rate(learning_rate_at(config, agent.step))
        if config.prioritized:
            self.replay.set_beta(priority_beta_at(config, agent.step))
        if has_scheduled_returns(config):
            self.replay.set_returns(n_step_at(config, agent.step), gamma_at(config, agent.step))
        # Updates
        due, self.steps_owed = divmod(self.steps_owed, config.train_every)
        due *= config.gradient_steps
        while due > 0:
            until_reset = due if config.reset_every is None else config.reset_every - agent.updates % config.reset_every
            count = min(due, until_reset)
            due -= count
            for update in make_updates(self.learner, self.replay)(count):
                agent.updates += 1
                agent.learner.drop_subnormals(agent.updates)
                self.interval.losses.append((agent.step, update.loss, update.q_mean))
            if config.reset_every is not None and agent.updates % config.reset_every == 0:
                agent.reset_network()
        # Target network
        if config.target_tau is None and crossed(config.target_update_every, before, agent.step):
            self.learner.sync_target()

    def state(self) -> State:
        """Return what `load_state` restores."""
        return {"learn_from": self.learn_from, "steps_owed": self.steps_owed}, {}

    def load_state(self, values: dict[str, Any], arrays: dict[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            ValueError: If it is the state of another updater.
        """
        self.learn_from = count(values, "learn_from")
        # As many as a period has; more if it was shortened afterwards, but no more than were taken.
        self.steps_owed = count(values, "steps_owed", most=max(self.agent.config.train_every - 1, self.agent.step))

    def refill(self) -> None:
        """Learn only when an empty replay has been filled again."""
        self.learn_from = self._learn_from_empty

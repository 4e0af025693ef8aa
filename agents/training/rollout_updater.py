"""The rollout updater: the updates of the network when a rollout is complete."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pixelq.agents.agent import Agent
from pixelq.agents.config.at_step import epochs_at, gamma_at, learning_rate_at, past_rollouts_at
from pixelq.agents.experience.rollout import Drawn, Rollout
from pixelq.agents.learning.cuda_graph import make_rollout_update
from pixelq.agents.learning.rollout_learner import RolloutLearner
from pixelq.agents.storage.validation import count, fitting, part, restore_generator
from pixelq.agents.training.interval import Interval, State


@dataclass
class Lesson:
    """What is learned from after a rollout is complete: its steps and those of earlier rollouts, for all epochs."""

    start: int
    """Time step of the rollout's first step."""
    target: Tensor
    """λ-returns [T, N]; those of the earlier rollouts follow, [(1 + R) T, N]."""
    minibatches: int
    """Minibatches in an epoch for each rollout."""
    epochs: int
    """Number of epochs."""
    past: list[list[int]]
    """For each epoch, the first time steps of its earlier rollouts, R in all; empty if there are none."""
    generator: Tensor
    """State of the rollout's generator before the first order was drawn."""
    batches: Iterator[Drawn]
    """The rows of the minibatches that have not been learned from."""
    done: int = 0
    """Number of those that have."""

    @property
    def total(self) -> int:
        """Number of minibatches in all epochs."""
        return self.minibatches * (self.epochs + sum(map(len, self.past)))


class RolloutUpdater:
    """Updates the network from each rollout, in minibatches, for some epochs; in place of `Updater`.

    The values of the observation after the last step are those that acting has there, so the updates run while the
    environments play the first step of the next rollout. Its action is that of the weights before the updates.

    With `config.overlap` the updates are spread evenly over the steps of the next rollout instead, the last of them
    while its last step is played. So the environments have something to play all the time, and most actions come from
    weights that have learned from a part of the rollout before. Actors play a rollout at one go, so all updates come
    before it.

    With `past_rollouts` each epoch also has the steps of earlier rollouts. Their λ-returns are computed again, as in
    DQN(λ) (Daley & Amato 2019, arXiv:1810.09967), but by the network itself, where DQN(λ) has a target network. This is
    done for all epochs at once, when the newest rollout is complete; with `overlap`, the environments wait for it.

    Args:
        agent: The agent that learns.
        rollout: What it learns from.
        interval: Told the loss and the mean q-value of each update.
        may_overlap: Whether updates may be spread over the next rollout.
    """

    def __init__(self, agent: Agent, rollout: Rollout, interval: Interval, *, may_overlap: bool = True) -> None:
        assert isinstance(agent.learner, RolloutLearner)
        self.agent, self.rollout, self.interval = agent, rollout, interval
        self.learner = agent.learner
        self.may_overlap = may_overlap
        self._lesson: Lesson | None = None

    def learn(self, before: int) -> None:
        """Run the updates that are due; `before` is the step before the last one."""
        rollout, config = self.rollout, self.agent.config
        if rollout.is_complete:
            if self.agent.step >= config.learning_starts:
                self._plan()
            if self._lesson is not None and not (config.overlap and self.may_overlap):
                self._learn(self._lesson, self._lesson.total)
            rollout.begin()
        if self._lesson is not None:
            steps = rollout.time - self._lesson.start - rollout.steps + 1  # of the next rollout, with this one
            due = -(-self._lesson.total * steps // rollout.steps)
            self._learn(self._lesson, min(due, self._lesson.total))

    def _plan(self) -> None:
        """Begin the lesson of the rollout that is complete."""
        rollout, config, step = self.rollout, self.agent.config, self.agent.step
        returns = (gamma_at(config, step), config.td_lambda, config.reward_clip)
        epochs, count = epochs_at(config, step), past_rollouts_at(config, step)
        past = rollout.draw_past(count, epochs) if count else []
        targets = [rollout.targets(*returns)]
        value_of, parts = self.learner.values, config.minibatches
        targets += [rollout.past_targets(start, value_of, parts, *returns) for starts in past for start in starts]
        self._begin(rollout.start, torch.cat(targets), config.minibatches, epochs, past)

    def _begin(
        self, start: int, target: Tensor, minibatches: int, epochs: int, past: list[list[int]], done: int = 0
    ) -> None:
        """Begin a lesson, of which some minibatches may have been learned from."""
        generator = self.rollout.generator.get_state()
        batches = self.rollout.draw(target, minibatches, epochs, start=start, past=past, skipped=done)
        self._lesson = Lesson(start, target, minibatches, epochs, past, generator, batches, done)

    def _learn(self, lesson: Lesson, due: int) -> None:
        """Learn from minibatches until so many are done."""
        agent = self.agent
        self.learner.set_learning_rate(learning_rate_at(agent.config, agent.step))
        learn = make_rollout_update(self.learner, self.rollout)
        while lesson.done < due:
            update = learn(next(lesson.batches))
            lesson.done += 1
            agent.updates += 1
            self.learner.drop_subnormals(agent.updates)
            self.interval.losses.append((agent.step, update.loss, update.q_mean))
        if lesson.done == lesson.total:
            self._lesson = None

    def state(self) -> State:
        """Return what `load_state` restores: the lesson under way, if there is one."""
        lesson = self._lesson
        if lesson is None:
            return {}, {}
        values = {name: getattr(lesson, name) for name in ("start", "minibatches", "epochs", "past", "done")}
        arrays = {"lesson.target": lesson.target.cpu(), "lesson.generator": lesson.generator}
        return {"lesson": values}, arrays

    def load_state(self, values: dict[str, Any], arrays: dict[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            ValueError: If it is the state of another updater.
        """
        self._lesson = None
        lesson = values.get("lesson")
        if lesson is None:
            return
        if not isinstance(lesson, dict):
            raise ValueError(f"lesson must be an object, got {lesson!r:.80}")
        rollout, tensors = self.rollout, part(arrays, "lesson")
        if rollout.time == 0:
            return  # its rows are lost
        start, minibatches, epochs, done = (count(lesson, name) for name in ("start", "minibatches", "epochs", "done"))
        past = lesson.get("past", [])  # older versions had none
        self._check_past(past, epochs, start)
        rollouts = 1 + sum(map(len, past))
        target = fitting(tensors, "target", torch.empty((rollouts * rollout.steps, rollout.num_envs)))
        steps = rollout.time - start - rollout.steps
        rows = rollout.num_envs * rollout.steps
        if not (self.agent.config.overlap and 0 <= steps < rollout.steps and 0 < minibatches <= rows):
            raise ValueError(f"no rollout of {rollout.steps} steps from {start:,} on is learned from")
        if not (done < minibatches * (epochs + rollouts - 1) and torch.isfinite(target).all()):
            raise ValueError(f"{done:,} minibatches of a rollout cannot have been learned from")
        restore_generator(rollout.generator, tensors, "generator")
        self._begin(start, target.to(rollout.device), minibatches, epochs, past, done)

    def _check_past(self, past: Any, epochs: int, newest: int) -> None:
        """Check the earlier rollouts of a lesson.

        Raises:
            ValueError: If they are not kept, or not as many in each epoch.
        """
        is_list = isinstance(past, list) and all(isinstance(starts, list) for starts in past)
        if not is_list or (past and (len(past) != epochs or len(set(map(len, past))) != 1)):
            raise ValueError(f"past must hold the earlier rollouts of {epochs} epochs, got {past!r:.80}")
        if not all(type(first) is int and self.rollout.holds(first, newest) for starts in past for first in starts):
            raise ValueError(f"the rollouts from {past!r:.80} on are not kept")

    def refill(self) -> None:
        """Go on with an empty rollout, which needs no more than to be filled."""
        self._lesson = None

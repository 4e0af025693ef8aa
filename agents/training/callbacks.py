"""Callbacks: what others have a training do at its events."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from gymnasium.vector import VectorEnv

from pixelq.agents.agent import Agent
from pixelq.agents.evaluation.evaluate import Evaluation
from pixelq.agents.runs.progress import TRAINING
from pixelq.agents.training.options import LearnOptions


class Training:
    """A training, as its callbacks see it.

    Attributes:
        agent: The agent that learns.
        envs: The environments that it plays; stepping or resetting them would change the training.
        last_step: Agent step at which the training ends unless it is stopped.
        options: The keyword arguments of `learn`.
        phase: `training`; in `on_training_end` also `finished`, `stopped` by a signal, or `failed` with an error.
        why: Why a callback stopped the training; None if none has.
    """

    def __init__(self, agent: Agent, envs: VectorEnv, last_step: int, options: LearnOptions) -> None:
        self.agent, self.envs, self.last_step, self.options = agent, envs, last_step, options
        self.phase = TRAINING
        self.why: str | None = None

    @property
    def step(self) -> int:
        """Agent steps taken so far, summed over the environments."""
        return self.agent.step

    @property
    def out(self) -> Path | None:
        """Folder of the run; None if nothing is written."""
        return self.options.out

    def stop(self, why: str = "it asked for the end") -> None:
        """End the training after the present step, or after the first one, as if it were the last.

        A checkpoint is written and evaluated, and the run can be resumed.

        Args:
            why: What is said of the end, for example in config.json.
        """
        self.why = self.why or str(why or "it asked for the end")


class Callback:
    """Base class of callbacks, whose methods are called at the events of a training.

    All do nothing, so a subclass defines those that it needs. A callback may stop the training, by returning False from
    any of them or by `training.stop()`, and change settings by `training.agent.config = …`. It must leave the rest of
    the training as it is: the environments, the weights and the replay. What it draws from generators of its own
    changes nothing.

    An error in a callback ends the training, with a checkpoint of what was learned; so do `sys.exit()` and a value
    returned that is neither a bool nor None.

    Attributes:
        watches_only: Whether the callback never changes the training, so that a run goes on exactly without it too.
        made_by: What made the callback, as `MODULE:NAME(key=value)`, for the run's config.json; None for its class.
    """

    watches_only: ClassVar[bool] = False
    made_by: str | None = None

    def on_training_start(self, training: Training) -> bool | None:
        """Do something before the first step; the run's folder is open, and a resumed run is restored."""

    def on_step(self, training: Training) -> bool | None:
        """Do something after a step of all environments, before anything is written.

        This is called for callbacks that define it, and costs nothing for others.
        """

    def on_metrics(self, training: Training, row: dict[str, Any]) -> bool | None:
        """Do something with a row of metrics, by column, after it is written."""

    def on_checkpoint(self, training: Training, path: Path) -> bool | None:
        """Do something with a checkpoint's folder, after it is complete.

        A run that goes on from a checkpoint tells of it once more, because the checkpoint was written before.
        """

    def on_evaluation(self, training: Training, evaluation: Evaluation) -> bool | None:
        """Do something with an evaluation, after it is written.

        A run that goes on from an evaluated checkpoint tells of its evaluation once more, because the checkpoint was
        written before.
        """

    def on_training_end(self, training: Training) -> None:
        """Do something when the training ends, also by a signal or an error; `training.phase` says which.

        This is called for each callback whose `on_training_start` succeeded.
        """

    def state(self) -> dict[str, Any] | None:
        """Return JSON values that `load_state` restores, which every checkpoint holds; also called once at the start.

        None says that the callback keeps no state although it may need one; a run that is resumed then says that it
        does not go on exactly. By default that is so if the callback has attributes.
        """
        return None if vars(self) else {}

    def load_state(self, values: dict[str, Any]) -> None:
        """Restore what `state` returned, before `on_training_start`."""

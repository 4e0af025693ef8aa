"""The recorder: metrics, checkpoints and evaluations, written when they are due."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from statistics import fmean
from typing import Any, NoReturn

from gymnasium.vector import VectorEnv
from torch import Tensor

from pixelq.agents.agent import Agent
from pixelq.agents.config.schedules import crossed
from pixelq.agents.config.seeds import derived_seed
from pixelq.agents.errors import CallbackFailed, RunFailed, RunUnwritable, TrainingDiverged, UserError
from pixelq.agents.evaluation.evaluate import Evaluation, evaluate
from pixelq.agents.evaluation.exploration import evaluation_epsilon
from pixelq.agents.learning.staleness import q_discrepancy_of_row
from pixelq.agents.runs.checkpoints import RunCheckpoints
from pixelq.agents.runs.folder import RunFolder
from pixelq.agents.storage.validation import number
from pixelq.agents.training.collector import Collector
from pixelq.agents.training.hooks import Hooks
from pixelq.agents.training.interval import Episode, Interval, State
from pixelq.agents.training.options import LearnOptions
from pixelq.agents.training.progress import ProgressReporter, Stopwatch
from pixelq.agents.training.progress_line import ProgressLine
from pixelq.agents.training.ranks import Ranks
from pixelq.envs import EnvironmentFailed, is_atari
from pixelq.envs.interface import frames_per_step, protocol_of


class RunWriter:
    """The run folder and its checkpoints, if there are any, and what is said of them in errors.

    Args:
        agent: Its step is named in errors.
        folder: The run folder; None writes nothing.
        checkpoints: Its checkpoints; None together with the folder.
    """

    def __init__(self, agent: Agent, folder: RunFolder | None, checkpoints: RunCheckpoints | None) -> None:
        self.agent, self.folder, self.checkpoints = agent, folder, checkpoints

    def kept(self) -> str:
        """Return the end of an error's sentence, about the last checkpoint."""
        latest = None if self.folder is None else self.folder.checkpoints / "latest"
        exists = latest is not None and os.path.exists(latest)  # which raises no error where Path.exists would
        return f"; the last good checkpoint is {latest}" if exists else ""

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn an OSError into RunUnwritable while the context lasts."""
        try:
            yield
        except OSError as error:
            out = None if self.checkpoints is None else self.checkpoints.folder.parent
            raise RunUnwritable(out, error, f"at step {self.agent.step:,}", self.kept()) from error


class Recorder:
    """Writes metrics, checkpoints and evaluations of a training.

    Args:
        agent: The agent that is trained.
        collector: Its episodes, environments and restarts are reported.
        interval: What the next row of metrics is about.
        options: How often to write what.
        last_step: Agent step at which the training ends.
        writer: Where to write.
        line: Progress line.
        progress: Progress file.
        stopwatch: Time of the run.
        hooks: Told of what is written.

    Attributes:
        row_due: Whether a row of metrics is due at the current step and not written.
        evaluation_due: Whether an evaluation is due at the current step.
        has_begun: Whether the environments were reset or restored, so that a new run is worth its folder.
    """

    def __init__(
        self,
        agent: Agent,
        collector: Collector,
        interval: Interval,
        options: LearnOptions,
        *,
        last_step: int,
        writer: RunWriter,
        line: ProgressLine,
        progress: ProgressReporter,
        stopwatch: Stopwatch,
        hooks: Hooks,
    ) -> None:
        self.agent, self.collector, self.interval, self.options = agent, collector, interval, options
        self.last_step, self.writer, self.line = last_step, writer, line
        self.progress, self.stopwatch, self.hooks = progress, stopwatch, hooks
        self.frames_per_step = frames_per_step(collector.envs)
        self.ranks, self._meets_at_steps = options.ranks, False
        self.row_due = self.evaluation_due = self.has_begun = False
        self.checkpointed: int | None = None  # step of the last checkpoint

    def start(self) -> None:
        """Start the clocks and the progress line: what opening and restoring a run took is no training."""
        self.stopwatch.start()
        self.progress.start()
        agent, ranks = self.agent, self.ranks
        self.line.start()
        place = self.options.out or "no folder"
        rules = f"protocol {agent.protocol} · " if is_atari(agent.env_id or "") else ""
        envs = f"{self.collector.envs.num_envs * agent.learners} environments"
        if ranks is not None:
            envs += f" of {ranks.size} learners"
            self._meets_at_steps = bool(ranks.table(self.hooks.on_step is not None).any())
        self.line.say(f"{agent.env_id} · {rules}{envs} · {agent.device} · {place}")

    @property
    def is_at_end(self) -> bool:
        """Whether the training ends at the current step: at its last one, or because a callback stopped it."""
        return self.agent.step >= self.last_step or self.hooks.training.why is not None

    def finish_step(self) -> None:
        """Do what is left of the step at which a resumed run goes on: an evaluation, and telling the callbacks."""
        checkpoints, step = self.writer.checkpoints, self.agent.step
        if checkpoints is not None and self.options.resume and step > 0:
            self.hooks.checkpoint(checkpoints.path(step))
        self._meet()
        if self.evaluation_due or (step > 0 and self.hooks.training.why is not None):
            self._evaluate()

    def record(self, before: int, stopping: bool, run_state: Callable[[], State]) -> None:
        """Write what has become due since the step `before`.

        Args:
            before: Agent step at the last call.
            stopping: Whether the training ends here.
            run_state: Returns the state of all parts of the loop, for a checkpoint.

        Raises:
            TrainingDiverged: If a loss or a weight is not finite.
            RunUnwritable: If the run folder cannot be written.
            CallbackFailed: If a callback raises an error.
            EnvironmentFailed: If the evaluation environments fail; see `Restarts.restart`.
        """
        options, step = self.options, self.agent.step
        is_last = step >= self.last_step
        # A run that is stopped by a signal goes on with its interval when it is resumed.
        self.row_due = is_last or crossed(options.log_every, before, step)
        self.evaluation_due = is_last or crossed(options.evaluate_every, before, step)
        if self.hooks.on_step is not None or self._meets_at_steps:
            if self.hooks.on_step is not None:
                self.hooks.on_step()
            self._meet()
            if self.is_at_end:
                self.row_due = self.evaluation_due = True
        if self.row_due:
            self._log_interval()
        if stopping or self.evaluation_due or crossed(options.checkpoint_every, before, step):
            self.checkpoint(run_state)
        if self.evaluation_due:
            self._evaluate()
        self.progress.tick()

    def _meet(self) -> None:
        """Let all of several learners know whether a signal, or a callback of the first one, ends the training."""
        if self.ranks is not None:
            training = self.hooks.training
            if self.ranks.meet(training.why is not None).any():
                training.stop("a callback of the first learner asked for it")

    def _note_end(self) -> None:
        """Let the training end with an evaluation if a callback has just stopped it, as it may at any event."""
        self._meet()
        self.evaluation_due |= self.is_at_end

    def _log_interval(self) -> None:
        """Write a row of metrics, and begin the next interval."""
        agent, seconds = self.agent, self.stopwatch.seconds
        self._check_losses()
        new_updates = len(self.interval.losses)
        if self.ranks is not None:
            self.interval.episodes = self._episodes_of_all(self.ranks)
        row = {
            "step": agent.step,
            "frames": agent.step * self.frames_per_step,
            "episodes": agent.episodes,
            "epsilon": float(agent.epsilons_of_all(self.collector.envs.num_envs).mean()),
            "updates": agent.updates,
            "wall_seconds": seconds,
            "restarts": self.collector.restarts.count,
            "q_discrepancy": q_discrepancy_of_row(agent.network, self.collector.replay, agent.updates, new_updates),
            "learning_rate": agent.learner.learning_rate,
            "grad_norm": agent.learner.grad_norm() if new_updates else None,
            **self.interval.row(agent.step, seconds),
            **self.collector.metrics(),
        }
        if self.writer.folder is not None:
            with self.writer.writing():
                self.writer.folder.add_metrics(row)
        self.line.update(row)
        self.interval.begin(agent.step, seconds)
        self.row_due = False
        self.hooks.metrics(row)
        self._note_end()

    def _episodes_of_all(self, ranks: Ranks) -> list[Episode]:
        """Return the episodes of the interval of all learners to the first one, and their own to the others."""
        own = self.interval.episodes
        return [Episode(*each) for episodes in ranks.gather_values(own) for each in episodes] or own

    def checkpoint(self, run_state: Callable[[], State]) -> None:
        """Write the agent and all that the run needs to go on as the latest checkpoint."""
        folder, checkpoints = self.writer.folder, self.writer.checkpoints
        if checkpoints is None:
            return
        self._check_losses()
        if not all(parameter.isfinite().all() for parameter in self.agent.network.parameters()):
            self._diverged("a weight is no longer finite", self.agent.step)
        with self.writer.writing():
            if folder is not None:
                folder.sync()
                folder.note_settings(self.agent.config.to_dict(), self.agent.step)
            checkpoints.write(self.agent.step, self.agent.checkpoint(), *run_state())
        self.checkpointed = self.agent.step
        self.hooks.checkpoint(checkpoints.path(self.agent.step))
        self._note_end()

    def save_after_failure(self, error: BaseException, run_state: Callable[[], State]) -> None:
        """Write what is due, and a checkpoint, if a callback failed, which the training itself is not to blame for."""
        if self.hooks.has_failed and self.agent.step > 0 and self.ranks is None:  # the others know nothing of it
            self.hooks.is_silent = True
            with suppress(OSError, RunFailed, UserError):
                if self.row_due:  # or else the run would go on without it
                    self._log_interval()
                if self.checkpointed != self.agent.step:
                    self.checkpoint(run_state)
        if isinstance(error, CallbackFailed):
            error.kept = self.writer.kept()

    def _check_losses(self) -> None:
        """Check that the updates since the last row have finite losses."""
        for step, loss in self.interval.bad_losses():
            self._diverged(f"the loss became {loss}", step)

    def _diverged(self, what: str, step: int) -> NoReturn:
        kept = self.writer.kept()
        raise TrainingDiverged(f"{what} at step {step:,}; try another run with a lower learning_rate{kept}")

    def _evaluate(self) -> None:
        """Play the evaluation of this step, and mark its checkpoint if the mean is the best so far."""
        self._play_and_mark()
        self._meet()

    def _play_and_mark(self) -> None:
        envs, folder, checkpoints = self.options.evaluation_envs, self.writer.folder, self.writer.checkpoints
        if envs is None:
            return
        step, started = self.agent.step, time.monotonic()
        # Play
        is_new, result = folder is None or not folder.has_evaluation(step), None
        if is_new or self.hooks.wants_evaluations:
            with self.progress.evaluation():
                result = self._play(envs)
            if result is None:
                return
        if is_new and result is not None:
            self.line.say_evaluation(step, result)
            if folder is not None:
                with self.writer.writing():
                    folder.add_evaluation({"step": step, "length_mean": fmean(result.lengths), **result.row()})
        # Mark the best checkpoint
        if folder is not None and checkpoints is not None:
            with self.writer.writing():
                best = folder.best()
                if best is not None and best[0] == step:
                    checkpoints.point("best", step)
        if result is not None:
            self.hooks.evaluation(result)
        self.interval.started += time.monotonic() - started  # the speed is that of training

    def _play(self, envs: VectorEnv) -> Evaluation | None:
        """Play an evaluation, the same for the same step; return None if a signal stopped it."""
        agent, step, protocol = self.agent, self.agent.step, protocol_of(envs)
        while True:
            try:
                return evaluate(
                    agent,
                    envs,
                    self.options.evaluation_episodes,
                    epsilon=evaluation_epsilon(agent.config, protocol),
                    seed=step,
                    games_seed=derived_seed(agent.seed, "choice of the best", step),
                    should_stop=self.progress.stops_evaluation,
                )
            except InterruptedError:
                return None
            except EnvironmentFailed as error:
                self.collector.restarts.restart(envs, error)

    def end(self) -> None:
        """Report that the training has ended, and in config.json whether a callback stopped it."""
        training, folder = self.hooks.training, self.writer.folder
        if training.why is not None and not self.progress.received:
            by, step = self.hooks.stopped_by, self.agent.step
            if folder is not None:
                with self.writer.writing():
                    folder.describe(stopped={"step": step, "callback": by, "why": training.why})
            self.progress.last_step = step
            whose = f" by the callback {by}" if by else ""
            self.line.say(f"stopped at step {step:,}{whose}: {training.why}")
        self.progress.end()

    def close(self) -> None:
        """Stop the progress line, and close the records; a new run that did not begin leaves none."""
        self.line.stop()
        self.progress.close()
        folder = self.writer.folder
        if folder is not None:
            folder.close()
            if not self.has_begun and not self.options.resume:
                folder.discard()

    def state(self) -> State:
        """Return what `load_state` restores."""
        values, arrays = self.interval.state()
        own = {"evaluation_due": self.evaluation_due, "wall_seconds": self.stopwatch.seconds}
        return values | own | self.hooks.state(), arrays

    def load_state(self, values: dict[str, Any], arrays: dict[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            LookupError, ValueError: If it is the state of another recorder.
        """
        self.evaluation_due = bool(values["evaluation_due"])
        self.stopwatch.before = number(values, "wall_seconds")
        self.interval.load_state(values, arrays, self.agent.device)
        self.hooks.load_state(values)

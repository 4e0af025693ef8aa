"""The training loop: environments, replay and learner in turn, and the run's records."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from pixelq.agents.config.schedules import crossed, learning_rate_at, priority_beta_at
from pixelq.agents.config.seeds import derived_seed
from pixelq.agents.errors import InvalidConfig, RunUnwritable, TrainingDiverged
from pixelq.agents.evaluation.evaluate import Evaluation, evaluate
from pixelq.agents.learning.cuda_graph import make_updater
from pixelq.agents.learning.staleness import q_discrepancy_of_row
from pixelq.agents.runs.checkpoints import RunCheckpoints
from pixelq.agents.runs.folder import RunLog
from pixelq.agents.runs.machine import describe
from pixelq.agents.runs.progress import ProgressFile
from pixelq.agents.training.collector import Games, check_games, note_games
from pixelq.agents.training.interval import Interval
from pixelq.agents.training.options import LearnOptions
from pixelq.agents.training.progress_line import ProgressLine
from pixelq.agents.training.resume import restore_run, run_state
from pixelq.agents.training.signals import stop_signals
from pixelq.envs import EnvironmentFailed, fact

if TYPE_CHECKING:
    from pixelq.agents.dqn import DQN


def train(agent: DQN, envs: VectorEnv, steps: int, options: LearnOptions) -> None:
    """Trains ``agent`` for ``steps`` more steps; see ``DQN.learn``."""
    if steps < (0 if options.resume else 1):  # 0: what the run's last step left undone
        raise InvalidConfig(f"steps is {steps}; it must be at least 1")
    check_games(agent, envs, options.evaluation_envs)
    loop = Loop(agent, envs, options, agent.step + steps)  # a signal ends this at once: there is nothing to save
    try:
        with stop_signals() as loop.received:
            loop.run()
    finally:
        loop.close()
    if loop.received:
        loop.line.say(f"stopped at step {agent.step:,}; --resume goes on")
        raise KeyboardInterrupt if loop.received[0] == signal.SIGINT else SystemExit(128 + loop.received[0])


class Loop:
    """The state of one call of ``train``."""

    def __init__(self, agent: DQN, envs: VectorEnv, options: LearnOptions, last_step: int) -> None:
        self.agent, self.envs, self.options, self.last_step = agent, envs, options, last_step
        self.received: list[int] = []  # signals that ask to stop
        self.frames_per_step: int = fact(envs, "frames_per_step", 1)
        note_games(agent, envs)
        self.replay = agent.make_replay(envs.num_envs, fact(envs, "frame_stack", 1))
        self.memory = agent.make_memory(envs.num_envs)
        self.games = Games(envs)
        self.interval = Interval(envs.num_envs, agent.step)
        # A new replay is first filled, also when the agent is not new.
        self.learn_from = agent.config.learning_starts + (agent.step if self.replay.time == 0 else 0)
        self.steps_owed = 0  # steps that no update has answered yet
        self.restarts = 0  # of environments that failed
        self.evaluation_due = False  # at the present step
        self.wall_before = 0.0  # seconds of the run before this call
        self.obs: NDArray[Any] | None = None  # where a resumed run goes on
        self.line = ProgressLine(agent.step, last_step, self.frames_per_step, options.progress)
        self.log: RunLog | None = None
        if options.out is not None:
            self.log = RunLog(options.out, options.resume)
            try:
                self._open(self.log)
            except BaseException:
                self.log.close()
                raise
        self.update = make_updater(agent.learner, self.replay)
        self.wall_start = time.monotonic() - self.wall_before  # opening and putting back are no training
        self.progress = ProgressFile(self)

    def _open(self, log: RunLog) -> None:
        """Opens the run's folder, and goes on with the run in it if that is asked for."""
        self.checkpoints = RunCheckpoints(log.checkpoints, self.replay, self.options.keep)
        resumed = list(log.config.get("resumed", []))
        description = describe(self.agent, self.envs, self.options, self.last_step, resumed)
        goes_on = self.options.resume and self.agent.step > 0
        if self.options.resume:
            log.check_settings(description)
            self.checkpoints.check_newest(self.agent.step)
        if goes_on:
            resumed.append(restore_run(self))
        with self._writing():
            if goes_on:
                self.checkpoints.forget_after(self.agent.step)
            log.begin(log.config | description, self.agent.step)

    def run(self) -> None:
        """Steps until the last step, or until a signal was received."""
        agent, envs, options = self.agent, self.envs, self.options
        obs = envs.reset()[0] if self.obs is None else self.obs
        self.line.progress.start()
        self.line.say(f"{agent.env_id} · {envs.num_envs} environments · {agent.device} · {options.out or 'no folder'}")
        if self.evaluation_due:
            self._evaluate()
        stopping = agent.step >= self.last_step or bool(self.received)
        try:
            while not stopping:
                before = agent.step
                self.replay.observe(obs, None if self.memory is None else self.memory.state)
                actions = agent.explore(self.replay.latest(), self.memory)
                self.games.send(actions)
                agent.step += int((~self.interval.done).sum())  # the step after an episode's end only resets
                self._learn(before)  # while the games go on
                try:
                    obs, reward, terminated, truncated, info = self.games.recv()
                except EnvironmentFailed as error:
                    self.replay.cut(obs)  # the running episodes end at what was seen last
                    self.interval.cut()
                    obs = self._restart(envs, error)
                    self.memory = agent.make_memory(envs.num_envs)
                else:
                    self.replay.complete(actions, reward, terminated, truncated, info.get("life_lost"))
                    agent.episodes += self.interval.count(reward, terminated | truncated)
                    if self.memory is not None:
                        self.memory.step(actions, reward, terminated | truncated)
                stopping = agent.step >= self.last_step or bool(self.received)
                self._record(before, obs, stopping)
                self.progress.tick()
                stopping |= self.evaluation_due and bool(self.received)  # one that was cut off is played when resumed
        finally:
            try:
                self.games.settle()
            finally:
                self.replay.cut(obs)  # whoever learns on starts with a reset
        self.progress.end()

    def _record(self, before: int, obs: NDArray[Any], stopping: bool) -> None:
        """Writes what is due of metrics, checkpoint and evaluation since the step ``before``."""
        options, step = self.options, self.agent.step
        self.evaluation_due = step >= self.last_step or crossed(options.evaluate_every, before, step)
        # A run that a signal stops goes on with its interval when it is resumed.
        if step >= self.last_step or crossed(options.log_every, before, step):
            self._log_interval()
        if stopping or self.evaluation_due or crossed(options.checkpoint_every, before, step):
            self._checkpoint(obs)
        if self.evaluation_due:
            self._evaluate()

    def _restart(self, envs: VectorEnv, error: EnvironmentFailed) -> NDArray[Any]:
        """Makes environments that failed anew, once in a run, and returns what they show.

        Raises:
            EnvironmentFailed: some failed before, or these cannot be made anew.
        """
        if self.restarts > 0 or not hasattr(type(envs), "restart"):
            raise EnvironmentFailed(f"{error}, at step {self.agent.step:,}{self._kept()}") from error
        self.restarts += 1
        self.line.say(f"{error}, at step {self.agent.step:,}; the environments are made anew, once")
        return envs.restart()  # type: ignore[attr-defined,no-any-return]

    def _learn(self, before: int) -> None:
        """Runs the updates that the steps since ``before`` call for."""
        agent, config = self.agent, self.agent.config
        if agent.step < self.learn_from or len(self.replay) < config.batch_size:
            return
        self.steps_owed += agent.step - max(before, self.learn_from)
        if config.learning_rate_steps is not None:
            agent.learner.set_learning_rate(learning_rate_at(config, agent.step))
        self.replay.set_beta(priority_beta_at(config, agent.step))
        while self.steps_owed >= config.train_every:
            self.steps_owed -= config.train_every
            for _ in range(config.gradient_steps):
                self._update()
        if crossed(config.target_update_every, before, agent.step):
            agent.learner.sync_target()

    def _update(self) -> None:
        """One update, and a reset where one is due."""
        agent, config = self.agent, self.agent.config
        update = self.update()
        agent.updates += 1
        agent.learner.drop_subnormals(agent.updates)
        self.interval.losses.append((agent.step, update.loss, update.q_mean))
        if config.reset_every is not None and agent.updates % config.reset_every == 0:
            agent.reset_network()
            self.update = make_updater(agent.learner, self.replay)

    def _check_losses(self) -> None:
        """Sees that the updates since the last row have finite losses.

        Raises:
            TrainingDiverged: one of them is not.
        """
        for step, loss in self.interval.bad_losses():
            self._diverged(f"the loss became {loss}", step)

    def _diverged(self, what: str, step: int) -> NoReturn:
        raise TrainingDiverged(f"{what} at step {step:,}; try another run with a lower learning_rate{self._kept()}")

    def _kept(self) -> str:
        """The end of a sentence about what went wrong."""
        latest = self.log.checkpoints / "latest" if self.log else None
        return f"; the last good checkpoint is {latest}" if latest and latest.exists() else ""

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Around what is written to the run's folder."""
        try:
            yield
        except OSError as error:
            when = f"at step {self.agent.step:,}"
            raise RunUnwritable(self.options.out, error, when, self._kept()) from error

    def _log_interval(self) -> None:
        """Writes a row of metrics and starts the next interval."""
        agent, wall_seconds = self.agent, time.monotonic() - self.wall_start
        self._check_losses()
        row = {
            "step": agent.step,
            "frames": agent.step * self.frames_per_step,
            "episodes": agent.episodes,
            "epsilon": float(agent.epsilons(self.envs.num_envs).mean()),
            "updates": agent.updates,
            "wall_seconds": wall_seconds,
            "restarts": self.restarts,
            "q_discrepancy": q_discrepancy_of_row(agent.network, self.replay, agent.updates, len(self.interval.losses)),
            **self.interval.row(agent.step, wall_seconds),
        }
        if self.log is not None:
            with self._writing():
                self.log.metrics(row)
        self.line.update(row)
        self.interval.begin(agent.step, wall_seconds)

    def _checkpoint(self, obs: NDArray[Any]) -> None:
        """Writes the agent and all that the run needs to go on as the latest checkpoint.

        Raises:
            TrainingDiverged: a loss or a weight is not finite.
            RunUnwritable: the disk is full, or gone.
        """
        if self.log is None:
            return
        self._check_losses()
        if not all(parameter.isfinite().all() for parameter in self.agent.network.parameters()):
            self._diverged("a weight is no longer finite", self.agent.step)
        with self._writing():
            self.log.sync()
            self.checkpoints.write(self.agent, *run_state(self, obs))

    def _evaluate(self) -> None:
        """Plays the evaluation episodes; marks the checkpoint just written if their mean is the best so far."""
        envs = self.options.evaluation_envs
        if envs is None:
            return
        step, started = self.agent.step, time.monotonic()
        if self.log is None or not self.log.has_evaluation(step):
            with self.progress.evaluation():
                result = self._play(envs)
            if result is None:
                return
            self.line.say_evaluation(step, result)
            if self.log is not None:
                with self._writing():
                    self.log.evaluation(step, result)
        if self.log is not None:
            with self._writing():
                best = self.log.best()
                if best is not None and best[0] == step:
                    self.checkpoints.point("best", step)
        self.interval.started += time.monotonic() - started  # the speed is that of training

    def _play(self, envs: VectorEnv) -> Evaluation | None:
        """Plays an evaluation, the same for the same step; None if a signal stopped it."""
        agent, step = self.agent, self.agent.step
        while True:
            try:
                return evaluate(
                    agent,
                    envs,
                    self.options.evaluation_episodes,
                    epsilon=getattr(fact(envs, "protocol", None), "evaluation_epsilon", 0.0),
                    seed=step,
                    games_seed=derived_seed(agent.seed, "choice of the best", step),
                    should_stop=self.progress.stops_evaluation,
                )
            except InterruptedError:
                return None
            except EnvironmentFailed as error:
                self._restart(envs, error)  # which it is once only

    def close(self) -> None:
        """Stops the progress line and closes the records."""
        self.line.progress.stop()
        self.progress.close()
        if self.log is not None:
            self.log.close()

"""The training loop: environments, replay and learner in turn, and the run's records."""

from __future__ import annotations

import signal
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from pixelq.agents.checkpoint import point_to, remove_old
from pixelq.agents.config import InvalidConfig
from pixelq.agents.evaluation import evaluate
from pixelq.agents.games import Games
from pixelq.agents.options import LearnOptions, TrainingDiverged
from pixelq.agents.run_log import ProgressLine, RunLog, hardware
from pixelq.agents.schedules import learning_rate_at, priority_beta_at
from pixelq.agents.signals import stop_signals
from pixelq.agents.updates import make_updater
from pixelq.envs import fact

if TYPE_CHECKING:
    from pixelq.agents.dqn import DQN


def train(agent: DQN, envs: VectorEnv, steps: int, options: LearnOptions) -> None:
    """Trains ``agent`` for ``steps`` more steps; see ``DQN.learn``."""
    if steps < 1:
        raise InvalidConfig(f"steps is {steps}; it must be at least 1")
    mode = envs.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
    if mode != AutoresetMode.NEXT_STEP:
        raise InvalidConfig(f"the environments reset with {mode}; they must be made with AutoresetMode.NEXT_STEP")
    if not agent.fits(envs):
        raise InvalidConfig("the environments' spaces are not the agent's; make the agent from these environments")
    with stop_signals() as received:
        loop = _Loop(agent, envs, options, agent.step + steps, received)
        try:
            loop.run()
        finally:
            loop.close()
    if received:
        loop.line.say(f"stopped at step {agent.step:,}; --resume goes on")
        raise KeyboardInterrupt if received[0] == signal.SIGINT else SystemExit(128 + received[0])


class _Loop:
    """The state of one call of ``train``."""

    def __init__(self, agent: DQN, envs: VectorEnv, options: LearnOptions, last_step: int, received: list[int]) -> None:
        self.agent, self.envs, self.options, self.last_step = agent, envs, options, last_step
        self.received = received  # signals that ask to stop
        self.frames_per_step: int = fact(envs, "frames_per_step", 1)
        agent.env_id = fact(envs, "env_id", None)
        agent.protocol = getattr(fact(envs, "protocol", None), "name", None)
        self.replay = agent.make_replay(envs.num_envs, fact(envs, "frame_stack", 1))
        self.update = make_updater(agent.learner, self.replay)
        self.games = Games(envs)
        # A new replay is first filled, also when the agent is not new.
        self.learn_from = agent.config.learning_starts + (agent.step if self.replay.time == 0 else 0)
        self.log: RunLog | None = None
        if options.out is not None:
            self.log = RunLog(options.out, self._description(), agent.step if options.resume else None)
        self.best_mean = self.log.best_mean if self.log else None
        self.wall_start = time.monotonic() - (self.log.wall_seconds if self.log else 0.0)
        self.line = ProgressLine(agent.step, last_step, self.frames_per_step, options.progress)

        num_envs = envs.num_envs
        self.done: NDArray[np.bool_] = np.zeros(num_envs, dtype=bool)
        self.running_return, self.running_length = np.zeros(num_envs), np.zeros(num_envs, dtype=np.int64)
        self.finished: list[tuple[float, int]] = []  # return and length of the interval's episodes
        self.losses: list[tuple[int, Tensor, Tensor]] = []  # step, loss, mean q of the interval's updates
        self.steps_owed = 0  # steps that no update has answered yet
        self.interval_start, self.interval_step = time.monotonic(), agent.step

    def run(self) -> None:
        """Steps until the last step, or until a signal was received."""
        agent, envs, options = self.agent, self.envs, self.options
        obs, _ = envs.reset()
        self.line.progress.start()
        self.line.say(f"{agent.env_id} · {envs.num_envs} environments · {agent.device} · {options.out or 'no folder'}")
        stopping = False
        try:
            while not stopping:
                before = agent.step
                self.replay.observe(obs)
                actions = agent.explore(self.replay.latest())
                self.games.send(actions)
                agent.step += int((~self.done).sum())  # the step after an episode's end only resets
                self._learn(before)  # while the games go on
                obs, reward, terminated, truncated, info = self.games.recv()
                self.replay.complete(actions, reward, terminated, truncated, info.get("life_lost"))
                self._count(reward, terminated | truncated)
                stopping = agent.step >= self.last_step or bool(self.received)
                self._record(before, stopping)
        finally:
            try:
                self.games.settle()
            finally:
                self.replay.cut(obs)  # whoever learns on starts with a reset

    def _record(self, before: int, stopping: bool) -> None:
        """Writes what is due of metrics, checkpoint and evaluation since the step ``before``."""
        options, step = self.options, self.agent.step
        evaluating = step >= self.last_step or _crossed(options.evaluate_every, before, step)
        if stopping or _crossed(options.log_every, before, step):
            self._log_interval()
        if stopping or evaluating or _crossed(options.checkpoint_every, before, step):
            self._checkpoint()
        if evaluating:
            self._evaluate()

    def _count(self, reward: NDArray[Any], done: NDArray[np.bool_]) -> None:
        """Counts returns, lengths and the episodes that ended."""
        self.running_return += reward
        self.running_length += ~self.done
        for i in np.flatnonzero(done):
            self.finished.append((float(self.running_return[i]), int(self.running_length[i])))
            self.running_return[i], self.running_length[i] = 0.0, 0
            self.agent.episodes += 1
        self.done = done

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
        if _crossed(config.target_update_every, before, agent.step):
            agent.learner.sync_target()

    def _update(self) -> None:
        """One update, and a reset where one is due."""
        agent, config = self.agent, self.agent.config
        update = self.update()
        agent.updates += 1
        self.losses.append((agent.step, update.loss, update.q_mean))
        if config.reset_every is not None and agent.updates % config.reset_every == 0:
            agent.reset_network()
            self.update = make_updater(agent.learner, self.replay)

    def _mean_losses(self) -> tuple[float, float] | None:
        """Mean loss and q of the updates since the last row.

        Raises:
            TrainingDiverged: one of the losses is not finite.
        """
        if not self.losses:
            return None
        values = torch.stack([torch.stack(pair) for _, *pair in self.losses]).cpu()  # [updates, 2]
        bad = (~values[:, 0].isfinite()).nonzero()
        if bad.numel():
            self._diverged(f"the loss became {float(values[int(bad[0]), 0])}", self.losses[int(bad[0])][0])
        loss, q = values.mean(0).tolist()
        return loss, q

    def _diverged(self, what: str, step: int) -> NoReturn:
        latest = self.log.checkpoints / "latest" if self.log else None
        kept = f"; the last good checkpoint is {latest}" if latest and latest.exists() else ""
        raise TrainingDiverged(f"{what} at step {step:,}; try a lower learning_rate{kept}")

    def _log_interval(self) -> None:
        """Writes a row of metrics and starts the next interval."""
        agent, now = self.agent, time.monotonic()
        means = self._mean_losses()
        returns = [episode_return for episode_return, _ in self.finished]
        lengths = [length for _, length in self.finished]
        row = {
            "step": agent.step,
            "frames": agent.step * self.frames_per_step,
            "episodes": agent.episodes,
            "return_mean": float(np.mean(returns)) if returns else None,
            "return_median": float(np.median(returns)) if returns else None,
            "length_mean": float(np.mean(lengths)) if lengths else None,
            "loss": means[0] if means else None,
            "q_mean": means[1] if means else None,
            "epsilon": agent.epsilon,
            "updates": agent.updates,
            "steps_per_second": (agent.step - self.interval_step) / max(now - self.interval_start, 1e-9),
            "wall_seconds": now - self.wall_start,
        }
        if self.log is not None:
            self.log.metrics(row)
        self.line.update(row)
        self.finished, self.losses = [], []
        self.interval_start, self.interval_step = time.monotonic(), agent.step

    def _checkpoint(self) -> None:
        """Writes the agent as the latest checkpoint.

        Raises:
            TrainingDiverged: a loss or a weight is not finite.
        """
        if self.log is None:
            return
        self._mean_losses()
        if not all(parameter.isfinite().all() for parameter in self.agent.network.parameters()):
            self._diverged("a weight is no longer finite", self.agent.step)
        folder = self._folder(self.log)
        self.agent.save(folder)
        point_to(self.log.checkpoints / "latest", folder)
        remove_old(self.log.checkpoints, self.options.keep)

    def _folder(self, log: RunLog) -> Path:
        return log.checkpoints / f"step_{self.agent.step:010d}"

    def _evaluate(self) -> None:
        """Plays the evaluation episodes; marks the checkpoint just written if their mean is the best so far."""
        envs = self.options.evaluation_envs
        if envs is None:
            return
        epsilon: float = getattr(fact(envs, "protocol", None), "evaluation_epsilon", 0.0)
        episodes, step, started = self.options.evaluation_episodes, self.agent.step, time.monotonic()
        try:
            result = evaluate(
                self.agent, envs, episodes, epsilon=epsilon, seed=step, should_stop=lambda: bool(self.received)
            )
        except InterruptedError:
            return
        low, high = result.ci95
        self.line.say(
            f"step {step:,}: mean return {result.mean:.1f} (95% {low:.1f} to {high:.1f}) "
            f"over {result.episodes} evaluation episodes"
        )
        is_best = self.best_mean is None or result.mean > self.best_mean
        if is_best:
            self.best_mean = result.mean
        if self.log is not None:
            self.log.evaluation(step, result)
            if is_best:
                point_to(self.log.checkpoints / "best", self._folder(self.log))
        self.interval_start += time.monotonic() - started  # the speed is that of training

    def _description(self) -> dict[str, Any]:
        agent, envs = self.agent, self.envs
        options = self.options
        return {
            "version": version("pixelq"),
            "env": agent.env_id,
            "protocol": agent.protocol,
            "num_envs": envs.num_envs,
            "seed": agent.seed,
            "steps": self.last_step,
            "evaluate_every": options.evaluate_every,
            "evaluation_episodes": options.evaluation_episodes,
            "checkpoint_every": options.checkpoint_every,
            "keep": options.keep,
            "log_every": options.log_every,
            "device": str(agent.device),
            "agent": agent.config.to_dict(),
            "hardware": hardware(agent.device),
            **options.description,
        }

    def close(self) -> None:
        """Stops the progress line and closes the records."""
        self.line.progress.stop()
        if self.log is not None:
            self.log.close()


def _crossed(every: int, before: int, after: int) -> bool:
    """Whether a multiple of ``every`` lies in (before, after]."""
    return after // every > before // every

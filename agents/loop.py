"""The training loop: environments, replay and learner in turn, and the run's records."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from pixelq.agents.checkpoint import point_to, remove_unmarked
from pixelq.agents.config import InvalidConfig
from pixelq.agents.evaluation import evaluate
from pixelq.agents.run_log import ProgressLine, RunLog, hardware

if TYPE_CHECKING:
    from pixelq.agents.dqn import DQN


class TrainingDiverged(RuntimeError):
    """The loss is no longer finite; the message names the step."""


@dataclass(frozen=True)
class LearnOptions:
    """What surrounds learning; counts are agent steps, and nothing here changes what is learned.

    Raises:
        InvalidConfig: a count is less than 1.
    """

    out: Path | None = None
    """The run's folder; None writes nothing."""
    evaluation_envs: VectorEnv | None = None
    """Environments of their own for the evaluations; None for no evaluations."""
    evaluate_every: int = 50_000
    """Steps between evaluations; the last step is always evaluated."""
    evaluation_episodes: int = 10
    """Episodes of each."""
    checkpoint_every: int = 50_000
    """Steps between checkpoints; the last step always writes one."""
    log_every: int = 1_000
    """Steps between rows of metrics.csv."""
    progress: bool = False
    """Show a progress line on stderr."""
    resume: dict[str, Any] | None = None
    """Go on with the run in out: what its checkpoint keeps under ``run``."""
    description: dict[str, Any] = field(default_factory=dict)
    """More for config.json."""

    def __post_init__(self) -> None:
        for name in ("evaluate_every", "evaluation_episodes", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise InvalidConfig(f"{name} is {getattr(self, name)}; it must be at least 1")


def train(agent: DQN, envs: VectorEnv, steps: int, options: LearnOptions) -> None:
    """Trains ``agent`` for ``steps`` more steps; see ``DQN.learn``."""
    if steps < 1:
        raise InvalidConfig(f"steps is {steps}; it must be at least 1")
    mode = envs.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
    if mode != AutoresetMode.NEXT_STEP:
        raise InvalidConfig(f"the environments reset with {mode}; they must be made with AutoresetMode.NEXT_STEP")
    if envs.single_observation_space.shape != agent.observation_space.shape or (
        envs.single_action_space != agent.action_space
    ):
        raise InvalidConfig("the environments' spaces are not the agent's; make the agent from these environments")
    loop = _Loop(agent, envs, options, agent.step + steps)
    try:
        with _stop_signals() as received:
            loop.run(received)
    finally:
        loop.close()
    if received:
        raise KeyboardInterrupt if received[0] == signal.SIGINT else SystemExit(128 + received[0])


class _Loop:
    """The state of one call of ``train``."""

    def __init__(self, agent: DQN, envs: VectorEnv, options: LearnOptions, last_step: int) -> None:
        self.agent, self.envs, self.options, self.last_step = agent, envs, options, last_step
        self.frames_per_step: int = getattr(envs, "frames_per_step", 1)
        agent.env_id = getattr(envs, "env_id", None)
        agent.protocol = getattr(getattr(envs, "protocol", None), "name", None)
        self.replay = agent.make_replay(envs)
        # A new replay is first filled, also when the agent is not new.
        self.learn_from = agent.config.learning_starts + (agent.step if self.replay.time == 0 else 0)
        resumed = options.resume or {}
        self.best_mean: float | None = resumed.get("best_mean")
        self.wall_start = time.monotonic() - resumed.get("wall_seconds", 0.0)
        self.log: RunLog | None = None
        if options.out is not None:
            self.log = RunLog(options.out, self._description(), None if options.resume is None else agent.step)
        self.line = ProgressLine(agent.step, last_step, self.frames_per_step, options.progress)

        num_envs = envs.num_envs
        self.done: NDArray[np.bool_] = np.zeros(num_envs, dtype=bool)
        self.running_return, self.running_length = np.zeros(num_envs), np.zeros(num_envs, dtype=np.int64)
        self.finished: list[tuple[float, int]] = []  # return and length of the interval's episodes
        self.losses: list[tuple[int, Tensor, Tensor]] = []  # step, loss, mean q of the interval's updates
        self.steps_owed = 0  # steps that no update has answered yet
        self.interval_start, self.interval_step = time.monotonic(), agent.step

    def run(self, received: list[int]) -> None:
        """Steps until the last step, or until a signal was received."""
        agent, envs, options = self.agent, self.envs, self.options
        obs, _ = envs.reset()
        self.line.progress.start()
        self.line.say(f"{agent.env_id} · {envs.num_envs} environments · {agent.device} · {options.out}")
        stopping = False
        while not stopping:
            before = agent.step
            actions = agent.act(obs, agent.epsilon)
            next_obs, reward, terminated, truncated, info = envs.step(actions)
            self.replay.add(obs, actions, reward, terminated, truncated, info.get("life_lost"))
            self._count(reward, terminated | truncated)
            obs = next_obs
            self._learn(before)
            finished = agent.step >= self.last_step
            stopping = finished or bool(received)
            if stopping or _crossed(options.log_every, before, agent.step):
                self._log_interval()
            is_best = False
            if finished or _crossed(options.evaluate_every, before, agent.step):
                is_best = self._evaluate()
            if stopping or is_best or _crossed(options.checkpoint_every, before, agent.step):
                self._checkpoint(is_best)
        self.replay.cut(obs)

    def _count(self, reward: NDArray[Any], done: NDArray[np.bool_]) -> None:
        """Counts the steps and the episodes that ended; the step after an end only resets."""
        self.agent.step += int((~self.done).sum())
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
        while self.steps_owed >= config.train_every:
            self.steps_owed -= config.train_every
            update = agent.learner.update(self.replay.sample(config.batch_size))
            agent.updates += 1
            self.losses.append((agent.step, update.loss, update.q_mean))
        if _crossed(config.target_update_every, before, agent.step):
            agent.learner.sync_target()

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
            step, loss = self.losses[int(bad[0])][0], float(values[int(bad[0]), 0])
            kept = "" if self.log is None else f"; the last good checkpoint is {self.log.checkpoints / 'latest'}"
            raise TrainingDiverged(f"the loss became {loss} at step {step:,}; try a lower learning_rate{kept}")
        loss, q = values.mean(0).tolist()
        return loss, q

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

    def _checkpoint(self, is_best: bool) -> None:
        """Writes the agent as the latest checkpoint, perhaps as the best too, and removes those that are neither."""
        if self.log is None:
            return
        self._mean_losses()
        folder = self.log.checkpoints / f"step_{self.agent.step:010d}"
        run = {"wall_seconds": time.monotonic() - self.wall_start, "best_mean": self.best_mean}
        self.agent.save(folder, run)
        point_to(self.log.checkpoints / "latest", folder)
        if is_best:
            point_to(self.log.checkpoints / "best", folder)
        remove_unmarked(self.log.checkpoints)

    def _evaluate(self) -> bool:
        """Plays the evaluation episodes; returns whether their mean is the best so far."""
        envs = self.options.evaluation_envs
        if envs is None:
            return False
        epsilon: float = getattr(getattr(envs, "protocol", None), "evaluation_epsilon", 0.0)
        result = evaluate(self.agent, envs, self.options.evaluation_episodes, epsilon=epsilon, seed=self.agent.step)
        low, high = result.ci95
        self.line.say(
            f"step {self.agent.step:,}: mean return {result.mean:.1f} (95% {low:.1f} to {high:.1f}) "
            f"over {result.episodes} evaluation episodes"
        )
        if self.log is not None:
            self.log.evaluation(self.agent.step, result)
        is_best = self.best_mean is None or result.mean > self.best_mean
        if is_best:
            self.best_mean = result.mean
        self.interval_start = time.monotonic()  # the speed is that of training
        return is_best

    def _description(self) -> dict[str, Any]:
        agent, envs = self.agent, self.envs
        return {
            "env": agent.env_id,
            "protocol": agent.protocol,
            "num_envs": envs.num_envs,
            "seed": agent.seed,
            "steps": self.last_step,
            "device": str(agent.device),
            "agent": agent.config.to_dict(),
            "hardware": hardware(agent.device),
            **self.options.description,
        }

    def close(self) -> None:
        """Stops the progress line and closes the records."""
        self.line.progress.stop()
        if self.log is not None:
            self.log.close()


def _crossed(every: int, before: int, after: int) -> bool:
    """Whether a multiple of ``every`` lies in (before, after]."""
    return after // every > before // every


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """The first SIGINT or SIGTERM, noted for the loop to stop in good order; a second one acts as ever."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.getsignal(number) for number in numbers}

    def note(number: int, _frame: object) -> None:
        received.append(number)
        restore()

    def restore() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    for number in numbers:
        signal.signal(number, note)
    try:
        yield received
    finally:
        restore()

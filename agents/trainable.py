"""Agents that train themselves: `learn`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from gymnasium.vector import VectorEnv

from pixelq.agents.agent import Agent
from pixelq.agents.training.callbacks import Callback
from pixelq.agents.training.loop import train
from pixelq.agents.training.options import LearnOptions, ProgressStyle
from pixelq.agents.training.ranks import Ranks


class Trainable(Agent):
    """An agent that trains itself: what `DQN` and `PQN` have in common."""

    def learn(
        self,
        envs: VectorEnv,
        steps: int,
        out: str | os.PathLike[str] | None = None,
        *,
        evaluation_envs: VectorEnv | None = None,
        evaluate_every: int = LearnOptions.evaluate_every,
        evaluation_episodes: int = LearnOptions.evaluation_episodes,
        checkpoint_every: int = LearnOptions.checkpoint_every,
        keep: int = LearnOptions.keep,
        log_every: int = LearnOptions.log_every,
        progress: bool | ProgressStyle = False,
        resume: bool = False,
        callbacks: Sequence[Callback] = (),
        description: dict[str, Any] | None = None,
        ranks: Ranks | None = None,
    ) -> Self:
        """Train for `steps` more agent steps, summed over the environments.

        Nothing but `steps`, the environments and callbacks changes what is learned. SIGINT, SIGTERM, SIGHUP and SIGUSR1
        write a checkpoint and stop, unless they are ignored.

        The next call with the same environments goes on where the games stand: twelve calls of 1,000 steps are one of
        12,000. If `learn`, `evaluate` or, for those of `make_vec`, anybody has reset or stepped them since, it begins
        new episodes. The replay is kept for environments that are made alike, and emptied for others.

        Args:
            envs: Environments with next-step autoreset, as `pixelq.envs.make_vec` makes them.
            steps: Number of agent steps; an Atari step is four frames.
            out: Folder of the run, for the configuration, metrics and checkpoints; None writes nothing.
            evaluation_envs: Separate environments for evaluations; None for no evaluations.
            evaluate_every, evaluation_episodes: Steps between evaluations, and episodes in each; the last step has one.
            checkpoint_every: Steps between checkpoints; each evaluation and the last step write one too.
            keep, log_every: Newest checkpoints to keep, besides the best; steps between rows of metrics.csv.
            progress: `bar`, `line` or `none` (False) on stderr; `auto` (True) is a bar where it can be or lines.
            resume: Whether to go on exactly with the run in `out`, from whose checkpoint the agent was loaded.
            callbacks: What is told of the training's events, and may stop it; see `Callback`.
            description: Further entries of config.json; one that is None is left out, also if the run had it.
            ranks: The learners that train together, of which this process is one and `envs` its share; see `Ranks`.

        Raises:
            InvalidConfig: If environments, replay or an argument do not fit, or the optimiser's step size was changed.
            InvalidRun: If `out` cannot be written or holds another run.
            InvalidCheckpoint: If the run in `out` cannot be resumed, or the agent is not the run's.
            TrainingDiverged: If the loss is no longer finite; the last good checkpoint is kept.
            RunUnwritable: If `out` can no longer be written.
            CallbackFailed: If a callback raises an error; a checkpoint is kept.
            EnvironmentFailed: If the environments fail for the second time, or cannot be restarted.
        """
        options = LearnOptions(
            out=None if out is None else Path(out),
            evaluation_envs=evaluation_envs,
            evaluate_every=evaluate_every,
            evaluation_episodes=evaluation_episodes,
            checkpoint_every=checkpoint_every,
            keep=keep,
            log_every=log_every,
            progress=progress,
            resume=resume,
            description=description or {},
            ranks=ranks,
        )
        train(self, envs, steps, options, callbacks)
        return self

"""The training loop: collector, updater and recorder in turn."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from pixelq.agents.agent import Agent
from pixelq.agents.config.integers import checked_integer
from pixelq.agents.config.presets import preset_of
from pixelq.agents.evaluation.evaluate import check_gives_masks
from pixelq.agents.experience.ring import Ring
from pixelq.agents.runs.checkpoints import RunCheckpoints, check_capacity, check_newest
from pixelq.agents.runs.folder import RunFolder
from pixelq.agents.runs.machine import hardware
from pixelq.agents.runs.progress import PROGRESS, ProgressFile
from pixelq.agents.storage.environments import ARGUMENTS
from pixelq.agents.storage.validation import is_count
from pixelq.agents.training.advice import advice
from pixelq.agents.training.collector import Collector, Restarts, check_envs, note_envs
from pixelq.agents.training.interval import Interval
from pixelq.agents.training.options import LearnOptions
from pixelq.agents.training.progress import ProgressReporter, Stopwatch
from pixelq.agents.training.progress_line import ProgressLine
from pixelq.agents.training.recorder import Recorder, RunWriter
from pixelq.agents.training.resume import restore_run, run_state
from pixelq.agents.training.signals import stop_signals
from pixelq.agents.training.threads import suitable_threads
from pixelq.agents.training.updater import Updater
from pixelq.envs.interface import frame_stack_of, frames_per_step


class Parts(NamedTuple):
    """The parts of the loop."""

    collector: Collector
    updater: Updater
    recorder: Recorder


def train(agent: Agent, envs: VectorEnv, steps: int, options: LearnOptions) -> None:
    """Train an agent for `steps` more steps; see `DQN.learn`."""
    steps = checked_integer("steps", steps, 0 if options.resume else 1)  # 0 finishes what the last step left undone
    check_envs(agent, envs, options.evaluation_envs)
    agent.check_learning_rate()
    note_envs(agent, envs, resume=options.resume)
    sentences = advice(agent, steps, options.description.get("preset"), resume=options.resume)
    with suitable_threads(agent, options.out if options.resume else None):
        _train(agent, envs, agent.step + steps, options, sentences)


def _train(agent: Agent, envs: VectorEnv, last_step: int, options: LearnOptions, sentences: Sequence[str]) -> None:
    """Train up to a step, and warn of the given sentences if nothing speaks against the run."""
    received: list[int] = []
    parts = open_run(agent, envs, options, last_step, received)  # a signal ends this at once: nothing is lost
    for sentence in sentences:
        warnings.warn(sentence, stacklevel=4)  # the caller of learn
    try:
        with stop_signals(received):
            run(parts, received)
    finally:
        parts.recorder.close()
    if received:
        parts.recorder.line.say(f"stopped at step {agent.step:,}; resume the run to go on")
        raise KeyboardInterrupt if received[0] == signal.SIGINT else SystemExit(128 + received[0])


def run(parts: Parts, received: list[int]) -> None:
    """Step until the last step, or until a signal is received.

    An iteration is one step of all environments. While they play it, the updates run that the steps call for, so
    emulation hides behind learning, and actions always come from the newest weights.
    """
    collector, updater, recorder = parts
    agent, last_step = collector.agent, recorder.last_step
    state_of_all = partial(run_state, parts, agent.device)
    recorder.start()
    collector.start()
    if agent.action_masks and recorder.options.evaluation_envs is not None:
        check_gives_masks(agent, recorder.options.evaluation_envs)
    if agent.step > 0 and not recorder.options.resume:
        recorder.checkpoint(state_of_all)  # the seed alone does not begin this run again: the agent has learned before
    recorder.finish_evaluation()
    stopping = agent.step >= last_step or bool(received)
    try:
        while not stopping:
            before = agent.step
            collector.act()
            updater.learn(before)
            collector.receive()
            stopping = agent.step >= last_step or bool(received)
            recorder.record(before, stopping, state_of_all)
            stopping |= recorder.evaluation_due and bool(received)  # an evaluation cut off is played when resumed
    finally:
        collector.stop()
    recorder.end()


def open_run(agent: Agent, envs: VectorEnv, options: LearnOptions, last_step: int, received: list[int]) -> Parts:
    """Make the parts of the loop, open the run folder, and restore the run in it if it is resumed.

    Raises:
        InvalidConfig: If the replay is too small for the environments; then no folder has been created.
        InvalidRun: If the folder cannot be used, or its run has other settings.
        InvalidCheckpoint: If the run cannot be restored, or the agent is not the run's.
    """
    if options.out is None or not options.resume:  # a new folder is only created for a run that can begin
        agent.make_replay(envs.num_envs, frame_stack_of(envs))
    if options.out is None:
        return _make_parts(agent, envs, options, last_step, received, None)
    folder = RunFolder(options.out, options.resume)
    try:
        if options.resume:
            last_step = _last_step_of(folder, last_step, agent.step)
            _check_run(agent, envs, options, last_step, folder)
        parts = _make_parts(agent, envs, options, last_step, received, folder)
        _begin(parts, folder)
    except BaseException:
        folder.close()
        raise
    return parts


def _last_step_of(folder: RunFolder, last_step: int, step: int) -> int:
    """Return the last step of a run that is resumed; the last one that it had, if no steps are left but its end is.

    Several environments may take a run a few steps beyond its last step.
    """
    own = folder.config.get("steps")
    return min(own, step) if last_step == step and is_count(own) else last_step


def _check_run(agent: Agent, envs: VectorEnv, options: LearnOptions, last_step: int, folder: RunFolder) -> None:
    """Check that the agent can go on with a run, before memory is taken for its replay.

    Raises:
        InvalidRun: If the run has other settings.
        InvalidCheckpoint: If the agent's checkpoint is not of the run, or cannot have such a replay.
    """
    folder.check_settings(describe(agent, envs, options, last_step, []), agent.step)
    check_newest(folder.checkpoints, agent.step)
    if agent.step > 0:
        config, space = agent.config, agent.observation_space
        ring = Ring(
            space.shape,
            np.dtype(space.dtype),
            length=1,
            num_envs=envs.num_envs,
            frame_stack=frame_stack_of(envs),
            device=torch.device("cpu"),
            num_actions=agent.num_actions if agent.action_masks else None,
        )
        period = 1 if config.lstm is None else config.sequence_period
        check_capacity(folder.checkpoints, agent.step, ring, config.replay_capacity, period)


def _make_parts(
    agent: Agent,
    envs: VectorEnv,
    options: LearnOptions,
    last_step: int,
    received: list[int],
    folder: RunFolder | None,
) -> Parts:
    """Make the parts of the loop, and what they share."""
    # What the parts share
    replay = agent.make_replay(envs.num_envs, frame_stack_of(envs))
    interval, stopwatch = Interval(agent.step), Stopwatch()
    line = ProgressLine(agent.step, last_step, options.progress)
    checkpoints = None if folder is None else RunCheckpoints(folder.checkpoints, replay, options.keep)
    writer = RunWriter(agent, folder, checkpoints)
    # The parts
    collector = Collector(agent, envs, replay, interval, Restarts(agent, line.warn, writer.kept))
    updater = Updater(agent, replay, interval)
    progress = ProgressReporter(
        ProgressFile(None if folder is None else folder.out / PROGRESS),
        agent,
        collector.episodes,
        stopwatch,
        last_step=last_step,
        evaluate_every=options.evaluate_every,
        frames_per_step=frames_per_step(envs),
        received=received,
        line=line,
    )
    recorder = Recorder(
        agent,
        collector,
        interval,
        options,
        last_step=last_step,
        writer=writer,
        line=line,
        progress=progress,
        stopwatch=stopwatch,
    )
    return Parts(collector, updater, recorder)


def _begin(parts: Parts, folder: RunFolder) -> None:
    """Begin a run in its folder, or go on with the run that is there."""
    recorder, agent, checkpoints = parts.recorder, parts.collector.agent, parts.recorder.writer.checkpoints
    assert checkpoints is not None
    resumed = list(folder.config.get("resumed", []))
    description = describe(agent, parts.collector.envs, recorder.options, recorder.last_step, resumed)
    goes_on = recorder.options.resume and agent.step > 0
    if goes_on:
        resumed.append(restore_run(checkpoints, *parts, recorder.line.say))
    with recorder.writer.writing():
        if goes_on:
            checkpoints.forget_after(agent.step)
        folder.begin(folder.config | description, agent.step)


def describe(
    agent: Agent, envs: VectorEnv, options: LearnOptions, last_step: int, resumed: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return what config.json says of a run up to `last_step`; `resumed` says how it went on each time."""
    preset = preset_of(agent.config)
    return {
        "version": version("pixelq"),
        "env": agent.env_id,
        "protocol": agent.protocol,
        **({ARGUMENTS: agent.env_arguments} if agent.env_arguments else {}),
        "num_envs": envs.num_envs,
        "seed": agent.seed,
        "steps": last_step,
        "evaluate_every": options.evaluate_every,
        "evaluation_episodes": options.evaluation_episodes,
        "checkpoint_every": options.checkpoint_every,
        "keep": options.keep,
        "log_every": options.log_every,
        "device": str(agent.device),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "agent": agent.config.to_dict(),
        "hardware": hardware(agent.device),
        **({} if preset is None else {"preset": preset}),
        **options.description,
        "resumed": resumed,
    }

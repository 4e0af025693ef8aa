"""The training loop: collector, updater and recorder in turn."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from pixelq.agents.agent import Agent
from pixelq.agents.config.integers import checked_integer
from pixelq.agents.config.presets import preset_of
from pixelq.agents.errors import InvalidConfig, InvalidRun
from pixelq.agents.evaluation.evaluate import check_gives_masks
from pixelq.agents.experience.replay import Replay
from pixelq.agents.experience.ring import Ring
from pixelq.agents.experience.rollout import Rollout
from pixelq.agents.runs.checkpoints import RunCheckpoints, check_capacity, check_newest
from pixelq.agents.runs.folder import RunFolder
from pixelq.agents.runs.machine import hardware
from pixelq.agents.runs.progress import PROGRESS, ProgressFile
from pixelq.agents.runs.status import stop_of
from pixelq.agents.runs.tables import read_config
from pixelq.agents.storage.environments import ARGUMENTS
from pixelq.agents.storage.json_values import is_count
from pixelq.agents.storage.pointers import CHECKPOINTS
from pixelq.agents.training.advice import advice
from pixelq.agents.training.callbacks import Callback, Training
from pixelq.agents.training.collector import Collector, Restarts, check_envs, note_envs, played_elsewhere
from pixelq.agents.training.hooks import Hooks, check_callbacks
from pixelq.agents.training.interval import Interval
from pixelq.agents.training.ongoing import Ongoing, end_ongoing, ongoing_in
from pixelq.agents.training.options import LearnOptions
from pixelq.agents.training.progress import ProgressReporter, Stopwatch
from pixelq.agents.training.progress_line import ProgressLine
from pixelq.agents.training.rank_parts import RankCheckpoints, RankCollector, RankRestarts, join, leave
from pixelq.agents.training.ranks import LEARNERS, Ranks, check_learners
from pixelq.agents.training.recorder import Recorder, RunWriter
from pixelq.agents.training.resume import restore_run, run_state
from pixelq.agents.training.rollout_updater import RolloutUpdater
from pixelq.agents.training.signals import act_on, stop_signals
from pixelq.agents.training.threads import suitable_threads
from pixelq.agents.training.updater import Updater
from pixelq.envs.interface import frame_stack_of, frames_per_step, notes_of

OF_THE_LAST_TIME = ("actors", "callbacks", "stopped")
"""Entries of config.json that are not kept when a run is resumed."""


class Parts(NamedTuple):
    """The parts of the loop."""

    collector: Collector
    updater: Updater | RolloutUpdater
    recorder: Recorder


def train(agent: Agent, envs: VectorEnv, steps: int, options: LearnOptions, callbacks: Sequence[Callback] = ()) -> None:
    """Train an agent for `steps` more steps; see `DQN.learn`."""
    check_callbacks(callbacks)
    steps = checked_integer("steps", steps, 0 if options.resume else 1)  # 0 finishes what the last step left undone
    is_first = options.ranks is None or options.ranks.rank == 0
    if not is_first:  # the first one evaluates, shows and tells
        options, callbacks = dataclasses.replace(options, evaluation_envs=None, progress=False), ()
    _check_learners(agent, envs, steps, options)
    check_envs(agent, envs, options.evaluation_envs)
    agent.check_learning_rate()
    note_envs(agent, envs, resume=options.resume)
    kept = ongoing_in(agent, envs)
    sentences: Sequence[str] = ()
    if kept is None and is_first:  # or else they were said at the first call
        sentences = advice(
            agent,
            steps,
            options.description.get("preset"),
            resume=options.resume,
            num_envs=envs.num_envs * agent.learners,
        )
        sentences = (*sentences, *(() if options.resume else notes_of(envs)))
    credit = 0 if kept is None else kept.beyond
    used = min(credit, steps - 1) if steps else credit  # one step at least, so that loops around learn end
    with suitable_threads(agent, envs.num_envs, options.out if options.resume else None):
        _train(agent, envs, agent.step + steps - used, options, callbacks, sentences)
    if isinstance(agent.ongoing, Ongoing):
        agent.ongoing = dataclasses.replace(agent.ongoing, beyond=agent.ongoing.beyond + credit - used)


def _check_learners(agent: Agent, envs: VectorEnv, steps: int, options: LearnOptions) -> None:
    """Check that an agent has the learners that it has had, and let it join them; errors as of `rank_parts.join`."""
    if options.ranks is None:
        if agent.learners > 1:
            raise InvalidConfig("the agent has learned with others, and goes on with them; give learn `ranks`")
        return
    if played_elsewhere(envs) is not None:
        raise InvalidConfig("several learners play their environments themselves; use make_vec of `ranks`")
    intervals = (options.evaluate_every, options.checkpoint_every, options.log_every)
    join(agent, options.ranks, (steps, envs.num_envs, *intervals, options.out is None, options.resume))


def _train(
    agent: Agent,
    envs: VectorEnv,
    last_step: int,
    options: LearnOptions,
    callbacks: Sequence[Callback],
    sentences: Sequence[str],
) -> None:
    """Train up to a step, and warn of the given sentences if nothing speaks against the run."""
    ranks = options.ranks
    received: list[int] = []
    if ranks is not None:
        received = ranks.begin()
    # A signal ends this at once: nothing is lost
    parts = open_run(agent, envs, options, last_step, received, callbacks)
    recorder = parts.recorder
    try:
        for sentence in sentences:
            warnings.warn(sentence, stacklevel=4)  # the caller of learn
        asked = received if ranks is None else ranks.pending
        with stop_signals(asked, heeds_second=ranks is None), recorder.hooks.told():
            run(parts, received)
    finally:
        recorder.close()
        if ranks is not None:
            leave(agent)
    if received:
        how = "" if options.out is None else "; resume the run to continue"
        recorder.line.say(f"stopped at step {agent.step:,}{how}")
        act_on(received)


def run(parts: Parts, received: list[int]) -> None:
    """Step until the last step, or until a signal is received or a callback stops the training.

    An iteration is one step of all environments. While they play it, the updates run that the steps call for, so
    emulation hides behind learning, and actions always come from the newest weights.
    """
    collector, updater, recorder = parts
    agent = collector.agent
    state_of_all = partial(run_state, parts, agent)
    agent.ongoing = None  # until this has ended well
    try:
        recorder.start()
        collector.start()
        if agent.action_masks and recorder.options.evaluation_envs is not None:
            check_gives_masks(agent, recorder.options.evaluation_envs)
        recorder.has_begun = True
        if agent.step > 0 and not recorder.options.resume:
            recorder.checkpoint(state_of_all)  # the seed alone does not begin this run again: the agent has learned
        recorder.finish_step()
        has_stopped = agent.step > 0 and recorder.is_at_end  # a new run takes a step, which can be saved
        stopping = has_stopped or agent.step >= recorder.last_step or bool(received)
        while not stopping:
            before = agent.step
            collector.act()
            updater.learn(before)
            collector.receive()
            stopping = bool(received) or collector.failure is not None
            recorder.record(before, stopping, state_of_all)
            # An evaluation that a signal cut off is played when the run is resumed.
            stopping |= recorder.is_at_end or (recorder.evaluation_due and bool(received))
        if collector.failure is not None:
            raise collector.failure
    except BaseException as error:
        recorder.save_after_failure(error, state_of_all)
        collector.stop()
        raise
    agent.ongoing = Ongoing.of(collector, updater, recorder.last_step)
    collector.end()
    recorder.end()


def open_run(
    agent: Agent,
    envs: VectorEnv,
    options: LearnOptions,
    last_step: int,
    received: list[int],
    callbacks: Sequence[Callback] = (),
) -> Parts:
    """Make the parts of the loop, open the run folder, and restore the run in it if it is resumed.

    Raises:
        InvalidConfig: If the replay is too small for the environments; then no folder has been created.
        InvalidRun: If the folder cannot be used, or its run has other settings.
        InvalidCheckpoint: If the run cannot be restored, or the agent is not the run's.
    """
    if options.out is None or not options.resume:  # a new folder is only created for a run that can begin
        agent.make_replay(envs.num_envs, frame_stack_of(envs))
    if options.out is None:
        parts = _make_parts(agent, envs, options, last_step, received, callbacks)
        _go_on(parts)
        return parts
    if options.ranks is not None and options.ranks.rank > 0:
        return _open_beside(agent, envs, options, last_step, received, options.ranks)
    folder = RunFolder(options.out, options.resume)
    try:
        if options.resume:
            last_step = _last_step_of(folder.config, last_step, agent.step)
            _check_run(agent, envs, options, last_step, folder)
        parts = _make_parts(agent, envs, options, last_step, received, callbacks, folder)
        if options.ranks is not None:
            options.ranks.wait()  # the folder is there
            options.ranks.wait()  # the others can begin, or nothing is written
        _begin(parts, folder)
    except BaseException:
        folder.close()
        if not options.resume:
            folder.discard()
        raise
    return parts


def _open_beside(
    agent: Agent, envs: VectorEnv, options: LearnOptions, last_step: int, received: list[int], ranks: Ranks
) -> Parts:
    """Do what `open_run` does where another learner has opened the folder of the run.

    Raises:
        InvalidRun: If the folder is not there.
        InvalidCheckpoint: If this learner's share of the run cannot be restored.
    """
    assert options.out is not None
    ranks.wait()
    checkpoints = options.out / CHECKPOINTS
    if not checkpoints.is_dir():
        raise InvalidRun(f"{options.out} is not there for learner {ranks.rank}; use a path that all machines share")
    if options.resume:
        last_step = _last_step_of(read_config(options.out), last_step, agent.step)
    parts = _make_parts(agent, envs, options, last_step, received, ())
    ranks.wait()
    if options.resume and agent.step > 0:
        _restore(parts)
    else:
        _go_on(parts)
    return parts


def _last_step_of(config: Mapping[str, Any], last_step: int, step: int) -> int:
    """Return the last step of a run that is resumed; the last one that it had, if no steps are left but its end is.

    Several environments may take a run a few steps beyond its last step.
    """
    own = config.get("steps")
    return min(own, step) if last_step == step and is_count(own) else last_step


def _check_run(agent: Agent, envs: VectorEnv, options: LearnOptions, last_step: int, folder: RunFolder) -> None:
    """Check that the agent can go on with a run, before memory is taken for its replay.

    Raises:
        InvalidRun: If the run has other settings.
        InvalidCheckpoint: If the agent's checkpoint is not of the run, or cannot have such a replay.
    """
    check_learners(folder.config, folder.out, options.ranks)
    folder.check_settings(describe(agent, envs, options, last_step, []), agent.step)
    check_newest(folder.checkpoints, agent.step)
    if agent.step > 0:
        space = agent.observation_space
        ring = Ring(
            space.shape,
            np.dtype(space.dtype),
            length=1,
            num_envs=envs.num_envs,
            frame_stack=frame_stack_of(envs),
            device=torch.device("cpu"),
            num_actions=agent.num_actions if agent.action_masks else None,
        )
        least = agent.least_rows(envs.num_envs, ring.frame_stack)
        check_capacity(folder.checkpoints, agent.step, ring, least)


def _make_parts(
    agent: Agent,
    envs: VectorEnv,
    options: LearnOptions,
    last_step: int,
    received: list[int],
    callbacks: Sequence[Callback],
    folder: RunFolder | None = None,
) -> Parts:
    """Make the parts of the loop, and what they share."""
    # What the parts share
    replay = agent.make_replay(envs.num_envs, frame_stack_of(envs))
    interval, stopwatch = Interval(agent.step), Stopwatch()
    line = ProgressLine(agent.step, last_step, options.progress_style)
    writer = RunWriter(agent, folder, _make_checkpoints(replay, options))
    # The parts
    collector, updater = _make_players(agent, envs, replay, interval, options, received, line.warn, writer.kept)
    asked = received if options.ranks is None else options.ranks.pending
    progress = ProgressReporter(
        ProgressFile(None if folder is None else folder.out / PROGRESS),
        agent,
        collector.episodes,
        stopwatch,
        last_step=last_step,
        evaluate_every=options.evaluate_every,
        frames_per_step=frames_per_step(envs),
        received=asked,
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
        hooks=Hooks(callbacks, Training(agent, envs, last_step, options), asked),
    )
    return Parts(collector, updater, recorder)


def _make_checkpoints(replay: Replay | Rollout, options: LearnOptions) -> RunCheckpoints | None:
    if options.out is None:
        return None
    folder = options.out / CHECKPOINTS
    if options.ranks is None:
        return RunCheckpoints(folder, replay, options.keep)
    return RankCheckpoints(folder, replay, options.keep, options.ranks)


def _make_players(
    agent: Agent,
    envs: VectorEnv,
    replay: Replay | Rollout,
    interval: Interval,
    options: LearnOptions,
    received: list[int],
    warn: Callable[[str], None],
    kept: Callable[[], str],
) -> tuple[Collector, Updater | RolloutUpdater]:
    """Make the collector and the updater; see `Restarts` for `warn` and `kept`."""
    ranks, elsewhere, rows = options.ranks, played_elsewhere(envs), None
    if ranks is not None:
        of_rank = RankCollector(agent, envs, replay, interval, RankRestarts(agent, warn, kept), ranks)
        collector: Collector = of_rank
        rows = of_rank.least_rows
    elif elsewhere is not None:
        collector = elsewhere.make_collector(agent, replay, interval, Restarts(agent, warn, kept), received)
    else:
        collector = Collector(agent, envs, replay, interval, Restarts(agent, warn, kept))
    if isinstance(replay, Rollout):
        return collector, RolloutUpdater(agent, replay, interval, may_overlap=elsewhere is None)
    return collector, Updater(agent, replay, interval, rows)


def _go_on(parts: Parts) -> None:
    """Go on where the last training left the games, or end its episodes in the replay."""
    agent = parts.collector.agent
    kept = ongoing_in(agent, parts.collector.envs)
    if kept is None:
        end_ongoing(agent)
    else:
        kept.restore(parts.collector, parts.updater)


def _begin(parts: Parts, folder: RunFolder) -> None:
    """Begin a run in its folder, or go on with the run that is there."""
    recorder, agent, checkpoints = parts.recorder, parts.collector.agent, parts.recorder.writer.checkpoints
    assert checkpoints is not None
    resumed = list(folder.config.get("resumed", []))
    description = recorder.hooks.description()
    description |= describe(agent, parts.collector.envs, recorder.options, recorder.last_step, resumed)
    stop = stop_of(folder.config)
    if stop is not None and recorder.last_step <= agent.step == stop.step:  # nothing is left but its final evaluation
        description |= {name: folder.config[name] for name in ("steps", "stopped") if name in folder.config}
    recorder.hooks.compare(folder.config, description)
    goes_on = recorder.options.resume and agent.step > 0
    if goes_on:
        resumed.append(_restore(parts))
    else:
        _go_on(parts)
    with recorder.writer.writing():
        if goes_on:
            checkpoints.forget_after(agent.step)
        left_out = {name for name, value in recorder.options.description.items() if value is None}
        gone = left_out.union(OF_THE_LAST_TIME)
        before = {name: value for name, value in folder.config.items() if name not in gone}
        folder.begin(before | description, agent.step, parts.collector.columns)


def _restore(parts: Parts) -> dict[str, Any]:
    """Restore the run at the agent's step, and return an entry of `resumed` in config.json; see `restore_run`."""
    recorder, checkpoints = parts.recorder, parts.recorder.writer.checkpoints
    assert checkpoints is not None
    kept = ongoing_in(parts.collector.agent, parts.collector.envs)
    standing = None if kept is None else kept.arrays["obs"].numpy()
    return restore_run(checkpoints, *parts, recorder.line.say, standing)


def describe(
    agent: Agent, envs: VectorEnv, options: LearnOptions, last_step: int, resumed: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return what config.json says of a run up to `last_step`; `resumed` says how it went on each time."""
    preset, elsewhere = preset_of(agent.config), played_elsewhere(envs)
    return {
        "version": version("pixelq"),
        "env": agent.env_id,
        "protocol": agent.protocol,
        ARGUMENTS: agent.env_arguments,
        "num_envs": envs.num_envs * agent.learners,
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
        **({} if elsewhere is None else elsewhere.description()),
        **({} if agent.learners == 1 else {LEARNERS: agent.learners}),
        **{name: value for name, value in options.description.items() if value is not None},
        "resumed": resumed,
    }

"""A search of hyperparameters: trials of a sweep's cells with settings that Optuna draws."""

from __future__ import annotations

import math
import os
import shlex
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pixelq.agents.distributed.cells import Cell
from pixelq.agents.distributed.local import LocalLauncher
from pixelq.agents.distributed.needs import needs_of
from pixelq.agents.distributed.process import Job, ask_to_stop
from pixelq.agents.distributed.running import Launcher, RunningCells
from pixelq.agents.distributed.spec import read_values
from pixelq.agents.distributed.study import PROBLEM, STUDY, Study, StudyTrial, TuneOptions, check_optuna
from pixelq.agents.distributed.sweep import POLL, REFRESH, LaunchOptions, check_options, make_launcher
from pixelq.agents.distributed.trials import SearchPlan, plan_of, reports, scores_of, value_of
from pixelq.agents.distributed.tune_folder import COMPLETE, FAILED, PRUNED, RUNNING, TrialState, TuneFolder, TuneStatus
from pixelq.agents.errors import InvalidRun, UserError, printable
from pixelq.agents.storage.files import user_path
from pixelq.agents.training.signals import act_on, stop_signals
from pixelq.envs import InvalidEnv

JOBS_ELSEWHERE = 8
"""Most runs at once on a cluster, unless the user says otherwise: a search learns from trials that have ended."""
MOST_AT_ONCE = 100
"""Most trials at once that this machine is looked at for."""
STATES = {"RUNNING": RUNNING, "COMPLETE": COMPLETE, "PRUNED": PRUNED, "FAIL": FAILED}
"""States of a trial by Optuna's names."""
Watch = Callable[[TuneStatus], None]


def tune(
    spec: Mapping[str, Any] | str | os.PathLike[str],
    out: str | os.PathLike[str],
    options: LaunchOptions | None = None,
    search: TuneOptions | None = None,
    watch: Watch = lambda _: None,
) -> TuneStatus:
    """Search settings of an agent with Optuna, and return how the search stands at its end.

    A trial is one setting, trained in all environments and with all seeds of the specification, each run as a cell of a
    sweep. Its value is the mean return of the final evaluations, which is maximised; with several Atari games, that of
    their human-normalised scores. Trials whose evaluations on the way are poor are stopped with a checkpoint.
    Those with settings that cannot be run count as failed.

    The number of trials is a total: a search that was stopped or killed goes on with the same call.

    Args:
        spec: The values of a specification of a sweep with a table [search], or its file.
        out: Folder of the search, in which each run has its folder.
        options: How runs are launched; None for processes on this machine.
        search: How settings are searched; None for the defaults.
        watch: Called about once a second with how the search stands.

    Raises:
        MissingExtra: If Optuna is not installed.
        UserError: If the specification or the options do not fit; then nothing is written.
        InvalidEnv: If an environment cannot be made.
        RunFailed: If the folder or the launcher fails.
    """
    options, search = options or LaunchOptions(), search or TuneOptions()
    check_options(options)
    search.check()
    check_optuna()
    if options.launcher != "local" and options.jobs is None:
        options = replace(options, jobs=JOBS_ELSEWHERE)
    plan = plan_of(spec if isinstance(spec, Mapping) else read_values(spec))
    folder = TuneFolder(Path(os.path.abspath(user_path(out))))
    with ExitStack() as stack:
        try:
            launcher = make_launcher(_first_jobs(plan, folder.out, search.trials), options)
            stack.callback(folder.close)
            stack.callback(launcher.close)
            slots = launcher.slots if isinstance(launcher, LocalLauncher) else options.jobs or 1
            record = {**plan.record(), "sampler": search.sampler, "pruner": search.pruner, "seed": search.seed}
            together = folder.begin(record, min(slots, len(plan.cells)))
        except BaseException:
            folder.discard()
            raise
        longest = math.ceil(len(plan.cells) / together) * plan.spec.steps
        study = Study(
            folder.out / STUDY, plan.space, search, usual=plan.usual(), first=plan.evaluate_every, longest=longest
        )
        stack.callback(study.close)
        folder.check_runs(len(study.trials()))
        if (begun := len(study.begun())) > search.trials:
            raise UserError(f"`trials` must be at least {begun}, as so many have begun in {folder.out}")
        received: list[int] = []
        running = _Search(plan, folder, study, launcher, math.ceil(slots / len(plan.cells)), watch)
        with stop_signals(received):
            running.run(received)
        act_on(received)
        return running.status()


def _first_jobs(plan: SearchPlan, out: Path, trials: int) -> list[Job]:
    """Return cells with the preset's settings, as many as may run at once, by which a launcher says what it needs."""
    numbers = range(min(trials, MOST_AT_ONCE))
    return [Job(replace(c, name=name), out) for k in numbers for c, name in zip(plan.cells, plan.names(k), strict=True)]


@dataclass
class _Ongoing:
    """A trial under way."""

    trial: StudyTrial
    cells: list[Cell]


class _Search:
    """What is left to do in a search.

    Args:
        plan, folder, study, launcher: What it consists of.
        at_once: Trials that go at once.
        watch: Called with how it stands.
    """

    def __init__(
        self, plan: SearchPlan, folder: TuneFolder, study: Study, launcher: Launcher, at_once: int, watch: Watch
    ) -> None:
        self.plan, self.folder, self.study, self.launcher, self.watch = plan, folder, study, launcher, watch
        self.at_once = at_once
        assert folder.record is not None
        self.together: int = folder.record["together"]
        self.cells = RunningCells(folder.out, plan.spec.retries, launcher)
        self.ongoing: list[_Ongoing] = []
        self._known: tuple[int, tuple[Mapping[str, float], str | None]] = (0, ({}, None))  # by complete trials

    def run(self, received: list[int]) -> None:
        """Run trials until there are as many as are wanted, or a signal is received."""
        self._take_up()
        due = 0.0
        while not received and (self.ongoing or self._is_short()):
            while not received and len(self.ongoing) < self.at_once and self._is_short():
                self._begin(self.study.next())
            has_ended = self.cells.poll()
            if has_ended or time.monotonic() >= due:
                due = time.monotonic() + REFRESH
                self.cells.read()
                for each in list(self.ongoing):
                    self._advance(each)
                self.watch(self.status())
            time.sleep(POLL)
        self.launcher.stop()  # also what is left of trials that were pruned
        self.cells.read()
        self.folder.write(self.status())
        self.watch(self.status())

    def status(self) -> TuneStatus:
        """Return how the search stands."""
        trials = tuple(self._state_of(trial) for trial in self.study.begun())
        running = [cell.name for each in self.ongoing for cell in each.cells]
        cells = tuple(self.cells.states[name] for name in running)
        found = TuneStatus(self.study.options.trials, trials, *self._known[1], cells=cells)
        if (complete := sum(trial.value is not None for trial in trials)) != self._known[0]:
            command = None if found.best is None else self._command(found.best)
            self._known = complete, (self.study.importances(), command)
            found = replace(found, importances=self._known[1][0], command=command)
        return found

    def _is_short(self) -> bool:
        return len(self.study.begun()) < self.study.options.trials

    def _take_up(self) -> None:
        """Go on with the trials of a search that was stopped; runs of the others are not wanted any more."""
        for trial in self.study.trials():
            if trial.state.name in ("PRUNED", "FAIL"):
                for name in self.plan.names(trial.number):
                    if os.path.lexists(self.folder.out / name):
                        ask_to_stop(self.folder.out, name)  # jobs of SLURM outlive what has started them
        for unfinished in self.study.unfinished():
            self._begin(unfinished)

    def _begin(self, trial: StudyTrial) -> None:
        """Hand a trial's cells to the launcher, or end it at once."""
        try:
            cells = self.plan.cells_of(trial.number, self.plan.settings(trial.params))
            jobs = [Job(cell, self.folder.out) for cell in cells]
            self.launcher.expect(jobs, needs_of(cells))
        except (UserError, InvalidEnv) as error:
            trial.fail(printable(str(error)))
        else:
            self.cells.add(jobs)
            self.ongoing.append(_Ongoing(trial, cells))
            # A search that was killed may have been about to ask.
            if 0 <= trial.reported < self.study.longest and trial.should_prune():
                self._prune(self.ongoing[-1])
        self.folder.write(self.status())

    def _advance(self, each: _Ongoing) -> None:
        """Report what a trial has reached, and end it if that is its end."""
        names, trial = [cell.name for cell in each.cells], each.trial
        is_over = [self.cells.is_over(name) for name in names]
        failed = [name for name, over in zip(names, is_over, strict=True) if over and not self._has_finished(name)]
        if failed:
            return self._fail(each, f"{failed[0]}: {self.cells.states[failed[0]].problem}")
        tables = scores_of(self.plan, self.folder.out, each.cells)
        for step, value in reports(tables, is_over, self.together, self.plan.spec.steps):
            if step > trial.reported:
                trial.report(step, value)
                if step < self.study.longest and trial.should_prune():
                    return self._prune(each)
        if all(is_over):
            try:
                trial.complete(value_of(self.plan, self.folder.out, each.cells))
            except InvalidRun as error:
                self._fail(each, str(error))
            else:
                self._end(each)

    def _has_finished(self, name: str) -> bool:
        return self.cells.states[name].is_finished

    def _prune(self, each: _Ongoing) -> None:
        each.trial.prune()
        self._end(each)

    def _fail(self, each: _Ongoing, problem: str) -> None:
        each.trial.fail(printable(problem))
        self._end(each)

    def _end(self, each: _Ongoing) -> None:
        """Leave a trial that has ended, and stop what still runs of it."""
        self.ongoing.remove(each)
        self.cells.drop([cell.name for cell in each.cells])
        self.folder.write(self.status())

    def _state_of(self, trial: Any) -> TrialState:
        state = STATES.get(trial.state.name, RUNNING)
        step = max(trial.intermediate_values, default=None)
        return TrialState(
            number=trial.number,
            state=state,
            value=trial.value if state == COMPLETE else None,
            settings=self.plan.settings(trial.params),
            runs=self.plan.names(trial.number),
            step=step,
            last=None if step is None else trial.intermediate_values[step],
            problem=trial.user_attrs.get(PROBLEM),
        )

    def _command(self, best: TrialState) -> str:
        """Return the command that trains with the settings of a trial."""
        cell = self.plan.cells_of(best.number, best.settings)[0]
        words = cell.words(Path("OUT"), resume=False)
        return shlex.join(["pixelq", *words[: words.index("--progress")]])

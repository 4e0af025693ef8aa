"""The study of a search: what Optuna keeps of its trials, in a database of one file."""

from __future__ import annotations

import os
import sqlite3
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from pixelq.agents.config.integers import checked_integer
from pixelq.agents.distributed.search_space import Dimension
from pixelq.agents.errors import InvalidRun, MissingExtra, RunFailed, UserError, how_to_install, one_line

STUDY = "study.db"
"""File of the study, in SQLite."""
NAME = "pixelq"
"""Name of the study in it; Hyperband's brackets depend on it."""
PROBLEM = "problem"
"""Attribute of a failed trial that says why."""
LEAST = 10
"""Complete trials without which nothing is said of the importance of fields."""
SamplerName = Literal["tpe", "random"]
PrunerName = Literal["median", "hyperband", "none"]


@dataclass(frozen=True)
class TuneOptions:
    """How settings are searched."""

    trials: int = 30
    """Trials in all, those of former starts included."""
    sampler: SamplerName = "tpe"
    """How settings are drawn: by the tree-structured Parzen estimator (Bergstra et al. 2011), or uniformly."""
    pruner: PrunerName = "median"
    """Which trials are stopped early: those whose best evaluation so far is below the median of others at that step,
    those that Hyperband (Li et al. 2018) does not promote, or none."""
    seed: int = 0
    """Seed of what is drawn; the seeds of the runs are those of the specification."""

    def check(self) -> None:
        """Check the options.

        Raises:
            UserError: If one does not fit.
        """
        for name, kind in (("sampler", SamplerName), ("pruner", PrunerName)):
            if getattr(self, name) not in get_args(kind):
                raise UserError(f"`{name}` must be one of {', '.join(get_args(kind))}, got {getattr(self, name)!r:.80}")
        checked_integer("`trials`", self.trials, 1)
        checked_integer("`seed`", self.seed, 0)


class StudyTrial:
    """A trial that has not ended.

    Args:
        study: Its study.
        trial: Optuna's trial.

    Attributes:
        number: Its number, from 0 on.
        params: Its settings, as Optuna calls them.
        reported: The last step that was reported; -1 before the first.
    """

    def __init__(self, study: Study, trial: Any) -> None:
        self._study, self._trial = study, trial
        with study.at_work():
            self.number: int = trial.number
            self.params = {each.name: each.drawn(trial) for each in study.space}
            known = study.frozen(self.number).intermediate_values
        self.reported: int = max(known, default=-1)

    def report(self, step: int, value: float) -> None:
        """Note the value at a step, greater than the last one's."""
        with self._study.at_work():
            self._trial.report(value, step)
        self.reported = step

    def should_prune(self) -> bool:
        """Return whether the trial should be stopped, by what was reported."""
        with self._study.at_work():
            return bool(self._trial.should_prune())

    def complete(self, value: float) -> None:
        """End the trial with its value."""
        self._tell("COMPLETE", value)

    def prune(self) -> None:
        """End the trial as pruned."""
        self._tell("PRUNED")

    def fail(self, problem: str) -> None:
        """End the trial as failed, and note why."""
        with self._study.at_work():
            self._trial.set_user_attr(PROBLEM, problem)
        self._tell("FAIL")

    def _tell(self, state: str, value: float | None = None) -> None:
        with self._study.at_work() as optuna:
            self._study.study.tell(self._trial, value, getattr(optuna.trial.TrialState, state))


class Study:
    """The trials of a search, in a file that `optuna-dashboard` shows.

    What a trial draws depends on the seed, its number and the trials before it, and is written in one transaction, so a
    search that was killed goes on as if it had not been, if one trial runs after the other.

    Args:
        path: The file; created if it is missing.
        space: What settings are drawn from.
        options: How.
        usual: Settings of the first trial; None to draw them, too.
        first: Steps before the first report of a trial.
        longest: Steps of a whole trial.

    Raises:
        MissingExtra: If Optuna is not installed.
        InvalidRun: If the file cannot be read, or holds the study of another search; then it stays as it is.
    """

    def __init__(
        self,
        path: Path,
        space: Sequence[Dimension],
        options: TuneOptions,
        *,
        usual: Mapping[str, Any] | None,
        first: int,
        longest: int,
    ) -> None:
        self.path, self.space, self.options, self._usual = path, tuple(space), options, usual
        self.longest = longest
        self._optuna = optuna = check_optuna()
        self._trials: list[Any] | None = None
        pruner = {
            "median": optuna.pruners.MedianPruner,
            "hyperband": lambda: optuna.pruners.HyperbandPruner(min_resource=first, max_resource=longest),
            "none": optuna.pruners.NopPruner,
        }[options.pruner]()
        check_file(path)
        try:
            with self.at_work():
                # Not by its URL, in which a path cannot have all characters.
                connect = {"creator": lambda: sqlite3.connect(path, check_same_thread=False)}
                self._storage = optuna.storages.RDBStorage(f"sqlite:///{STUDY}", engine_kwargs=connect)
                self.study = optuna.create_study(
                    storage=self._storage, study_name=NAME, direction="maximize", load_if_exists=True, pruner=pruner
                )
                self.trials()
        except Exception as error:  # of SQLite, SQLAlchemy, Alembic or Optuna
            raise _unreadable(path, error) from error
        self._check_trials()

    def _check_trials(self) -> None:
        """Check that the study is maximised, and that all trials were drawn from what this search draws from.

        Raises:
            InvalidRun: If one was not.
        """
        with self.at_work() as optuna:
            usual = optuna.create_study().ask()
            for each in self.space:
                each.drawn(usual)
        drawn = [item for trial in self.trials() for item in trial.distributions.items()]
        if self.study.direction.name != "MAXIMIZE" or any(
            usual.distributions.get(name) != each for name, each in drawn
        ):
            raise _foreign(self.path)

    @contextmanager
    def at_work(self) -> Iterator[Any]:
        """Give Optuna, without its messages and its warnings of what is experimental.

        Raises:
            RunFailed: If the file can no longer be written or read.
        """
        optuna, level = self._optuna, self._optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield optuna
        except optuna.exceptions.StorageInternalError as error:
            raise RunFailed(f"{self.path} cannot be written or read ({one_line(error.__cause__ or error)})") from error
        finally:
            optuna.logging.set_verbosity(level)
            self._trials = None

    def trials(self) -> list[Any]:
        """Return all trials as Optuna's `FrozenTrial`, by number; nobody else writes them."""
        if self._trials is None:
            with self.at_work():
                found = list(self.study.get_trials(deepcopy=False))
            self._trials = found
        return self._trials

    def begun(self) -> list[Any]:
        """Return the trials that have begun: all but one that may wait from a search that was killed."""
        waiting = self._optuna.trial.TrialState.WAITING
        return [trial for trial in self.trials() if trial.state != waiting]

    def frozen(self, number: int) -> Any:
        """Return a trial as Optuna's `FrozenTrial`."""
        return self.trials()[number]

    def unfinished(self) -> list[StudyTrial]:
        """Return the trials that have begun and not ended, from a search that was stopped."""
        running = self._optuna.trial.TrialState.RUNNING
        found = [trial for trial in self.trials() if trial.state == running]
        with self.at_work() as optuna:
            return [StudyTrial(self, optuna.trial.Trial(self.study, trial._trial_id)) for trial in found]

    def next(self) -> StudyTrial:
        """Begin another trial."""
        trials, waiting = self.trials(), self._optuna.trial.TrialState.WAITING
        if all(trial.state != waiting for trial in trials):  # one may wait from a search that was killed
            params = self._usual if not trials and self._usual is not None else self._drawn(trials)
            with self.at_work():
                self.study.enqueue_trial(dict(params))
        with self.at_work():
            return StudyTrial(self, self.study.ask())

    def _drawn(self, trials: Sequence[Any]) -> dict[str, Any]:
        """Return the settings of the next trial, drawn in a copy of the study in memory."""
        entropy = np.random.SeedSequence((self.options.seed, len(trials)))
        seed = int(entropy.generate_state(1)[0])
        with self.at_work() as optuna:
            samplers = optuna.samplers
            sampler = samplers.RandomSampler(seed=seed)
            if self.options.sampler == "tpe":
                sampler = samplers.TPESampler(seed=seed, constant_liar=True)  # reckons with trials that still run
            copy = optuna.create_study(study_name=NAME, direction="maximize", sampler=sampler, pruner=self.study.pruner)
            copy.add_trials(trials)
            trial = copy.ask()
            return {each.name: each.rounded(each.drawn(trial)) for each in self.space}

    def importances(self) -> dict[str, float]:
        """Return how much each field mattered, in [0, 1] and with the sum 1, by PED-ANOVA (Watanabe et al. 2023).

        It is empty with fewer than `LEAST` complete trials.
        """
        complete = self._optuna.trial.TrialState.COMPLETE
        if sum(trial.state == complete for trial in self.trials()) < LEAST:
            return {}
        with self.at_work() as optuna:
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            found: dict[str, float] = optuna.importance.get_param_importances(self.study, evaluator=evaluator)
        return {name: float(value) for name, value in found.items() if np.isfinite(value)}

    def close(self) -> None:
        """Close the file."""
        self._storage.remove_session()
        self._storage.engine.dispose()


def check_file(path: Path) -> None:
    """Check that a file, if there is one, is an intact study of a search.

    Raises:
        InvalidRun: If it is not.
    """
    if not os.path.lexists(path):
        return
    try:
        # To be written, since what a killed search was writing may have to be taken back first.
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as file:
            (found,) = file.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(found)
            tables = {name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            names = (
                {name for (name,) in file.execute("SELECT study_name FROM studies")} if "studies" in tables else set()
            )
    except sqlite3.Error as error:
        raise _unreadable(path, error) from error
    if (tables and "studies" not in tables) or (names and NAME not in names):
        raise _foreign(path)


def _unreadable(path: Path, error: Exception) -> InvalidRun:
    return InvalidRun(f"{path} cannot be read as a study ({one_line(error)}); restore it, or use another `out`")


def _foreign(path: Path) -> InvalidRun:
    return InvalidRun(f"{path} is not the study of this search; restore that, or use another `out`")


def check_optuna() -> Any:
    """Return Optuna.

    Raises:
        MissingExtra: If it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingExtra(f"a search needs Optuna: {how_to_install('tune')}") from error
    return optuna

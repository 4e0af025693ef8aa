"""The folder of a search: tune.json, which says what is searched, and trials.json and trials.csv, its trials."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pixelq.agents.distributed.folder import SWEEP, TUNE, LockedFolder
from pixelq.agents.distributed.search_space import SEARCH
from pixelq.agents.distributed.states import CellState, state_of
from pixelq.agents.distributed.study import STUDY
from pixelq.agents.errors import InvalidRun, InvalidSpec, one_line
from pixelq.agents.storage.files import read_regular, replace_file, user_path
from pixelq.agents.storage.json_values import MOST_JSON, check_types, is_count

TRIALS, TABLE = "trials.json", "trials.csv"
RUN = re.compile(r"trial(\d+)-.+")
"""Names of run folders, with the number of the trial."""
MOST_BYTES = 2**28
"""Size of the longest trials.json that is read."""
RUNNING, COMPLETE, PRUNED, FAILED = STATES = ("running", "complete", "pruned", "failed")
"""States of a trial."""


@dataclass(frozen=True)
class TrialState:
    """How a trial stands."""

    number: int
    """Its number, from 0 on."""
    state: str
    """One of `STATES`."""
    value: float | None
    """Mean of the final evaluations of its runs; None unless it is complete."""
    settings: Mapping[str, Any]
    """What was drawn for it, as a specification has it."""
    runs: tuple[str, ...]
    """Names of its run folders."""
    step: int | None = None
    """Steps at which it was valued last on its way, of its runs one after another; None before the first time."""
    last: float | None = None
    """Its value there."""
    problem: str | None = None
    """Why it has failed; None if it has not."""


@dataclass(frozen=True)
class TuneStatus:
    """How a search stands."""

    total: int
    """Trials that there are to be."""
    trials: tuple[TrialState, ...] = ()
    """Those that have begun, by number."""
    importances: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """How much each field mattered, from the greatest on, with the sum 1; empty with few complete trials."""
    command: str | None = None
    """Command that trains with the settings of the best trial; None before one is complete."""
    cells: tuple[CellState, ...] = ()
    """How the runs of trials that have not ended stand."""

    @property
    def best(self) -> TrialState | None:
        """The complete trial of the greatest value, the first of equals; None before one is complete."""
        complete = [(trial.value, trial) for trial in self.trials if trial.value is not None]
        return max(complete, key=lambda each: each[0], default=(0.0, None))[1]


class TuneFolder(LockedFolder):
    """The folder of a search.

    Args:
        out: The folder; created if it is missing.

    Raises:
        InvalidRun: If it cannot be written, is in use by another search, or holds something else.
    """

    def __init__(self, out: Path) -> None:
        if os.path.lexists(out / SWEEP):
            raise InvalidRun(f"{out} is the folder of a sweep; continue it with pixelq sweep, or use another `out`")
        self.record = read_record(out) if os.path.lexists(out / TUNE) else None
        if self.record is None and os.path.lexists(out / STUDY):
            raise InvalidRun(f"{out / STUDY} is not of this search; move it, or use another `out`")
        super().__init__(out, "search", TUNE)
        runs = self._runs()
        if runs and not os.path.lexists(out / STUDY):
            self.discard()
            if self.record is None:
                raise InvalidRun(f"{out / runs[0][1]} is not of this search; move it, or use another `out`")
            raise InvalidRun(f"{out / STUDY} is missing, which says what {runs[0][1]} is; restore it")

    def _runs(self) -> list[tuple[int, str]]:
        """Return the trials and names of the run folders."""
        return sorted((int(found[1]), found[0]) for name in os.listdir(self.out) if (found := RUN.match(name)))

    def check_runs(self, trials: int) -> None:
        """Check that every run folder belongs to a trial of the study, which has each trial before its runs start.

        Args:
            trials: Number of trials in the study.

        Raises:
            InvalidRun: If one is not.
        """
        for number, name in self._runs():
            if number >= trials:
                raise InvalidRun(f"{self.out / STUDY} has no trial {number}, of which {name} is; restore it")

    def begin(self, record: Mapping[str, Any], together: int) -> int:
        """Check that a search is the one that has begun here, or write tune.json.

        Args:
            record: What identifies the search, as JSON values.
            together: Runs of a trial that go at once.

        Returns:
            The same number of the search that has begun: its trials are compared by it.

        Raises:
            InvalidSpec: If it is another search.
            OSError: If the file cannot be written.
        """
        now = json.loads(json.dumps(record))
        if self.record is None:
            self.record = {"pixelq": version("pixelq"), **now, "together": together}
            replace_file(self.out / TUNE, (json.dumps(self.record, indent=1) + "\n").encode())
        self._check_unchanged(now)
        kept: int = self.record["together"]
        return kept

    def _check_unchanged(self, record: dict[str, Any]) -> None:
        assert self.record is not None
        before, now = _entries(self.record), _entries(record)
        for key in [*now, *(before.keys() - now.keys() - {"pixelq", "together"})]:
            if before.get(key) != now.get(key):
                was = f"{before[key]!r:.80}" if key in before else "left out"
                new = f"{now[key]!r:.80}" if key in now else "nothing"
                raise InvalidSpec(
                    f"{key} must be {was} as in the search that {self.out} holds, got {new}; use another `out`"
                )

    def write(self, status: TuneStatus) -> None:
        """Write trials.json and trials.csv.

        Raises:
            OSError: If one cannot be written.
        """
        best = status.best
        values = {
            "total": status.total,
            "best": None if best is None else best.number,
            "command": status.command,
            "importances": dict(status.importances),
            "trials": [dataclasses.asdict(trial) for trial in status.trials],
        }
        replace_file(self.out / TRIALS, (json.dumps(values, indent=1) + "\n").encode())
        replace_file(self.out / TABLE, _table(status).encode())


def _entries(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what identifies a search, with its flags and ranges side by side, so that a difference can be named."""
    ranges = {f"{SEARCH}.{name}": each for name, each in record[SEARCH].items()}
    plain = {key: value for key, value in record.items() if key not in ("flags", SEARCH)}
    return {**plain, **record["flags"], **ranges}


def _table(status: TuneStatus) -> str:
    """Return the trials as CSV, a line for each."""
    fields = list(dict.fromkeys(name for trial in status.trials for name in trial.settings))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", "value", "step", "last", *fields, "problem"])
    for each in status.trials:
        settings = [_cell(each.settings.get(name)) for name in fields]
        values = (each.value, each.step, each.last)
        writer.writerow([each.number, each.state, *map(_cell, values), *settings, _cell(each.problem)])
    return text.getvalue()


def _cell(value: Any) -> Any:
    return "" if value is None else json.dumps(value) if isinstance(value, list | bool) else value


def read_record(out: Path) -> dict[str, Any]:
    """Return what tune.json of a folder says of its search.

    Raises:
        InvalidRun: If there is no search in the folder, or the file is damaged.
    """
    path = out / TUNE
    try:
        record: dict[str, Any] = json.loads(read_regular(path, MOST_JSON))
        if not {"flags", SEARCH, "steps", "together"} <= record.keys():
            raise ValueError("an entry is missing")
        check_types(record, {"flags": dict, SEARCH: dict, "steps": int, "together": int})
        if record["together"] < 1:
            raise ValueError("together is less than 1")
    except OSError as error:
        raise InvalidRun(f"no search in {out} ({error.strerror}); give the folder of one") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidRun(f"{path} is damaged ({one_line(error)}); restore the file") from error
    return record


def tune_status(out: str | os.PathLike[str]) -> TuneStatus:
    """Return how a search stands, from its files: nothing is written, and the search need not run here.

    Args:
        out: Folder of the search.

    Raises:
        InvalidRun: If there is none.
    """
    folder = user_path(out)
    steps, path = read_record(folder)["steps"], folder / TRIALS
    try:
        values = json.loads(read_regular(path, MOST_BYTES))
        trials = tuple(_trial(each) for each in values["trials"])
        status = TuneStatus(values["total"], trials, values["importances"], values["command"])
        check_types(vars(status), {"total": int, "importances": dict, "command": str | None})
    except FileNotFoundError:  # it has only just begun
        return TuneStatus(0)
    except OSError as error:
        raise InvalidRun(f"{path} cannot be read ({error.strerror}); restore the file") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidRun(f"{path} is damaged ({one_line(error)}); start the search again, which writes it") from error
    running = [name for trial in trials if trial.state == RUNNING for name in trial.runs]
    return dataclasses.replace(status, cells=tuple(state_of(folder, name, steps) for name in running))


def _trial(values: dict[str, Any]) -> TrialState:
    """Return a trial of trials.json.

    Raises:
        ValueError, TypeError: If it is none.
    """
    trial = TrialState(**{**values, "runs": tuple(values["runs"])})
    number = float | int | None
    check_types(vars(trial), {"state": str, "value": number, "settings": dict, "step": int | None, "last": number})
    check_types(vars(trial), {"problem": str | None})
    names = all(
        isinstance(name, str) and name not in (".", "..", "") and Path(name).name == name for name in trial.runs
    )
    if not is_count(trial.number) or trial.state not in STATES or not names:
        raise ValueError("one of its trials is none")
    return trial

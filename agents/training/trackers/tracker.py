"""What all trackers share: when they send what, and that a run goes on whatever becomes of them."""

from __future__ import annotations

import importlib
import json
import math
import tempfile
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

from pixelq.agents.errors import MissingExtra, how_to_install, one_line
from pixelq.agents.evaluation.evaluate import Evaluation
from pixelq.agents.evaluation.film import FILM, FILM_SECONDS, check_films
from pixelq.agents.evaluation.limits import evaluation_limit
from pixelq.agents.evaluation.scoring import film, request_of
from pixelq.agents.runs.event_file import TAGS
from pixelq.agents.runs.progress import FINISHED
from pixelq.agents.runs.tables import TABLES, read_config, read_run
from pixelq.agents.runs.tracking import Record, read_record, write_record
from pixelq.agents.storage.checkpoint import read_checkpoint, write_checkpoint
from pixelq.agents.storage.files import read_regular
from pixelq.agents.storage.json_values import MOST_JSON
from pixelq.agents.storage.pointers import CHECKPOINTS, MARKS, marked
from pixelq.agents.training.callbacks import Callback, Training

DEFAULT_PROJECT = "pixelq"


class Tracker(Callback):
    """Keeps a run in the record of a service: configuration, metrics, evaluations, policies and a film.

    Rows have the names that they have in TensorBoard. At the end, the policies of the best and of the latest checkpoint
    are sent, as `DQN.load` loads them, and up to three minutes of an episode of the best one. All but the rows need the
    run's folder.

    A run is never stopped by its tracker. If the service cannot be reached, or fails, the tracker warns once and sends
    nothing more.

    A resumed run goes on in the same record, which tracking.json in the run's folder names. If the run goes on from a
    checkpoint older than the record, steps that the record has are not sent again; rows that it lacks are sent first.

    Args:
        project: Project to which the run belongs; None for the one that the service's own settings name, or `pixelq`.
        name: Name of the run; None for that of its folder.
        policies: Whether to send policies.
        film: Whether to send a film; without the extra `video` there is none.

    Raises:
        MissingExtra: If the service's library is not installed.
    """

    watches_only = True
    library: ClassVar[str]
    """Name of the service's library, and of the extra that installs it."""
    title: ClassVar[str]
    """Name of the service."""

    def __init__(
        self, project: str | None = None, name: str | None = None, *, policies: bool = True, film: bool = True
    ) -> None:
        self.project, self.name, self.policies, self.film = project, name, policies, film
        try:
            self._service: Any = importlib.import_module(self.library)
        except ImportError as error:
            needed = f"{self.title} needs {self.library}"
            raise MissingExtra(f"{needed}: {how_to_install(self.library)}") from error
        self._record: Record | None = None
        self._is_lost = True  # until a record is open

    # What services do

    def open(self, run: str | None, project: str | None, config: dict[str, Any], training: Training) -> str:
        """Open a record, and return the name under which `open` finds it again.

        Args:
            run: That name, for a record to go on with; None for a new one.
            project: Project of the record; None for the default.
            config: The run's configuration.
            training: The training.
        """
        raise NotImplementedError

    def log(self, values: dict[str, float], step: int) -> None:
        """Send scalars by name."""
        raise NotImplementedError

    def log_policy(self, folder: Path, marks: list[str], step: int) -> None:
        """Send the folder of a policy, which is `best` or `latest` or both, of a step."""
        raise NotImplementedError

    def log_film(self, path: Path, step: int) -> None:
        """Send an mp4 of the best policy."""
        raise NotImplementedError

    def close(self, phase: str) -> None:
        """Close the record of a training that ended in a phase: `finished`, `stopped` or `failed`."""
        raise NotImplementedError

    # What happens in a training

    def on_training_start(self, training: Training) -> None:
        """Open the record, and send the configuration."""
        self._is_lost = False
        self._try(lambda: self._open(training))

    def _open(self, training: Training) -> None:
        found, out = None, training.out
        if out is not None and training.options.resume:
            found = read_record(out, self.library)
        elif out is None and training.step > 0:  # trained in several calls
            found = self._record
        steps = {} if found is None else found.steps
        project = self.project or (None if found is None else found.project)
        run = self.open(None if found is None else found.run, project, _config_of(training), training)
        self._record = Record(run, project, steps)
        if out is not None:
            write_record(out, self.library, self._record)
        if out is not None and training.options.resume and training.step > 0:
            self._catch_up(training, out)

    def _catch_up(self, training: Training, out: Path) -> None:
        """Send the rows that the run's tables have and the record lacks, in the order of their steps.

        Scalars that are no columns of the tables, such as the learning rate, have gaps there.
        """
        tables = read_run(out)
        found = {"metrics": tables.metrics, "evaluations": tables.evaluations}
        rows = [(int(row["step"]), table, row) for table in TABLES for row in found[table]]
        for step, table, row in sorted(rows, key=lambda each: each[0]):
            self._send(training, table, row | {"step": step})

    def on_metrics(self, training: Training, row: dict[str, Any]) -> None:
        """Send a row of metrics."""
        self._send(training, "metrics", row)

    def on_evaluation(self, training: Training, evaluation: Evaluation) -> None:
        """Send the figures of an evaluation."""
        row = {"step": training.step, "length_mean": fmean(evaluation.lengths), **evaluation.row()}
        self._send(training, "evaluations", row)

    def _send(self, training: Training, table: str, row: Mapping[str, Any]) -> None:
        """Send a row of a table, unless the record has its step."""
        record, step = self._record, row["step"]
        if self._is_lost or record is None or step <= record.steps.get(table, -1):
            return
        cells = {tag: row.get(name) for name, tag in TAGS[table].items()}
        values = {tag: float(cell) for tag, cell in cells.items() if cell not in (None, "")}
        finite = {tag: value for tag, value in values.items() if math.isfinite(value)}

        def send() -> None:
            record.steps[table] = step
            if training.out is not None:
                write_record(training.out, self.library, record)  # before, so that no step is sent twice after a crash
            self.log(finite, step)

        self._try(send)

    def on_training_end(self, training: Training) -> None:
        """Send the policies and the film, and close the record."""
        if training.out is not None and self.policies:
            self._try(lambda: self._send_policies(training))
        if training.out is not None and self.film and training.phase == FINISHED and not self._is_lost:
            self._send_film(training)
        if self._is_lost:
            with suppress(Exception):
                self.close(training.phase)
        else:
            self._try(lambda: self.close(training.phase))
        self._is_lost = True

    def _send_policies(self, training: Training) -> None:
        """Send the best and the latest policy, each without its learner and the run's state."""
        assert training.out is not None
        marks: dict[Path, list[str]] = {}
        for mark in MARKS:
            folder = marked(training.out / CHECKPOINTS, mark)
            if folder is not None:
                marks.setdefault(folder.resolve(), []).append(mark)
        for folder, names in marks.items():
            with tempfile.TemporaryDirectory() as place:
                checkpoint = read_checkpoint(folder, learner=False)
                checkpoint.state.pop("format")  # that of an older version has no mark for what is left out
                write_checkpoint(Path(place) / "policy", checkpoint)
                self.log_policy(Path(place) / "policy", names, checkpoint.state["step"])

    def _send_film(self, training: Training) -> None:
        """Film an episode of the best policy in the run's folder, and send it; a failure costs the film alone.

        It is at most as long as that of `pixelq train --film`.
        """
        assert training.out is not None
        agent = training.agent
        best, path = marked(training.out / CHECKPOINTS, "best"), training.out / FILM
        if best is None or agent.env_id is None:
            return
        try:
            check_films()
            limit = evaluation_limit(read_config(training.out))
            request = request_of(best, 1, device=str(agent.device), max_episode_steps=limit)
            film(request, path, most_seconds=FILM_SECONDS)
        except MissingExtra:
            return
        except Exception as error:
            warnings.warn(f"{self.title} gets no film: {one_line(error)}", stacklevel=2)
            return
        self._try(lambda: self.log_film(path, training.step))

    def _try(self, act: Callable[[], None]) -> None:
        """Call a function, unless the tracker is lost; if it fails, warn and be lost."""
        if self._is_lost:
            return
        try:
            act()
        except Exception as error:
            self._is_lost = True
            warnings.warn(f"{self.title} no longer records the run, which continues ({one_line(error)})", stacklevel=2)

    def state(self) -> dict[str, Any]:
        """Return nothing: what a tracker knows is newer than any checkpoint, and lies in tracking.json."""
        return {}


def _config_of(training: Training) -> dict[str, Any]:
    """Return what config.json says of a run; without a folder, what is known of the agent."""
    if training.out is not None:
        config: dict[str, Any] = json.loads(read_regular(training.out / "config.json", MOST_JSON))
        return config
    agent = training.agent
    return {"env": agent.env_id, "protocol": agent.protocol, "seed": agent.seed, "agent": agent.config.to_dict()}

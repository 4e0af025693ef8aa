"""A file of scalars and films for TensorBoard, written without a thread."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TAGS = {
    "metrics": {
        "return_mean_100": "rollout/ep_rew_mean",
        "length_mean_100": "rollout/ep_len_mean",
        "return_mean": "rollout/return_mean",
        "return_median": "rollout/return_median",
        "length_mean": "rollout/length_mean",
        "epsilon": "rollout/exploration_rate",
        "loss": "train/loss",
        "learning_rate": "train/learning_rate",
        "grad_norm": "train/grad_norm",
        "q_mean": "train/q_mean",
        "updates": "train/n_updates",
        "q_discrepancy": "train/q_discrepancy",
        "steps_per_second": "time/fps",
        "wall_seconds": "time/time_elapsed",
        "frames": "time/frames",
        "episodes": "time/episodes",
        "restarts": "time/restarts",
        "samples_per_insert": "actors/samples_per_insert",
        "blocks_in_flight": "actors/blocks_in_flight",
        "weights_lag": "actors/weights_lag",
        "actor_restarts": "actors/restarts",
    },
    "evaluations": {
        "mean": "eval/mean_reward",
        "length_mean": "eval/mean_ep_length",
        "median": "eval/median_reward",
        "std": "eval/std_reward",
        "ci95_low": "eval/ci95_low",
        "ci95_high": "eval/ci95_high",
        "human_normalized": "eval/human_normalized",
        "episodes": "eval/episodes",
    },
}
"""Tags of scalars, by table and what a row holds; where stable-baselines3 has a name, as there."""

FILM = "eval/film"
"""Tag of a film, which TensorBoard shows among the images."""


def has_tensorboard() -> bool:
    """Return whether TensorBoard is installed, without which no events are written."""
    return importlib.util.find_spec("tensorboard") is not None


def add_film(run: Path, gif: bytes, size: tuple[int, int], step: int) -> None:
    """Add a film of a game to the events of a run that has ended; see `EventFile.film`.

    Raises:
        OSError: If they cannot be written.
    """
    events = EventFile(run)
    try:
        events.film(FILM, gif, size, step)
    finally:
        events.close()


class EventFile:
    """A TensorBoard event file.

    TensorBoard's own writer has a thread, which prints a traceback when the disk is full.

    Args:
        folder: Folder in which the file is created.
        purge_step: Step from which on TensorBoard ignores the scalars of older files in the folder; None keeps them.

    Attributes:
        name: Name of the file.

    Raises:
        OSError: If it cannot be written; the methods raise it too.
    """

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2  # half a second to import
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._session, self._summary = event_pb2.Event, event_pb2.SessionLog, summary_pb2.Summary
        self.name = (
            f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{time.monotonic_ns()}"
        )
        self._file = (folder / self.name).open("xb")
        self._records = RecordWriter(self._file)
        self._write(file_version="brain.Event:2")
        if purge_step is not None:
            self._write(step=purge_step, session_log=self._session(status=self._session.START))
        self.flush()

    def scalar(self, name: str, value: float, step: int) -> None:
        """Add the value of a scalar at a step."""
        summary = self._summary(value=[self._summary.Value(tag=name, simple_value=value)])
        self._write(step=step, summary=summary)

    def describe(self, config: Mapping[str, Any]) -> None:
        """Add the configuration of a run as text, and its settings as TensorBoard's hyperparameters."""
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.plugins.text.summary_v2 import text_pb

        text = f"```json\n{json.dumps(config, indent=2)}\n```"  # TensorBoard shows it as Markdown
        settings = {name: config.get(name) for name in ("env", "protocol", "preset", "seed", "num_envs", "steps")}
        values = {**settings, **config.get("agent", {})}
        # A hyperparameter is a truth value, a number or text.
        of_kinds = {name: value if isinstance(value, int | float) else str(value) for name, value in values.items()}
        for summary in (text_pb("config", text), hparams_pb(of_kinds)):
            self._write(step=0, summary=summary)

    def film(self, name: str, gif: bytes, size: tuple[int, int], step: int) -> None:
        """Add a film as a GIF of some width and height at a step."""
        width, height = size
        image = self._summary.Image(height=height, width=width, colorspace=3, encoded_image_string=gif)
        self._write(step=step, summary=self._summary(value=[self._summary.Value(tag=name, image=image)]))

    def flush(self) -> None:
        """Pass everything that was added to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close the file."""
        self._file.close()

    def _write(self, **fields: Any) -> None:
        self._records.write(self._event(wall_time=time.time(), **fields).SerializeToString())

"""The checkpoints of a run: which are kept, and which is the newest that is intact."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from pixelq.agents.errors import InvalidCheckpoint, InvalidRun, LostReplay, one_line
from pixelq.agents.experience.ring import Ring
from pixelq.agents.experience.store import Store
from pixelq.agents.runs.replay_files import ReplayFiles
from pixelq.agents.runs.tables import TABLES, read_run
from pixelq.agents.storage.checkpoint import (
    Checkpoint,
    RunState,
    pack_tensors,
    read_run_arrays,
    read_run_state,
    read_scalar,
    read_shapes,
    write_checkpoint,
)
from pixelq.agents.storage.checkpoint_files import AGENT, ALONE, ARRAYS, LEARNER, NETWORK, ROWS, RUN, RunFiles
from pixelq.agents.storage.files import (
    CHECKSUMS,
    digest,
    digest_of_file,
    read_checksums,
    remove_folder,
    tidy,
    tidy_files,
)
from pixelq.agents.storage.json_values import is_count
from pixelq.agents.storage.pointers import (
    Mark,
    folder_of_step,
    found_without_pointer,
    marked,
    point,
    step_folders,
    step_of,
)
from pixelq.agents.storage.validation import count, part

OTHER_ARRAYS = 2**28
"""Greatest number of bytes of a run's arrays other than those of its replay: above all, the actions of all games that
are running."""


class RunCheckpoints:
    """The folder `checkpoints` of a run: a folder per checkpoint, named by its step, and pointers `latest` and `best`.

    Args:
        folder: `RUN/checkpoints`.
        replay: The replay, or rollout, of the run.
        keep: Number of newest checkpoints to keep, besides the best.
        names: Where the state of the run and the rows of the replay are.
    """

    def __init__(self, folder: Path, replay: Store, keep: int, names: RunFiles = ALONE) -> None:
        self.folder, self.replay, self.keep, self.names = folder, replay, keep, names
        self.files = ReplayFiles(folder, replay.ring, names)

    def path(self, step: int) -> Path:
        """Return the folder of the checkpoint of a step."""
        return folder_of_step(self.folder, step)

    def write(self, step: int, checkpoint: Checkpoint, state: dict[str, Any], arrays: dict[str, Tensor]) -> None:
        """Write an agent and its run as the latest checkpoint; the one before stays usable until this one is complete.

        Args:
            step: Agent step, which names the checkpoint.
            checkpoint: The agent.
            state: JSON values of the run.
            arrays: Arrays of the run.

        Raises:
            OSError: If it cannot be written.
        """
        checkpoint.run = self.run_state(state, arrays)
        self.add(step, checkpoint)

    def run_state(self, state: dict[str, Any], arrays: dict[str, Tensor]) -> RunState:
        """Write the new blocks of the replay, and return the state of the run, the replay's included."""
        blocks, rows = self.files.write()
        arrays = arrays | {f"replay.{name}": tensor for name, tensor in self.replay.state().items()}
        return RunState({"num_envs": self.replay.num_envs} | state, arrays, rows, blocks)

    def add(self, step: int, checkpoint: Checkpoint) -> None:
        """Write a checkpoint as the latest one, and remove those that are too many."""
        write_checkpoint(self.path(step), checkpoint)
        self.point("latest", step)
        self._remove_old()

    def read(self, step: int) -> tuple[dict[str, Any], dict[str, Tensor], str | None]:
        """Restore the replay as it was at a step.

        Returns:
            JSON values and arrays that the checkpoint holds of the run, and why the replay is left empty, or None.

        Raises:
            InvalidCheckpoint: If the checkpoint is missing, damaged or of another run.
        """
        folder = self.path(step)
        _check_exists(folder)
        state = read_run_state(folder, self.names.run)
        arrays = read_run_arrays(folder, self.most_array_bytes, self.names.arrays)
        try:
            _check_num_envs(state, self.replay.num_envs)
            replay_state = part(arrays, "replay")
            self.files.read(folder, int(replay_state["time"]))
            self.replay.load_state(replay_state)
        except LostReplay as error:
            return state, arrays, str(error)
        except (LookupError, TypeError, ValueError, RuntimeError, ArithmeticError, OSError) as error:
            if isinstance(error, InvalidCheckpoint):
                raise
            raise InvalidCheckpoint(f"{folder} does not fit this run: {one_line(error)}") from error
        return state, arrays, None

    @property
    def most_array_bytes(self) -> int:
        """Greatest number of bytes that the arrays of the run can have."""
        return self.replay.most_state_bytes + OTHER_ARRAYS

    def check_weights(self, step: int, weights: dict[str, Tensor]) -> None:
        """Check that the weights of the network are those of the checkpoint of a step.

        Raises:
            InvalidCheckpoint: If they are not.
        """
        path = self.path(step)
        if os.path.exists(path) and digest(pack_tensors(weights)) != digest_of_file(path / NETWORK):
            raise InvalidCheckpoint(
                f"the agent is not the one in {path}; load it with pixelq.agents.load({str(path)!r})"
            )

    def forget_after(self, step: int) -> None:
        """Remove what a crash left, and the damaged checkpoints after the one that the run goes on from."""
        tidy(self.folder)
        tidy_files(self.files.folder)
        self.point("latest", step)
        for folder in step_folders(self.folder):
            if step_of(folder) > step:
                remove_folder(folder)
        best = self._best()
        if best is not None:
            self.point("best", step_of(best))
        self._remove_old()

    def point(self, name: Mark, step: int) -> None:
        """Let the pointer `name` lead to the checkpoint of a step, in one operation."""
        if not (self.folder / name).is_symlink() and (self.folder / name).is_dir():
            remove_folder(self.folder / name)  # an older run, copied by a program that follows links
        point(self.folder, name, step)

    def _remove_old(self) -> None:
        """Remove all but the newest checkpoints and the best one, and the replay blocks that only they needed."""
        folders = step_folders(self.folder)
        if len(folders) > self.keep:
            best = self._best()
            for folder in folders[: -self.keep]:
                if folder != best:
                    remove_folder(folder)
        self.files.remove_unneeded(folders[-self.keep :])

    def _best(self) -> Path | None:
        """Return the best checkpoint, by the name of its step; None if there is none."""
        best = marked(self.folder, "best")
        if best is not None and best.is_symlink():  # of an older version
            best = self.folder / best.resolve().name
        folders = step_folders(self.folder)
        return best if best in folders else found_without_pointer(self.folder, "best")


def check_newest(folder: Path, step: int) -> None:
    """Check that a run can go on from a step without losing what it did after it.

    Args:
        folder: `RUN/checkpoints`.
        step: Agent step.

    Raises:
        InvalidCheckpoint: If there is a later checkpoint that is intact, or the folder cannot be read.
    """
    for path in reversed(_found(folder)):
        if step_of(path) > step and damage(path) is None:
            raise InvalidCheckpoint(
                f"the agent is at step {step:,}, but its run has come further; load the agent from {path}"
            )


def check_capacity(folder: Path, step: int, ring: Ring, rows: int) -> None:
    """Check that the checkpoint of a step can be of a replay of some size, before memory is taken for it.

    Args:
        folder: `RUN/checkpoints`.
        step: Agent step.
        ring: A ring of such rows, of any length.
        rows: Least number of rows of the replay.

    Raises:
        InvalidCheckpoint: If it is damaged, or of another replay.
    """
    path = folder_of_step(folder, step)
    _check_exists(path)
    length = rows // ring.num_envs  # at least
    state = read_run_state(path)
    try:
        _check_num_envs(state, ring.num_envs)
    except ValueError as error:
        raise InvalidCheckpoint(f"{path} does not fit this run: {error}") from error
    levels = [tensor.numel() for name, tensor in read_shapes(path, ARRAYS).items() if ".level." in name]
    try:
        if levels and max(levels) < length * ring.num_envs:
            raise ValueError(f"it has the priorities of at most {max(levels):,} rows")
        time = read_scalar(path, ARRAYS, "replay.time")
        first = ReplayFiles(folder, ring).first(path, time)
        if first > max(0, time - length):
            raise ValueError(f"of {time:,} time steps it has only those from {first:,} on")
    except LostReplay:
        return  # the run goes on with an empty replay
    except (LookupError, TypeError, ValueError, RuntimeError, OSError) as error:
        if isinstance(error, InvalidCheckpoint):
            raise
        raise InvalidCheckpoint(f"{path} does not fit a replay of {rows:,} rows: {one_line(error)}") from error


def newest_checkpoint(folder: Path, warn: Callable[[str], None]) -> Path | None:
    """Return the newest checkpoint from which a run can go on; None if there are no checkpoints.

    If only the replay's blocks are damaged, which all checkpoints share, the run can go on with an empty replay.

    Args:
        folder: `RUN/checkpoints`.
        warn: Called with a sentence about each damaged checkpoint.

    Raises:
        InvalidCheckpoint: If there are checkpoints, and none of them can be used, or the folder cannot be read.
    """
    problems: list[str] = []
    candidates = _found(folder)[::-1]
    for candidate in candidates:
        problem = damage(candidate)
        if problem is None:
            for line in problems:
                warn(f"{line}; going back to {candidate.name}")
            return candidate
        problems.append(f"{candidate} cannot be resumed ({problem})")
    for candidate, line in zip(candidates, problems, strict=True):
        if damage(candidate, blocks=False) is None:
            warn(f"{line}, nor any other checkpoint of the run; going on from it with an empty replay")
            return candidate
    if problems:
        raise InvalidCheckpoint(f"{problems[0]}, nor any other checkpoint of the run; start another run")
    return None


def check_has_no_checkpoint_yet(out: Path) -> None:
    """Check that a run without checkpoints was stopped before its first, so that starting again loses nothing.

    Args:
        out: Folder of the run.

    Raises:
        InvalidRun: If it had come further, or is no run.
    """
    if os.path.exists(out / AGENT):  # a pretrained policy has the config.json of its run beside it
        raise InvalidRun(f"{out} holds an agent without its run; it can be loaded, but not resumed")
    if not all(os.path.exists(out / f"{name}.csv") for name in TABLES):
        return
    config, metrics, evaluations = read_run(out)
    counts = {name: value for name, value in config.items() if is_count(value)}
    first = min(counts.get("checkpoint_every", 0), counts.get("evaluate_every", 0)) + counts.get("num_envs", 0)
    if evaluations or any(int(row["step"]) >= first for row in metrics):
        raise InvalidRun(f"the checkpoints of {out} are missing; restore them, or start another run in another `out`")


def _found(folder: Path) -> list[Path]:
    """Return the checkpoints in a run's folder of them, oldest first.

    Raises:
        InvalidCheckpoint: If it cannot be read.
    """
    try:
        return step_folders(folder)
    except OSError as error:
        raise InvalidCheckpoint(f"{folder} cannot be read ({error.strerror}); change its permissions") from error


def _check_num_envs(state: dict[str, Any], num_envs: int) -> None:
    if count(state, "num_envs") != num_envs:
        raise ValueError(f"num_envs must be {num_envs}, got {state['num_envs']}")


def _check_exists(checkpoint: Path) -> None:
    if not os.path.exists(checkpoint):
        raise InvalidCheckpoint(f"no checkpoint at {checkpoint}; load the agent from one of the run's checkpoints")


def damage(checkpoint: Path, *, blocks: bool = True) -> str | None:
    """Return what is wrong with a run's checkpoint; None if all its files are as they were written.

    Args:
        checkpoint: Its folder.
        blocks: Whether to check the replay's blocks too, which lie beside it.
    """
    try:
        if not os.path.exists(checkpoint / CHECKSUMS):
            return "it has no checksums: it is damaged, or of an earlier version without a replay"
        digests = read_checksums(checkpoint)
        missing = {AGENT, NETWORK, LEARNER, RUN, ARRAYS, ROWS} - digests.keys()
        if missing:
            return f"{CHECKSUMS} lacks {', '.join(sorted(missing))}"
        for name, expected in digests.items():
            if (blocks or not name.startswith("..")) and digest_of_file(checkpoint / name) != expected:
                return f"{name} is not what was written"
    except (OSError, ValueError) as error:
        return one_line(error)
    return None

"""The checkpoints of a run: which are kept, and which is the newest that is intact."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from pixelq.agents.errors import InvalidCheckpoint, InvalidRun, LostReplay
from pixelq.agents.experience.replay import Replay
from pixelq.agents.runs.replay_files import ReplayFiles
from pixelq.agents.runs.tables import TABLES, read_run
from pixelq.agents.storage.checkpoint import (
    AGENT,
    ARRAYS,
    LEARNER,
    NETWORK,
    ROWS,
    RUN,
    Checkpoint,
    RunState,
    one_line,
    pack_tensors,
    read_run_arrays,
    read_run_state,
    write_checkpoint,
)
from pixelq.agents.storage.files import CHECKSUMS, digest, digest_of_file, read_checksums, remove_folder, sync, tidy
from pixelq.agents.storage.validation import count, part


class RunCheckpoints:
    """The folder `checkpoints` of a run: one folder per checkpoint, named by its step, and links `latest` and `best`.

    Args:
        folder: `RUN/checkpoints`.
        replay: The replay of the run.
        keep: Number of newest checkpoints to keep, besides the best.
    """

    def __init__(self, folder: Path, replay: Replay, keep: int) -> None:
        self.folder, self.replay, self.keep = folder, replay, keep
        self.files = ReplayFiles(folder, replay.ring)

    def path(self, step: int) -> Path:
        """Return the folder of the checkpoint of a step."""
        return self.folder / f"step_{step:010d}"

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
        blocks, rows = self.files.write()
        arrays = arrays | {f"replay.{name}": tensor for name, tensor in self.replay.state().items()}
        checkpoint.run = RunState({"num_envs": self.replay.num_envs} | state, arrays, rows, blocks)
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
        if not folder.exists():
            raise InvalidCheckpoint(f"no checkpoint at {folder}; load the agent from one of the run's checkpoints")
        state, arrays = read_run_state(folder), read_run_arrays(folder)
        try:
            if count(state, "num_envs") != self.replay.num_envs:
                raise ValueError(f"num_envs must be {self.replay.num_envs}, got {state['num_envs']}")
            replay_state = part(arrays, "replay")
            self.files.read(folder, int(replay_state["time"]))
            self.replay.load_state(replay_state)
        except LostReplay as error:
            return state, arrays, str(error)
        except (LookupError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
            if isinstance(error, InvalidCheckpoint):
                raise
            raise InvalidCheckpoint(f"{folder} does not fit this run: {one_line(error)}") from error
        return state, arrays, None

    def check_newest(self, step: int) -> None:
        """Check that the run can go on from a step without losing what it did after it.

        Raises:
            InvalidCheckpoint: If there is a later checkpoint that is intact.
        """
        for folder in reversed(_folders(self.folder)):
            if folder > self.path(step) and damage(folder) is None:
                raise InvalidCheckpoint(
                    f"the agent is at step {step:,}, but its run has come further; load the agent from {folder}"
                )

    def check_weights(self, step: int, weights: dict[str, Tensor]) -> None:
        """Check that the weights of the network are those of the checkpoint of a step.

        Raises:
            InvalidCheckpoint: If they are not.
        """
        path = self.path(step)
        if path.exists() and digest(pack_tensors(weights)) != digest_of_file(path / NETWORK):
            raise InvalidCheckpoint(f"the agent is not the one in {path}; load it with DQN.load({str(path)!r})")

    def forget_after(self, step: int) -> None:
        """Remove what a crash left, and the damaged checkpoints after the one that the run goes on from."""
        tidy(self.folder)
        self.point("latest", step)
        for folder in _folders(self.folder):
            if folder > self.path(step):
                remove_folder(folder)
        self._remove_old()

    def point(self, name: str, step: int) -> None:
        """Let the link `name` point to the checkpoint of a step, in one operation."""
        aside = self.folder / f".{name}.partial"
        if not (self.folder / name).is_symlink() and (self.folder / name).is_dir():
            remove_folder(self.folder / name)  # the run was copied by a program that follows links
        aside.unlink(missing_ok=True)
        aside.symlink_to(self.path(step).name)
        aside.replace(self.folder / name)
        sync(self.folder)

    def _remove_old(self) -> None:
        """Remove all but the newest checkpoints and the best one, and the replay blocks that only they needed."""
        folders = _folders(self.folder)
        for folder in folders[: -self.keep]:
            if not self._is_marked(folder, "best"):
                remove_folder(folder)
        self.files.remove_unneeded(folders[-self.keep :])

    def _is_marked(self, folder: Path, name: str) -> bool:
        return (self.folder / name).resolve() == folder.resolve()


def newest_checkpoint(folder: Path, warn: Callable[[str], None]) -> Path | None:
    """Return the newest checkpoint from which a run can go on; None if there are no checkpoints.

    If only the replay's blocks are damaged, which all checkpoints share, the run can go on with an empty replay.

    Args:
        folder: `RUN/checkpoints`.
        warn: Called with a sentence about each damaged checkpoint.

    Raises:
        InvalidCheckpoint: If there are checkpoints, and none of them can be used.
    """
    problems: list[str] = []
    for candidate in reversed(_folders(folder)):
        problem = damage(candidate)
        if problem is None:
            for line in problems:
                warn(f"{line}; going back to {candidate.name}")
            return candidate
        problems.append(f"{candidate} cannot be resumed ({problem})")
    for candidate, line in zip(reversed(_folders(folder)), problems, strict=True):
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
    if (out / AGENT).exists():  # a pretrained policy has the config.json of its run beside it
        raise InvalidRun(f"{out} holds an agent without its run; it can be loaded, but not resumed")
    if not all((out / f"{name}.csv").exists() for name in TABLES):
        return
    config, metrics, evaluations = read_run(out)
    first = min(config.get("checkpoint_every", 0), config.get("evaluate_every", 0)) + config.get("num_envs", 0)
    if evaluations or any(int(row["step"]) >= first for row in metrics):
        raise InvalidRun(f"the checkpoints of {out} are missing; restore them, or start another run in another `out`")


def damage(checkpoint: Path, *, blocks: bool = True) -> str | None:
    """Return what is wrong with a run's checkpoint; None if all its files are as they were written.

    Args:
        checkpoint: Its folder.
        blocks: Whether to check the replay's blocks too, which lie beside it.
    """
    try:
        if not (checkpoint / CHECKSUMS).exists():
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


def _folders(folder: Path) -> list[Path]:
    """Return the checkpoints in a run's folder of them, oldest first."""
    return sorted(path for path in folder.glob("step_*") if re.fullmatch(r"step_\d{10,}", path.name) and path.is_dir())

"""The checkpoints of a run: written in turn, the newest kept, and the newest that is whole found again."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pixelq.agents.storage.checkpoint import AGENT, ARRAYS, LEARNER, NETWORK, ROWS, RUN, RunState, one_line, read_run_arrays, read_run_state, write_checkpoint
from pixelq.agents.errors import InvalidCheckpoint
from pixelq.agents.storage.files import CHECKSUMS, digest_of_file, read_checksums, remove_folder, sync, tidy
from pixelq.agents.experience.replay import Replay
from pixelq.agents.errors import LostReplay
from pixelq.agents.runs.replay_files import ReplayFiles
from pixelq.agents.storage.validation import count, part

if TYPE_CHECKING:
    from pixelq.agents.dqn import DQN


class RunCheckpoints:
    """The folder ``checkpoints`` of a run: one folder each, named by the step, and the links ``latest`` and ``best``.

    Args:
        folder: ``RUN/checkpoints``.
        replay: of the run.
        keep: newest checkpoints to keep, besides the best.
    """

    def __init__(self, folder: Path, replay: Replay, keep: int) -> None:
        self.folder, self.replay, self.keep = folder, replay, keep
        self.files = ReplayFiles(folder, replay.ring)

    def path(self, step: int) -> Path:
        """The checkpoint of a step."""
        return self.folder / f"step_{step:010d}"

    def write(self, agent: DQN, state: dict[str, Any], arrays: dict[str, Tensor]) -> None:
        """Writes the agent and its run as the latest checkpoint; what was there before is usable until it is whole.

        Args:
            agent: at the step that names the checkpoint.
            state: JSON values of the run.
            arrays: of the run.

        Raises:
            OSError: it cannot be written.
        """
        blocks, rows = self.files.write()
        arrays = arrays | {f"replay.{name}": tensor for name, tensor in self.replay.state().items()}
        checkpoint = agent.checkpoint()
        state = {"num_envs": self.replay.num_envs} | state
        checkpoint.run = RunState(state, arrays, rows, blocks)
        write_checkpoint(self.path(agent.step), checkpoint)
        self.point("latest", agent.step)
        self._remove_old()

    def read(self, step: int) -> tuple[dict[str, Any], dict[str, Tensor], str | None]:
        """Puts the replay back as it was at a step.

        Returns:
            JSON values and arrays that the checkpoint holds of the run; why the replay is left empty, or None.

        Raises:
            InvalidCheckpoint: there is no such checkpoint, or it is damaged, or of another run.
        """
        folder = self.path(step)
        if not folder.exists():
            raise InvalidCheckpoint(f"{folder} is not there; resume with the agent of one of the run's checkpoints")
        state, arrays = read_run_state(folder), read_run_arrays(folder)
        try:
            if count(state, "num_envs") != self.replay.num_envs:
                raise ValueError(f"it has {state['num_envs']} environments, not {self.replay.num_envs}")
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
        """Sees that a run can go on from a step without losing what it did after it.

        Raises:
            InvalidCheckpoint: a later checkpoint is there and whole.
        """
        for folder in reversed(_folders(self.folder)):
            if folder > self.path(step) and damage(folder) is None:
                raise InvalidCheckpoint(
                    f"the agent has taken {step:,} steps and its run more; go on with DQN.load({str(folder)!r})"
                )

    def forget_after(self, step: int) -> None:
        """Removes what a crash left, and what is damaged after the checkpoint that the run goes on from."""
        tidy(self.folder)
        self.point("latest", step)
        for folder in _folders(self.folder):
            if folder > self.path(step):
                remove_folder(folder)
        self._remove_old()

    def point(self, name: str, step: int) -> None:
        """Makes the link of that name point to the checkpoint of a step, in one go."""
        aside = self.folder / f".{name}.partial"
        if not (self.folder / name).is_symlink() and (self.folder / name).is_dir():
            remove_folder(self.folder / name)  # copied by a program that follows links
        aside.unlink(missing_ok=True)
        aside.symlink_to(self.path(step).name)
        aside.replace(self.folder / name)
        sync(self.folder)

    def _remove_old(self) -> None:
        """Removes all but the newest checkpoints and the best one, and the rows that only they needed."""
        folders = _folders(self.folder)
        for folder in folders[: -self.keep]:
            if not self._is_marked(folder, "best"):
                remove_folder(folder)
        self.files.remove_unneeded(folders[-self.keep :])

    def _is_marked(self, folder: Path, name: str) -> bool:
        return (self.folder / name).resolve() == folder.resolve()


def newest_checkpoint(folder: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest checkpoint in a run's folder of them from which the run can go on; None if there are none at all.

    Where none is whole but for the replay's blocks, which checkpoints share, the run can go on without its replay.

    Args:
        folder: ``RUN/checkpoints``.
        warn: is told of each that is damaged.

    Raises:
        InvalidCheckpoint: there are some, and none can be used.
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


def damage(checkpoint: Path, *, blocks: bool = True) -> str | None:
    """What is wrong with a run's checkpoint; None if all that belongs to it is as it was written.

    Args:
        checkpoint: its folder.
        blocks: the replay's blocks, which lie beside it, belong to it.
    """
    try:
        if not (checkpoint / CHECKSUMS).exists():
            return "it has no checksums: it is damaged, or of an earlier version and holds no replay"
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
    """The checkpoints in a run's folder of them, oldest first."""
    return sorted(path for path in folder.glob("step_*") if re.fullmatch(r"step_\d{10,}", path.name) and path.is_dir())

"""Checkpoints: a folder of safetensors and JSON. Loading one runs no code."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

FORMAT = 2
_STATE = "agent.json"
_NETWORK = "network.safetensors"
_LEARNER = "learner.safetensors"


class InvalidCheckpoint(ValueError):
    """A checkpoint that is missing, damaged or another agent's; the message says which."""


@dataclass
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        state: JSON values: configuration, spaces, counters, generators.
        network: the online network's weights.
        learner: target network and optimiser.
    """

    state: dict[str, Any]
    network: dict[str, Tensor]
    learner: dict[str, Tensor] = field(default_factory=dict)


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes the folder ``path`` aside and renames it, so that it exists whole or not at all.

    Raises:
        InvalidCheckpoint: something else than a checkpoint lies at ``path``; it is left as it is.
    """
    if path.is_symlink() or (path.exists() and not _is_replaceable(path)):
        raise InvalidCheckpoint(f"{path} is there already and is no checkpoint; save to another path")
    aside = path.with_name(f".{path.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for name, tensors in ((_NETWORK, checkpoint.network), (_LEARNER, checkpoint.learner)):
        data = save({key: tensor.detach().contiguous().cpu() for key, tensor in tensors.items()})
        (aside / name).write_bytes(data)  # with the rights of any file; save_file would make it ours alone
        _sync(aside / name)
    (aside / _STATE).write_text(json.dumps({"format": FORMAT, **checkpoint.state}, indent=1))
    _sync(aside / _STATE)
    if path.exists():
        old = path.with_name(f".{path.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
        aside.rename(path)
        shutil.rmtree(old)
    else:
        aside.rename(path)
    _sync(path.parent)


def point_to(link: Path, checkpoint: Path) -> None:
    """Makes the symbolic link point to a checkpoint beside it, in one step."""
    aside = link.with_name(f".{link.name}.partial")
    aside.unlink(missing_ok=True)
    aside.symlink_to(checkpoint.name)
    aside.replace(link)


def remove_old(checkpoints: Path, keep: int) -> None:
    """Removes all but the ``keep`` newest of a run's checkpoints and those that a link points to."""
    marked = {link.resolve() for link in checkpoints.iterdir() if link.is_symlink()}
    for folder in sorted(checkpoints.glob("step_*"))[:-keep]:
        if folder.resolve() not in marked:
            shutil.rmtree(folder)


def find_checkpoint(path: str | os.PathLike[str]) -> Path:
    """The checkpoint that a path means: itself, or a run's best one, or else its latest.

    Raises:
        InvalidCheckpoint: there is none.
    """
    path = Path(path)
    for candidate in (path, path / "checkpoints" / "best", path / "checkpoints" / "latest"):
        if os.path.isfile(candidate / _STATE):
            return candidate
    if not os.path.exists(path):
        raise InvalidCheckpoint(f"{path} does not exist; give a run's folder or one of its checkpoints")
    raise InvalidCheckpoint(f"{path} holds no checkpoint; give a run's folder or one of its checkpoints")


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Reads the checkpoint that ``find_checkpoint`` finds.

    Raises:
        InvalidCheckpoint: a file is missing, cut off or of another format.
    """
    folder = find_checkpoint(path)
    try:
        state = _read_state(folder)
        return Checkpoint(state, load_file(folder / _NETWORK), load_file(folder / _LEARNER))
    except OSError as error:
        raise InvalidCheckpoint(f"{folder} cannot be read ({error}); use another checkpoint") from error
    except SafetensorError as error:
        raise InvalidCheckpoint(f"the weights in {folder} are damaged ({error}); use another checkpoint") from error


def _read_state(folder: Path) -> dict[str, Any]:
    """The checkpoint's JSON values."""
    text = (folder / _STATE).read_bytes()
    try:
        state = json.loads(text)
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, a number of too many digits, nested too deep
        raise InvalidCheckpoint(f"{folder / _STATE} is damaged ({error}); use another checkpoint") from error
    if not isinstance(state, dict) or "format" not in state:
        raise InvalidCheckpoint(f"{folder / _STATE} is not a pixelq checkpoint's description")
    if state["format"] != FORMAT:
        raise InvalidCheckpoint(f"{folder} has format {state['format']!r}; this version reads format {FORMAT}")
    return state


def _is_replaceable(path: Path) -> bool:
    """Whether a folder holds a checkpoint and nothing else, or nothing at all."""
    return path.is_dir() and {entry.name for entry in path.iterdir()} <= {_STATE, _NETWORK, _LEARNER}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Checkpoints: folders of safetensors and JSON files with checksums. Loading one runs no code."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.numpy
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from pixelq.agents.errors import InvalidCheckpoint
from pixelq.agents.storage.files import CHECKSUMS, read_checked, read_regular, replace_folder, surviving
from pixelq.agents.storage.json_values import MOST_JSON

FORMAT = 3
"""Format that is written; format 2, an agent without checksums and without its run, is read too."""
AGENT, NETWORK, LEARNER = "agent.json", "network.safetensors", "learner.safetensors"
RUN, ARRAYS, ROWS = "run.json", "run.safetensors", "rows.zst"
"""Files of a checkpoint."""
FOR_ACTING = "for_acting"
"""Key in agent.json that marks an agent saved without its learner."""
MOST_UNCHECKED = 2**32
"""Size of the largest file that is read without a checksum, in bytes."""


@dataclass
class RunState:
    """State of a run that is needed, besides its agent, to resume it exactly.

    Attributes:
        state: JSON values: counters.
        arrays: Running episodes, environments, and the state of the replay other than its rows.
        rows: The newest rows of the replay, packed.
        blocks: Digests of the files that hold the other rows, by their path relative to the checkpoint.
    """

    state: dict[str, Any]
    arrays: dict[str, Tensor]
    rows: bytes
    blocks: dict[str, str]


@dataclass
class Checkpoint:
    """Contents of a checkpoint.

    Attributes:
        state: JSON values: configuration, spaces, counters, generators.
        network: Weights of the online network.
        learner: Target network and optimiser; None for an agent saved for acting, or one read without its learner.
        run: State of the run; None for an agent alone.
    """

    state: dict[str, Any]
    network: dict[str, Tensor]
    learner: dict[str, Tensor] | None = field(default_factory=dict)
    run: RunState | None = None


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint to the folder `path`, which exists whole or not at all at any time.

    Raises:
        InvalidCheckpoint: If `path` exists and is not a checkpoint; it is left unchanged.
        OSError: If the folder cannot be written; an old checkpoint is left unchanged.
    """
    if path.is_symlink() or (path.exists() and not _is_replaceable(path)):
        raise InvalidCheckpoint(f"{path} already exists and is no checkpoint; save to another path")
    files, run = agent_files(checkpoint), checkpoint.run
    if run is not None:
        files |= {RUN: _json(run.state), ARRAYS: pack_tensors(run.arrays), ROWS: run.rows}
    replace_folder(path, files, run.blocks if run is not None else {})


def agent_files(checkpoint: Checkpoint) -> dict[str, bytes]:
    """Return the files of a checkpoint's agent, contents by name.

    An agent without a learner is marked as one saved for acting.
    """
    state = {"format": FORMAT, **checkpoint.state}
    if checkpoint.learner is None:
        return {AGENT: _json(state | {FOR_ACTING: True}), NETWORK: pack_tensors(checkpoint.network)}
    files = {NETWORK: checkpoint.network, LEARNER: checkpoint.learner}
    return {AGENT: _json(state), **{name: pack_tensors(tensors) for name, tensors in files.items()}}


def find_checkpoint(path: str | os.PathLike[str]) -> Path:
    """Return the checkpoint at a path: the path itself, or a run's best checkpoint, or else its latest.

    Raises:
        InvalidCheckpoint: If there is none.
    """
    path = Path(path)
    for candidate in (surviving(path), path / "checkpoints" / "best", path / "checkpoints" / "latest"):
        if os.path.isfile(candidate / AGENT):
            return candidate
    if not os.path.exists(path):
        raise InvalidCheckpoint(f"{path} does not exist; give the folder of a run or a checkpoint")
    raise InvalidCheckpoint(f"no checkpoint in {path}; give the folder of a run or a checkpoint")


def read_checkpoint(path: str | os.PathLike[str], *, learner: bool = True) -> Checkpoint:
    """Read the agent of the checkpoint that `find_checkpoint` finds.

    Args:
        path: Path of a run or a checkpoint.
        learner: Whether to read the target network and the optimiser too; acting needs neither.

    Raises:
        InvalidCheckpoint: If a file is missing, is not as it was written, or has another format. Without `learner`,
            learner.safetensors is neither read nor checked.
    """
    folder = find_checkpoint(path)
    files = dict(read_files(folder, (AGENT, NETWORK)))
    state = unpack_json(folder / AGENT, files[AGENT])
    if "format" not in state:
        raise InvalidCheckpoint(f"{folder / AGENT} is not a pixelq checkpoint's description")
    if state["format"] not in (2, FORMAT):
        raise InvalidCheckpoint(
            f"{folder} has format {state['format']!r:.80}; this version reads formats 2 and {FORMAT}"
        )
    if state["format"] == FORMAT and not (folder / CHECKSUMS).exists():
        raise InvalidCheckpoint(f"{folder} lacks its {CHECKSUMS}; use another checkpoint")
    network = unpack_tensors(folder / NETWORK, files[NETWORK])
    # Only a file with a checksum can say that there is no learner; anywhere else a missing learner is damage.
    is_for_acting = state.get(FOR_ACTING) is True and state["format"] == FORMAT
    if not learner or is_for_acting:
        return Checkpoint(state, network, None)
    ((_, data),) = read_files(folder, (LEARNER,))
    return Checkpoint(state, network, unpack_tensors(folder / LEARNER, data))


def read_run_state(folder: Path) -> dict[str, Any]:
    """Return the JSON values of a checkpoint's run.

    Raises:
        InvalidCheckpoint: If the file is missing or not as it was written, or the checkpoint holds an agent alone.
    """
    if not (folder / RUN).exists():
        raise InvalidCheckpoint(f"{folder} holds an agent without its run; it can be loaded, but not resumed")
    ((_, data),) = read_files(folder, (RUN,))
    return unpack_json(folder / RUN, data)


def read_run_arrays(folder: Path) -> dict[str, Tensor]:
    """Return the arrays of a checkpoint's run.

    Raises:
        InvalidCheckpoint: If the file is missing or not as it was written.
    """
    ((_, data),) = read_files(folder, (ARRAYS,))
    return unpack_tensors(folder / ARRAYS, data)


def read_files(folder: Path, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yield name and contents of a checkpoint's files, one at a time, checked if the checkpoint has checksums.

    Raises:
        InvalidCheckpoint: If a file is missing or not as it was written.
    """
    try:
        if (folder / CHECKSUMS).exists():
            yield from read_checked(folder, names)
        else:
            yield from ((name, read_regular(folder / name, MOST_UNCHECKED)) for name in names)
    except OSError as error:
        raise InvalidCheckpoint(f"{folder} cannot be read ({error}); use another checkpoint") from error
    except ValueError as error:
        raise InvalidCheckpoint(f"{folder} is damaged ({error}); use another checkpoint") from error


def pack_tensors(tensors: dict[str, Tensor]) -> bytes:
    """Return tensors of any device as the bytes of a safetensors file."""
    # Not safetensors.torch.save, which makes a ctypes type for each new size and never frees it.
    return safetensors.numpy.save({key: tensor.detach().contiguous().cpu().numpy() for key, tensor in tensors.items()})


def unpack_tensors(path: Path, data: bytes) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; they take as much memory as the file.

    Args:
        path: Path of the file, for the error.
        data: Contents of the file.

    Raises:
        InvalidCheckpoint: If it is no safetensors file.
    """
    try:
        return safetensors.torch.load(data)
    except (SafetensorError, KeyError, ValueError, RuntimeError, TypeError, ArithmeticError, AssertionError) as error:
        raise InvalidCheckpoint(f"{path} is damaged ({one_line(error)}); use another checkpoint") from error


def unpack_json(path: Path, data: bytes) -> dict[str, Any]:
    """Return the values of a JSON file.

    Args:
        path: Path of the file, for the error.
        data: Contents of the file.

    Raises:
        InvalidCheckpoint: If it is no JSON object, or larger than `MOST_JSON`.
    """
    try:
        if len(data) > MOST_JSON:
            raise ValueError(f"{len(data):,} bytes")
        state = json.loads(data)
    # Not UTF-8, not JSON, a number with too many digits, nesting too deep
    except (ValueError, RecursionError) as error:
        raise InvalidCheckpoint(f"{path} is damaged ({one_line(error)}); use another checkpoint") from error
    if not isinstance(state, dict):
        raise InvalidCheckpoint(f"{path} is not a pixelq checkpoint's description")
    return state


def _json(values: dict[str, Any]) -> bytes:
    return json.dumps(values, indent=1).encode()


def one_line(error: Exception) -> str:
    """Return the message of an error in one line, to be part of a sentence."""
    return " ".join(str(error).split())[:300]


def _is_replaceable(path: Path) -> bool:
    """Return whether a folder is empty or holds a checkpoint and nothing else."""
    names = {AGENT, NETWORK, LEARNER, RUN, ARRAYS, ROWS, CHECKSUMS}
    return path.is_dir() and {entry.name for entry in path.iterdir()} <= names

"""Checkpoints: a folder of safetensors and JSON with checksums. Loading one runs no code."""

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
from pixelq.agents.storage.files import CHECKSUMS, read_checked, read_regular, replace_folder, standing

FORMAT = 3
AGENT, NETWORK, LEARNER = "agent.json", "network.safetensors", "learner.safetensors"
RUN, ARRAYS, ROWS = "run.json", "run.safetensors", "rows.zst"
FOR_ACTING = "for_acting"
"""What the description of an agent without its learner says."""
MOST_JSON = 2**22
"""Bytes of the longest description that is read."""
MOST_UNCHECKED = 2**32
"""Bytes of the largest file that is read without a checksum."""


@dataclass
class RunState:
    """What a run needs beside its agent to go on exactly.

    Attributes:
        state: JSON values: counters.
        arrays: running episodes, environments, and the replay beside its rows.
        rows: the replay's newest rows, packed.
        blocks: digests of the files that hold the others, by their path from the checkpoint.
    """

    state: dict[str, Any]
    arrays: dict[str, Tensor]
    rows: bytes
    blocks: dict[str, str]


@dataclass
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        state: JSON values: configuration, spaces, counters, generators.
        network: the online network's weights.
        learner: target network and optimiser; None for an agent that was saved for acting.
        run: what a run needs to go on; None for an agent alone.
    """

    state: dict[str, Any]
    network: dict[str, Tensor]
    learner: dict[str, Tensor] | None = field(default_factory=dict)
    run: RunState | None = None


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes the folder ``path`` aside and renames it, so that it exists whole or not at all.

    Raises:
        InvalidCheckpoint: something else than a checkpoint lies at ``path``; it is left as it is.
        OSError: it cannot be written; what was there is left as it was.
    """
    if path.is_symlink() or (path.exists() and not _is_replaceable(path)):
        raise InvalidCheckpoint(f"{path} is there already and is no checkpoint; save to another path")
    files, run = agent_files(checkpoint), checkpoint.run
    if run is not None:
        files |= {RUN: _json(run.state), ARRAYS: pack_tensors(run.arrays), ROWS: run.rows}
    replace_folder(path, files, run.blocks if run is not None else {})


def agent_files(checkpoint: Checkpoint) -> dict[str, bytes]:
    """The files of a checkpoint's agent, contents by name; one for acting says of itself that it has no learner."""
    state = {"format": FORMAT, **checkpoint.state}
    if checkpoint.learner is None:
        return {AGENT: _json(state | {FOR_ACTING: True}), NETWORK: pack_tensors(checkpoint.network)}
    files = {NETWORK: checkpoint.network, LEARNER: checkpoint.learner}
    return {AGENT: _json(state), **{name: pack_tensors(tensors) for name, tensors in files.items()}}


def find_checkpoint(path: str | os.PathLike[str]) -> Path:
    """The checkpoint that a path means: itself, or a run's best one, or else its latest.

    Raises:
        InvalidCheckpoint: there is none.
    """
    path = Path(path)
    for candidate in (standing(path), path / "checkpoints" / "best", path / "checkpoints" / "latest"):
        if os.path.isfile(candidate / AGENT):
            return candidate
    if not os.path.exists(path):
        raise InvalidCheckpoint(f"{path} does not exist; give a run's folder or one of its checkpoints")
    raise InvalidCheckpoint(f"{path} holds no checkpoint; give a run's folder or one of its checkpoints")


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Reads the agent of the checkpoint that ``find_checkpoint`` finds.

    Raises:
        InvalidCheckpoint: a file is missing, not as it was written, or of another format.
    """
    folder = find_checkpoint(path)
    files = dict(read_files(folder, (AGENT, NETWORK)))
    state = unpack_json(folder / AGENT, files[AGENT])
    if "format" not in state:
        raise InvalidCheckpoint(f"{folder / AGENT} is not a pixelq checkpoint's description")
    if state["format"] not in (2, FORMAT):  # format 2 is an agent without checksums and without its run
        raise InvalidCheckpoint(
            f"{folder} has format {state['format']!r:.80}; this version reads formats 2 and {FORMAT}"
        )
    if state["format"] == FORMAT and not (folder / CHECKSUMS).exists():
        raise InvalidCheckpoint(f"{folder} lacks its {CHECKSUMS}; use another checkpoint")
    network = unpack_tensors(folder / NETWORK, files[NETWORK])
    if state.get(FOR_ACTING) is True and state["format"] == FORMAT:  # said in a file with a checksum, and so no damage
        return Checkpoint(state, network, None)
    ((_, learner),) = read_files(folder, (LEARNER,))
    return Checkpoint(state, network, unpack_tensors(folder / LEARNER, learner))


def read_run_state(folder: Path) -> dict[str, Any]:
    """The JSON values that a checkpoint holds of its run.

    Raises:
        InvalidCheckpoint: the file is missing or not as it was written, or the checkpoint is of an agent alone.
    """
    if not (folder / RUN).exists():
        raise InvalidCheckpoint(f"{folder} holds an agent without its run; it can be loaded, but not resumed")
    ((_, data),) = read_files(folder, (RUN,))
    return unpack_json(folder / RUN, data)


def read_run_arrays(folder: Path) -> dict[str, Tensor]:
    """The arrays that a checkpoint holds of its run.

    Raises:
        InvalidCheckpoint: the file is missing or not as it was written.
    """
    ((_, data),) = read_files(folder, (ARRAYS,))
    return unpack_tensors(folder / ARRAYS, data)


def read_files(folder: Path, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Name and contents of a checkpoint's files, one at a time, checked where it has checksums.

    Raises:
        InvalidCheckpoint: a file is missing or not as it was written.
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
    """Tensors of any device as the bytes of a safetensors file."""
    # safetensors.torch.save makes a type of ctypes for each new size, which is never freed again.
    return safetensors.numpy.save({key: tensor.detach().contiguous().cpu().numpy() for key, tensor in tensors.items()})


def unpack_tensors(path: Path, data: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors file; they take as much memory as the file.

    Raises:
        InvalidCheckpoint: it is none.
    """
    try:
        return safetensors.torch.load(data)
    except (SafetensorError, KeyError, ValueError, RuntimeError, TypeError, ArithmeticError, AssertionError) as error:
        raise InvalidCheckpoint(f"{path} is damaged ({one_line(error)}); use another checkpoint") from error


def unpack_json(path: Path, data: bytes) -> dict[str, Any]:
    """The values of a JSON file.

    Raises:
        InvalidCheckpoint: it is no JSON object, or too long for one of ours.
    """
    try:
        if len(data) > MOST_JSON:
            raise ValueError(f"{len(data):,} bytes")
        state = json.loads(data)
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, a number of too many digits, nested too deep
        raise InvalidCheckpoint(f"{path} is damaged ({one_line(error)}); use another checkpoint") from error
    if not isinstance(state, dict):
        raise InvalidCheckpoint(f"{path} is not a pixelq checkpoint's description")
    return state


def _json(values: dict[str, Any]) -> bytes:
    return json.dumps(values, indent=1).encode()


def one_line(error: Exception) -> str:
    """What an error says, as part of a sentence."""
    return " ".join(str(error).split())[:300]


def _is_replaceable(path: Path) -> bool:
    """Whether a folder holds a checkpoint and nothing else, or nothing at all."""
    names = {AGENT, NETWORK, LEARNER, RUN, ARRAYS, ROWS, CHECKSUMS}
    return path.is_dir() and {entry.name for entry in path.iterdir()} <= names

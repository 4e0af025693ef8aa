"""Checkpoints: folders of safetensors and JSON files with checksums. Loading one runs no code."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.numpy
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from pixelq.agents.errors import InvalidCheckpoint, one_line
from pixelq.agents.storage.checkpoint_files import (
    AGENT,
    ALONE,
    ARRAYS,
    LEARNER,
    NETWORK,
    OF_OTHERS,
    ROWS,
    RUN,
    RunFiles,
    find_checkpoint,
    read_files,
    reading_checkpoint,
    unpack_json,
)
from pixelq.agents.storage.files import CHECKSUMS, check_digest, open_regular, replace_folder
from pixelq.agents.storage.json_values import MOST_JSON, is_count

FORMAT = 3
"""Format that is written; format 2, an agent without checksums and without its run, is read too."""
_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "U16": torch.uint16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "I64": torch.int64,
    "U64": torch.uint64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
"""Types of tensors, by their names in safetensors files."""
FOR_ACTING = "for_acting"
"""Key in agent.json that marks an agent saved without its learner."""
MOST_NETWORK = 2**32
"""Size of the largest network that is read, in bytes."""
MOST_HEADER = 2**20
"""Size of the largest description of the tensors in a file, in bytes; that of a learner has some 20 kB."""
LEARNER_NETWORKS = 8
"""Greatest size of a learner, in sizes of its network; Adam and a target network take three."""


@dataclass
class RunState:
    """State of a run that is needed, besides its agent, to resume it exactly.

    Attributes:
        state: JSON values: counters.
        arrays: Running episodes, environments, and the state of the replay other than its rows.
        rows: The newest rows of the replay, packed.
        blocks: Digests of the files that hold the other rows, by their path relative to the checkpoint.
        others: Files of other learners, contents by name.
    """

    state: dict[str, Any]
    arrays: dict[str, Tensor]
    rows: bytes
    blocks: dict[str, str]
    others: dict[str, bytes] = field(default_factory=dict)


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
        files |= run_files(run) | run.others
    replace_folder(path, files, run.blocks if run is not None else {})


def run_files(run: RunState, names: RunFiles = ALONE) -> dict[str, bytes]:
    """Return the files of a run's state, contents by name."""
    return {names.run: _json(run.state), names.arrays: pack_tensors(run.arrays), names.rows: run.rows}


def agent_files(checkpoint: Checkpoint) -> dict[str, bytes]:
    """Return the files of a checkpoint's agent, contents by name.

    An agent without a learner is marked as one saved for acting.
    """
    state = {"format": FORMAT, **checkpoint.state}
    if checkpoint.learner is None:
        return {AGENT: _json(state | {FOR_ACTING: True}), NETWORK: pack_tensors(checkpoint.network)}
    files = {NETWORK: checkpoint.network, LEARNER: checkpoint.learner}
    return {AGENT: _json(state), **{name: pack_tensors(tensors) for name, tensors in files.items()}}


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
    state = read_description(folder)[0]
    ((_, data),) = read_files(folder, (NETWORK,), MOST_NETWORK)
    network = unpack_tensors(folder / NETWORK, data)
    # Only a file with a checksum can say that there is no learner; anywhere else a missing learner is damage.
    is_for_acting = state.get(FOR_ACTING) is True and state["format"] == FORMAT
    if not learner or is_for_acting:
        return Checkpoint(state, network, None)
    ((_, data),) = read_files(folder, (LEARNER,), LEARNER_NETWORKS * len(data) + MOST_HEADER)
    return Checkpoint(state, network, unpack_tensors(folder / LEARNER, data))


def read_description(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the JSON values that describe a checkpoint's agent, and its network's weights as meta tensors.

    Meta tensors have a type and a shape and take no memory, so that weights can be checked before they are read.

    Raises:
        InvalidCheckpoint: As in `read_checkpoint`.
    """
    ((_, data),) = read_files(folder, (AGENT,), MOST_JSON)
    state = unpack_json(folder / AGENT, data)
    if "format" not in state:
        raise InvalidCheckpoint(f"{folder / AGENT} is not a pixelq checkpoint's description")
    if state["format"] not in (2, FORMAT):
        raise InvalidCheckpoint(
            f"{folder} has format {state['format']!r:.80}; this version reads formats 2 and {FORMAT}"
        )
    if state["format"] == FORMAT and not os.path.exists(folder / CHECKSUMS):
        raise InvalidCheckpoint(f"{folder} lacks its {CHECKSUMS}; use another checkpoint")
    return state, read_shapes(folder, NETWORK)


def read_run_state(folder: Path, name: str = RUN) -> dict[str, Any]:
    """Return the JSON values of a checkpoint's run.

    Raises:
        InvalidCheckpoint: If the file is missing or not as it was written, or the checkpoint holds an agent alone.
    """
    if not os.path.exists(folder / name):
        raise InvalidCheckpoint(f"{folder} holds an agent without its run; it can be loaded, but not resumed")
    ((_, data),) = read_files(folder, (name,), MOST_JSON)
    return unpack_json(folder / name, data)


def read_run_arrays(folder: Path, most: int, name: str = ARRAYS) -> dict[str, Tensor]:
    """Return the arrays of a checkpoint's run, which may take `most` bytes.

    Raises:
        InvalidCheckpoint: If the file is missing or not as it was written.
    """
    ((_, data),) = read_files(folder, (name,), most)
    return unpack_tensors(folder / name, data)


def pack_tensors(tensors: dict[str, Tensor]) -> bytes:
    """Return tensors of any device as the bytes of a safetensors file."""
    # Not safetensors.torch.save, which makes a ctypes type for each new size and never frees it.
    return safetensors.numpy.save({key: tensor.detach().contiguous().cpu().numpy() for key, tensor in tensors.items()})


def unpack_tensors(path: Path, data: bytes) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; they take as much memory as the file.

    What it says of them is checked before: a million empty tensors take gigabytes.

    Args:
        path: Path of the file, for the error.
        data: Contents of the file.

    Raises:
        InvalidCheckpoint: If it is no safetensors file.
    """
    try:
        _shapes(data[:8], data[8 : 8 + MOST_HEADER], len(data))
        return safetensors.torch.load(data)
    except (SafetensorError, KeyError, ValueError, RuntimeError, TypeError, ArithmeticError, AssertionError) as error:
        raise InvalidCheckpoint(f"{path} is damaged ({one_line(error)}); use another checkpoint") from error


def read_shapes(folder: Path, name: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file as meta tensors, which have a type and a shape and take no memory.

    Raises:
        InvalidCheckpoint: If it cannot be read, is no safetensors file, or has not the size that it claims.
    """
    with reading_checkpoint(folder):
        if os.path.exists(folder / CHECKSUMS):
            check_digest(folder, name)
        with open_regular(folder / name) as (file, size):
            try:
                return _shapes(file.read(min(8, size)), file.read(min(MOST_HEADER, max(0, size - 8))), size)
            except (ValueError, RuntimeError) as error:
                raise ValueError(f"{name}: {error}") from error


def read_scalar(folder: Path, name: str, key: str) -> int:
    """Return an integer from a safetensors file, without reading the rest of it.

    Raises:
        InvalidCheckpoint: If the file has no such integer, or as in `read_shapes`.
    """
    like = read_shapes(folder, name).get(key)
    if like is None or like.dtype != torch.int64 or like.dim() != 0:
        raise InvalidCheckpoint(f"{folder / name} is damaged ({key} is no integer); use another checkpoint")
    # Not safetensors.safe_open, which takes no path that is not UTF-8.
    with reading_checkpoint(folder), open_regular(folder / name) as (file, size):
        length = int.from_bytes(file.read(min(8, size)), "little")
        try:
            offset, _ = json.loads(file.read(min(length, MOST_HEADER)))[key]["data_offsets"]
            file.seek(8 + length + offset)
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{name} does not say where {key} is") from error
        data = file.read(8)
        if len(data) != 8:
            raise ValueError(f"{name} ends before {key}")
        return int.from_bytes(data, "little", signed=True)


def _shapes(length: bytes, beginning: bytes, size: int) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file as meta tensors.

    Args:
        length: First 8 bytes of the file, the length of its header.
        beginning: What comes next: the header and perhaps more, or what there is of it up to `MOST_HEADER` bytes.
        size: Size of the file.

    Raises:
        ValueError, RuntimeError: If this is no such file.
    """
    header_size = int.from_bytes(length, "little")
    if header_size > min(MOST_HEADER, max(0, size - 8)):
        raise ValueError(f"its header claims {header_size:,} bytes")
    header = json.loads(beginning[:header_size])
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    found = {name: _shape(name, entry) for name, entry in header.items() if name != "__metadata__"}
    claimed = 8 + header_size + sum(tensor.nbytes for tensor in found.values())
    if claimed != size:
        raise ValueError(f"it claims {claimed:,} bytes and has {size:,}")
    return found


def _shape(name: str, entry: Any) -> Tensor:
    """Return an entry of the header of a safetensors file as a meta tensor; errors as in `_shapes`."""
    shape, dtype = (entry.get("shape"), entry.get("dtype")) if isinstance(entry, dict) else (None, None)
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError(f"{name:.80} has no type that a checkpoint holds")
    if not isinstance(shape, list) or len(shape) > 32 or not all(is_count(length) for length in shape):
        raise ValueError(f"{name:.80} has no shape")
    return torch.empty(shape, dtype=_DTYPES[dtype], device="meta")


def _json(values: dict[str, Any]) -> bytes:
    return json.dumps(values, indent=1).encode()


def _is_replaceable(path: Path) -> bool:
    """Return whether a folder is empty or holds a checkpoint and nothing else."""
    names = {AGENT, NETWORK, LEARNER, RUN, ARRAYS, ROWS, CHECKSUMS}
    return path.is_dir() and all(each.name in names or OF_OTHERS.fullmatch(each.name) for each in path.iterdir())

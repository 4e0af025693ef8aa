"""Files of a checkpoint: where they are, and their contents as they were written. PyTorch is not needed for that."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

from pixelq.agents.errors import InvalidCheckpoint, one_line
from pixelq.agents.storage.files import CHECKSUMS, read_checked, read_regular, surviving, user_path
from pixelq.agents.storage.json_values import MOST_JSON
from pixelq.agents.storage.pointers import CHECKPOINTS, MARKS, checkpoint_folder, marked

AGENT, NETWORK, LEARNER = "agent.json", "network.safetensors", "learner.safetensors"
RUN, ARRAYS, ROWS = "run.json", "run.safetensors", "rows.zst"
"""Files of a checkpoint."""


class RunFiles(NamedTuple):
    """Where a run's state and the rows of its replay are: of a single learner, or of one of several."""

    run: str = RUN
    """JSON values, in each checkpoint."""
    arrays: str = ARRAYS
    """Arrays, in each checkpoint."""
    rows: str = ROWS
    """The newest rows, in each checkpoint."""
    blocks: str = "replay"
    """Folder beside the checkpoints with the other rows."""

    @classmethod
    def of(cls, rank: int) -> Self:
        """Return those of a learner, by its number; those of the first are a single one's."""
        name = f"rank{rank}"
        return cls(f"{name}.json", f"{name}.safetensors", f"{name}.zst", f"replay_{name}") if rank else cls()


ALONE = RunFiles()
"""Those of a single learner."""
OF_OTHERS = re.compile(r"rank[0-9]+\.(json|safetensors|zst)")
"""Names of the files in a checkpoint that only runs of several learners have."""


def find_checkpoint(path: str | os.PathLike[str]) -> Path:
    """Return the checkpoint at a path: the path itself, or a run's best checkpoint, or else its latest.

    Raises:
        InvalidCheckpoint: If there is none.
    """
    path = user_path(path)
    found = (checkpoint_folder(surviving(path)), *(marked(path / CHECKPOINTS, name) for name in MARKS))
    for candidate in found:
        if candidate is not None and os.path.isfile(candidate / AGENT):
            return candidate
    if not os.path.exists(path):
        raise InvalidCheckpoint(f"{path} does not exist; give the folder of a run or a checkpoint")
    raise InvalidCheckpoint(f"no checkpoint in {path}; give the folder of a run or a checkpoint")


def read_files(folder: Path, names: Iterable[str], most: int) -> Iterator[tuple[str, bytes]]:
    """Yield name and contents of a checkpoint's files, one at a time, checked if the checkpoint has checksums.

    Args:
        folder: The checkpoint.
        names: Names of the files.
        most: Greatest size of a file in bytes.

    Raises:
        InvalidCheckpoint: If a file is missing or not as it was written.
    """
    with reading_checkpoint(folder):
        if os.path.exists(folder / CHECKSUMS):
            yield from read_checked(folder, names, most)
        else:
            yield from ((name, read_regular(folder / name, most)) for name in names)


@contextmanager
def reading_checkpoint(folder: Path) -> Iterator[None]:
    """Turn what reading files raises into InvalidCheckpoint while the context lasts."""
    try:
        yield
    except OSError as error:
        raise InvalidCheckpoint(f"{folder} cannot be read ({one_line(error)}); use another checkpoint") from error
    except (ValueError, RuntimeError) as error:
        raise InvalidCheckpoint(f"{folder} is damaged ({one_line(error)}); use another checkpoint") from error


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

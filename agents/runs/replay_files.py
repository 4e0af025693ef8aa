"""The replay on disk: rows in compressed blocks, each written once, so that a checkpoint adds only new rows."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import zstandard
from torch import Tensor

from pixelq.agents.errors import InvalidCheckpoint, LostReplay
from pixelq.agents.experience.ring import Ring
from pixelq.agents.storage.checkpoint import pack_tensors, unpack_tensors
from pixelq.agents.storage.checkpoint_files import ALONE, RunFiles, read_files
from pixelq.agents.storage.files import digest, read_checksums, replace_file

BLOCK_BYTES = 2**23
"""Bytes of a block before compression, or those of one time step if it is larger. A part of the file format.

Blocks four times as large took twice the time, most of it for fresh memory pages."""
HEADER_BYTES = 2**16
"""Greatest number of bytes that a block has beside its rows."""
LEVEL = 3
"""Compression level of zstandard. Level 6 makes blocks a third smaller and takes three times as long."""
FOLDER = ALONE.blocks


class ReplayFiles:
    """The rows of a ring, in the folder `replay` beside a run's checkpoints.

    A block holds the time steps up to a multiple of `steps` and never changes. The time steps after the last block are
    in each checkpoint itself; among them is always the newest one, which may still be marked as truncated.

    Args:
        checkpoints: Folder of the run's checkpoints.
        ring: The ring to write and read.
        names: Where its rows are.
    """

    def __init__(self, checkpoints: Path, ring: Ring, names: RunFiles = ALONE) -> None:
        self.folder, self.ring, self.names = checkpoints / names.blocks, ring, names
        self._block = re.compile(rf"\.\./{names.blocks}/rows_(\d{{12,18}})\.zst")
        self.digests: dict[int, str] = {}  # of the blocks written, by the time step after their last

    @property
    def steps(self) -> int:
        """Time steps of a block."""
        return max(1, BLOCK_BYTES // self.ring.step_bytes)

    def write(self) -> tuple[dict[str, str], bytes]:
        """Write the blocks that are new.

        Returns:
            Digests of all blocks that the ring needs, by their path from a checkpoint, and the rows after them, packed.
        """
        ring, steps = self.ring, self.steps
        oldest = max(0, ring.time - ring.length)
        ends = range((oldest // steps + 1) * steps, ring.time, steps)
        for end in ends:
            if end not in self.digests:
                data = pack(ring.read(max(oldest, end - steps), end))
                path = self.folder / _name(end)
                path.parent.mkdir(exist_ok=True)
                replace_file(path, data)
                self.digests[end] = digest(data)
        self.digests = {end: self.digests[end] for end in ends}
        blocks = {f"../{self.names.blocks}/{_name(end)}": value for end, value in self.digests.items()}
        return blocks, pack(ring.read(ends[-1] if ends else oldest, ring.time))

    def read(self, folder: Path, end: int) -> None:
        """Read the rows of a checkpoint, those of the time steps before `end`, into the ring.

        Raises:
            LostReplay: If a block is missing or damaged.
            InvalidCheckpoint: If the rows in the checkpoint itself are damaged.
            ValueError: If the rows do not fit the ring, or some are missing.
        """
        ring, reached = self.ring, max(0, end - self.ring.length)
        digests = read_checksums(folder)
        blocks = sorted((int(match[1]), name) for name in digests if (match := self._block.fullmatch(name)))
        ends, names = zip(*blocks, (end, self.names.rows), strict=True)
        files = read_files(folder, names, most_block_bytes(ring) * 2)  # what cannot be compressed grows a little
        for block_end, name in zip(ends, names, strict=True):
            try:
                _, data = next(files)
            except InvalidCheckpoint as error:
                raise error if name == self.names.rows else LostReplay(str(error)) from error
            rows = unpack(folder / name, data, ring)
            begin = block_end - len(rows["action"]) if rows.keys() >= {"action"} and rows["action"].dim() else block_end
            if not begin <= reached <= block_end <= end:
                raise ValueError(f"the rows of {name} do not follow those before them")
            ring.write(reached, {field: tensor[reached - begin :] for field, tensor in rows.items()})
            reached = block_end
        self.digests = {block_end: digests[name] for block_end, name in blocks}

    def first(self, folder: Path, end: int) -> int:
        """Return the first time step whose rows a checkpoint has; those before `end` are its last.

        Raises:
            LostReplay, InvalidCheckpoint, ValueError: As in `read`.
        """
        ends = [(int(match[1]), name) for name in read_checksums(folder) if (match := self._block.fullmatch(name))]
        block_end, name = min([*ends, (end, self.names.rows)])
        try:
            ((_, data),) = read_files(folder, (name,), most_block_bytes(self.ring) * 2)
        except InvalidCheckpoint as error:
            raise error if name == self.names.rows else LostReplay(str(error)) from error
        rows = unpack(folder / name, data, self.ring)
        return block_end - (len(rows["action"]) if rows["action"].dim() else 0)

    def remove_unneeded(self, checkpoints: list[Path]) -> None:
        """Remove the blocks that none of these checkpoints names."""
        needed: set[str] = set()
        for folder in checkpoints:
            with suppress(OSError, ValueError):  # one without its checksums is never resumed
                needed |= read_checksums(folder).keys()
        for path in self.folder.glob("rows_*.zst"):
            if f"../{self.names.blocks}/{path.name}" not in needed:
                path.unlink()


def pack(rows: dict[str, Tensor]) -> bytes:
    """Return rows as the compressed bytes of a safetensors file."""
    return zstandard.ZstdCompressor(level=LEVEL).compress(pack_tensors(rows))


def unpack(path: Path, data: bytes, ring: Ring) -> dict[str, Tensor]:
    """Return the rows that `pack` was given. The size that they claim is checked before memory is allocated.

    Raises:
        InvalidCheckpoint: If they are damaged, or larger than a block of such a ring.
    """
    try:
        size = zstandard.get_frame_parameters(data).content_size
        if size > most_block_bytes(ring):
            raise InvalidCheckpoint(f"{path} is damaged (it claims {size:,} bytes); use another checkpoint")
        unpacked = zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise InvalidCheckpoint(f"{path} is damaged ({error}); use another checkpoint") from error
    return unpack_tensors(path, unpacked)


def most_block_bytes(ring: Ring) -> int:
    """Return the greatest number of bytes of a block of a ring, before compression."""
    return max(BLOCK_BYTES, ring.step_bytes) + HEADER_BYTES


def _name(end: int) -> str:
    return f"rows_{end:012d}.zst"

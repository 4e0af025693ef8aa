"""Damage to files, drawn from a seeded generator: of bytes, and of what JSON, safetensors, zstd and CSV hold."""

from __future__ import annotations

import copy
import json
import math
import random
import struct
from collections.abc import Callable
from typing import Any

import zstandard

NUMBERS = [0, 1, -1, 2, 3, 7, 127, 128, 255, 256, 2**15, 2**16, 2**31 - 1, 2**31, 2**32, 2**53, 2**62, 2**63, 2**64]
NUMBERS += [10**6, 10**9, 10**12, 10**15, 10**30, 10**400, -(10**400)]
WORDS = [
    "",
    "nan",
    "Infinity",
    "null",
    "true",
    "\x00",
    "\ud800",
    "é𝄞",
    "²",
    "float32",
    "object",
    "(9999999999)f4",
    "U9",
]
WORDS += ["M8[ns]", "f4,f8", "../../etc/passwd", "step\nframes", "x" * 3000, "9" * 5000, "%s{0}", "cuda", "meta", "1_0"]
JUNK: list[Any] = [*NUMBERS, *WORDS, None, True, False, 0.5, -0.5, math.nan, math.inf, -math.inf, 1e308, 1e-320]
JUNK += [[], {}, [[]], [1.5], ["x"], [0], {"": 0}, [10**12], [10**5] * 3, [1] * 70, {"a": {"b": []}}]
SPLICES = [struct.pack("<q", n) for n in NUMBERS if -(2**63) <= n < 2**63] + [b"\xff" * 8, b"\x00" * 16, b"\xfd7zXZ"]
SPLICES += [word.encode("utf-8", "surrogatepass") for word in WORDS] + [
    b"\x80\x04\x95",
    b"PK\x03\x04",
    b'{"a":',
    b"[" * 999,
]
DTYPES = "BOOL U8 I8 I16 U16 I32 U32 F16 BF16 F32 F64 I64 U64 C64 F8_E4M3 F8_E8M0 F4 F6_E2M3 Q9".split()
SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "F32": 4}
SIZES |= {"F64": 8, "I64": 8, "U64": 8, "C64": 8}

Mutator = Callable[[random.Random, bytes], bytes]


def any_bytes(rng: random.Random, data: bytes) -> bytes:
    """Bits flipped, bytes cut out, put in, repeated, or all of them noise."""
    if rng.random() < 0.03:
        return rng.choice([b"", rng.randbytes(rng.choice([1, 8, 9, 64, 2000])), data[: rng.randrange(len(data) + 1)]])
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        at = rng.randrange(len(changed) + 1)
        length = rng.choice([1, 1, 2, 4, 8, 32, 300])
        match rng.randrange(6):
            case 0 if at < len(changed):
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                del changed[at : at + length]
            case 2:
                changed[at:at] = rng.randbytes(length)
            case 3:
                changed[at:at] = changed[at : at + length]
            case 4:
                splice = rng.choice(SPLICES)
                changed[at : at + len(splice) * rng.randrange(2)] = splice
            case 5:
                changed[at : at + length] = rng.randbytes(length)
    return bytes(changed)


def any_json(rng: random.Random, data: bytes) -> bytes:
    """Values replaced, retyped, nested, moved and deleted, at any depth."""
    values = json.loads(data)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        values = _changed(rng, values)
    text = json.dumps(values)
    if rng.random() < 0.03:
        text = "[" * rng.choice([500, 50_000]) + text
    return text.encode("utf-8", "surrogatepass")


def _changed(rng: random.Random, value: Any) -> Any:
    if isinstance(value, dict | list) and value and rng.random() < 0.9:
        places = list(value) if isinstance(value, dict) else list(range(len(value)))
        place = rng.choice(places)
        match rng.randrange(12):
            case 0:
                del value[place]
            case 1 if isinstance(value, dict):
                value[rng.choice(WORDS)] = value[place]
            case 1:
                value.append(value[place])
            case 2:
                value[place] = value[rng.choice(places)]
            case _:
                value[place] = _changed(rng, value[place])
        return value
    match rng.randrange(8):
        case 0:
            return [value]
        case 1:
            return {"value": value}
        case 2:
            return str(value)
        case 3 if type(value) in (int, float) and abs(value) < 1e300:
            return value + rng.choice([-1, 1, 0.5, 100])
        case 4 if type(value) in (int, float):
            return -value
        case _:
            return copy.deepcopy(rng.choice(JUNK))  # else a list could be put into itself


def any_tensors(rng: random.Random, data: bytes) -> bytes:
    """The header of a safetensors file changed, with the bytes behind it or without."""
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    if rng.random() < 0.4:  # a header that may not fit the bytes
        header = _changed(rng, header)
        for name in header if isinstance(header, dict) else ():
            if isinstance(header[name], dict) and rng.random() < 0.1:
                field = rng.choice(["dtype", "shape", "data_offsets"])
                header[name][field] = rng.choice([rng.choice(DTYPES), [rng.choice(NUMBERS[:19])], [0, 2**63]])
        text = json.dumps(header).encode("utf-8", "surrogatepass")
        claim = rng.choice([len(text)] * 9 + [0, 1, len(text) + 1, 2**32, 2**63, 2**64 - 1])
        return struct.pack("<Q", claim) + text + body
    tensors = {
        name: [entry["dtype"], entry["shape"], body[slice(*entry["data_offsets"])]] for name, entry in header.items()
    }
    for _ in range(rng.choice([1, 1, 2, 6])):  # a file in order, of other tensors
        if tensors:
            _change_tensor(rng, tensors, rng.choice(list(tensors)))
    return _joined(tensors)


def _change_tensor(rng: random.Random, tensors: dict[str, list[Any]], name: str) -> None:
    dtype, shape, values = tensors[name]
    match rng.randrange(9):
        case 0:
            del tensors[name]
        case 1:
            tensors[rng.choice([*WORDS, f"{name}.{name}", name.rpartition(".")[0], "9." + name])] = tensors.pop(name)
        case 2:
            other = rng.choice(list(tensors))
            tensors[name], tensors[other] = tensors[other], tensors[name]
        case 3:
            other = rng.choice(list(SIZES))
            tensors[name] = [other, shape, bytes(SIZES[other] * math.prod(shape))]
        case 4:
            new = [*shape, 1] if rng.random() < 0.5 else [math.prod(shape)]
            tensors[name] = [dtype, new, values]
        case 5:
            new = [max(0, n + rng.choice([-1, 1, 5])) for n in shape] or [rng.choice([0, 1, 2])]
            size = SIZES[dtype] * math.prod(new)
            tensors[name] = [dtype, new, (values * (size // max(1, len(values)) + 1) + bytes(size))[:size]]
        case 6:
            tensors[name] = [dtype, shape, rng.randbytes(len(values))]
        case 7:
            byte = rng.choice([b"\x00", b"\xff", b"\x01", b"\x7f", b"\x80", b"\x02"])
            tensors[name] = [dtype, shape, byte * len(values)]
        case 8 if values:
            changed, size = bytearray(values), SIZES[dtype]
            at = rng.randrange(len(values) // size) * size
            changed[at : at + size] = rng.choice([rng.randbytes(size), b"\xff" * size, b"\x7f" * size, b"\x02" * size])
            tensors[name] = [dtype, shape, bytes(changed)]


def _joined(tensors: dict[str, list[Any]]) -> bytes:
    header, offset = {}, 0
    for name, (dtype, shape, values) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(values)]}
        offset += len(values)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + b"".join(values for *_, values in tensors.values())


BOMBS = [zstandard.ZstdCompressor().compress(bytes(2**bits)) for bits in (16, 23, 24, 28)]
BOMBS += [zstandard.ZstdCompressor(write_content_size=False).compress(bytes(2**bits)) for bits in (10, 28)]


def any_rows(rng: random.Random, data: bytes) -> bytes:
    """Other rows, compressed; or frames that claim what they do not hold, or hold more than is meant."""
    packed = zstandard.ZstdDecompressor().decompress(data)
    if rng.random() < 0.75:
        return zstandard.ZstdCompressor().compress(any_tensors(rng, packed))
    match rng.randrange(7):
        case 0:
            return rng.choice(BOMBS)
        case 1:
            return data + rng.choice([data, BOMBS[0], b"\x00"])
        case 2:
            return rng.choice([data, BOMBS[0]]) + data
        case 3:
            return zstandard.ZstdCompressor(write_content_size=False).compress(packed)
        case 4:
            skipped = rng.randbytes(rng.choice([0, 9, 300]))
            return struct.pack("<II", 0x184D2A50, rng.choice([len(skipped), 2**32 - 1])) + skipped + data
        case 5:
            changed = bytearray(data)
            changed[rng.randrange(4, 14)] = rng.randrange(256)  # the frame's header
            return bytes(changed)
        case _:
            return zstandard.ZstdCompressor().compress(packed + rng.randbytes(rng.choice([1, 100, 70_000])))


def any_checksums(rng: random.Random, data: bytes) -> bytes:
    """Lines that are gone, repeated, in another order or about other files."""
    lines = data.decode().splitlines()
    at = rng.randrange(len(lines))
    digest, name = lines[at].split("  ")
    match rng.randrange(8):
        case 0:
            del lines[at]
        case 1:
            lines.append(lines[at])
        case 2:
            rng.shuffle(lines)
        case 3:
            lines[at] = (
                f"{digest}  {rng.choice([*WORDS, '../replay/rows_000000000000.zst', '/etc/hostname', '..', '.'])}"
            )
        case 4:
            lines[at] = f"{rng.choice([digest.upper(), digest[1:], '0' * 64, digest * 2, 'é' * 64])}  {name}"
        case 5:
            lines[at:at] = [f"{digest}  ../replay/rows_{rng.choice([n, 8 * n]):012d}.zst" for n in range(30)]
        case 6:
            lines[at] = f"{digest}  ../replay/rows_{rng.choice(['9' * 12, '9' * 5000, '0' * 12, '000000000001'])}.zst"
        case 7:
            lines[at:at] = [f"{digest}  a{n}" for n in range(rng.choice([3, 2000]))]
    end = rng.choice(["\n", "\n", "\n", "\r\n", "\x0b", "\u2028"])
    return (end.join(lines) + end).encode("utf-8", "surrogatepass")


def any_table(rng: random.Random, data: bytes) -> bytes:
    """Cells replaced; lines gone, longer, shorter and repeated."""
    rows = [line.split(",") for line in data.decode().splitlines()]
    for _ in range(rng.choice([1, 1, 2, 8])):
        row = rng.choice(rows)
        match rng.randrange(8):
            case 0:
                rows.append(row)
            case 1 if row:
                del row[rng.randrange(len(row))]
            case 2:
                row.append(rng.choice(["", "1", '"', '"a\n"']))
            case 3:
                rng.shuffle(row)
            case _ if row:
                junk = [str(n)[:400] for n in NUMBERS[:20]] + [
                    "1e400",
                    "nan",
                    "-inf",
                    '"',
                    "x" * 200_000,
                    " 1",
                    "1.5",
                    "\r",
                ]
                row[rng.randrange(len(row))] = rng.choice([*junk, *WORDS])
    end = rng.choice(["\n"] * 6 + ["\r\n", "\r", "\x00"])
    text = end.join(",".join(row) for row in rows) + rng.choice([end, "", "12"])
    return (rng.choice([""] * 9 + ["\ufeff"]) + text).encode("utf-8", "surrogatepass")


def mutator_of(name: str) -> Mutator:
    """What changes a file of that name in its own format."""
    kinds = {
        ".json": any_json,
        ".safetensors": any_tensors,
        ".zst": any_rows,
        ".sha256": any_checksums,
        ".csv": any_table,
    }
    return next(mutator for suffix, mutator in kinds.items() if name.endswith(suffix))


def damaged(rng: random.Random, name: str, data: bytes) -> bytes:
    """A file's contents, damaged in one way or in two."""
    ways = rng.choice([[any_bytes], [mutator_of(name)], [mutator_of(name)], [mutator_of(name), any_bytes]])
    for way in ways:
        data = way(rng, data)
    return data

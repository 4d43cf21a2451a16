"""The weights of an adapter, judged before anything loads them: a whole safetensors file, of the hash it should have, all of its values numbers.

Reads one file, once, in small blocks; needs neither torch nor numpy. Nothing here trusts a byte of it: it may be a stranger's.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tell.errors import AdapterError

# A rank-16 adapter on every linear layer of an 8B base is about 200 MB.
MAX_WEIGHTS = 2 << 30
MAX_HEADER = 16 << 20
MAX_NAME = 256
# Bits of a value, and the place of its exponent's lowest bit. LoRA weights come in no other types.
FLOATS = {"F64": (64, 52), "F32": (32, 23), "F16": (16, 10), "BF16": (16, 7)}
# A multiple of every value's size; larger ones leave the processor's nearest cache and take longer.
BLOCK = 1 << 16


def size_of(path: Path, limit: int) -> int:
    """The size of a regular file in bytes. Raises AdapterError for what is not there, no regular file, or above `limit` bytes."""
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        raise AdapterError("the adapter is incomplete", place=str(path.parent), found=f"no {path.name}") from None
    except OSError as e:
        raise AdapterError("cannot be read", place=str(path), found=e.strerror or str(e)) from None
    return _checked(path, info, limit)


def _checked(path: Path, info: os.stat_result, limit: int) -> int:
    if not stat.S_ISREG(info.st_mode):
        raise AdapterError("not a regular file", place=str(path), valid="no links, no devices")
    if info.st_size > limit:
        raise AdapterError("too large", place=str(path), found=f"{info.st_size} bytes", valid=f"at most {limit}")
    return info.st_size


@contextmanager
def open_regular(path: Path, limit: int) -> Iterator[BinaryIO]:
    """A regular file of at most `limit` bytes, opened. Raises AdapterError for everything else, and never waits on a pipe or follows a link."""
    size_of(path, limit)
    try:
        # What was looked at may have been replaced since: the flags and the second look hold for what is opened.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        raise AdapterError("cannot be read", place=str(path), found=e.strerror or str(e)) from None
    with os.fdopen(fd, "rb") as f:
        _checked(path, os.fstat(fd), limit)
        try:
            yield f
        except OSError as e:
            raise AdapterError("cannot be read", place=str(path), found=e.strerror or str(e)) from None


def no_twins(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """For json's `object_pairs_hook`: readers disagree about which of two equal keys counts. Raises ValueError."""
    by_name = dict(items)
    if len(by_name) != len(items):
        raise ValueError("a key that stands twice")
    return by_name


def _check_tensor(name: str, tensor: dict[str, Any]) -> None:
    """Raises ValueError for what no writer of LoRA weights writes."""
    if len(name) > MAX_NAME or not name.isprintable():
        raise ValueError(f"a tensor's name of {len(name)} characters")
    dtype, shape, (begin, stop) = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
    if dtype not in FLOATS:
        raise ValueError(f"{name} of type {dtype!r}")
    if not isinstance(shape, list) or not all(type(x) is int and x >= 0 for x in [*shape, begin, stop]) or begin > stop:
        raise ValueError(f"shape {shape}, offsets {begin} and {stop}")
    if math.prod(shape) * FLOATS[dtype][0] != 8 * (stop - begin):
        raise ValueError(f"{name} of shape {shape} in {stop - begin} bytes")


def _parse(f: BinaryIO, path: Path, size: int) -> tuple[bytes, dict[str, Any]]:
    """The bytes up to the data, and the header they hold, its tensors in the order of their data."""
    head = f.read(8)
    n = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
    if not 2 <= n <= min(MAX_HEADER, max(size - 8, 0)):
        raise AdapterError("not a safetensors file, or cut short", place=str(path), found=f"{size} bytes, header of {n}")
    raw = f.read(n)
    try:
        header: dict[str, Any] = json.loads(raw, object_pairs_hook=no_twins)
        header.pop("__metadata__", None)
        for name, tensor in header.items():
            _check_tensor(name, tensor)
        ordered = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
        end = 0
        for name, tensor in ordered:
            begin, stop = tensor["data_offsets"]
            if begin != end:
                raise ValueError(f"{name} begins at {begin}, where the tensor before it ends at {end}")
            end = stop
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise AdapterError("the safetensors header is damaged", place=str(path), found=str(e)) from None
    if 8 + n + end != size:
        raise AdapterError("the safetensors data is cut short or too long", place=str(path), found=f"{size} bytes", valid=f"{8 + n + end}")
    return head + raw, dict(ordered)


def read_header(path: Path) -> dict[str, Any]:
    """The safetensors header: tensor name to dtype, shape and offsets, in the order of the data.

    Raises AdapterError when it is not one, when it lies (tensors that overlap, leave gaps, end outside the file or do not fill their shapes),
    or when a tensor is of no float type.
    """
    with open_regular(path, MAX_WEIGHTS) as f:
        return _parse(f, path, os.fstat(f.fileno()).st_size)[1]


@functools.lru_cache(16)
def _lanes(values: int, bits: int, exponent: int) -> tuple[int, int, int]:
    unit = int.from_bytes((1).to_bytes(bits // 8, "little") * values, "little")
    return unit * ((1 << (bits - 1)) - (1 << exponent)), unit << exponent, unit << (bits - 1)


def all_finite(block: bytes, dtype: str) -> bool:
    """Whether every value of a block is a number. One addition over the block as a whole: an exponent of ones alone (IEEE 754's
    infinities and NaNs) carries into its value's sign bit, which was cleared, and no other does."""
    bits, exponent = FLOATS[dtype]
    exponents, lowest, signs = _lanes(8 * len(block) // bits, bits, exponent)
    return not ((int.from_bytes(block, "little") & exponents) + lowest) & signs


def check_weights(path: Path, expected: str) -> dict[str, Any]:
    """The header of a weights file with the SHA-256 `expected` whose values are all numbers; read once, 64 KiB at a time. Raises AdapterError."""
    with open_regular(path, MAX_WEIGHTS) as f:
        head, header = _parse(f, path, os.fstat(f.fileno()).st_size)
        digest, broken = hashlib.sha256(head), None
        for name, tensor in header.items():
            begin, stop = tensor["data_offsets"]
            while begin < stop:
                block = f.read(min(BLOCK, stop - begin))
                if not block:
                    raise AdapterError("the safetensors data is cut short or too long", place=str(path))
                begin += len(block)
                digest.update(block)
                if broken is None and not all_finite(block, tensor["dtype"]):
                    broken = name
    # A disk's error and a bad training are told apart by the hash.
    if digest.hexdigest() != expected:
        raise AdapterError("altered since its card was written", place=str(path), found=f"SHA-256 {digest.hexdigest()[:16]}", valid=expected[:16])
    if broken is not None:
        raise AdapterError("the weights hold values that are not numbers", place=f"{path}, {broken}")
    return header

"""An adapter as one file, to be carried to another registry: a tar of its files and nothing else.

Reads and writes `<name>.tar`. Members stand in one order with no time and no owner, so equal adapters make equal bytes. What is read may be a
stranger's: it is read in blocks, member by member, and whatever is not as it is written here is refused.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tell.adapter.card import CARD, LIMITS, OPTIONAL_FILES, Adapter, open_adapter
from tell.errors import AdapterError, BadInput, TellmtError
from tell.files import fsync_dir

BLOCK = 512
# tar fills its last record with zeros; other writers use records up to this.
MAX_TAIL = 1 << 20
VALID = "a file that tellmt registry export wrote"


def _member(name: str, size: int) -> bytes:
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, 0o644
    return header.tobuf(tarfile.USTAR_FORMAT)


def write_bundle(adapter: Adapter, target: Path) -> int:
    """Write a verified adapter as one file, in one step; its bytes. Raises TellmtError when the file cannot be written."""
    # The card's own words, not the spaces that some tool may have put between them.
    card = adapter.card.dump()
    try:
        fd, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as e:
        raise TellmtError("cannot be written", place=str(target), found=e.strerror or str(e)) from None
    try:
        with os.fdopen(fd, "wb") as f:
            for member in adapter.card.contents:
                size = (adapter.path / member).stat().st_size
                f.write(_member(member, size))
                with (adapter.path / member).open("rb") as source:
                    shutil.copyfileobj(source, f, 1 << 20)
                f.write(bytes(-size % BLOCK))
            f.write(_member(CARD, len(card)) + card + bytes(-len(card) % BLOCK))
            f.write(bytes(2 * BLOCK))
            f.flush()
            os.fsync(f.fileno())
            written = f.tell()
        os.chmod(name, 0o644)
        os.replace(name, target)
    except OSError as e:
        raise TellmtError("cannot be written", place=str(target), found=e.strerror or str(e)) from None
    finally:
        Path(name).unlink(missing_ok=True)
    fsync_dir(target.parent)
    return written


def _refuse(file: Path, thing: str, found: object = None) -> BadInput:
    return BadInput(thing, place=str(file), found=found, valid=VALID)


def _exactly(f: BinaryIO, n: int, file: Path, thing: str = "the file is cut short") -> bytes:
    raw = f.read(n)
    if len(raw) != n:
        raise _refuse(file, thing)
    return raw


def _unpack(f: BinaryIO, file: Path, into: Path) -> None:
    seen: list[str] = []
    while any(head := _exactly(f, BLOCK, file, "the file is cut short" if seen else "not an adapter in one file, or cut short")):
        try:
            member = tarfile.TarInfo.frombuf(head, "utf-8", "strict")
        except (tarfile.HeaderError, ValueError):
            raise _refuse(file, "the file is damaged" if seen else "not an adapter in one file") from None
        name = member.name
        # Anything but a regular file: links, devices, directories, and the records in which tar keeps long names and sparse files.
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise _refuse(file, "a member that is no regular file", f"{name!r} of type {member.type!r}")
        if name not in LIMITS:
            raise _refuse(file, "a member that is no part of an adapter", repr(name))
        if name in seen:
            raise _refuse(file, "a member that stands twice", name)
        if not 0 <= member.size <= LIMITS[name]:
            raise _refuse(file, f"{name} is too large", f"{member.size} bytes; at most {LIMITS[name]}")
        seen.append(name)
        remaining = member.size
        with (into / name).open("xb") as file_out:
            while remaining:
                remaining -= file_out.write(_exactly(f, min(remaining, 1 << 20), file))
        if any(_exactly(f, -member.size % BLOCK, file)):
            raise _refuse(file, "the file is damaged", f"bytes between {name} and what follows it")
    if missing := [name for name in LIMITS if name not in seen and name not in OPTIONAL_FILES.values()]:
        raise _refuse(file, "the file is incomplete", f"no {', '.join(missing)}")
    tail = f.read(MAX_TAIL + 1)
    if len(tail) > MAX_TAIL or any(tail) or len(tail) < BLOCK:
        raise _refuse(file, "the file is damaged", "something after its end" if any(tail) else f"{len(tail)} bytes after its last member")


@contextmanager
def open_bundle(file: Path, beside: Path) -> Iterator[Adapter]:
    """The verified adapter that a file holds, laid out in a directory below `beside` until the block ends.

    Raises BadInput when it is no such file, AdapterError when what it holds is no whole adapter.
    """
    try:
        source = file.open("rb")
    except OSError as e:
        raise BadInput("cannot be read", place=str(file), found=e.strerror or str(e), valid=VALID) from None
    with source as f, tempfile.TemporaryDirectory(dir=beside, prefix=".import.") as temporary:
        aside = Path(temporary)
        try:
            _unpack(f, file, aside)
        except IsADirectoryError:
            raise _refuse(file, "this is a directory") from None
        try:
            adapter = open_adapter(aside)
        except AdapterError as e:
            # The directory is gone when this is read; what was wrong in it is not.
            raise AdapterError(e.thing, place=str(e.place).replace(str(aside), str(file)), found=e.found, valid=e.valid) from None
        if foreign := {path.name for path in aside.iterdir()} - {*adapter.card.contents, CARD}:
            raise _refuse(file, "a member that is no part of this adapter", ", ".join(sorted(foreign)))
        yield adapter

"""What all documents that are zip archives of XML share. Members without a changed unit are copied as they are; a member that changes is written anew.

Read with bounds: members and bytes that are unpacked, so that a small file cannot fill a memory or a disk.
"""

from __future__ import annotations

import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from serve.formats.units import MEMBER, UNBOUNDED, Bounds
from tell.errors import CorpusError, TooLarge

# Members of one document; a presentation of hundreds of pictures has a thousand.
MEMBERS = 10_000
# Times by which a member of a mebibyte and more may grow when it is unpacked: XML reaches 100.
GROWTH = 400
_OLE = b"\xd0\xcf\x11\xe0"


@contextmanager
def open_archive(source: IO[bytes], name: str, bounds: Bounds) -> Iterator[zipfile.ZipFile]:
    """The archive of a document.

    Raises CorpusError for a file that is no archive, damaged or locked, TooLarge for one that unpacks to more than the bound or grows too much.
    """
    start = source.read(8)
    source.seek(0)
    if start.startswith(_OLE):
        locked = "a password, or the format of an older Office"
        raise CorpusError(f"this {name} cannot be read", place="file", found=locked, valid=f"a .{name} without a password")
    try:
        with zipfile.ZipFile(source) as archive:
            infos = archive.infolist()
            if any(i.flag_bits & 1 for i in infos):
                raise CorpusError(f"this {name} is encrypted", place="file", valid="one without a password")
            total = sum(i.file_size for i in infos)
            bombs = [i for i in infos if i.file_size > 1 << 20 and i.file_size > GROWTH * max(1, i.compress_size)]
            too_much = len(infos) > MEMBERS or total > bounds.unpacked or bombs or any(i.file_size > MEMBER for i in infos)
            if too_much and bounds.unpacked < UNBOUNDED.unpacked:
                size = f"{len(infos)} parts, {total >> 20} MiB unpacked"
                at_most = f"at most {bounds.unpacked >> 20} MiB{bounds.hint}"
                raise TooLarge(f"this {name} unpacks to more than the limit", place="file", found=size, valid=at_most)
            yield archive
    except zipfile.BadZipFile as e:
        raise CorpusError(f"this is not a {name}", place="file", found=f"no zip archive ({e})" if start[:2] != b"PK" else str(e), valid=f"a .{name}") from None
    except (zlib.error, EOFError, NotImplementedError, OSError) as e:
        if isinstance(e, OSError) and e.errno is not None:
            raise
        raise CorpusError(f"this {name} is damaged", place="file", found=str(e), valid="a file that is whole") from None


def read(archive: zipfile.ZipFile, name: str) -> bytes:
    """A member, which is never longer than the archive says it is."""
    info = archive.getinfo(name)
    with archive.open(info) as f:
        data = f.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise CorpusError("a part is longer than the archive says", place=name)
    return data


def repack(source: IO[bytes], archive: zipfile.ZipFile, out: IO[bytes], changed: dict[str, bytes]) -> None:
    """The archive with some members' bytes changed; with none, the very file."""
    if not changed:
        source.seek(0)
        shutil.copyfileobj(source, out, 1 << 20)
        return
    with zipfile.ZipFile(out, "w") as new_archive:
        new_archive.comment = archive.comment
        for info in archive.infolist():
            # Written as it was, at the time that it had.
            if info.filename in changed:
                new_archive.writestr(info, changed[info.filename], info.compress_type)
            else:
                with archive.open(info) as f, new_archive.open(info, "w") as copy:
                    shutil.copyfileobj(f, copy, 1 << 20)


def archive_members(archive: zipfile.ZipFile, accepts: Callable[[str], bool]) -> list[str]:
    return [i.filename for i in archive.infolist() if accepts(i.filename)]

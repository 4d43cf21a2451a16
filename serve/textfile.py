"""A text file as the lines to translate and the layout round them, and the file the translation goes to.

Reads FILE or standard input; writes the output aside and renames it, or writes to standard output.
"""

from __future__ import annotations

import dataclasses
import gzip
import os
import re
import stat
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tell.errors import BadInput
from tell.files import decode, read_bytes, write_atomic

BOM = b"\xef\xbb\xbf"
# What some program or other takes for a line's end. A translation must not bring in one that its source line does not have.
_BREAKS = re.compile("[\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029]+")


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """`core` is translated (empty for a blank line); `before` and `after`, white space and a CR, stay as they are."""

    before: str
    core: str
    after: str


@dataclasses.dataclass(frozen=True, slots=True)
class TextFile:
    """The lines as LF divides them. `ends` when the last one has an LF too."""

    lines: tuple[Line, ...]
    bom: bool
    ends: bool

    def filled(self, translations: Sequence[str]) -> bytes:
        """The file's bytes with every line's core replaced by its translation."""
        text = "\n".join(line.before + one_line(new, line.core) + line.after for line, new in zip(self.lines, translations, strict=True))
        return (BOM if self.bom else b"") + (text + "\n" if self.ends else text).encode()


def one_line(text: str, source: str) -> str:
    """`text` without the line breaks that `source` does not have."""
    return _BREAKS.sub(lambda m: m.group() if m.group() in source and "\n" not in m.group() else " ", text)


def _line(text: str) -> Line:
    core = text.strip()
    if not core:
        return Line(text, "", "")
    start = text.index(core)
    return Line(text[:start], core, text[start + len(core) :])


def parse(raw: bytes, place: str) -> TextFile:
    """Raises CorpusError with place, line and byte when the bytes are not UTF-8."""
    text = decode(raw, place)
    ends = text.endswith("\n")
    body = text[:-1] if ends else text
    lines = body.split("\n") if text else []
    return TextFile(tuple(_line(t) for t in lines), raw.startswith(BOM), ends)


def read(name: str) -> TextFile:
    """The file of this name; `-` is standard input."""
    if name == "-":
        return parse(sys.stdin.buffer.read(), "standard input")
    return parse(read_bytes(Path(name)), name)


def check_output(source: str, name: str) -> None:
    """Raises BadInput where the output could not be written in the end, or would replace its own input."""
    if name == "-":
        return
    path = Path(name)
    if path.is_dir():
        raise BadInput("this is a directory", place=f"-o {name}", valid="a file")
    if source != "-" and path.exists() and Path(source).exists() and path.samefile(source):
        raise BadInput("the output is the input", place=f"-o {name}", valid="another file")
    if _special(path):
        return
    parent = path.resolve().parent
    if not parent.is_dir():
        raise BadInput("no such directory", place=str(parent), valid="make it first")
    try:
        # Named as the file that is written aside will be, so that a name too long for the disk shows now.
        fd, probe = tempfile.mkstemp(dir=parent, prefix=f".{path.resolve().name}.")
        os.close(fd)
        os.unlink(probe)
    except OSError as e:
        raise BadInput("the output cannot be written", place=f"-o {name}", found=f"{parent}: {e.strerror or e}") from None


def _special(path: Path) -> bool:
    """Whether the name stands for a device or a pipe, which is written to and never replaced."""
    return path.exists() and not stat.S_ISREG(path.stat().st_mode)


def write(name: str, data: bytes) -> None:
    if name == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    elif _special(Path(name)):
        Path(name).write_bytes(data)
    else:
        # Through a link to what it points at: the link stays.
        write_atomic(Path(name).resolve(), gzip.compress(data, mtime=0) if name.endswith(".gz") else data)

"""Reading and writing files so that a reader never sees half of one.

Every write goes aside, is flushed to the disk (fsync), and is then renamed into place.
"""

from __future__ import annotations

import codecs
import dataclasses
import errno
import gzip
import hashlib
import io
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tell.errors import BadInput, CorpusError

# What a rename says where something stands already.
OCCUPIED = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def canonical_json(value: Any) -> bytes:
    """Bytes that are equal when the values are equal: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def key_of(value: Any) -> str:
    """A stage's key: the hash of everything that decides its output. Equal keys mean the output can be reused."""
    return sha256_bytes(canonical_json(value))


def fsync_dir(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_atomic(path: Path, data: str | bytes, mode: int = 0o644, group: int | None = None) -> None:
    """Replace `path` by `data` in one step; on any failure the old file stays as it was. `group`: the id of the group that it is to have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = data.encode() if isinstance(data, str) else data
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(raw)
            f.flush()
            os.fsync(f.fileno())
        if group is not None:
            os.chown(name, -1, group)
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    fsync_dir(path.parent)


def beside(path: Path, ending: str) -> Path:
    """The file next to a directory that is named after it: `work/adapter` and `.verdict.json` make `work/adapter.verdict.json`."""
    resolved = path.resolve()
    return resolved.parent / f"{resolved.name}{ending}"


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, rows: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> None:
    write_atomic(path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))


@contextmanager
def atomic_dir(final: Path) -> Iterator[Path]:
    """A directory to fill aside; renamed to `final` when the block ends well, removed when it does not.

    An existing `final` is replaced: it is moved away first and deleted after the rename.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{final.name}.new."))
    try:
        yield aside
        os.chmod(aside, 0o755)
        for root, _, names in os.walk(aside):
            for name in names:
                with open(os.path.join(root, name), "rb") as f:
                    os.fsync(f.fileno())
            fsync_dir(Path(root))
        _put(aside, final)
        fsync_dir(final.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _put(aside: Path, final: Path) -> None:
    """Rename `aside` to `final`, whatever other processes put there or take away meanwhile: to ask beforehand tells only how it was."""
    moved: list[Path] = []
    while True:
        try:
            os.replace(aside, final)
            break
        except OSError as e:
            if e.errno not in OCCUPIED:
                with suppress(OSError, IndexError):
                    os.replace(moved[-1] / final.name, final)
                for old in moved:
                    with suppress(OSError):
                        old.rmdir()
                raise
        moved.append(Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{final.name}.old.")))
        with suppress(FileNotFoundError):
            os.replace(final, moved[-1] / final.name)
    for old in moved:
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what goes wrong while `path` is read into a CorpusError that names it."""
    try:
        yield
    except FileNotFoundError:
        raise CorpusError("no such file", place=str(path)) from None
    except IsADirectoryError:
        raise CorpusError("this is a directory", place=str(path), valid="a file") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as e:
        raise CorpusError("the gzip data is damaged or cut short", place=str(path), found=str(e)) from None


def read_bytes(path: Path) -> bytes:
    """The file's bytes, through gzip when its name ends in .gz.

    Raises CorpusError when there is no such file, it is a directory, or the gzip data is cut short.
    """
    with _readable(path):
        if path.suffix == ".gz":
            with gzip.open(path, "rb") as f:
                return f.read()
        return path.read_bytes()


def decode(raw: bytes, place: str) -> str:
    """The text of UTF-8 bytes, a BOM left off. Raises CorpusError with place, line and byte when they are not UTF-8."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        # Where a BOM was left off, positions count from after it.
        start = e.start + (3 if raw.startswith(b"\xef\xbb\xbf") else 0)
        line = raw.count(b"\n", 0, start) + 1
        raise CorpusError("not UTF-8", place=f"{place}, line {line}, byte {start}", found=f"0x{raw[start]:02x}", valid="UTF-8 text") from None


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text, split on LF alone (U+2028 and U+0085 are text), a BOM and a final LF left off.

    A CR before an LF is left off too. Raises CorpusError with file, line and byte when the bytes are not UTF-8.
    """
    text = decode(read_bytes(path), str(path))
    if text.endswith("\n"):
        text = text[:-1]
    elif not text:
        return []
    return [line.removesuffix("\r") for line in text.split("\n")]


def iter_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(first byte, line with its LF) of a text's lines, one by one: what is held is one line, not the file. A BOM is left off."""
    with _readable(path):
        # Buffered, since a gzip file gives its lines slowly.
        opened: Any = io.BufferedReader(gzip.GzipFile(path), 1 << 20) if path.suffix == ".gz" else path.open("rb", buffering=1 << 20)
        with opened as f:
            start = len(codecs.BOM_UTF8) if f.peek(3).startswith(codecs.BOM_UTF8) else 0
            f.read(start)
            for raw in f:
                yield start, raw
                start += len(raw)


def line_text(raw: bytes, path: Path, number: int, start: int) -> str:
    """The text of a line from `iter_lines`, without its end. Raises CorpusError with file, line and byte when it is not UTF-8."""
    try:
        return raw.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError as e:
        place = f"{path}, line {number}, byte {start + e.start}"
        raise CorpusError("not UTF-8", place=place, found=f"0x{raw[e.start]:02x}", valid="UTF-8 text") from None


_decode = json.JSONDecoder().raw_decode


def parse(line: str) -> Any:
    """`json.loads` of a line, in half its time where the line has no white space around its value. Raises as it does."""
    try:
        value, end = _decode(line)
    except ValueError:
        return json.loads(line)
    return value if end == len(line) else json.loads(line)


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) for every line of a JSONL file. Raises CorpusError naming the first line that is not an object."""
    for number, (start, raw) in enumerate(iter_lines(path), 1):
        line = line_text(raw, path, number, start)
        try:
            value = parse(line)
        except (ValueError, RecursionError) as e:
            raise CorpusError("not JSON", place=f"{path}, line {number}", found=str(e)) from None
        if not isinstance(value, dict):
            raise CorpusError("not a JSON object", place=f"{path}, line {number}", found=type(value).__name__)
        yield number, value


@dataclasses.dataclass(frozen=True, slots=True)
class HeadedFormat:
    """A text file whose first line names what it is and, as JSON, its format and the SHA-256 of the rest. The last four are words of its messages."""

    noun: str
    format: int
    file: str
    maker: str
    made: str
    rows: str
    again: str

    def write(self, header: dict[str, Any], body: bytes) -> bytes:
        """The bytes of the file; equal headers and bodies have equal bytes."""
        head = json.dumps({**header, "format": self.format, "sha256": sha256_bytes(body)}, sort_keys=True, ensure_ascii=False)
        return f"{self._title}\t{head}\n".encode() + body

    def read(self, data: bytes, place: str) -> tuple[dict[str, Any], bytes]:
        """The header and the body. Raises BadInput where the file is something else, is damaged, was altered, or is of a later format."""
        first, _, body = data.partition(b"\n")
        title, _, head = first.decode(errors="replace").partition("\t")
        try:
            header: dict[str, Any] = dict(json.loads(head))
            if title != self._title:
                raise ValueError(title)
        except (ValueError, TypeError, RecursionError):
            raise BadInput(f"this is not a {self.noun}", place=place, valid=f"a {self.file} that {self.maker} wrote") from None
        if header.get("format") != self.format:
            raise BadInput(f"this {self.noun} has another format", place=place, found=str(header.get("format")), valid=f"format {self.format}; {self.again}")
        if sha256_bytes(body) != header.get("sha256"):
            found = f"{len(body)} bytes of {self.rows} with another SHA-256 than its first line names"
            raise BadInput(f"this {self.noun} is damaged or was altered", place=place, found=found, valid=f"the file as it was {self.made}")
        return header, body

    @property
    def _title(self) -> str:
        return f"# tellmt {self.noun}"


def check_replaceable(out: Path, files: Iterable[str]) -> None:
    """Raises CorpusError when `out` exists and holds anything but `files`: it is replaced as a whole, so it must be ours."""
    if not out.exists():
        return
    if not out.is_dir():
        raise CorpusError("not a directory", place=str(out), valid="a new directory for -o")
    others = sorted({p.name for p in out.iterdir()} - set(files))
    if others:
        found = ", ".join(others[:5])
        raise CorpusError("this directory holds other files, and would be replaced", place=str(out), found=found, valid="a new directory for -o")

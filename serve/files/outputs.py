"""The files of a run: which output belongs to which input, and how they are opened and written.

Reads inputs, standard input spooled to a temporary file. Writes outputs aside and renames them, through gzip where the name ends in .gz.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import os
import shutil
import stat
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from serve.formats import Format, check_start, format_named, format_of
from serve.formats.structure import START
from tell.errors import BadInput, CorpusError
from tell.files import fsync_dir


@dataclasses.dataclass(eq=False, slots=True)
class FileTask:
    """A file to translate. `source` and `output` are `-` for the standard streams; `spool` holds an input stream, since every input is read twice."""

    source: str
    output: str
    format: Format
    spool: IO[bytes] | None = None
    stamp: tuple[int, ...] = ()
    # Whether the user named the format.
    format_given: bool = False

    @property
    def name(self) -> str:
        return "standard input" if self.source == "-" else self.source

    @contextlib.contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """The input from its beginning. Raises CorpusError when it cannot be read; a BadInput of the block gets the file's name before its place."""
        try:
            if self.spool is not None:
                self.spool.seek(0)
                yield self.spool
            elif self.source.endswith(".gz"):
                with gzip.open(self.source, "rb") as f:
                    yield f  # type: ignore[misc]
            else:
                with Path(self.source).open("rb", buffering=1 << 20) as f:
                    yield f
        except FileNotFoundError:
            raise CorpusError("no such file", place=self.name) from None
        except IsADirectoryError:
            raise CorpusError("this is a directory", place=self.name, valid="a file") from None
        except (EOFError, gzip.BadGzipFile, zlib.error) as e:
            raise CorpusError("the gzip data is damaged or cut short", place=self.name, found=str(e)) from None
        except BadInput as e:
            # A format knows the line, and not the file.
            if e.place is not None and (e.place.startswith("--") or self.name in e.place):
                raise
            place = self.name if e.place in (None, "file") else f"{self.name}, {e.place.removeprefix('file, ')}"
            raise type(e)(e.thing, place=place, found=e.found, valid=e.valid) from None

    def check(self) -> None:
        """Raises CorpusError where the first bytes are not those of the format. Remembers size and times of the file for `check_unchanged`."""
        with self.opened() as f:
            check_start(self.format, f.read(START), guessed=not self.format_given)
        self.stamp = self._stamp()

    def _stamp(self) -> tuple[int, ...]:
        if self.spool is not None:
            return ()
        status = os.stat(self.source)
        return status.st_size, status.st_mtime_ns, status.st_ino

    def check_unchanged(self) -> None:
        try:
            same = self.stamp == self._stamp()
        except OSError:
            same = False
        if not same:
            raise CorpusError("the file changed while it was read", place=self.name, valid="the same command again")

    def key(self) -> str:
        """The file's name to a later run: its path, or the hash of a stream's content."""
        if self.spool is None:
            return str(Path(self.source).resolve())
        self.spool.seek(0)
        digest = hashlib.sha256()
        while block := self.spool.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


def plan(inputs: Sequence[str], output: str | None, format: str | None) -> list[FileTask]:
    """Each input with its output: a file for one input, else a directory. Raises BadInput where outputs could not be written, or would replace something."""
    tasks: list[FileTask] = []
    into_directory = output is not None and output != "-" and (len(inputs) > 1 or output.endswith("/") or Path(output).is_dir())
    if len(inputs) > 1 and not into_directory:
        raise BadInput("several files need a directory for their outputs", place="-o", found=output, valid="-o DIR")
    for source in inputs:
        file_format = format_named(format) if format else format_of(source) if source != "-" else format_of("")
        name = source if source != "-" else "standard input" + file_format.endings[0]
        target = str(Path(output or "") / Path(name).name) if into_directory else output or "-"
        tasks.append(FileTask(source, target, file_format, format_given=format is not None))
    if into_directory:
        directory = Path(str(output))
        if directory.exists() and not directory.is_dir():
            raise BadInput("this is not a directory", place=f"-o {output}", valid="a directory, for several files")
    for task in tasks:
        if task.source != "-" and Path(task.source).is_dir():
            raise CorpusError("this is a directory", place=task.source, valid="a file")
        same_output = [other for other in tasks if other is not task and other.output == task.output and task.output != "-"]
        if same_output:
            raise BadInput(
                "two files would have one name", place=task.output, found=f"{task.source} and {same_output[0].source}", valid="files of different names"
            )
    sources = [Path(other.source) for other in tasks if other.source != "-" and Path(other.source).exists()]
    for task in tasks:
        _check_output(task.output, sources, bool(into_directory), str(output))
    for task in tasks:
        if task.source == "-" or _is_special(Path(task.source)):
            task.spool = _spool(task.source)
        task.check()
    return tasks


def _spool(source: str) -> IO[bytes]:
    spool: Any = tempfile.SpooledTemporaryFile(1 << 20)  # noqa: SIM115 (read twice, later)
    if source == "-":
        shutil.copyfileobj(sys.stdin.buffer, spool)
    else:
        with open(source, "rb") as f:
            shutil.copyfileobj(f, spool)
    return spool  # type: ignore[no-any-return]


def _is_special(path: Path) -> bool:
    """Whether the name stands for a device or a pipe, which is written to and never replaced, and can be read only once."""
    return path.exists() and not stat.S_ISREG(path.stat().st_mode)


def _check_output(name: str, sources: Sequence[Path], into_directory: bool, option: str) -> None:
    if name == "-":
        return
    path, place = Path(name), f"-o {option}"
    if path.is_dir():
        raise BadInput("this is a directory", place=place, found=name, valid="a file")
    if path.exists() and any(path.samefile(source) for source in sources):
        raise BadInput("the output is the input", place=place, found=name if into_directory else None, valid="another file")
    if _is_special(path):
        return
    parent = path.resolve().parent
    if into_directory:
        try:
            parent.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise BadInput("the output cannot be written", place=place, found=f"{parent}: {e.strerror or e}") from None
    if not parent.is_dir():
        raise BadInput("no such directory", place=str(parent), valid="make it first")
    try:
        # Named as the file that is written aside will be, so that a name too long for the disk shows now.
        fd, probe = tempfile.mkstemp(dir=parent, prefix=f".{path.resolve().name}.")
        os.close(fd)
        os.unlink(probe)
    except OSError as e:
        raise BadInput("the output cannot be written", place=place, found=f"{parent}: {e.strerror or e}") from None


@contextlib.contextmanager
def open_output(name: str) -> Iterator[IO[bytes]]:
    """A file to write, which takes its place in one step at the end; through a link it replaces the link's target. On any failure the old file stays."""
    if name == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if _is_special(Path(name)):
        with open(name, "wb") as f:
            yield f
        return
    path = Path(name).resolve()
    fd, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "wb") as raw:
            if name.endswith(".gz"):
                with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as f:
                    yield f  # type: ignore[misc]
            else:
                yield raw
            raw.flush()
            os.fsync(raw.fileno())
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except OSError as e:
        Path(aside).unlink(missing_ok=True)
        # An error in the middle of a write names no file.
        raise OSError(e.errno, e.strerror, e.filename or str(path)) from None
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    fsync_dir(path.parent)


class NullWriter:
    """Takes the output of a visitor that only reads."""

    def write(self, data: Any) -> int:
        return len(data)

    def flush(self) -> None: ...

    def tell(self) -> int:
        return 0

    def seekable(self) -> bool:
        return False

"""Reads parallel files of any format: decides which reader takes which file, and which files belong together.

Reads the user's files and writes nothing. A line that cannot be a pair (too few columns, no translation) is returned with a reason; a file that cannot be
read at all raises CorpusError. `line` counts from 1: lines of the file for text, rows for tables, segments for what holds records or units.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

from tell.corpus.readers.aligned import read_directories, read_text
from tell.corpus.readers.gettext import read_mo, read_po
from tell.corpus.readers.jsonl import read_records
from tell.corpus.readers.segment import AlignedSegment, ReadOptions, ReadReport
from tell.corpus.readers.streams import decoded_lines, plain_name
from tell.corpus.readers.tables import read_csv, read_tsv, read_xlsx
from tell.corpus.readers.tmx import read_tmx
from tell.corpus.readers.xliff import read_xliff
from tell.errors import CorpusError, OtherLanguages
from tell.languages import LanguagePair
from tell.text.normalise import spelled

# Endings of names; .gz, .bz2 and .xz after them are looked through. Every other name is a text (`flores.is-en.is`).
ENDINGS = {
    ".tsv": "tsv", ".tab": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".xlsx": "xlsx", ".xlsm": "xlsx", ".tmx": "tmx",
    ".xlf": "xliff", ".xliff": "xliff", ".mxliff": "xliff", ".mqxliff": "xliff", ".sdlxliff": "xliff",
    ".po": "po", ".pot": "po", ".mo": "mo", ".gmo": "mo",
}  # fmt: skip
_READERS = {
    "tsv": read_tsv, "csv": read_csv, "jsonl": read_records, "xlsx": read_xlsx, "tmx": read_tmx, "xliff": read_xliff, "po": read_po, "mo": read_mo,
}  # fmt: skip
# What has been asked for by people who had it, and where it can be turned into one of these.
_NOT_READ = {
    ".xls": "save it as .xlsx",
    ".ods": "save it as .xlsx",
    ".docx": "export the translation memory as TMX",
    ".json": "one record a line, as .jsonl",
    ".zip": "unpack it first",
}


def corpus_format(path: Path) -> str:
    """The format that the file's name implies: one of the values of ENDINGS, or `text`."""
    return ENDINGS.get(Path(plain_name(path)).suffix.lower(), "text")


def labels(paths: Iterable[Path]) -> list[str]:
    """A short label for each file: its name, preceded by its directory where an earlier file has the same name."""
    names: list[str] = []
    for path in paths:
        named = [path.name, f"{path.absolute().parent.name}/{path.name}", str(path.absolute())]
        names.append(next((n for n in map(spelled, named) if n not in names), spelled(named[-1])))
    return names


@dataclasses.dataclass(frozen=True, slots=True)
class InputGroup:
    """Files that are read together: one file, two line-aligned texts, or one or two directories. `files` are all files in it. `given` is False for a file
    that was found in a directory: where it is of other languages, as most catalogues of a program are, it is passed over with a note."""

    kind: str
    paths: tuple[Path, ...]
    label: str
    files: tuple[Path, ...]
    given: bool = True

    def reading(self) -> ReadReport:
        return ReadReport(self.paths, self.label, self.kind)


def _inside(directory: Path) -> list[Path]:
    return sorted(p for p in directory.rglob("*") if p.is_file() and not any(part.startswith(".") for part in p.relative_to(directory).parts))


def _expanded(inputs: tuple[Path, ...]) -> list[Path]:
    """The inputs, where directories of tables, catalogues or memories are replaced by the files in them."""
    expanded: list[Path] = []
    for path in inputs:
        inside = [p for p in _inside(path) if corpus_format(p) != "text"] if path.is_dir() else []
        expanded += inside or [path]
    return expanded


def groups(inputs: tuple[Path, ...], docs: Path | None = None, columns: str | None = None) -> list[InputGroup]:
    """The inputs in groups that are read together. Raises CorpusError for files that fit no group."""
    seen: set[Path] = set()
    for path in inputs:
        if path.resolve() in seen:
            raise CorpusError("the same file is given twice", place=str(path), valid="different files")
        seen.add(path.resolve())
        if (hint := _NOT_READ.get(path.suffix.lower())) and not path.is_dir():
            raise CorpusError("this format is not read", place=str(path), found=path.suffix, valid=hint)
    paths = _expanded(inputs)
    texts = [p for p in paths if corpus_format(p) == "text" and not p.is_dir()]
    directories = [p for p in paths if p.is_dir()]
    aligned = len(texts) == 2 and len(paths) == 2
    if docs is not None and not aligned:
        raise CorpusError("--docs goes with two line-aligned texts", place=str(docs), valid="a document column (tables) or a doc key (JSONL)")
    if texts and directories:
        raise CorpusError("this is a directory", place=str(directories[0]), valid="a file, as the others are, or directories alone")
    if len(directories) > 2:
        raise CorpusError("these directories cannot be read together", found=", ".join(map(str, directories)), valid="one, or one for each language")
    if len(texts) % 2:
        names = ", ".join(p.name for p in inputs)
        valid = "SOURCE.txt TARGET.txt, one after the other, and any number of tables, memories and catalogues"
        raise CorpusError("these files cannot be read together", found=names, valid=valid)
    if columns is not None and not any(corpus_format(p) in ("tsv", "csv", "xlsx") for p in paths if not p.is_dir()):
        raise CorpusError("--columns is for TSV files", found=columns, valid="tables: .tsv, .csv or .xlsx")
    input_groups: list[InputGroup] = []
    named = dict(zip(paths, labels(paths), strict=True))
    for source, target in zip(texts[::2], texts[1::2], strict=True):
        input_groups.append(InputGroup("text", (source, target), named[source], (source, target)))
    if directories:
        input_groups.append(InputGroup("directory", tuple(directories), named[directories[0]], tuple(f for d in directories for f in _inside(d))))
    input_groups += [InputGroup(corpus_format(p), (p,), named[p], (p,), p in inputs) for p in paths if p not in texts and p not in directories]
    for directory in (p for p in inputs if p.is_dir() and p not in directories):
        # Texts beside memories and tables; one file alone is about these.
        if len(beside := tuple(f for f in _inside(directory) if corpus_format(f) == "text")) > 1:
            input_groups.append(InputGroup("directory", (directory,), labels([*paths, directory])[-1], beside))
    return input_groups


def read_group(group: InputGroup, want: ReadOptions, reading: ReadReport, docs: Path | None = None) -> Iterator[AlignedSegment]:
    """Yields the segments of a group in the order of its files, and fills in `reading` meanwhile."""
    if group.kind == "text":
        yield from read_text(group.paths[0], group.paths[1], docs, want, reading)
    elif group.kind == "directory":
        yield from read_directories(reading, want, group.files, beside=len(group.files) < len(_inside(group.paths[0])) and len(group.paths) == 1)
    else:
        try:
            yield from _READERS[group.kind](group.paths[0], want, reading)
        except OtherLanguages as e:
            if group.given:
                raise
            reading.notes.append(f"passed over: {e.thing}; found {e.found}")


def read_against(path: Path, pair: LanguagePair) -> list[str]:
    """Every text of a test set that training must not repeat: lines, TSV cells, or both sides of records and units."""
    kind, want = corpus_format(path), ReadOptions(pair)
    if kind in ("text", "tsv"):
        lines = list(decoded_lines(path, pair, None, {}))
        if not lines:
            raise CorpusError("the file is empty", place=str(path), valid="at least one line")
        return lines if kind == "text" else [cell for line in lines for cell in line.split("\t")]
    group = InputGroup(kind, (path,), path.name, (path,))
    return [side for s in read_group(group, want, group.reading()) for side in (s.source, s.target) if side]

"""The formats of files that are translated: which there are, and in which one a file is.

Reads the first bytes of a file where its name does not tell. Each format is a module of its own, imported when it is used.
"""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import PurePosixPath

from serve.formats.structure import kind_by_ending, kind_by_start, kind_by_whole_name
from serve.formats.units import Convert
from tell.errors import BadInput, CorpusError, suggestion

PLAIN = "text/plain; charset=utf-8"
_OFFICE = "application/vnd.openxmlformats-officedocument"


@dataclasses.dataclass(frozen=True, slots=True)
class Format:
    """`endings` of its files, the usual one first. `without_options`: a file needs none, so that the service can take it. `zipped`: it is a zip archive."""

    name: str
    endings: tuple[str, ...]
    media_type: str
    without_options: bool = True
    zipped: bool = False
    # The module of serve.formats with its `convert`, where that has another name.
    module: str = ""

    @property
    def convert(self) -> Convert:
        convert: Convert = importlib.import_module(f"serve.formats.{self.module or self.name}").convert
        return convert


FORMATS = {
    f.name: f
    for f in (
        Format("text", (".txt",), PLAIN),
        Format("markdown", (".md", ".markdown", ".mdx"), "text/markdown; charset=utf-8"),
        Format("html", (".html", ".htm", ".xhtml"), "text/html"),
        Format("csv", (".csv",), "text/csv; charset=utf-8", without_options=False),
        Format("tsv", (".tsv", ".tab"), "text/tab-separated-values; charset=utf-8", without_options=False),
        Format("jsonl", (".jsonl", ".ndjson"), "application/jsonl", without_options=False),
        # Not application/json and its like: clients would take a result for an answer of the service, and parse it.
        Format("json", (".json", ".arb"), "text/x-json"),
        Format("properties", (".properties",), "text/x-java-properties"),
        Format("yaml", (".yml", ".yaml"), "text/x-yaml"),
        Format("fluent", (".ftl",), "text/x-fluent"),
        Format("strings", (".strings",), "text/x-apple-strings"),
        Format("stringsdict", (".stringsdict",), "text/x-apple-stringsdict"),
        Format("xcstrings", (".xcstrings",), "text/x-apple-xcstrings"),
        Format("po", (".po", ".pot"), "text/x-gettext-translation"),
        Format("android", (".xml",), "text/x-android-resources"),
        Format("resx", (".resx", ".resw"), "application/x-resx+xml"),
        Format("qt", (".ts",), "text/vnd.qt.linguist"),
        Format("xliff", (".xlf", ".xliff", ".sdlxliff", ".mqxliff", ".mxliff"), "application/xliff+xml"),
        Format("tmx", (".tmx",), "application/x-tmx+xml"),
        Format("srt", (".srt",), "application/x-subrip", module="subtitles"),
        Format("vtt", (".vtt",), "text/vtt", module="subtitles"),
        Format("docx", (".docx",), f"{_OFFICE}.wordprocessingml.document", zipped=True),
        Format("xlsx", (".xlsx",), f"{_OFFICE}.spreadsheetml.sheet", zipped=True),
    )
}
BY_ENDING = {ending: f for f in FORMATS.values() for ending in f.endings}
# First bytes of files that are no text, whatever their names.
_SIGNATURES = {
    b"PK\x03\x04": "a zip archive", b"%PDF": "PDF", b"\x89PNG": "a picture", b"\xff\xd8\xff": "a picture",
    b"\xd0\xcf\x11\xe0": "a document of an older Office, or one with a password",
}  # fmt: skip
# What is said beside the formats that there are.
AS_TEXT = "--format text translates it line by line, whatever its structure"


def format_named(name: str) -> Format:
    """Raises BadInput with the names there are."""
    if name not in FORMATS:
        raise BadInput("unknown format", place="--format", found=name, valid=suggestion(name, FORMATS))
    return FORMATS[name]


def format_of(name: str) -> Format:
    """The format that a file's name tells, through .gz; text where the ending is not known. Raises CorpusError for a file whose name says that it has a
    structure, and one that is none of the formats."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.suffix.lower() == ".gz":
        path = path.with_suffix("")
    suffix = path.suffix.lower()
    if kind := kind_by_whole_name(path.name):
        raise _unknown(name, f"{path.name} ({kind})")
    if suffix not in BY_ENDING and (kind := kind_by_ending(path.name)):
        raise _unknown(name, f"{suffix} ({kind})")
    return BY_ENDING.get(suffix, FORMATS["text"])


def _unknown(place: str | None, found: str) -> CorpusError:
    return CorpusError("files of this format are not translated", place=place, found=found, valid=f"{', '.join(BY_ENDING)}; {AS_TEXT}")


def check_start(format: Format, start: bytes, guessed: bool = False) -> None:
    """Raises CorpusError where a file's first bytes (START of them) are not those of its format. `guessed`: nobody but its name says that it is text."""
    if format.zipped:
        return
    for signature, kind in _SIGNATURES.items():
        if start.startswith(signature):
            raise CorpusError(f"this is not {format.name}", found=kind, valid="a file that is what its name says, or --format")
    if guessed and format.name == "text" and (kind_found := kind_by_start(start)):
        valid = f"the ending of its format ({', '.join(BY_ENDING)}) or --format NAME; {AS_TEXT}"
        raise CorpusError("this is not plain text", found=kind_found, valid=valid)

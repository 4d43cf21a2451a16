"""The formats of files that are translated: what there is, and which one a file is in.

Reads the first bytes of a file where its name does not tell. Each format is a module of its own, imported when it is used.
"""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import PurePosixPath

from serve.formats.units import Convert
from tell.errors import BadInput, CorpusError, suggestion

PLAIN = "text/plain; charset=utf-8"
_OFFICE = "application/vnd.openxmlformats-officedocument"


@dataclasses.dataclass(frozen=True, slots=True)
class Format:
    """`endings` of its files, the first one the usual. `alone`: it needs no options, so that a service can take it. `packed`: it is read whole."""

    name: str
    endings: tuple[str, ...]
    media_type: str
    alone: bool = True
    packed: bool = False
    # The module of serve.formats with its `convert`, where that has another name.
    module: str = ""

    @property
    def convert(self) -> Convert:
        found: Convert = importlib.import_module(f"serve.formats.{self.module or self.name}").convert
        return found


FORMATS = {
    f.name: f
    for f in (
        Format("text", (".txt",), PLAIN),
        Format("markdown", (".md", ".markdown"), "text/markdown; charset=utf-8"),
        Format("html", (".html", ".htm", ".xhtml"), "text/html"),
        Format("csv", (".csv",), "text/csv; charset=utf-8", alone=False),
        Format("tsv", (".tsv", ".tab"), "text/tab-separated-values; charset=utf-8", alone=False),
        Format("jsonl", (".jsonl", ".ndjson"), "application/jsonl", alone=False),
        Format("po", (".po", ".pot"), "text/x-gettext-translation"),
        Format("xliff", (".xlf", ".xliff"), "application/xliff+xml"),
        Format("tmx", (".tmx",), "application/x-tmx+xml"),
        Format("srt", (".srt",), "application/x-subrip", module="subtitles"),
        Format("vtt", (".vtt",), "text/vtt", module="subtitles"),
        Format("docx", (".docx",), f"{_OFFICE}.wordprocessingml.document", packed=True),
        Format("xlsx", (".xlsx",), f"{_OFFICE}.spreadsheetml.sheet", packed=True),
    )
}
BY_ENDING = {ending: f for f in FORMATS.values() for ending in f.endings}
# First bytes of what is no text, whatever its name.
_SIGNS = {
    b"PK\x03\x04": "a zip archive", b"%PDF": "PDF", b"\x89PNG": "a picture", b"\xff\xd8\xff": "a picture",
    b"\xd0\xcf\x11\xe0": "a document of an older Office, or one with a password",
}  # fmt: skip
# Endings of what looks like a document and cannot be translated.
_OTHERS = (".pdf", ".doc", ".xls", ".ppt", ".pptx", ".odt", ".ods", ".rtf", ".epub", ".zip")


def format_named(name: str) -> Format:
    """Raises BadInput with the names there are."""
    if name not in FORMATS:
        raise BadInput("unknown format", place="--format", found=name, valid=suggestion(name, FORMATS))
    return FORMATS[name]


def format_of(name: str) -> Format:
    """By a file's name, through .gz; what has no ending that is known is text. Raises CorpusError for what is surely none."""
    path = PurePosixPath(name.replace("\\", "/"))
    suffix = (PurePosixPath(path.stem).suffix if path.suffix.lower() == ".gz" else path.suffix).lower()
    if suffix in _OTHERS:
        raise CorpusError("files of this format are not translated", place=name, found=suffix, valid=", ".join(BY_ENDING))
    return BY_ENDING.get(suffix, FORMATS["text"])


def check_start(format: Format, start: bytes) -> None:
    """Raises CorpusError where a file's first bytes are not those of its format."""
    if format.packed:
        return
    for sign, what in _SIGNS.items():
        if start.startswith(sign):
            raise CorpusError(f"this is not {format.name}", found=what, valid="a file that is what its name says, or --format")

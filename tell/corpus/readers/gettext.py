"""gettext catalogues: PO, and MO by polib. Reads a file whole (they are small), writes nothing.

A plural entry is two pairs: the singular with the form for 1, and the plural with the last of its forms. What is fuzzy, obsolete or not translated is returned
with a reason.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tell.corpus.readers.machine_output import FUZZY
from tell.corpus.readers.segment import UNTRANSLATED, AlignedSegment, ReadOptions, ReadReport, Sides, numbered, tagged
from tell.corpus.readers.streams import encoding_of, plain_name, read_whole
from tell.errors import CorpusError
from tell.extras import need
from tell.languages import locale_tag
from tell.text.charsets import charset_name
from tell.text.identifiers import is_key
from tell.text.normalise import spelled
from tell.text.plurals import parsed_rule
from tell.text.po_syntax import BOM, NO_CHARSET, Entry, entries, header_fields, named_charset

_MAGIC = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}
# A catalogue is one of keys where so many originals, and this share of them, are keys; or nearly all are keys or one word in small letters, and some keys.
FEWEST_KEYS, MOST_KEYS, ALL_KEYS, SOME_KEYS = 3, 0.5, 0.9, 0.2


@dataclasses.dataclass(frozen=True, slots=True)
class _Message:
    """An entry as polib has it too, so that both kinds of catalogue are read alike. `occurrences`: (file, line) of the program; `previous_msgid`: the lines of
    the text that a fuzzy translation is of."""

    msgid: str
    msgstr: str
    msgid_plural: str
    msgstr_plural: dict[int, str]
    flags: set[str]
    occurrences: list[tuple[str, str]]
    obsolete: bool
    previous_msgid: str


class _Catalogue(list[_Message]):
    """The entries but for the header, whose fields are the metadata."""

    metadata: dict[str, str]


def read_po(path: Path, want: ReadOptions, reading: ReadReport) -> Iterator[AlignedSegment]:
    data = read_whole(path)
    named = None if want.encoding else "UTF-8" if data.startswith(BOM) else named_charset(data)
    encoding = want.encoding or (named if named != NO_CHARSET else None)
    try:
        if encoding is not None and charset_name(encoding) is None:
            raise LookupError(encoding)
        text = data.decode(encoding or "utf-8")
        how = "named" if want.encoding else "by its header" if named else "UTF-8"
    except (LookupError, UnicodeError):
        encoding, how = encoding_of(path, want.pair, want.encoding)
        text = data.decode(encoding, "replace")
    reading.encodings[str(path)] = encoding if encoding and how in ("named", "UTF-8") else f"{(encoding or 'utf-8').lower()} ({how})"
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    yield from numbered(_entries(_catalogue(lines, charset_name(encoding or "utf-8") or "utf-8", path), path, want, reading))


def _catalogue(lines: list[str], encoding: str, path: Path) -> _Catalogue:
    """Raises CorpusError with the line where the file is damaged."""
    catalogue = _Catalogue()
    catalogue.metadata = {}
    for entry in entries(lines, encoding):
        if entry.problem:
            line, _, found = entry.problem.partition(": ")
            raise CorpusError("this is not a PO file", place=f"{path}, {line}", found=found, valid="msgid and msgstr in turn")
        if entry.is_header and not catalogue.metadata:
            catalogue.metadata = {field.name: field.value for field in reversed(header_fields(entry.strings["msgstr"][0])) if field.name}
        catalogue += _messages(entry, encoding)
    return catalogue


def _messages(entry: Entry, encoding: str, obsolete: bool = False) -> Iterable[_Message]:
    """The entry, and the obsolete ones in its comments."""
    forgotten = [line.strip()[2:].strip() for line in entry.lines if line.lstrip().startswith("#~")]
    if forgotten and not obsolete:
        # What was its previous text is a comment of it.
        for old in entries([f"#{line}" if line.startswith("|") else line for line in forgotten], encoding):
            yield from _messages(old, encoding, obsolete=True)
    if entry.text("msgid") and entry.forms:
        places = [place for line in entry.comments if line.startswith("#:") for place in line[2:].split()]
        plural = {int(name[7:-1]): entry.text(name) for name in entry.forms if name != "msgstr"}
        occurrences = [(file, line) if file and line.isdigit() else (place, "") for place in places for file, _, line in [place.rpartition(":")]]
        previous = "".join(line.strip()[2:] for line in entry.lines if line.lstrip().startswith("#|"))
        yield _Message(entry.text("msgid"), entry.text("msgstr"), entry.text("msgid_plural"), plural, entry.flags, occurrences, obsolete, previous)


def read_mo(path: Path, want: ReadOptions, reading: ReadReport) -> Iterator[AlignedSegment]:
    polib = need("polib", "files")
    data = read_whole(path)
    _check_mo(data, path)
    try:
        catalogue = polib.mofile(data)
    except Exception as e:
        raise CorpusError("this MO file is damaged", place=str(path), found=str(e)[:200] or type(e).__name__, valid="a catalogue that msgfmt made") from None
    reading.encodings[str(path)] = f"{str(catalogue.encoding).lower()} (by its header)"
    yield from numbered(_entries(catalogue, path, want, reading))


def _check_mo(data: bytes, path: Path) -> None:
    """Raises CorpusError where the tables lead outside the file, or to more text than it can hold: entries may overlap, and a small file fill the memory."""
    order = _MAGIC.get(data[:4])
    if order is None:
        raise CorpusError("this is not a MO file", place=str(path), found=data[:4].hex(" ") or "nothing", valid="a catalogue that msgfmt made")
    if len(data) >= 20:
        _, n, *tables = struct.unpack(f"{order}4I", data[4:20])
        if all(table_start + 8 * n <= len(data) for table_start in tables):
            sizes = [struct.unpack_from(f"{order}{2 * n}I", data, table_start) for table_start in tables]
            inside = all(size + start <= len(data) for table in sizes for size, start in zip(table[::2], table[1::2], strict=True))
            if inside and sum(sum(table[::2]) for table in sizes) <= 4 * len(data):
                return
    raise CorpusError("this MO file is damaged", place=str(path), found="tables that lead outside the file", valid="a catalogue that msgfmt made")


def _language(metadata: dict[str, str], path: Path) -> str:
    """The language that the catalogue is in: by its header, the directory it is in (`is/LC_MESSAGES/`), or its name (`is.po`). Empty when nothing says so."""
    candidates = [metadata.get("Language", "")]
    if path.absolute().parent.name == "LC_MESSAGES":
        candidates.append(path.absolute().parent.parent.name)
    candidates.append(plain_name(path).partition(".")[0] if plain_name(path).count(".") == 1 else plain_name(path).split(".")[-2])
    for name in candidates:
        if len((code := locale_tag(name)).partition("-")[0]) in (2, 3) and tagged(code):
            return code
    return ""


def _turned(code: str, want: ReadOptions, path: Path) -> bool:
    """Whether the catalogue translates from the pair's target into its source. Raises CorpusError when it is in another language."""
    sides = Sides(want.pair)
    if not code:
        # Programs are written in English.
        return want.pair.target.tag.partition("-")[0] == "en"
    side = sides.which(code)
    if side is None:
        valid = f"{want.pair.source.tag} or {want.pair.target.tag}"
        raise CorpusError("this catalogue is in another language", place=str(path), found=code, valid=valid)
    return side == 0


def _refuse_keys(catalogue: Any, path: Path) -> None:
    """Raises CorpusError where the originals are keys of a program, and its texts stand in the translations alone."""
    pairs = [(e.msgid, e.msgstr) for e in catalogue if e.msgid and e.msgstr.strip() and not getattr(e, "obsolete", 0)]
    keys = [msgid for msgid, text in pairs if is_key(msgid) and not is_key(text)]
    words = sum(is_key(msgid) or (msgid.isalnum() and msgid.islower()) for msgid, _ in pairs)
    if len(keys) >= FEWEST_KEYS and (len(keys) > MOST_KEYS * len(pairs) or (words >= ALL_KEYS * len(pairs) and len(keys) >= SOME_KEYS * len(pairs))):
        found = f"{len(keys):,} of {len(pairs):,} originals such as {keys[0][:60]}"
        valid = "a catalogue whose originals are texts, or a table in which each text stands beside that of the other language"
        raise CorpusError("the originals of this catalogue are keys, no texts", place=str(path), found=found, valid=valid)


def _of_another(entry: Any) -> bool:
    """Whether a fuzzy translation is that of another text, which msgmerge found alike."""
    return any(getattr(entry, name, None) for name in ("previous_msgid", "previous_msgid_plural", "previous_msgctxt"))


def _entries(catalogue: Any, path: Path, want: ReadOptions, reading: ReadReport) -> Iterator[tuple[str, str, str, str | None]]:
    code = _language(catalogue.metadata, path)
    turned = _turned(code, want, path)
    if not code:
        reading.notes.append("the catalogue does not name its language: its originals are taken for English")
    _refuse_keys(catalogue, path)
    # The form for 1 is the first of most languages, but not of Latvian, Welsh and Arabic.
    rule = parsed_rule(next((value for name, value in catalogue.metadata.items() if name.lower() == "plural-forms"), ""))
    singular = rule[1](1) if rule else 0
    entries = 0
    for entry in catalogue:
        entries += 1
        forms = [entry.msgstr_plural[k] for k in sorted(entry.msgstr_plural)] if entry.msgid_plural else [entry.msgstr]
        one = singular if singular < len(forms) else 0
        pairs = [(entry.msgid, forms[one] if forms else "")]
        if entry.msgid_plural:
            pairs.append((entry.msgid_plural, forms[0 if one and one == len(forms) - 1 else -1] if forms else ""))
        for original, translation in pairs:
            reason = None
            if getattr(entry, "obsolete", 0):
                reason = "obsolete"
            elif not translation.strip():
                reason = UNTRANSLATED
            elif FUZZY in (getattr(entry, "flags", None) or ()) and not (want.machine_output and not _of_another(entry)):
                reason = FUZZY
            doc = spelled(entry.occurrences[0][0]) if getattr(entry, "occurrences", None) else ""
            yield (translation, original, doc, reason) if turned else (original, translation, doc, reason)
    reading.lines = entries
    reading.documents = "places in the program" if any(getattr(e, "occurrences", None) for e in catalogue) else ""
    if not entries:
        raise CorpusError("no entries", place=str(path), valid="a catalogue with msgid and msgstr")

"""Gettext's PO and POT: untranslated entries get their translation, marked fuzzy. Every other line stays byte for byte.

Contexts, plural forms, wrapped strings and comments are kept; obsolete entries are left alone. Plural forms come from the header's `Plural-Forms`, or where it
has none from CLDR: the form for one is made of msgid, the others of msgid_plural, and a form that also stands for other numbers (21 in Icelandic) too where
msgid does not say the number. Of an entry's plural forms, those that are empty are translated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from serve.formats.po_header import Header, charset, header_of, new_header, with_charset, with_labels
from serve.formats.units import Options, Replacement, Unit, UnitVisitor
from tell.errors import CorpusError
from tell.text.placeholders import find_placeholders
from tell.text.po_syntax import BOM, LINE_BORDER, NO_CHARSET, Entry, entries, header_charset, quoted


def _form(entry: Entry, header: Header, number: int) -> str:
    """The string that a plural form is translated from."""
    singular, plural = entry.text("msgid"), entry.text("msgid_plural")
    if not header.singular[number]:
        return plural
    number_is_said = sorted(p.text for p in find_placeholders(singular)) == sorted(p.text for p in find_placeholders(plural))
    return singular if header.only[number] or number_is_said else plural


def _marked(lines: list[str], first_string: int, end: str) -> list[str]:
    """An entry's lines with the flag fuzzy: among the flags it has, or in a line of its own before line `at`, its first that is no comment."""
    for i, line in enumerate(lines[:first_string]):
        if line.startswith("#,"):
            if "fuzzy" in [f.strip() for f in line[2:].split(",")]:
                return lines
            return [*lines[:i], "#, fuzzy," + line[2:], *lines[i + 1 :]]
    # Before the previous msgid, as gettext writes it.
    insert_at = next((i for i, line in enumerate(lines[:first_string]) if line.startswith("#|")), first_string)
    return [*lines[:insert_at], "#, fuzzy" + end, *lines[insert_at:]]


def _asks_for_names(entry: Entry) -> bool:
    """Whether a translation is not of a text, but who made it: as GNOME and KDE ask."""
    return entry.text("msgid") in ("translator-credits", "translator_credits") or entry.text("msgctxt") in ("NAME OF TRANSLATORS", "EMAIL OF TRANSLATORS")


def _translated(entry: Entry, header: Header, visitor: UnitVisitor, end: str) -> list[str]:
    """The entry's lines with its translation; unchanged where there is none. Forms that are there stay, unless the visitor has others for them."""
    place = f"line {entry.at['msgid']}"
    names = [f"msgstr[{number}]" for number in range(header.forms)] if "msgid_plural" in entry.strings else ["msgstr"]
    if any(entry.text(name).strip() for name in entry.forms if name not in names):
        # More forms than the header names, and in use: nobody knows which number they are for.
        if not all(entry.text(name).strip() for name in names):
            visitor.warn(place, "more plural forms than the header names: the others stay empty")
        return entry.lines
    if _asks_for_names(entry) and not entry.text("msgstr").strip():
        visitor.warn(place, "the names of the translators stay to be filled in")
        return entry.lines
    replacements: dict[str, Replacement | None] = {}
    for number, name in enumerate(names):
        text = _form(entry, header, number) if "msgid_plural" in entry.strings else entry.text("msgid")
        replacements[name] = visitor.visit(Unit(text, place, bool(entry.text(name))))
    if any(r.failed if r else not entry.text(name) for name, r in replacements.items()) or not any(replacements.values()):
        return entry.lines
    first = min(entry.strings[f][1] for f in entry.forms)
    last = max(entry.strings[f][2] for f in entry.forms)
    written: list[str] = []
    for name, replacement in replacements.items():
        written += quoted(name, replacement.text, end) if replacement else entry.lines[slice(*entry.strings[name][1:])]
    if not entry.lines[last - 1].endswith("\n"):
        written[-1] = written[-1].removesuffix(end)
    lines = [*entry.lines[:first], *written, *entry.lines[last:]]
    begin = min(start for _, start, _ in entry.strings.values())
    return _marked(lines, begin, end)


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    raw = source.read()
    bom = BOM if raw.startswith(BOM) else b""
    # Before anything is decoded: a file of more lines than the limit is not read.
    options.bounds.check("tokens", raw.count(b"\n"))
    encoding, named = charset(raw, visitor)
    try:
        text = raw[len(bom) :].decode(encoding)
    except UnicodeDecodeError as e:
        line = raw.count(b"\n", 0, e.start) + 1
        byte = f"0x{raw[len(bom) + e.start]:02x}"
        raise CorpusError(f"not {encoding.upper()}", place=f"line {line}", found=byte, valid="the charset that its header names") from None
    lines = LINE_BORDER.split(text)
    options.bounds.check("tokens", len(lines))
    all_entries = list(entries(lines, encoding))
    usable = [e for e in all_entries if "msgid" in e.strings and e.forms and not e.problem]
    if not usable and any(e.problem for e in all_entries):
        raise CorpusError("this is not a PO file", place=next(e.problem for e in all_entries if e.problem), valid='msgid "..." and msgstr "..."')
    header_entry = next((e for e in usable if e.is_header), None)
    if header_entry is None:
        visitor.warn("header", "there is no header")
    end = "\r\n" if lines[0].endswith("\r\n") else "\n"
    header = header_of(header_entry, [e for e in usable if e.text("msgid")], visitor, options)
    outputs: list[list[str]] = []
    for entry in all_entries:
        if entry.problem:
            visitor.unreadable(entry.problem.partition(":")[0], entry.problem.partition(": ")[2])
        translated = not entry.problem and entry.forms and entry.text("msgid")
        outputs.append(_translated(entry, header, visitor, end) if translated else entry.lines)
    if all(output is entry.lines or output == entry.lines for output, entry in zip(outputs, all_entries, strict=True)):
        out.write(raw)
        return
    out.write(bom + _written(all_entries, outputs, header_entry, header, encoding if named else None, end))


def _joined(outputs: Sequence[list[str]], changed: Sequence[bool], end: str) -> str:
    parts: list[str] = []
    for lines, is_changed in zip(outputs, changed, strict=True):
        # An entry that begins in the middle of a line cannot be marked there.
        if is_changed and parts and not parts[-1].endswith("\n"):
            parts.append(end)
        parts += lines
    return "".join(parts)


def _written(all_entries: Sequence[Entry], outputs: list[list[str]], header_entry: Entry | None, header: Header, encoding: str | None, end: str) -> bytes:
    """The entries in the encoding that the header names, with the header's labels; in UTF-8 where it names none, or that one lacks a letter."""
    changed = [output is not entry.lines for output, entry in zip(outputs, all_entries, strict=True)]
    text = _joined(outputs, changed, end)
    labels = header.labels
    try:
        text.encode(encoding or "ascii")
    except UnicodeEncodeError:
        encoding, labels = "utf-8", with_charset(header_entry, labels)
    if encoding is None and header_entry is not None and header_charset(header_entry.strings["msgstr"][0]) == NO_CHARSET:
        labels = with_charset(header_entry, labels)
    # What msgfmt refuses without a header: letters in no charset, and plural forms.
    if header_entry is None and (encoding or any("msgid_plural" in entry.strings for entry in all_entries)):
        text = "".join(new_header(with_charset(None, header.labels), end)) + text
    elif header_entry is not None and labels:
        index = next(i for i, entry in enumerate(all_entries) if entry is header_entry)
        outputs[index], changed[index] = with_labels(header_entry, labels, "Language" in labels), True
        text = _joined(outputs, changed, end)
    return text.encode(encoding or "utf-8")

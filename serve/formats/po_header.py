"""The header of a PO file: which charset, language and plural forms it names, which of these are still a template's, and the header with its labels.

What a template leaves open is filled in for the target language, the plural forms by CLDR, so that msgfmt accepts what is written.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from serve.formats.named_languages import check_languages, is_of, is_template, posix_name, tagged
from serve.formats.units import Options, UnitVisitor
from tell.errors import CorpusError
from tell.text.charsets import charset_name, is_other_codec
from tell.text.plurals import GERMANIC, MOST_FORMS, NUMBERS, gettext_rule, parsed_rule
from tell.text.po_syntax import BOM, NO_CHARSET, Entry, Field, field_value, header_fields, named_charset, quoted

_TEMPLATE_RULE = re.compile(r"|.*\b(?:INTEGER|EXPRESSION)\b.*", re.S)
_CHARSET = re.compile(r"charset[ \t]*=[^;]*", re.I)
# A file's name that is a language: is, pt_BR; or ends in one that cannot be another word: plugin-de_DE, messages.de.
_NAME = re.compile(r"([a-z]{2,3}(?:[_-][A-Z][a-z]{3})?(?:[_-][A-Z]{2})?(?:@[a-z]+)?)")
_NAME_END = re.compile(r".*(?:[-_.]([a-z]{2,3}_[A-Z]{2})|\.([a-z]{2}))", re.S)
# The fields that gettext writes, in its order.
_ORDER = ("language-team", "language", "mime-version", "content-type", "content-transfer-encoding", "plural-forms")


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """`singular`: for each plural form whether it is made of msgid, `only`: whether it stands for one number alone. `labels`: fields to be set."""

    forms: int
    singular: tuple[bool, ...]
    only: tuple[bool, ...]
    labels: dict[str, str]


def charset(raw: bytes, visitor: UnitVisitor) -> tuple[str, bool]:
    """Python's name of the charset to read a file in, and whether the header names it. Raises CorpusError where it names a codec that is no charset."""
    name = named_charset(raw)
    if raw.startswith(BOM):
        return "utf-8", name is not None and charset_name(name) == "utf-8"
    if name is None:
        visitor.warn("header", "no charset in the header: read as UTF-8")
    if name in (None, NO_CHARSET):
        return "utf-8", False
    if known := charset_name(name):
        return known, True
    if is_other_codec(name):
        raise CorpusError("this is the name of no charset", place="header", found=name[:40], valid="UTF-8")
    visitor.warn("header", f"unknown charset {name[:40]}: read as UTF-8")
    return "utf-8", False


def language_in_name(name: str) -> str:
    """The language that the name of a PO file says it is in; empty where it says none, and for templates."""
    path = PurePosixPath(name.replace("\\", "/"))
    stem = path.name.removesuffix(".gz")
    if not stem.endswith(".po"):
        return ""
    stem = stem.removesuffix(".po")
    # The name of a program, below the folder of a language.
    if path.parent.name == "LC_MESSAGES":
        return path.parent.parent.name
    match = _NAME.fullmatch(stem) or _NAME_END.fullmatch(stem)
    label = next((group for group in match.groups() if group), "") if match else ""
    # Words of three letters (app, web) are languages too.
    return label if (len(label) != 3 or "." in label) and label and tagged(label) else ""


def header_of(header: Entry | None, entries: Sequence[Entry], visitor: UnitVisitor, options: Options) -> Header:
    """What is known of the file's language and plural forms. Raises CorpusError where the file is of another language than the pair's target.

    `entries` are those of the file that can be translated.
    """
    fields = header_fields(header.strings["msgstr"][0]) if header else []
    label = field_value(fields, "Language") or field_value(fields, "X-Language") or ""
    if is_template(label):
        label = field_value(fields, "X-Poedit-Language") or ""
    place = "header, Language"
    if is_template(label):
        label, place = language_in_name(options.name), "the file's name"
    untouched = not any(entry.text(form) for entry in entries for form in entry.forms)
    check_languages(options, visitor, source=field_value(fields, "X-Source-Language") or "", target=label, place=place)
    labels: dict[str, str] = {}
    own_label = field_value(fields, "Language") or ""
    if options.pair and (is_template(own_label) or (options.force and is_of(own_label, options.pair.target) is False)):
        labels["Language"] = posix_name(options.pair.target.tag)
    value = field_value(fields, "Plural-Forms") or ""
    forms, rule = _plural_rule(value, options, visitor, entries, untouched and "Language" in labels)
    if rule and rule != value:
        labels["Plural-Forms"] = rule
    number_of = parsed_rule(rule)
    if number_of is None:
        return Header(forms, (True, *[False] * (forms - 1)), (True, *[False] * (forms - 1)), labels)
    numbers: list[set[int]] = [set() for _ in range(forms)]
    for n in range(NUMBERS):
        numbers[number_of[1](n)].add(n)
    return Header(forms, tuple(1 in f for f in numbers), tuple(f == {1} for f in numbers), labels)


def _plural_rule(value: str, options: Options, visitor: UnitVisitor, entries: Sequence[Entry], template: bool) -> tuple[int, str]:
    """How many forms an entry has, and the value of Plural-Forms: the header's own where it can be used, CLDR's where it cannot, or where a template has the
    rule of English, as tools write it into each; empty where the entries' forms are all that is known."""
    own, plural = parsed_rule(value), [entry for entry in entries if "msgid_plural" in entry.strings]
    left_open = bool(value) and _TEMPLATE_RULE.fullmatch(value) is not None
    default = template and own is not None and _alike(own, parsed_rule(GERMANIC))
    if options.pair is None or not (plural or left_open) or (own and not default):
        return (own[0], value) if own else (_most(plural) or 2, "")
    tag = options.pair.target.tag
    rule = gettext_rule(tag)
    by_cldr = parsed_rule(rule or "")
    if own and _alike(own, by_cldr or own):
        return own[0], value
    translated = {len(entry.forms) for entry in plural if any(entry.text(form) for form in entry.forms)}
    if rule and by_cldr and translated <= {by_cldr[0]}:
        if value and not left_open and not own:
            visitor.warn("header", f"no usable Plural-Forms in the header: {by_cldr[0]} forms, as CLDR has them for {tag}")
        return by_cldr[0], rule
    forms = _most(plural) or 2
    known = f", where CLDR has {by_cldr[0]} for {tag}" if by_cldr else f"; CLDR has no rule for {tag}"
    visitor.warn("header", f"no usable Plural-Forms in the header: {forms} forms, the first for one{known}")
    return forms, GERMANIC if forms == 2 and not by_cldr else ""


def _most(plural: Sequence[Entry]) -> int:
    return min(MOST_FORMS, max((len(entry.forms) for entry in plural), default=0))


def _alike(a: tuple[int, Callable[[int], int]], b: tuple[int, Callable[[int], int]] | None) -> bool:
    return b is not None and a[0] == b[0] and all(a[1](n) == b[1](n) for n in range(NUMBERS))


def with_labels(header: Entry, labels: dict[str, str], template: bool) -> list[str]:
    """The lines of the header with these fields: set where they are, added where gettext has them. `template`: it is none any more, so not fuzzy either.

    Only the lines of these fields change, where they have lines of their own.
    """
    parts, start, stop = header.strings["msgstr"]
    end = "\r\n" if header.lines[0].endswith("\r\n") else "\n"
    lines, fields = header.lines, header_fields(parts)
    written = {name.lower(): f'"{name}: {_escaped(value)}\\n"{end}' for name, value in labels.items()}
    old = {field.name.lower(): field for field in fields if field.name.lower() in written}
    # Each part in a line of its own, and each field in parts of its own.
    apart = len(parts) == stop - start and not parts[0] and all(f.whole and parts[f.end - 1].endswith("\n") for f in fields)
    if apart:
        changes = {(start + field.start, start + field.end): [written[name]] for name, field in old.items()}
        for name in (name for name in _ORDER if name in written and name not in old):
            at = start + _place(fields, name, len(parts))
            changes.setdefault((at, at), []).append(written[name])
        new = list(lines)
        for (first, last), text in sorted(changes.items(), reverse=True):
            new[first:last] = text
    else:
        new = [*lines[:start], *_rewritten(fields, labels, end), *lines[stop:]]
    return [line for line in map(_without_fuzzy, new) if line] if template else new


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


def _place(fields: list[Field], name: str, last: int) -> int:
    """Before which part a field goes that is not there: after those that gettext writes before it."""
    before = _ORDER[: _ORDER.index(name)]
    return max((field.end for field in fields if field.name.lower() in before), default=last)


def _rewritten(fields: list[Field], labels: dict[str, str], end: str) -> list[str]:
    lowered = {name.lower(): (name, value) for name, value in labels.items()}
    lines = []
    for field in fields:
        name, value = lowered.pop(field.name.lower(), (field.name, field.value))
        lines.append(f"{name}: {value}\n" if name else f"{value}\n")
    lines += [f"{name}: {value}\n" for name, value in lowered.values()]
    return quoted("msgstr", "".join(lines), end)


def _without_fuzzy(line: str) -> str:
    """A line without the flag fuzzy; empty where it had no other."""
    if not line.startswith("#,"):
        return line
    flags = [flag.strip() for flag in line[2:].split(",")]
    rest = [flag for flag in flags if flag and flag != "fuzzy"]
    if len(rest) == len(flags):
        return line
    return f"#, {', '.join(rest)}{line[len(line.rstrip()) :]}" if rest else ""


def with_charset(header: Entry | None, labels: dict[str, str]) -> dict[str, str]:
    """The labels, and the charset of the header as UTF-8."""
    content_type = (field_value(header_fields(header.strings["msgstr"][0]), "Content-Type") if header else None) or "text/plain; charset="
    new = _CHARSET.sub("charset=UTF-8", content_type) if _CHARSET.search(content_type) else f"{content_type.rstrip('; ')}; charset=UTF-8"
    return {**labels, "Content-Type": new}


def new_header(labels: dict[str, str], end: str) -> list[str]:
    """A header for a file that has none."""
    order = ("Language", "MIME-Version", "Content-Type", "Content-Transfer-Encoding", "Plural-Forms")
    values = {"MIME-Version": "1.0", "Content-Transfer-Encoding": "8bit", **labels}
    return [f'msgid ""{end}', f'msgstr ""{end}', *(f'"{name}: {_escaped(values[name])}\\n"{end}' for name in order if name in values), end]

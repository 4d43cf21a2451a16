"""The languages that a file itself names, against those of the run: a catalogue of another language is refused, not filled.

A format calls `check_languages` with the labels that it finds, in whatever way its files write them. Reads and writes nothing.
"""

from __future__ import annotations

import functools
import re

from serve.formats.units import Options, UnitVisitor
from tell.errors import CorpusError, LanguageError
from tell.languages import Language, language, locale_tag, names, same_language

# What templates and tools have where the code of a language goes, and codes that are of no language.
_TEMPLATE = re.compile(r"|ll([_-](cc|tt))?|xx([_-]xx)?|lang(uage)?|code|locale|template|c|posix|und|mul|zxx|mis|none|n/?a|[*?]+|[@%${<\[(].*", re.I | re.S)


def is_template(label: str) -> bool:
    """Whether a label stands for a language that is still to be filled in."""
    return _TEMPLATE.fullmatch(label.strip()) is not None


def tagged(label: str) -> Language | None:
    """The language of a tag, or of the name of a locale (is_IS.UTF-8, sr@latin). None for what is neither."""
    try:
        return language(locale_tag(label))
    except LanguageError:
        return None


@functools.lru_cache(maxsize=1024)
def labelled(label: str) -> Language | None:
    """The language of a label: as `tagged`, or the name of a language (Icelandic). None for what is none of these."""
    import langcodes

    if found := tagged(label):
        return found
    try:
        return tagged(langcodes.find(label).to_tag())
    except LookupError:
        return None


def is_of(label: str, expected: Language) -> bool | None:
    """Whether a label may mean the expected language: its tag, its locale, or its name in English or in itself. None for what nobody knows.

    `pt` is `pt-BR`, since only one of them names a region; `pt-PT` is not.
    """
    if label.strip().casefold() in names(expected):
        return True
    found = labelled(label[:60])
    return None if found is None else same_language(found.tag, expected.tag)


def other_languages(options: Options, visitor: UnitVisitor, *, source: str = "", target: str = "", place: str = "file") -> CorpusError | None:
    """The error of a file, or of a part of it, whose labels name other languages than the pair; None where they do not, or `options.force`.

    Labels that are empty, templates or known to nobody are let pass, the last with a warning. `place`: where the labels stand.
    """
    if options.pair is None or options.force:
        return None
    for label, expected, thing in (
        (source, options.pair.source, "this is translated from another language"),
        (target, options.pair.target, "this is a translation into another language"),
    ):
        if is_template(label):
            continue
        match is_of(label, expected):
            case None:
                visitor.warn(place, f"unknown language {label[:40]}")
            case False:
                return CorpusError(thing, place=place, found=label[:40], valid=f"{expected.tag}{options.force_hint}")
    return None


def check_languages(options: Options, visitor: UnitVisitor, *, source: str = "", target: str = "", place: str = "file") -> None:
    """Raises the error of `other_languages`."""
    if other := other_languages(options, visitor, source=source, target=target, place=place):
        raise other


def posix_name(tag: str) -> str:
    """A language as gettext and Android's tools name it: pt_BR, sr@latin, zh_TW."""
    parts = tag.split("-")
    script = next((part for part in parts[1:] if len(part) == 4 and part.isalpha()), "")
    rest = [part for part in parts[1:] if part != script]
    if parts[0] == "zh" and script and not rest:
        return "zh_CN" if script == "Hans" else "zh_TW"
    modifier = {"Latn": "@latin", "Cyrl": "@cyrillic", "Arab": "@arabic", "Deva": "@devanagari"}.get(script, "")
    return "_".join([parts[0], *rest]) + modifier

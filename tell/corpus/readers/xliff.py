"""XLIFF 1.2 and 2.x, and its dialects with other file endings. Reads the file as a stream, writes nothing.

Untranslated units are returned with a reason, so that they are counted.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

from tell.corpus.readers.inline import local, text_without_codes
from tell.corpus.readers.machine_output import of_states, tool_of
from tell.corpus.readers.segment import UNTRANSLATED, AlignedSegment, ReadOptions, ReadReport, Sides, language_counts, numbered
from tell.corpus.readers.streams import open_unpacked
from tell.errors import CorpusError
from tell.text.normalise import spelled
from tell.text.safe_xml import WithoutForbidden, elements

_TAGS = [f"{space}{name}" for name in ("xliff", "file", "trans-unit", "segment") for space in ("{*}", "")]
# What tools put there before anybody has translated.
_BEGUN = {"new", "needs-translation", "needs-l10n", "needs-adaptation", "initial"}
# What Trados, Phrase and memoQ say of a segment in attributes of their own: where it is from, and that a person has confirmed it.
_ORIGINS = ("origin", "trans-origin")
_SDL_CONFIRMED, _MEMOQ_MACHINE = {"ApprovedTranslation", "ApprovedSignOff"}, "MachineTranslated"


def read_xliff(path: Path, want: ReadOptions, reading: ReadReport) -> Iterator[AlignedSegment]:
    """The translated units of every file in it, in either direction. Raises CorpusError when no unit has both languages."""
    yield from numbered(_units(path, want, reading))


def _units(path: Path, want: ReadOptions, reading: ReadReport) -> Iterator[tuple[str, str, str, str | None]]:
    sides = Sides(want.pair)
    first = second = doc = ""
    good = 0
    with open_unpacked(path) as stream:
        for event, element in elements(WithoutForbidden(stream), _TAGS, place=str(path), error=CorpusError, start=True):
            name = local(element)
            if event == "start":
                first = element.get("srcLang") or element.get("source-language") or first
                second = element.get("trgLang") or element.get("target-language") or second
                if name == "file":
                    doc = spelled((element.get("original") or element.get("id") or "").strip())
                continue
            if name not in ("trans-unit", "segment"):
                continue
            reading.lines += 1
            reading.languages[f"{first or '?'}-{second or '?'}"] += 1
            turned = _turned(sides, first, second)
            if turned is None:
                yield "", "", doc, f"not {want.pair.source.tag} and {want.pair.target.tag}"
                continue
            good += 1
            source, target, reason = _unit(element)
            reason = reason or (None if want.machine_output else _machine(element))
            yield (target, source, doc, reason) if turned else (source, target, doc, reason)
    if not good:
        if not reading.lines:
            raise CorpusError("no translation units", place=str(path), valid="an XLIFF with <trans-unit> or <segment> elements")
        if not first:
            raise CorpusError("the file does not say what language it is in", place=str(path), valid='<file source-language="CODE"> or <xliff srcLang="CODE">')
        valid = f"{want.pair.source.tag} and {want.pair.target.tag}, or another --pair"
        raise CorpusError("this is of other languages", place=str(path), found=language_counts(reading.languages), valid=valid)
    reading.documents = "files in it" if doc else ""


def _turned(sides: Sides, first: str, second: str) -> bool | None:
    """Whether the file runs from the pair's target to its source; None when it is of another pair. A file need not name the language it is translated to."""
    a, b = sides.which(first) if first else None, sides.which(second) if second else None
    if a is None or (b is None and second) or a == b:
        return None
    return a == 1


def _unit(element: Any) -> tuple[str, str, str | None]:
    source = target = None
    for child in element:
        name = local(child)
        if name == "source":
            source = text_without_codes(child)
        elif name == "target" and target is None:
            target = text_without_codes(child)
            begun = (child.get("state") or element.get("state") or "").lower() in _BEGUN
            if begun and target == source:
                target = ""
    if not (target or "").strip() and (source or "").strip():
        return source or "", "", UNTRANSLATED
    return source or "", target or "", None


def _own(element: Any, names: Container[str]) -> str:
    """The value of the first attribute of this local name, in whatever namespace."""
    return next((value for name, value in element.attrib.items() if str(name).rpartition("}")[2] in names), "")


def _machine(element: Any) -> str | None:
    """The reason where the unit's target is a machine's and nobody has confirmed it."""
    target = next((child for child in element if local(child) == "target"), None)
    if target is None:
        return None
    approved = element.get("approved") == "yes" or _own(element, ("confirmed",)) == "1"
    if _own(element, ("status",)) == _MEMOQ_MACHINE:
        return of_states("", "MT")
    for definition in element.iter("{*}seg"):
        # Trados defines the segments of a unit after it.
        if tool_of(definition.get("origin") or "") and definition.get("conf") not in _SDL_CONFIRMED:
            return of_states(definition.get("conf") or "", "MT", tool=definition.get("origin-system") or "")
    if local(element) == "segment":
        prefix, _, value = (element.get("subState") or "").partition(":")
        return of_states(element.get("state") or "", "MT" if tool_of(value) else value, approved, prefix)
    qualifier = target.get("state-qualifier") or ("MT" if tool_of(_own(element, _ORIGINS)) or _own(target, ("mtConfidence",)) else "")
    return of_states(target.get("state") or "", qualifier, approved)

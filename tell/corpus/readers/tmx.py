"""TMX translation memories of any number of languages. Reads the file as a stream, writes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tell.corpus.readers.inline import local, text_without_codes
from tell.corpus.readers.machine_output import confirmed, of_ids, of_values
from tell.corpus.readers.machine_output import named as says
from tell.corpus.readers.segment import AlignedSegment, ReadOptions, ReadReport, Sides, language_counts, numbered
from tell.corpus.readers.streams import open_unpacked
from tell.errors import CorpusError, OtherLanguages
from tell.text.normalise import spelled
from tell.text.safe_xml import WithoutForbidden, elements

_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
# What tools call the property that names the document a unit is from.
_DOCUMENT = {"document", "x-document", "doc", "x-doc", "file", "filename", "x-file", "x-filename", "x-original", "x-source-file"}
NO_LANGUAGE = "a unit without languages"


def read_tmx(path: Path, want: ReadOptions, reading: ReadReport) -> Iterator[AlignedSegment]:
    """The units; those without both languages have a reason. Raises CorpusError when no unit has both."""
    yield from numbered(_units(path, want, reading))


def _units(path: Path, want: ReadOptions, reading: ReadReport) -> Iterator[tuple[str, str, str, str | None]]:
    sides = Sides(want.pair)
    good = named = several = 0
    bare: int | None = None
    with open_unpacked(path) as stream:
        for _, unit in elements(WithoutForbidden(stream), ["{*}tu", "tu"], place=str(path), error=CorpusError):
            reading.lines += 1
            texts: dict[int, tuple[int, str]] = {}
            tags = 0
            doc = ""
            variants: dict[int, Any] = {}
            said: list[tuple[str, str]] = []
            more = False
            for child in unit:
                name = local(child)
                if name == "tuv":
                    tag = child.get(_LANG) or child.get("lang") or ""
                    if not tag:
                        bare = bare or unit.sourceline
                        continue
                    tags += 1
                    reading.languages[tag] += 1
                    for side, far in enumerate(sides.far(tag)):
                        more |= far is not None and side in texts and far == texts[side][0] and _segment(child).strip() not in ("", texts[side][1].strip())
                        if far is not None and (side not in texts or far < texts[side][0]):
                            texts[side] = far, _segment(child)
                            variants[side] = child
                elif name == "prop" and (child.get("type") or "").lower() in _DOCUMENT:
                    doc = (child.text or "").strip()
                elif name == "prop":
                    said += _said([child])
            named += bool(doc)
            several += more and len(texts) == 2
            if len(texts) == 2:
                good += 1
                reason = None if want.machine_output else _made(unit, variants.values(), said)
                yield texts[0][1], texts[1][1], spelled(doc), reason
            elif texts:
                missing = want.pair.target if 0 in texts else want.pair.source
                yield texts.get(0, (0, ""))[1], texts.get(1, (0, ""))[1], spelled(doc), f"no {missing.tag} in the unit"
            else:
                yield "", "", spelled(doc), f"neither {want.pair.source.tag} nor {want.pair.target.tag} in the unit" if tags else NO_LANGUAGE
    if not good:
        _refuse(path, want, reading, bare)
    if several:
        reading.notes.append(f"{several:,} units have more than one text in a language: the first of each is read")
    if len(reading.languages) > 2:
        reading.notes.append(f"languages here: {language_counts(reading.languages)}; read: {want.pair.source.tag} and {want.pair.target.tag}")
    reading.documents = "document property" if named else ""


def _made(unit: Any, variants: Iterable[Any], said: list[tuple[str, str]]) -> str | None:
    """The reason where a machine has made one of the sides, and nothing that is `said` of them confirms it; what a variant does not say the unit says."""
    said = [*said, *(value for variant in variants for value in _said(variant))]
    if confirmed(said):
        return None
    ids = [[variant.get(name) or unit.get(name) or "" for name in ("creationid", "changeid")] for variant in variants]
    return of_values(said) or next(filter(None, (of_ids(created, changed) for created, changed in ids)), None)


def _said(elements: Iterable[Any]) -> list[tuple[str, str]]:
    """The properties among these elements that say who has made a translation."""
    return [(kind, prop.text or "") for prop in elements if local(prop) == "prop" and says(kind := prop.get("type") or "")]


def _segment(variant: Any) -> str:
    return next((text_without_codes(child) for child in variant if local(child) == "seg"), "")


def _refuse(path: Path, want: ReadOptions, reading: ReadReport, bare: int | None) -> None:
    both = f"{want.pair.source.tag} and {want.pair.target.tag}"
    if not reading.lines:
        raise CorpusError("no translation units", place=str(path), valid="a TMX with <tu> elements")
    if not reading.languages:
        place = f"{path}, line {bare}" if bare else str(path)
        raise CorpusError("the units do not say what language they are in", place=place, found="<tuv> without xml:lang", valid='<tuv xml:lang="CODE">')
    raise OtherLanguages("no unit has both languages", place=str(path), found=language_counts(reading.languages), valid=f"units with {both}, or another --pair")

"""Language codes (BCP 47) and pairs of them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable

from tell.errors import LanguageError


@dataclasses.dataclass(frozen=True, slots=True)
class Language:
    """`tag` is the standardised BCP 47 tag, `name` the English name that anchors use."""

    tag: str
    name: str
    autonym: str
    rtl: bool


@dataclasses.dataclass(frozen=True, slots=True)
class LanguagePair:
    """A direction of translation. `str(pair)` is `is-en`, or `pt-BR:en` when a tag itself holds a hyphen."""

    source: Language
    target: Language

    def __str__(self) -> str:
        sep = ":" if "-" in self.source.tag + self.target.tag else "-"
        return f"{self.source.tag}{sep}{self.target.tag}"

    @property
    def slug(self) -> str:
        """The pair as a file name."""
        return str(self).replace(":", "--")

    @property
    def reverse(self) -> LanguagePair:
        return LanguagePair(self.target, self.source)


# Written from right to left.
_RTL = {"Arab", "Aran", "Hebr", "Thaa", "Syrc", "Syre", "Syrj", "Syrn", "Nkoo", "Adlm", "Rohg", "Mand", "Samr", "Mend", "Yezi", "Hung", "Phnx"}


# Bounded: codes come from HTTP requests as well, and must not fill the memory.
@functools.lru_cache(maxsize=4096)
def _lookup(code: str) -> Language | None:
    import langcodes

    try:
        parsed = langcodes.Language.get(code.strip().replace("_", "-"))
        if not code.strip() or not parsed.language or not parsed.is_valid() or parsed.language in ("und", "mul", "zxx", "mis"):
            return None
        tag = langcodes.standardize_tag(parsed.to_tag())
    except (langcodes.LanguageTagError, ValueError):
        return None
    script = parsed.maximize().script
    return Language(tag, parsed.display_name("en"), parsed.autonym(), script in _RTL)


def name_in(named: Language, reader: Language) -> str:
    """The language's name in the reader's language; its English name where that is unknown."""
    import langcodes

    name = langcodes.Language.get(named.tag).display_name(reader.tag)
    # What has no name in a language comes as "Unknown language [xyz]" in it, or as its code.
    return named.name if "[" in name or name == named.tag else str(name)


def language(code: str, place: str = "language code") -> Language:
    """The language of a BCP 47 code, in any case, with `-` or `_`. Raises LanguageError when there is none."""
    known = _lookup(code)
    if known is None:
        raise LanguageError("unknown language code", place=place, found=repr(code), valid="a BCP 47 code such as is, en, fo or pt-BR")
    return known


@functools.lru_cache(maxsize=4096)
def _variety(tag: str) -> tuple[str | None, str | None, str | None]:
    """Language, script (the usual one where the tag names none) and region (None where it names none)."""
    import langcodes

    parsed = langcodes.Language.get(tag)
    return parsed.language, parsed.maximize().script, parsed.territory


def distance(requested: Language, offered: Language) -> int | None:
    """The distance from the requested language to an offered one: 0 the same, 1 without the requested region, 2 with a region where none was requested.

    None for everything else: another language, script or region.
    """
    if requested == offered:
        return 0
    (*kind, region), (*other, place) = _variety(requested.tag), _variety(offered.tag)
    if kind != other or (region and place):
        return None
    return 1 if place is None else 2


def nearest_pair(requested: LanguagePair, offered: Iterable[LanguagePair]) -> LanguagePair | None:
    """The offered pair that is meant by `requested`: `en-US` means `en`, and `pt` the only `pt-BR`. None where none is, or several are alike near."""
    distances: list[tuple[int, LanguagePair]] = []
    for pair in offered:
        source, target = distance(requested.source, pair.source), distance(requested.target, pair.target)
        if source is not None and target is not None:
            distances.append((source + target, pair))
    least = min((far for far, _ in distances), default=0)
    near = [pair for far, pair in distances if far == least]
    return near[0] if len(near) == 1 else None


def parse_pair(text: str, place: str = "--pair") -> LanguagePair:
    """`is-en` or, where a tag holds hyphens, `pt-BR:en`. Raises LanguageError naming the part that is wrong."""
    if ":" in text:
        splits = [tuple(text.split(":", 1))]
    else:
        bits = text.replace("_", "-").split("-")
        splits = [("-".join(bits[:i]), "-".join(bits[i:])) for i in range(1, len(bits))]
    good = [(a, b) for a, b in splits if _lookup(a) and _lookup(b)]
    if len(good) > 1:
        raise LanguageError("ambiguous pair", place=place, found=text, valid=" or ".join(f"{a}:{b}" for a, b in good))
    if not good:
        for a, b in splits if len(splits) == 1 else []:
            language(a, place), language(b, place)
        raise LanguageError("not a language pair", place=place, found=repr(text), valid="SOURCE-TARGET such as is-en")
    pair = LanguagePair(language(good[0][0]), language(good[0][1]))
    if pair.source == pair.target:
        raise LanguageError("source and target are the same language", place=place, found=text)
    return pair

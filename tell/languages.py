"""Language codes (BCP 47), pairs of them, and which codes are names of one language.

One language has several codes: `et` is the macrolanguage of which `ekk` is the usual member, `no` and `nb` are both Bokmål, `iw` is what `he` was called,
`ekk_Latn` is what FLORES calls `et`. IANA's registry, by langcodes, says what a code was replaced by, and CLDR which member stands for its macrolanguage.
Other members are languages of their own: `nn` is not `no`, `yue` is not `zh`, `arz` is not `ar`.
"""

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


# Members that stand for their macrolanguage, beside those that CLDR names: `no` is written in Bokmål, and the test sets of FLORES have Ayacucho Quechua and
# Southern Pashto for `qu` and `ps`.
_MEMBERS = {"nb": "no", "quy": "qu", "pbt": "ps"}


def _whole(subtag: str) -> str:
    """The macrolanguage that a language stands for, else the language itself."""
    import langcodes

    # A tag for private use (`x-klingon`) has no language in it.
    return subtag if subtag == "x" else _MEMBERS.get(subtag) or langcodes.Language.get(subtag).prefer_macrolanguage().language or subtag


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
    script = langcodes.Language.get("-".join([_whole(tag.partition("-")[0]), *tag.split("-")[1:]])).maximize().script
    return Language(tag, parsed.display_name("en"), parsed.autonym(), script in _RTL)


@functools.lru_cache(maxsize=4096)
def base_language(tag: str) -> str:
    """The language of a tag under the name that most tables have, without script and region: `et` for `ekk-Latn`, `no` for `nb-NO`, `yue` for `yue-Hant`.

    For what is no code, its first part in small letters.
    """
    known = _lookup(tag)
    if known is None:
        return tag.replace("_", "-").partition("-")[0].lower()
    return known.tag if known.tag.startswith("x-") else _whole(known.tag.partition("-")[0])


def canonical_tag(tag: str) -> str:
    """The tag with the name of `base_language`, without a script that is the usual one: `et` for `ekk-Latn`, `zh` for `cmn-Hans`, `sr-Latn` for itself.

    For what is no code, the text itself.
    """
    known = _lookup(tag)
    if known is None:
        return tag
    import langcodes

    if known.tag.startswith("x-"):
        return known.tag
    # FLORES writes Korean as `kor_Hang`: its usual script is the two that Korean is written in.
    parts = [part for part in (base_language(tag), *known.tag.split("-")[1:]) if (base_language(tag), part) != ("ko", "Hang")]
    parsed = langcodes.Language.get("-".join(parts))
    plain = "-".join(part for part in parts if part != parsed.script)
    return plain if langcodes.Language.get(plain).maximize().script == parsed.script else parsed.to_tag()


def script_of(tag: str) -> str | None:
    """The script that a tag names, else the usual one of its language, as ISO 15924 has it; None for what is no code."""
    known = _lookup(tag)
    return None if known is None else _variety(known.tag)[1]


def same_language(a: str, b: str) -> bool:
    """Whether two codes may mean one language: `nb` and `no`, `ekk_Latn` and `et`, `pt` and `pt-BR`; not `nn` and `no`, `pt-PT` and `pt-BR`, `zh-Hans` and
    `zh-Hant`, and nothing that is no code."""
    one, other = _lookup(a), _lookup(b)
    return one is not None and other is not None and distance(one, other) is not None


def same_variety(a: Language, b: Language) -> bool:
    """Whether two tags are one language, script and region, under whichever names: `nb` and `no`, not `pt` and `pt-BR`."""
    (language_a, *rest_a), (language_b, *rest_b) = _variety(a.tag), _variety(b.tag)
    return _one_language(language_a, language_b) and rest_a == rest_b


def same_pair(a: LanguagePair, b: LanguagePair) -> bool:
    """Whether two pairs are of the same varieties in the same direction, under whichever names."""
    return same_variety(a.source, b.source) and same_variety(a.target, b.target)


# What the two written languages of Norway are called there.
_SHORT = {"no": {"bokmål", "bokmal"}, "nn": {"nynorsk"}}


def names(language: Language) -> set[str]:
    """What the language is called in English and in itself, case-folded; those of its other codes too."""
    import langcodes
    from langcodes.data_dicts import NORMALIZED_MACROLANGUAGES

    subtag, base = language.tag.partition("-")[0], base_language(language.tag)
    others = {base} | {member for member, whole in (NORMALIZED_MACROLANGUAGES | _MEMBERS).items() if whole == subtag}
    parsed = [langcodes.Language.get("-".join([other, *language.tag.split("-")[1:]])) for other in others]
    known = {name.casefold() for p in parsed for name in (p.display_name("en"), p.autonym())} | {language.name.casefold(), language.autonym.casefold()}
    return known | _SHORT.get(base, set())


# What follows `@` in the name of a POSIX locale and is a script.
_MODIFIERS = {"latin": "Latn", "cyrillic": "Cyrl", "arabic": "Arab", "devanagari": "Deva", "hebrew": "Hebr", "tifinagh": "Tfng"}


def locale_tag(name: str) -> str:
    """The tag of a POSIX locale's name: `is-IS` for `is_IS.UTF-8`, `sr-Latn` for `sr@latin`. It need not be of a language."""
    code, _, modifier = name.strip().partition("@")
    first, *rest = code.partition(".")[0].replace("_", "-").split("-")
    script = _MODIFIERS.get(modifier.lower())
    return "-".join([first, *([script] if script else []), *rest])


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
def _variety(tag: str) -> tuple[str, str | None, str | None]:
    """Language, script (the usual one where the tag names none) and region (None where it names none)."""
    import langcodes

    parsed = langcodes.Language.get(tag)
    subtag = tag if tag.startswith("x-") else tag.partition("-")[0]
    return subtag, langcodes.Language.get(canonical_tag(tag)).maximize().script, parsed.territory


def _one_language(a: str, b: str) -> bool:
    """Whether two languages are one under two names. Two members of a macrolanguage are not, though each may stand for it."""
    return a == b or base_language(a) == b or base_language(b) == a


def distance(requested: Language, offered: Language) -> int | None:
    """The distance from the requested language to an offered one: 0 the same, 3 without the requested region, 6 with a region where none was requested;
    1 more where it has another name, such as `nb` for `no`.

    None for everything else: another language, script or region.
    """
    if requested == offered:
        return 0
    (language_tag, script, region), (other_tag, other_script, place) = _variety(requested.tag), _variety(offered.tag)
    if not _one_language(language_tag, other_tag) or script != other_script or (region != place and region and place):
        return None
    other_name = [part for part in requested.tag.split("-") if part != region] != [part for part in offered.tag.split("-") if part != place]
    return (0 if region == place else 3 if place is None else 6) + other_name


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
    if same_variety(pair.source, pair.target):
        raise LanguageError("source and target are the same language", place=place, found=text)
    return pair


# The header in which a request names its pair beside its body, so that a balancer can send a pair to the replica that has it loaded without reading bodies.
PAIR_HEADER = "Tellmt-Pair"
AUTO = "auto"


def pair_header(source: str, target: str) -> str:
    """The value of PAIR_HEADER for these codes: `is-en`, `pt-BR:en`, and `auto-en` where the service is to find the source. Raises LanguageError.

    However a code is spelled its value is the same, since a balancer compares bytes.
    """
    into = language(target, "target")
    if source == AUTO:
        return f"{AUTO}{':' if '-' in into.tag else '-'}{into.tag}"
    return str(LanguagePair(language(source, "source"), into))


def parse_pair_header(value: str) -> str:
    """The value as `pair_header` writes it. Raises LanguageError."""
    if (into := value.strip().removeprefix(AUTO)) != value.strip() and into[:1] in ("-", ":"):
        return pair_header(AUTO, into[1:])
    return str(parse_pair(value.strip(), PAIR_HEADER))

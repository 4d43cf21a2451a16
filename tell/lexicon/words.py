"""Finds the words of a text that may get a hint, and the keys under which a lexicon has them.

Reads and writes strings alone.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tell.languages import base_language
from tell.lexicon.initials import radical, rule_for
from tell.text import icu, placeholders

# Scripts that are written without spaces between words: Thai and Lao; Burmese, Khmer, Tai Le to Tai Tham; radicals, kana and Han; rarer blocks of these.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aad"
UNSPACED += "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
UNSPACED += "\ua9e0-\ua9ff\uaa60-\uaa7f\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f\U00020000-\U0003ffff"
_UNSPACED = re.compile(f"[{UNSPACED}]")
# What joins the letters of one word: apostrophes and hyphens as languages write them, and the middle dot of Catalan.
_JOINERS = "'’ʼ‘-\u2010\u2011·"
# Zero-width joiner and non-joiner, soft hyphen: inside a word, and no letter.
_INVISIBLE = "\u200c\u200d\u00ad"
# A host name without a scheme, in small letters as it is typed.
_HOST = re.compile(r"(?<![\w@.-])[a-z0-9][a-z0-9-]*(?:\.[a-z0-9-]+)*\.[a-z]{2,24}(?![\w-]|\.\w)")
# What each of these has, and few texts.
_DOT = re.compile(r"[a-z0-9-]\.[a-z]")
# Kinds of characters, a letter each: a letter, m mark, 0 what no word holds (digits, underscores), j joiner; a space for all else, and for unspaced scripts.
_RUN = re.compile("[a0][am0]*(?:j[a0][am0]*)*")
_SPAN = re.Match.span


class Word(NamedTuple):
    """A word and where it is: `start` and `end` count code points of the text, and `text` is what lies between them."""

    start: int
    end: int
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Keying:
    """How a lexicon keys source words: by the whole word, and by its first letters, since few forms of a word occur often enough to be known by themselves.

    `prefix`: the code points of the shorter key; 0 for none. `whole`: the weight of a count of the whole word beside one of its prefix; 0 for prefixes alone.
    `initials`: the rule of `tell.lexicon.initials` by which the first letters of a mutated word are mended; empty for none.
    """

    prefix: int = 5
    whole: int = 10
    initials: str = ""


def keying_for(language: str) -> Keying:
    """The keying for source words of a language (a BCP 47 tag)."""
    return Keying(initials=rule_for(language))


class _Kinds(dict[int, str]):
    """For str.translate: each character's kind. Filled as characters are met."""

    def __missing__(self, point: int) -> str:
        char = chr(point)
        category = unicodedata.category(char)
        if char in _JOINERS:
            kind = "j"
        elif char in _INVISIBLE or category[0] == "M":
            kind = "m"
        elif category[0] == "N" or char == "_":
            kind = "0"
        elif category[0] == "L":
            kind = " " if _UNSPACED.match(char) else "a"
        else:
            kind = " "
        self[point] = kind
        return kind


_KINDS = _Kinds()
# Languages whose apostrophe ends a word that has lost its vowel: l'homme is two words.
_ELIDING = frozenset(("fr", "it", "ca", "oc", "pms", "lij", "fur", "scn", "sc", "lmo", "vec", "wa", "co", "nap"))


@functools.lru_cache(maxsize=256)
def _elides(language: str) -> bool:
    return base_language(language) in _ELIDING


def kept_spans(text: str) -> Iterator[tuple[int, int]]:
    """The stretches that are no text: placeholders, and the keywords of ICU messages."""
    yield from ((p.start, p.end) for p in placeholders.find_placeholders(text))
    at = 0
    for part, kept in icu.icu_parts(text) or ():
        if kept:
            yield at, at + len(part)
        at += len(part)


def _masked(text: str, kept: Iterable[tuple[int, int]]) -> str:
    """The text with as many spaces in place of each placeholder, ICU keyword and address: what stands there is no word."""
    spans = [*kept]
    if _DOT.search(text):
        spans += [m.span() for m in _HOST.finditer(text)]
    if not spans:
        return text
    parts, at = [], 0
    for start, end in sorted(spans):
        if end > at:
            parts += [text[at:start], " " * (end - max(start, at))]
            at = end
    return "".join([*parts, text[at:]])


def words(text: str, language: str, kept: Iterable[tuple[int, int]] | None = None) -> list[Word]:
    """The words of a text that may get a hint, in order: runs of letters and their marks, with apostrophes and hyphens inside.

    `language` is a BCP 47 tag; `kept` are the text's `kept_spans`, where they are known. Numbers, what holds a digit, placeholders, tags and addresses are no
    words. Neither are letters of a script without spaces between words: what is a word there, letters do not say. Takes time in proportion to the text.
    """
    kinds = _masked(text, kept_spans(text) if kept is None else kept).translate(_KINDS)
    elides = _elides(language)
    if not elides and "0" not in kinds:
        # Most texts; no run of theirs has to be looked into.
        return [Word(start, end, text[start:end]) for start, end in map(_SPAN, _RUN.finditer(kinds))]
    found: list[Word] = []
    for match in _RUN.finditer(kinds):
        start, end = match.span()
        if "0" in match.group() or (elides and "j" in match.group()):
            found += [Word(a, b, text[a:b]) for a, b in _parts(text, kinds, start, end, elides)]
        else:
            found.append(Word(start, end, text[start:end]))
    return found


def _parts(text: str, kinds: str, start: int, end: int, elides: bool) -> Iterator[tuple[int, int]]:
    """The spans of the words in a joined run: parts with a digit are none, and an apostrophe stays with what it ends where the language elides."""
    digits = "0" in kinds[start:end]
    at = start
    for i in [*(i for i in range(start, end) if kinds[i] == "j"), end]:
        cut = digits or (elides and i < end and text[i] not in "-\u2010\u2011·")
        if cut or i == end:
            stop = i + 1 if elides and i < end and text[i] in "'’" else i
            if at < i and "0" not in kinds[at:i]:
                yield at, stop
            at = i + 1


_PLAIN = str.maketrans(dict.fromkeys("’ʼ‘", "'") | dict.fromkeys("\u2010\u2011", "-") | dict.fromkeys(_INVISIBLE, ""))


def folded(word: str) -> str:
    """The word as it is counted: NFC, case folded, with plain apostrophes and hyphens."""
    return word.lower() if word.isascii() else _folded(word)


@functools.lru_cache(maxsize=1 << 16)
def _folded(word: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", word).casefold()).translate(_PLAIN)


@functools.lru_cache(maxsize=1 << 16)
def keys(word: str, keying: Keying) -> tuple[tuple[str, int], ...]:
    """The keys under which a lexicon has a source word, each with its weight, that of all words with these first letters last: it ends in `*`."""
    whole = radical(folded(word), keying.initials)
    if not keying.prefix or len(whole) < keying.prefix:
        return ((whole, max(keying.whole, 1)),)
    shorter = (f"{whole[: keying.prefix]}*", 1)
    return ((whole, keying.whole), shorter) if keying.whole else (shorter,)


def key(word: str, keying: Keying) -> str:
    """The most general of the keys of a source word."""
    return keys(word, keying)[-1][0]

"""What is wrong with a translation, as far as can be told by looking at it and its source: the flags of a segment.

Reads strings, writes nothing. A flag is a suspicion; on the references of newstest2021 fewer than one segment in a hundred has one (docs/text.md).
"""

from __future__ import annotations

import dataclasses
import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Literal, get_args

from tell.languages import LanguagePair
from tell.text.hypothesis import Hypothesis
from tell.text.language_id import label, scores
from tell.text.placeholders import bare, lost
from tell.text.repetition import loops
from tell.text.segments import sentences

# The worst first.
Flag = Literal["empty", "loop", "truncated", "language", "copied", "placeholder", "number", "length", "sentences"]
FLAGS: tuple[Flag, ...] = get_args(Flag)
# How much worse each makes a translation: what cannot be read or misleads counts for more than what is only odd.
_COST: dict[Flag, int] = {"empty": 100, "loop": 50, "truncated": 30, "language": 40, "copied": 30, "placeholder": 25, "number": 10, "length": 8, "sentences": 4}

# How likely each language is for a text, found when it is asked for.
Scores = Callable[[], dict[str, float]]

# Letters below which a language or a script cannot be told.
LETTERS = 12
# What the target language may at least have of the likelihood, and what another one must have, for the language to be wrong. Of 29,000 segments
# of FLORES, Tatoeba and NTREX (Icelandic, Irish, Basque; both directions with English) none is outside.
UNLIKELY, LIKELY = 0.02, 0.5
# Times and characters by which one text may be longer than the other.
TIMES, MARGIN = 2.5, 30
_WORD = re.compile(r"\w+")
_DIGITS = re.compile(r"\d+")
_THOUSANDS = re.compile(r"(?<=\d)[.,'\u00a0\u202f ](?=\d{3}(?!\d))")
# What one unit is in another that a translator may put instead: mile, foot, yard, inch, pound, ounce, gallon, acre, square mile, stone.
_UNITS = (1.609, 3.281, 1.094, 2.54, 2.205, 28.35, 3.785, 2.471, 2.59, 6.35)
# Characters that stand for about three letters.
_DENSE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")
_SCRIPTS = {
    "Latn": {"LATIN"}, "Cyrl": {"CYRILLIC"}, "Grek": {"GREEK"}, "Arab": {"ARABIC"}, "Hebr": {"HEBREW"}, "Deva": {"DEVANAGARI"}, "Thai": {"THAI"},
    "Geor": {"GEORGIAN"}, "Armn": {"ARMENIAN"}, "Hans": {"CJK"}, "Hant": {"CJK"}, "Jpan": {"CJK", "HIRAGANA", "KATAKANA"}, "Kore": {"HANGUL", "CJK"},
}  # fmt: skip


def prepare() -> None:
    """Read what is read when texts are first looked at, such as the model of languages: a second, which no request should wait for."""
    scores("Halló heimur.")
    sentences("Hello world. This is all there is.")


@dataclasses.dataclass(frozen=True, slots=True)
class Checked(Hypothesis):
    """A hypothesis with its flags, the worst first."""

    flags: tuple[Flag, ...] = ()

    @property
    def cost(self) -> int:
        return sum(_COST[f] for f in self.flags)


def checked(pair: LanguagePair, source: str, made: Hypothesis) -> Checked:
    return Checked(made.text, made.tokens, made.truncated, flags_of(pair, source, made.text, made.truncated))


def union(flags: Iterable[Iterable[Flag]]) -> tuple[Flag, ...]:
    """The flags of a text by those of its segments."""
    found = {f for own in flags for f in own}
    return tuple(f for f in FLAGS if f in found)


def flags_of(pair: LanguagePair, source: str, translation: str, truncated: bool = False) -> tuple[Flag, ...]:
    """The flags of a segment, the worst first."""
    if not any(map(str.isalnum, translation)):
        return ("empty",) if any(map(str.isalpha, bare(source))) else ()
    words, made = bare(source), bare(translation)
    # The source's language is asked for only where something is suspected.
    in_source, in_made = functools.cache(lambda: scores(words)), functools.cache(lambda: scores(made))
    found: dict[Flag, bool] = {
        "loop": loops(words, made),
        "truncated": truncated,
        "language": _wrong_language(pair, words, made, in_source, in_made),
        "copied": _copied(pair, words, made, in_source, in_made),
        "placeholder": lost(source, translation),
        "number": _number_lost(words, made),
        "length": _uneven(words, made),
        "sentences": _other_sentences(pair, words, made),
    }
    return tuple(f for f in FLAGS if found.get(f))


# Language and script


@functools.lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


@functools.lru_cache(maxsize=256)
def _expected(tag: str) -> frozenset[str]:
    """The scripts of a language; empty where they are not known here."""
    import langcodes

    return frozenset(_SCRIPTS.get(langcodes.Language.get(tag).maximize().script or "", ()))


def _scripts(text: str) -> Counter[str]:
    return Counter(_script(c) for c in text if c.isalpha())


def _wrong_language(pair: LanguagePair, source: str, made: str, in_source: Scores, in_made: Scores) -> bool:
    letters = _scripts(made)
    expected = _expected(pair.target.tag)
    if expected:
        given = _scripts(source)
        strange = sum(n for script, n in letters.items() if script not in expected and script not in given)
        own = sum(letters[s] for s in expected)
        # Of letters that neither the language nor the source has, three are no accident.
        if strange >= 3 and strange >= 0.1 * letters.total():
            return True
        if letters.total() >= LETTERS and own < 0.2 * letters.total() and sum(given[s] for s in expected) < 0.5 * given.total():
            return True
    # A word of the source in a script of its own says nothing of the sentence around it.
    if expected and set(letters) - expected:
        return False
    target = label(pair.target.tag)
    if target is None or letters.total() <= LETTERS or not (found := in_made()):
        return False
    best = next(iter(found))
    if best == target or found[target] >= UNLIKELY or found[best] < LIKELY:
        return False
    # A quotation in a third language stays in it.
    return best == label(pair.source.tag) or next(iter(in_source()), "") != best


def _copied(pair: LanguagePair, source: str, made: str, in_source: Scores, in_made: Scores) -> bool:
    given, found = ([w.casefold() for w in _WORD.findall(t) if w.isalpha()] for t in (source, made))
    # Names and titles are copied, and so is a text that is in the target language already, or in a third one.
    small = sum(1 for w in _WORD.findall(source) if w.isalpha() and w.islower())
    if len(found) < 4 or small < 2:
        return False
    runs = set(zip(given, given[1:], given[2:], strict=False))
    made_runs = list(zip(found, found[1:], found[2:], strict=False))
    if given != found and sum(r in runs for r in made_runs) <= 0.7 * max(len(made_runs), 1):
        return False
    own, target = label(pair.source.tag), label(pair.target.tag)
    if own and in_source().get(own, 0.0) < UNLIKELY:
        return False
    return not (target and in_made().get(target, 0.0) > LIKELY)


# Numbers


def _numbers(text: str) -> list[str]:
    return [n.lstrip("0") or "0" for n in _DIGITS.findall(_THOUSANDS.sub("", text))]


def _explained(number: str, others: Iterable[str]) -> bool:
    """Whether a number that is not there can be there in another form: converted, shortened, on another clock, or with its thousands in words."""
    value = int(number)
    for other in others:
        n = int(other)
        if n and (abs(value - n) == 12 or number.rstrip("0") == other.rstrip("0") or number.endswith(other) or other.endswith(number)):
            return True
        # A yard is so near to a metre that years would be each other's.
        if n and any(abs(max(value, n) / min(value, n) / unit - 1) < 0.06 for unit in _UNITS if unit > 1.1 or value < 1000):
            return True
    return False


def _number_lost(source: str, made: str) -> bool:
    given, found = _numbers(source)[:200], _numbers(made)[:400]
    missing = [n for n in given if n not in found]
    if not missing or "".join(given) == "".join(found):
        return False
    # More digits than int() takes are no number of anything.
    if any(len(n) > 30 for n in missing):
        return True
    new = [n for n in found if n not in given and len(n) <= 30]
    for n in missing:
        # Small and round ones are written in words, and so are decades.
        if len(n) < 2 or int(n) <= 20 or n.endswith("0"):
            continue
        if not _explained(n, new):
            return True
    return False


# Length


def _weight(text: str) -> int:
    return len(text) + 2 * len(_DENSE.findall(text))


def _uneven(source: str, made: str) -> bool:
    a, b = _weight(source.strip()), _weight(made.strip())
    return a > TIMES * b + MARGIN or b > TIMES * a + MARGIN


def _other_sentences(pair: LanguagePair, source: str, made: str) -> bool:
    given, found = len(sentences(source, pair.source.tag)), len(sentences(made, pair.target.tag))
    return (given >= 3 and found * 2 < given) or (found >= 4 and given * 3 < found)

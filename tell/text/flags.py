"""The flags of a segment: what seems wrong with a translation, judged by the texts of source and translation alone.

Reads strings, writes nothing. A flag is a suspicion; on the references of newstest2021 fewer than one segment in a hundred has one (docs/text.md).
"""

from __future__ import annotations

import dataclasses
import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, Protocol, get_args

from tell.languages import LanguagePair
from tell.text.hypothesis import Hypothesis
from tell.text.language_id import label, language_likelihoods
from tell.text.placeholders import bare, lost
from tell.text.repetition import loops
from tell.text.segments import sentences

# The worst first.
Flag = Literal["untranslated", "empty", "loop", "truncated", "language", "copied", "placeholder", "glossary", "number", "length", "sentences"]
FLAGS: tuple[Flag, ...] = get_args(Flag)
# Those that source and translation alone can raise.
TEXT_FLAGS = tuple(flag for flag in FLAGS if flag not in ("untranslated", "glossary"))
# How much worse each makes a translation: what cannot be read or misleads counts for more than what is only odd.
_COST: dict[Flag, int] = {
    "untranslated": 100, "empty": 100, "loop": 50, "truncated": 30, "language": 40, "copied": 30, "placeholder": 25, "glossary": 15, "number": 10, "length": 8,
    "sentences": 4,
}  # fmt: skip

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


class TermCheck(Protocol):
    """The terms of a glossary (tell.lexicon.terms)."""

    def missing(self, segment: str, translation: str) -> Sequence[str]:
        """The terms in a segment whose target terms are not in its translation."""


def prepare() -> None:
    """Loads what the first look at a text needs, such as the model of languages. This takes a second, which no request should wait for."""
    language_likelihoods("Halló heimur.")
    sentences("Hello world. This is all there is.")


@dataclasses.dataclass(frozen=True, slots=True)
class Checked(Hypothesis):
    """A hypothesis with its flags, the worst first."""

    flags: tuple[Flag, ...] = ()

    @property
    def cost(self) -> int:
        return sum(_COST[f] for f in self.flags)


def checked(pair: LanguagePair, source: str, hypothesis: Hypothesis, terms: TermCheck | None = None) -> Checked:
    return Checked(hypothesis.text, hypothesis.tokens, hypothesis.truncated, flags_of(pair, source, hypothesis.text, hypothesis.truncated, terms))


def union(flags: Iterable[Iterable[Flag]]) -> tuple[Flag, ...]:
    """The flags of a text by those of its segments."""
    raised = {f for segment_flags in flags for f in segment_flags}
    return tuple(f for f in FLAGS if f in raised)


def flags_of(pair: LanguagePair, source: str, translation: str, truncated: bool = False, terms: TermCheck | None = None) -> tuple[Flag, ...]:
    """The flags of a segment, the worst first. `terms`: those of a glossary that the translation is to follow."""
    if not any(map(str.isalnum, translation)):
        return ("empty",) if any(map(str.isalpha, bare(source))) else ()
    words, output = bare(source), bare(translation)
    # The source's language is asked for only where something is suspected.
    in_source, in_output = functools.cache(lambda: language_likelihoods(words)), functools.cache(lambda: language_likelihoods(output))
    raised: dict[Flag, bool] = {
        "loop": loops(words, output),
        "truncated": truncated,
        "language": _wrong_language(pair, words, output, in_source, in_output),
        "copied": _copied(pair, words, output, in_source, in_output),
        "placeholder": lost(source, translation),
        "glossary": terms is not None and bool(terms.missing(source, translation)),
        "number": _number_lost(words, output),
        "length": _uneven(words, output),
        "sentences": _other_sentences(pair, words, output),
    }
    return tuple(f for f in FLAGS if raised.get(f))


# Language and script


@functools.lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


@functools.lru_cache(maxsize=256)
def _expected(tag: str) -> frozenset[str]:
    """The scripts of a language; empty when they are unknown here."""
    import langcodes

    return frozenset(_SCRIPTS.get(langcodes.Language.get(tag).maximize().script or "", ()))


def _scripts(text: str) -> Counter[str]:
    return Counter(_script(c) for c in text if c.isalpha())


def _wrong_language(pair: LanguagePair, source: str, output: str, in_source: Scores, in_output: Scores) -> bool:
    letters = _scripts(output)
    expected = _expected(pair.target.tag)
    if expected:
        source_scripts = _scripts(source)
        strange = sum(n for script, n in letters.items() if script not in expected and script not in source_scripts)
        in_script = sum(letters[s] for s in expected)
        # Of letters that neither the language nor the source has, three are no accident.
        if strange >= 3 and strange >= 0.1 * letters.total():
            return True
        if letters.total() >= LETTERS and in_script < 0.2 * letters.total() and sum(source_scripts[s] for s in expected) < 0.5 * source_scripts.total():
            return True
    # A word of the source in a script of its own says nothing of the sentence around it.
    if expected and set(letters) - expected:
        return False
    target = label(pair.target.tag)
    if target is None or letters.total() <= LETTERS or not (likelihoods := in_output()):
        return False
    best = next(iter(likelihoods))
    if best == target or likelihoods[target] >= UNLIKELY or likelihoods[best] < LIKELY:
        return False
    # A quotation in a third language stays in it.
    return best == label(pair.source.tag) or next(iter(in_source()), "") != best


def _copied(pair: LanguagePair, source: str, output: str, in_source: Scores, in_output: Scores) -> bool:
    source_words, output_words = ([w.casefold() for w in _WORD.findall(t) if w.isalpha()] for t in (source, output))
    # Names and titles are copied, and so is a text that is in the target language already, or in a third one.
    small = sum(1 for w in _WORD.findall(source) if w.isalpha() and w.islower())
    if len(output_words) < 4 or small < 2:
        return False
    runs = set(zip(source_words, source_words[1:], source_words[2:], strict=False))
    output_runs = list(zip(output_words, output_words[1:], output_words[2:], strict=False))
    if source_words != output_words and sum(r in runs for r in output_runs) <= 0.7 * max(len(output_runs), 1):
        return False
    source_label, target_label = label(pair.source.tag), label(pair.target.tag)
    if source_label and in_source().get(source_label, 0.0) < UNLIKELY:
        return False
    return not (target_label and in_output().get(target_label, 0.0) > LIKELY)


# Numbers


def _numbers(text: str) -> list[str]:
    return [n.lstrip("0") or "0" for n in _DIGITS.findall(_THOUSANDS.sub("", text))]


def _explained(number: str, others: Iterable[str]) -> bool:
    """Whether a missing number may be there in another form: converted, shortened, on another clock, or with its thousands in words."""
    value = int(number)
    for other in others:
        n = int(other)
        if n and (abs(value - n) == 12 or number.rstrip("0") == other.rstrip("0") or number.endswith(other) or other.endswith(number)):
            return True
        # A yard is so near to a metre that years would be each other's.
        if n and any(abs(max(value, n) / min(value, n) / unit - 1) < 0.06 for unit in _UNITS if unit > 1.1 or value < 1000):
            return True
    return False


def _number_lost(source: str, output: str) -> bool:
    source_numbers, output_numbers = _numbers(source)[:200], _numbers(output)[:400]
    missing = [n for n in source_numbers if n not in output_numbers]
    if not missing or "".join(source_numbers) == "".join(output_numbers):
        return False
    # More digits than int() takes are no number of anything.
    if any(len(n) > 30 for n in missing):
        return True
    new = [n for n in output_numbers if n not in source_numbers and len(n) <= 30]
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


def _uneven(source: str, output: str) -> bool:
    a, b = _weight(source.strip()), _weight(output.strip())
    return a > TIMES * b + MARGIN or b > TIMES * a + MARGIN


def _other_sentences(pair: LanguagePair, source: str, output: str) -> bool:
    in_source, in_output = len(sentences(source, pair.source.tag)), len(sentences(output, pair.target.tag))
    return (in_source >= 3 and in_output * 2 < in_source) or (in_output >= 4 and in_source * 3 < in_output)

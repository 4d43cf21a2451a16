"""The cleaning rules, each with a name by which it can be switched off: what each mends in a pair, and why it drops a pair.

Reads and writes strings alone; what looks at more than one pair (repeats, shifted files) is in `tell.corpus.segment_table` and `tell.corpus.misalignment`.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import unicodedata
from typing import Any

from tell.errors import RecipeError, suggestion
from tell.languages import LanguagePair
from tell.text.entities import decoded, known_letters
from tell.text.identifiers import is_text
from tell.text.normalise import MAX_CHARS, controls, letters, storable, uneven

# Name: (what it does, the reason that a dropped line has). In the order in which they are asked.
RULES: dict[str, tuple[str, tuple[str, ...]]] = {
    "unicode": ("writes letters and the marks on them as one character (NFC), and takes byte order marks out", ()),
    "bidi": ("takes out the invisible characters that turn the direction of text around", ()),
    "entities": ("writes HTML's character references, such as &quot;, as the characters that they stand for", ()),
    "mojibake": ("mends text that was read in the wrong encoding; drops what cannot be mended", ("garbled encoding",)),
    "control": ("control characters, such as NUL and escape", ("control characters",)),
    "long": (f"more than {MAX_CHARS:,} characters on a side", ("too long",)),
    "identical": ("both sides the same", ("identical sides",)),
    "ratio": ("one side five times as long as the other", ("length ratio",)),
    "letters": ("a side with fewer than three letters in ten characters", ("mostly not letters",)),
    "words": ("a side of nothing but addresses, numbers and ids", ("no words",)),
    "markup": ("a tag or a program's placeholder that only one side has", ("tags or placeholders differ",)),
    "language": ("a side that is surely in another language", ("source in another language", "target in another language", "sides swapped")),
    "misaligned": ("a stretch in which one side is some lines behind the other", ("misaligned",)),
    "duplicate": ("a pair that was there before", ("duplicate pair",)),
    "near-duplicate": ("a pair that was there before but for case, digits and punctuation", ("near-duplicate",)),
}
MENDS = ("unicode", "bidi", "entities", "mojibake")
# Letters below which nobody can tell a language, and what its own language may at least have of the likelihood, and another one must have,
# for it to be in that other one. As for the flags of translations (tell.text.flags), where 29,000 right segments had none.
LETTERS, UNLIKELY, LIKELY = 12, 0.02, 0.5
# Characters that a language is told by: more do not make it surer, and each takes time.
LOOKED_AT = 200
# What a side must have of letters, in its characters without white space.
SHARE = 0.3

_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
_MARK = "\ufeff"
# What every tag and placeholder of a program has one of; most texts have none, and are not looked at further.
_HINT = re.compile(r"[<{%$\[⟦⟪]|__")
# A word that begins with a capital, but not a sentence.
_NAME = re.compile(r"(?:(?<=[^\W_,;][ ,;])\s?|(?<=[(„“«]))[A-ZÀ-ÞĀ-ŽΑ-ΩА-Я]\w*[^\W\d_A-Z]\w*")
_SPACE = re.compile(r"\s+")
_ADDRESS = re.compile(r"^(?:[A-Za-z][A-Za-z0-9+.-]{1,15}://|www\.|[\w.+-]{1,64}@|&)")


@dataclasses.dataclass(frozen=True, slots=True)
class CleaningRules:
    """The rules that are on, for one pair of languages."""

    pair: LanguagePair
    off: frozenset[str] = frozenset()

    def on(self, name: str) -> bool:
        return name not in self.off


def switched_on_rules(pair: LanguagePair, off: tuple[str, ...] = (), place: str = "--off") -> CleaningRules:
    """The rules without those that are switched off. Raises RecipeError for a name that is no rule."""
    for name in off:
        if name not in RULES:
            raise RecipeError("no such rule", place=place, found=name, valid=suggestion(name, RULES))
    return CleaningRules(pair, frozenset(off))


def rule_of(reason: str) -> str | None:
    """The rule that drops pairs for this reason; None for reasons that no rule stands for (an empty side, a line of a test set)."""
    return next((name for name, (_, reasons) in RULES.items() if reason in reasons), None)


@dataclasses.dataclass(slots=True)
class Cleaned:
    """A pair after its rules. `letters` are each side's letters alone, folded; `language` is +1 where both sides were seen to be right, -1 where they are
    each other's, 0 where nobody can tell."""

    source: str
    target: str
    reason: str | None
    mended: tuple[str, ...]
    letters: tuple[str, str]
    language: int = 0


def clean_pair(source: str, target: str, rules: CleaningRules) -> Cleaned:
    """Mends and judges a pair. Cleaning its result again changes nothing."""
    mended: set[str] = set()
    a, b = (_mended(text, rules, mended) for text in (source, target))
    cleaned = Cleaned(a, b, None, tuple(m for m in MENDS if m in mended), ("", ""))
    cleaned.reason = _shape(a, b, rules)
    if cleaned.reason is None:
        # Without entities and escapes, whether they are mended or not: the frozen split knows a text by its letters.
        cleaned.letters = known_letters(a), known_letters(b)
        cleaned.reason = _content(cleaned, rules)
    return cleaned


def _mended(text: str, rules: CleaningRules, mended: set[str]) -> str:
    text = text.strip()
    # One rule may leave something for another.
    for _ in range(4):
        if (text.isascii() and "&" not in text) or (mended_once := _once(text, rules, mended)) == text:
            break
        text = mended_once
    return text


def _once(text: str, rules: CleaningRules, mended: set[str]) -> str:
    before = text
    if rules.on("entities") and (plain := decoded(text)) != text:
        mended.add("entities")
        before = text = plain
    if rules.on("mojibake") and storable(text):
        text = _unspoilt(text)
        if text != before:
            mended.add("mojibake")
    if rules.on("bidi") and _BIDI.search(text):
        text = _BIDI.sub("", text)
        mended.add("bidi")
    if rules.on("unicode"):
        composed = unicodedata.normalize("NFC", text.replace(_MARK, ""))
        if composed != text:
            mended.add("unicode")
            text = composed
    # What was taken out may have stood around a space.
    return text.strip()


@functools.cache
def _ftfy() -> Any:
    import ftfy
    import ftfy.badness

    return ftfy.fix_encoding, ftfy.badness.is_bad


# A text is asked about again once it has been mended.
@functools.lru_cache(maxsize=64)
def _bad(text: str) -> bool:
    """Whether the text looks as if it was decoded with the wrong encoding. A next-line character alone is valid text."""
    return bool(_ftfy()[1](text.replace("\x85", "")))


def _unspoilt(text: str) -> str:
    """The text with wrong decoding undone, as many times as it happened; the text itself where it looks right or cannot be repaired."""
    before = text
    while _bad(text):
        repaired = _ftfy()[0](text)
        if repaired == text:
            return before
        text = repaired
    return text


def _shape(source: str, target: str, rules: CleaningRules) -> str | None:
    """The reason to drop a pair by its characters; None when there is none."""
    if not source:
        return "empty source"
    if not target:
        return "empty target"
    if rules.on("control") and (controls(source) or controls(target)):
        return "control characters"
    if not (storable(source) and storable(target)):
        return "invalid characters"
    if rules.on("long") and max(len(source), len(target)) > MAX_CHARS:
        return "too long"
    return None


def _content(cleaned: Cleaned, rules: CleaningRules) -> str | None:
    a, b = cleaned.source, cleaned.target
    if rules.on("identical") and a == b and cleaned.letters[0]:
        return "identical sides"
    if rules.on("ratio") and uneven(a, b):
        return "length ratio"
    if rules.on("letters") and (_few(a, cleaned.letters[0]) or _few(b, cleaned.letters[1])):
        return "mostly not letters"
    if rules.on("words") and not (is_text(a) and is_text(b)):
        return "no words"
    if rules.on("mojibake") and (_garbled(a) or _garbled(b)):
        return "garbled encoding"
    if rules.on("markup") and (_HINT.search(a) or _HINT.search(b)) and _marks(a) != _marks(b):
        return "tags or placeholders differ"
    return _language(cleaned, rules) if rules.on("language") else None


def _few(text: str, its_letters: str) -> bool:
    return len(its_letters) < SHARE * (len(text) - text.count(" "))


def _garbled(text: str) -> bool:
    return not text.isascii() and ("\ufffd" in text or _bad(text))


def _marks(text: str) -> list[str]:
    """The tags and placeholders of a text, sorted, since languages order them differently.

    Addresses are left out, because some are translated; entities are text; and so is what prose has too, such as %5 for five per cent.
    """
    from tell.text.placeholders import find_placeholders, is_ambiguous

    return sorted(_SPACE.sub(" ", p.text) for p in find_placeholders(text) if not (_ADDRESS.match(p.text) or is_ambiguous(p.text)))


# Languages


@functools.lru_cache(maxsize=64)
def _labels(pair: LanguagePair) -> tuple[str | None, str | None]:
    from tell.text.language_id import label

    return label(pair.source.tag), label(pair.target.tag)


def _language(cleaned: Cleaned, rules: CleaningRules) -> str | None:
    labels = _labels(rules.pair)
    seen: list[str | None] = [None, None]
    sure = [False, False]
    for i, text in enumerate((cleaned.source, cleaned.target)):
        other = labels[1 - i]
        if (labels[i] is None and other is None) or len(cleaned.letters[i]) <= LETTERS:
            continue
        seen[i], sure[i] = _strange(text, labels[i], other)
    if labels[0] == labels[1]:
        return None
    if any(seen[i] is not None and seen[i] == labels[1 - i] and not sure[1 - i] for i in (0, 1)):
        cleaned.language = -1
        return "sides swapped"
    if seen[0] is not None:
        return "source in another language"
    if seen[1] is not None:
        return "target in another language"
    cleaned.language = int(all(sure))
    return None


def _strange(text: str, expected: str | None, other: str | None) -> tuple[str | None, bool]:
    """The other language that the text is surely in, or None; and whether it is surely in the expected one.

    Of a language that the model does not know, only the other side's can be told.
    """
    from tell.text.language_id import standing

    best, likely, at_home = standing(text[:LOOKED_AT], expected)
    if best is None:
        return None, False
    if expected is None:
        return (best, False) if best == other and likely >= 0.9 else (None, False)
    if best == expected or at_home >= UNLIKELY or likely < LIKELY:
        return None, best == expected and at_home >= LIKELY
    # Names are in a language of their own: without them it must still be another one.
    plain = _NAME.sub("", text[:LOOKED_AT])
    if plain != text[:LOOKED_AT]:
        again = standing(plain, expected) if len(letters(plain)) > LETTERS else (None, 0.0, 0.0)
        if again[0] != best or again[2] >= UNLIKELY or again[1] < LIKELY:
            return None, False
    return best, False

"""What a translation must bring back as it is: placeholders of programs, tags, addresses. Finds them, puts something short in their place, and puts them back.

Reads and writes strings alone. Nothing here asks an engine.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter

from tell.text.placeholder_forms import FOUND, HINT

# Ends of an address that belong to the sentence around it.
_AFTER = ".,;:!?…'\"”’»)]}>*_"
_ADDRESS = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]{1,15}://|www\.)")
_MARKUP = re.compile(r"</?[A-Za-z]|<!--")
# The numbered arguments of Qt, and what some languages write for so many per cent.
_NUMBERED = re.compile(r"%L?(\d{1,2})")
_FIRST = re.compile(r"%L?[1-9](?!\d)")
_PER_CENT = re.compile(r"(?<![\d.,])(\d{1,2})[ \u00a0\u202f-]?(?:[%٪]|per ?cent|pr[oó][cszţ]|por ?c|pour ?c|yüzde|ehuneko)", re.I)
# What prose has too, if rarely: a name after a dollar, a colon between spaces.
_AMBIGUOUS = re.compile(r"%L?\d{1,2}|\$[A-Za-z_]\w*|:[A-Za-z]\w*|\\\(.*|:[\w+-]+:")
# Letters of the stand-ins, one of which no text will hold before a digit.
_LETTERS = "XQZKWVJYTBCDFGHLMNPRS"
_DIGITS = frozenset("0123456789")
# A letter that a text has before a digit already, in whatever case: that of K and S has a third form each.
_TAKEN = re.compile(r"([A-Za-z\u017f\u212a])\s?[0-9]")
# A stand-in, or what a model has made of it.
_STAND_IN = re.compile(r"(?:(?<![^\W\d_])(?P<loose>[A-Za-z])\s?|(?P<exact>[A-Za-z]))(?P<number>[0-9]{1,3})(?![0-9])")


@dataclasses.dataclass(frozen=True, slots=True)
class Placeholder:
    """A placeholder, and where it is in the text."""

    start: int
    end: int
    text: str


def find_placeholders(text: str) -> list[Placeholder]:
    """The placeholders in the order of the text."""
    places: list[Placeholder] = []
    position = 0
    if not HINT.search(text):
        return places
    while match := FOUND.search(text, position):
        whole = match.group()
        if _ADDRESS.match(whole):
            whole = _address(whole)
        position = match.start() + len(whole)
        places.append(Placeholder(match.start(), position, whole))
    # Qt counts from %1: what begins with %20 is a share, as Turkish and Basque write it.
    if any(_two_digits(p.text) for p in places) and not _FIRST.search(text):
        return [p for p in places if not _two_digits(p.text)]
    return places


def _two_digits(placeholder: str) -> bool:
    numbered = _NUMBERED.fullmatch(placeholder)
    return numbered is not None and len(numbered[1]) > 1


def is_ambiguous(placeholder: str) -> bool:
    """Whether prose may have it too, so that two texts which differ in it need not be faulty."""
    return _AMBIGUOUS.fullmatch(placeholder) is not None


def _address(text: str) -> str:
    """The address without the sentence's punctuation after it; a closing bracket that was opened in the address stays."""
    end = len(text)
    unopened = text.count(")") - text.count("(")
    while end and text[end - 1] in _AFTER:
        if text[end - 1] == ")":
            if unopened <= 0:
                break
            unopened -= 1
        end -= 1
    return text[:end]


def bare(text: str) -> str:
    """The text with a space in place of each placeholder: the part that is to be translated."""
    position, parts = 0, []
    for place in find_placeholders(text):
        parts += [text[position : place.start], " "]
        position = place.end
    return "".join([*parts, text[position:]])


def lost(source: str, translation: str) -> bool:
    """Whether a placeholder is missing in the translation, is there too often, or has been made up."""
    # A brace by itself opens or ends something for the program that reads the translation.
    if ("{" in source + translation or "}" in source + translation) and any(bare(source).count(x) != bare(translation).count(x) for x in "{}"):
        return True
    in_source, in_translation = (_without_shares(Counter(p.text for p in find_placeholders(t)), o) for t, o in ((source, translation), (translation, source)))
    if in_source == in_translation:
        return False
    # What was put next to a placeholder can hide it from the search, and is no fault of it. A tag that was made up is text: nothing makes it live.
    return any(translation.count(text) != source.count(text) for text in in_source | in_translation if text in in_source or not _MARKUP.match(text))


def _without_shares(placeholders: Counter[str], other: str) -> Counter[str]:
    """The placeholders without `%5` where the other text has 5%: some languages write the sign before the number."""
    if not any(_NUMBERED.fullmatch(p) for p in placeholders):
        return placeholders
    shares = set(_PER_CENT.findall(other))
    return Counter({p: n for p, n in placeholders.items() if not ((numbered := _NUMBERED.fullmatch(p)) and numbered[1] in shares)})


@dataclasses.dataclass(frozen=True, slots=True)
class Masked:
    """A text whose placeholders are replaced by `X1`, `X2`: what looks like the name of a road or a part is copied by models that know nothing of braces."""

    text: str
    letter: str
    places: tuple[str, ...]

    def restore(self, translation: str) -> str:
        """The translation with the placeholders in. What has lost a stand-in has lost the placeholder; `lost` tells."""

        def back(match: re.Match[str]) -> str:
            number, is_own = int(match["number"]), self.letter in ((match["loose"] or "").upper(), match["exact"])
            return self.places[number - 1] if is_own and 0 < number <= len(self.places) else match.group()

        return _STAND_IN.sub(back, translation)


def mask(text: str) -> Masked | None:
    """None where there is nothing to replace, or no way to do it that could be undone."""
    places = find_placeholders(text)
    taken = {letter.casefold() for letter in _TAKEN.findall(text)}
    letter = next((x for x in _LETTERS if x.casefold() not in taken), "")
    # Before a digit a stand-in would be another one.
    if not places or not letter or any(text[p.end : p.end + 1] in _DIGITS for p in places):
        return None
    # Equal placeholders have one stand-in: their order does not matter.
    numbers: dict[str, int] = {}
    parts, position = [], 0
    for place in places:
        number = numbers.setdefault(place.text, len(numbers) + 1)
        parts += [text[position : place.start], f"{letter}{number}"]
        position = place.end
    return Masked("".join([*parts, text[position:]]), letter, tuple(numbers))


def around(text: str) -> list[tuple[str, bool]]:
    """The text in parts, each with whether it is a placeholder: the last resort, for which what is between them is translated by itself."""
    parts: list[tuple[str, bool]] = []
    position = 0
    for place in find_placeholders(text):
        parts += [(text[position : place.start], False), (place.text, True)]
        position = place.end
    return [(part, is_placeholder) for part, is_placeholder in [*parts, (text[position:], False)] if part]

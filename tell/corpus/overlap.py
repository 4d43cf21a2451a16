"""Finds segments of test sets in training data: exact repeats, and stretches of words in common.

Reads texts from memory one after the other and holds only an index of the test sets, so millions of texts need no more memory than one. Two texts are
the same when their letters are the same after NFC and case folding (`tell.text.normalise.letters`).
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from tell.text.entities import as_characters
from tell.text.normalise import weight

# Words in a row that two texts must share to be told; shorter stretches are common to all texts of a language.
WORDS = 8
# Words of a shorter segment that are looked for as a whole; and letters from which fewer words are, of languages whose words are long.
FEWEST, LONG = 4, 40
# The share of a segment's stretches that have been seen from which it is listed.
LISTED = 0.5
# Letters from which a repeat says that the test set leaked: greetings and the like are in every corpus.
LETTERS = 16
# Segments that a report lists; all are counted.
MOST = 200
# Written without spaces: every character stands for a word.
_DENSE = re.compile("([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])")
_ASCII = bytes(c if chr(c).isalpha() else 32 for c in range(128)) + bytes(128)


class _LettersAndSpaces(dict[int, str]):
    """A table for str.translate that keeps letters and their marks and makes everything else a space, but for what is invisible inside a word (soft hyphens).
    It grows as characters are met."""

    def __missing__(self, point: int) -> str:
        char = chr(point)
        category = unicodedata.category(char)
        self[point] = replacement = char if category[0] in "LM" else "" if category == "Cf" else " "
        return replacement


_LETTERS = _LettersAndSpaces()


def words_of(text: str) -> list[str]:
    """The case-folded words of a text, letters only; joined, they equal `tell.text.normalise.letters` of the text."""
    if text.isascii():
        return text.lower().encode().translate(_ASCII).decode().split()
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).translate(_LETTERS)
    return (_DENSE.sub(r" \1 ", folded) if _DENSE.search(folded) else folded).split()


@dataclasses.dataclass(frozen=True, slots=True)
class HeldOutSet:
    """The texts of a test set: for each segment its sides, such as source and target."""

    name: str
    segments: Sequence[Sequence[str]]


class Leaks:
    """Finds what of several test sets is in training data. Call `look` with every text of the data, then `report`."""

    def __init__(self, sets: Iterable[HeldOutSet]):
        self.sets = list(sets)
        self.texts = 0
        self._exact: dict[str, list[tuple[int, int]]] = {}
        self._stretches: dict[int, list[tuple[int, int]]] = {}
        self._words: set[str] = set()
        # (set, segment) -> stretches of its sides
        self._has: Counter[tuple[int, int]] = Counter()
        for s, held in enumerate(self.sets):
            for i, sides in enumerate(held.segments):
                segment_stretches: set[int] = set()
                for text in sides:
                    words = words_of(as_characters(text))
                    if key := "".join(words):
                        self._exact.setdefault(key, []).append((s, i))
                    segment_stretches |= {hash(tuple(words[k : k + WORDS])) for k in range(len(words) - WORDS + 1)}
                    if len(words) >= WORDS:
                        self._words.update(words)
                for stretch in segment_stretches:
                    self._stretches.setdefault(stretch, []).append((s, i))
                self._has[s, i] = len(segment_stretches)
        # (set, segment) -> letters and place of its first repeat
        self._repeats: dict[tuple[int, int], tuple[int, str]] = {}
        self._seen: dict[int, str] = {}

    def look(self, text: str, file: str, line: int) -> None:
        """Compares one text of the training data with the test sets; `file` and `line` say where the text is."""
        self.texts += 1
        words = words_of(as_characters(text))
        key = "".join(words)
        for at in self._exact.get(key, ()):
            if at not in self._repeats:
                self._repeats[at] = (len(key), f"{file}, line {line}")
        run, known, stretches = 0, self._words, self._stretches
        for k, word in enumerate(words):
            if word not in known:
                run = 0
                continue
            run += 1
            if run >= WORDS and (stretch := hash(tuple(words[k - WORDS + 1 : k + 1]))) in stretches and stretch not in self._seen:
                self._seen[stretch] = f"{file}, line {line}"

    def leaked(self, which: int) -> set[int]:
        """The segments of a set, from 0, that the data repeats whole and that are too long for an accident."""
        return {i for (s, i), (n, _) in self._repeats.items() if s == which and n >= LETTERS}

    def report(self) -> list[dict[str, Any]]:
        """The findings for each test set. `leaked` segments are repeated whole and are too long for an accident, `short` ones are repeated whole too,
        `near` ones have at least LISTED of their stretches of WORDS words somewhere in the data, `touched` ones have at least one."""
        seen: dict[tuple[int, int], list[str]] = {}
        for stretch, where in self._seen.items():
            for at in self._stretches[stretch]:
                seen.setdefault(at, []).append(where)
        reports = []
        for s, held in enumerate(self.sets):
            repeats = sorted((i, n, where) for (t, i), (n, where) in self._repeats.items() if t == s)
            leaked = [{"segment": i + 1, "place": where} for i, n, where in repeats if n >= LETTERS]
            whole = {i for i, _, _ in repeats}
            touched = sorted((i, places) for (t, i), places in seen.items() if t == s and i not in whole)
            shares = [(i, round(len(places) / self._has[s, i], 2), Counter(places).most_common(1)[0][0]) for i, places in touched]
            near = [{"segment": i + 1, "share": share, "place": where} for i, share, where in shares if share >= LISTED]
            counts = {"segments": len(held.segments), "leaked": len(leaked), "short": len(repeats) - len(leaked), "near": len(near), "touched": len(touched)}
            reports.append({"name": held.name, **counts, "leaked_segments": leaked[:MOST], "near_segments": near[:MOST]})
        return reports


class HeldStretches:
    """Finds segments of held-out texts inside longer ones: a stretch of WORDS words of one or, of a shorter segment, all of its words."""

    def __init__(self) -> None:
        # By the number of words: hash of the stretch -> whose it is. And by its first word, which of these numbers there are.
        self._stretches: dict[int, dict[int, str]] = {}
        self._sizes: dict[str, set[int]] = {}

    def add(self, text: str, name: str) -> None:
        """Holds a text of `name`; one that says less than LETTERS letters, or has fewer words than FEWEST unless they are long, is in every data by chance."""
        words = words_of(as_characters(text))
        of_letters = sum(map(len, words))
        if weight("".join(words)) < LETTERS or (len(words) < FEWEST and of_letters < LONG):
            return
        # Where a word is a character or two, so many say as little as half as many words.
        size = min(len(words), WORDS if of_letters >= 2 * len(words) else 2 * WORDS)
        stretches = self._stretches.setdefault(size, {})
        for k in range(len(words) - size + 1):
            stretches.setdefault(hash(tuple(words[k : k + size])), name)
            self._sizes.setdefault(words[k], set()).add(size)

    def find(self, text: str) -> str | None:
        """Whose stretch is in the text; None where there is none."""
        words = words_of(as_characters(text))
        for k, word in enumerate(words):
            for size in self._sizes.get(word, ()):
                if k + size <= len(words) and (name := self._stretches[size].get(hash(tuple(words[k : k + size])))):
                    return name
        return None

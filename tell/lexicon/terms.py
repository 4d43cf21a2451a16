"""Finds the terms of a glossary in source segments, and tells whether their translations have what the glossary says.

Reads and writes strings alone. A text is read as tokens: words, numbers, other characters, and placeholders as they are. A term is found where its tokens stand
one after the other as whole words. Look-up is by a tree of tokens, so its time grows with the text and not with the number of terms.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tell.languages import LanguagePair
from tell.lexicon.initials import radical, rule_for
from tell.lexicon.words import UNSPACED, Keying, Word, folded, kept_spans, key, words

# Letters in which a source word may differ from the term's word at the ends of both, where a lexicon has one key for the two: "document" is found in
# "documents", and not in "documentation".
ENDING = 4
# Terms with the same keys whose inflected forms are looked at, so that a glossary of look-alikes costs no more than another one.
LOOKALIKES = 20
# Letters that an inflected target word may have behind the stem: an article and an ending. A word of three letters or fewer has three at most.
SUFFIX, SHORT_SUFFIX = 7, 3
_HYPHEN = re.compile("[-\u2010\u2011·]+")
_REST = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+|\S")


class TextToken(NamedTuple):
    """A token of a text, from `start` to `end` in code points. `text` is folded, its initials unmutated (tell.lexicon.initials). A term may begin and end here
    only where a whole word does."""

    start: int
    end: int
    text: str
    # Letters of a script with spaces: it may be inflected.
    word: bool
    # Capitals alone, as in an abbreviation: "IT" is not found in "it".
    capitals: bool
    begins: bool = True
    ends: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class TermHint:
    """A term where it stands in a source segment (code points, the end is not included), as a hint for a prompt."""

    start: int
    end: int
    source: str
    candidates: tuple[str, ...]

    @property
    def target(self) -> str:
        return self.candidates[0]


def tokens(text: str, language: str) -> list[TextToken]:
    """The tokens of a text, in order. `language` is a BCP 47 tag."""
    rule = rule_for(language)
    kept = [*kept_spans(text)]
    stretches: list[tuple[int, int, Word | None]] = [(w.start, w.end, w) for w in words(text, language, kept)]
    stretches += [(start, end, None) for start, end in kept]
    found: list[TextToken] = []
    at = 0
    for start, end, word in sorted(stretches, key=lambda s: s[:2]):
        if start < at:
            continue
        if start > at + 1 or (start > at and text[at] != " "):
            found += _others(text, at, start)
        found += [TextToken(start, end, text[start:end], False, False)] if word is None else _parts(word, rule)
        at = end
    return [*found, *_others(text, at, len(text))]


def _parts(word: Word, rule: str) -> Iterator[TextToken]:
    """A word in the parts between its hyphens, so that "sign in" is found in "sign-in"; of "e-mail", "mail" alone is no whole word."""
    whole = radical(folded(word.text), rule)
    if _HYPHEN.search(whole) is None:
        yield TextToken(word.start, word.end, whole, True, len(word.text) > 1 and word.text.isupper())
        return
    at = 0
    bounds = [*((m.start(), m.end()) for m in _HYPHEN.finditer(word.text)), (len(word.text), len(word.text))]
    for start, end in bounds:
        if start > at:
            part = word.text[at:start]
            yield TextToken(
                word.start + at, word.start + start, radical(folded(part), rule), True, len(part) > 1 and part.isupper(), at == 0, start == len(word.text)
            )
        at = end


def _others(text: str, start: int, end: int) -> Iterator[TextToken]:
    """The tokens of what holds no words. Letters here belong to an address, in which no term begins or ends."""
    for match in _REST.finditer(text, start, end):
        token = match.group()
        whole = len(token) == 1 or not token.isalpha()
        if token not in "-\u2010\u2011":
            yield TextToken(match.start(), match.end(), folded(token), False, len(token) > 1 and token.isupper(), whole, whole)


@dataclasses.dataclass(slots=True)
class _Node:
    """The terms whose keys led here, by their folded tokens, and where the next key leads."""

    terms: dict[tuple[str, ...], list[_Term]] = dataclasses.field(default_factory=dict)
    next: dict[str, _Node] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class _Term:
    source: str
    target: str
    tokens: tuple[TextToken, ...]


class Terms:
    """A glossary's terms for one pair. `digest` is the glossary's; `keying` tells which words count as forms of one word."""

    def __init__(self, terms: Mapping[str, str], digest: str, pair: LanguagePair, keying: Keying):
        self.digest, self.pair = digest, pair
        # The initials of tokens are unmutated already.
        self._keying = dataclasses.replace(keying, initials="")
        self._root = _Node()
        # Sorted, so that equal glossaries give equal answers in whatever order they were written.
        for source, target in sorted(terms.items()):
            term = _Term(source, target, tuple(tokens(source, pair.source.tag)))
            node = self._root
            for token in term.tokens:
                node = node.next.setdefault(self._key(token), _Node())
            if term.tokens:
                node.terms.setdefault(tuple(t.text for t in term.tokens), []).append(term)

    def _key(self, token: TextToken) -> str:
        return key(token.text, self._keying) if token.word else token.text

    def find(self, segment: str) -> list[TermHint]:
        """The terms in a segment, in its order: whole words, no two of them over each other, longer ones before shorter ones."""
        text_tokens = tokens(segment, self.pair.source.tag)
        keys = [self._key(token) for token in text_tokens]
        found: list[tuple[int, int, _Term]] = []
        for start, first in enumerate(keys):
            if first in self._root.next:
                found += [(start, end, term) for end, term in self._from(segment, text_tokens, keys, start)]
        taken = bytearray(len(text_tokens))
        chosen = []
        for start, end, term in sorted(found, key=lambda f: (f[0] - f[1], f[0])):
            if not any(taken[start:end]):
                taken[start:end] = b"\1" * (end - start)
                chosen.append(TermHint(text_tokens[start].start, text_tokens[end - 1].end, term.source, (term.target,)))
        return sorted(chosen, key=lambda c: c.start)

    def _from(self, segment: str, text_tokens: Sequence[TextToken], keys: Sequence[str], start: int) -> Iterator[tuple[int, _Term]]:
        """The terms that begin at a token, each with where it ends."""
        node = self._root
        for end in range(start + 1, len(text_tokens) + 1) if text_tokens[start].begins else ():
            if (child := node.next.get(keys[end - 1])) is None:
                return
            node = child
            if node.terms and text_tokens[end - 1].ends and (term := self._fitting(node, segment, text_tokens[start:end])):
                yield end, term

    def _fitting(self, node: _Node, segment: str, stretch: Sequence[TextToken]) -> _Term | None:
        """The node's term that a stretch of text is: one of the same words, or else of forms of them, with the longest common beginnings."""
        # Of terms that differ in case alone, the one that is written as the text, or else the one with the most capitals that fits.
        alike = node.terms.get(tuple(t.text for t in stretch), [])
        if fitting := [t for t in alike if _cased(t, stretch)]:
            written = segment[stretch[0].start : stretch[-1].end]
            return max(fitting, key=lambda t: (t.source == written, sum(token.capitals for token in t.tokens)))
        best: tuple[int, _Term | None] = (0, None)
        for others in list(node.terms.values())[:LOOKALIKES]:
            common = [_common(token, other) for token, other in zip(others[0].tokens, stretch, strict=True)]
            if all(common) and _cased(others[0], stretch) and sum(common) > best[0]:
                best = sum(common), others[0]
        return best[1]


class SegmentTerms:
    """A glossary's terms in the segments of one request. Each segment is searched once."""

    def __init__(self, terms: Terms):
        self.terms = terms
        self._hints: dict[str, list[TermHint]] = {}

    def find(self, segment: str) -> list[TermHint]:
        """`Terms.find`."""
        if (hints := self._hints.get(segment)) is None:
            hints = self._hints[segment] = self.terms.find(segment)
        return hints

    def find_all(self, segments: Sequence[str]) -> None:
        for segment in segments:
            self.find(segment)

    def digest_for(self, segment: str) -> str:
        """What tells the segment's translation from those with other glossaries: the glossary's digest, and nothing where the segment has none of its terms."""
        return self.terms.digest if self.find(segment) else ""

    def missing(self, segment: str, translation: str) -> list[str]:
        """The terms in a segment, as the glossary has them in the source language, whose target terms are not in its translation."""
        hints = self.find(segment)
        if not hints:
            return []
        reader = _Translation(translation, self.terms.pair.target.tag)
        return [hint.source for hint in hints if not reader.has(hint.target)]


def _cased(term: _Term, stretch: Sequence[TextToken]) -> bool:
    return all(token.capitals or not own.capitals for own, token in zip(term.tokens, stretch, strict=True))


def _shared(a: str, b: str) -> int:
    """The length of the common beginning."""
    n = min(len(a), len(b))
    return next((i for i in range(n) if a[i] != b[i]), n)


def _common(own: TextToken, token: TextToken) -> int:
    """The length of the common beginning of two tokens that have one key; 0 where they are no forms of one word."""
    if own.text == token.text:
        return len(own.text)
    common = _shared(own.text, token.text)
    return common if own.word and token.word and max(len(own.text), len(token.text)) - common <= ENDING else 0


def honoured(target: str, translation: str, language: str) -> bool:
    """Whether a translation has a target term, in any case and any form of its words. `language` is that of both."""
    return _Translation(translation, language).has(target)


class _Translation:
    """The words and numbers of a translation, by their beginnings. Other marks are left out: a model sets its own."""

    def __init__(self, text: str, language: str):
        self.text, self.language = text, language
        self._words = self._spoken(text)
        self._places: dict[str, list[int]] = defaultdict(list)
        for i, word in enumerate(self._words):
            self._places[word.text[:3]].append(i)

    def _spoken(self, text: str) -> list[TextToken]:
        return [t for t in tokens(text, self.language) if any(map(str.isalnum, t.text))]

    def has(self, target: str) -> bool:
        """Whether the words of a term stand in it one after the other, each in some form."""
        term = self._spoken(target)
        if not term:
            return target in self.text
        starts = (i for i in self._places.get(term[0].text[:3], ()) if i + len(term) <= len(self._words))
        return any(all(map(_form_of, term, self._words[i : i + len(term)])) for i in starts)


def _form_of(term: TextToken, token: TextToken) -> bool:
    """Whether a token of a translation is one of a term in some form: two thirds of it, at least three letters, and an ending of its own."""
    if term.text == token.text:
        return True
    common, length = _shared(term.text, token.text), len(term.text)
    stem = length if length <= 3 else max(3, -(-2 * length // 3))
    return term.word and token.word and common >= stem and len(token.text) - common <= (SHORT_SUFFIX if length <= 3 else SUFFIX)

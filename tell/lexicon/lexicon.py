"""A bilingual lexicon: which target words stand for a source word, how often they did, and the hints that follow for a text.

Reads and writes lexicon.tsv. Its first line is "# tellmt lexicon", a tab and a JSON object: format, pair, keying, the commonest source words in order, words
that get no hint, and the SHA-256 of the rest. Then a line for each key: the key, and each candidate and its count, tabs between them. After an empty line, the
count of each candidate under all keys, where it is more than 1.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tell.errors import BadInput
from tell.files import HeadedFormat
from tell.languages import LanguagePair, parse_pair
from tell.lexicon.initials import radical
from tell.lexicon.words import Keying, folded, keys, words

FORMAT = 1
FILE = "lexicon.tsv"
FILE_FORMAT = HeadedFormat("lexicon", FORMAT, FILE, "tellmt lexicon build", "built", "entries", "build the lexicon again")
# Bytes of lexicon.tsv: it goes along with every copy of an adapter.
MOST_BYTES = 4 << 20
# Source words whose rank is kept, and candidates of a key: nobody asks for more.
RANKED, CANDIDATES = 1000, 10
# What a key of a dictionary's headword ends in. No word does, nor does one end in the * of prefixes.
HEAD = "="
# Added to all that a candidate counts before its share of that is taken: without it, what occurred once, and beside this word, would come first. Chosen on dev
# splits of four languages (docs/results/lexicon.md).
SMOOTHING = 30
# An inflected word and a headword have at least so many letters in common, and after them no more than so many each; and so many headwords are looked at.
SHARED, ENDING, HEADS = 4, 4, 50
# Words whose hints are kept ready, some 5 MB of them: a text repeats its words, and what a lexicon offers for one does not change.
READY = 1 << 15

Counts = Mapping[str, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Hint:
    """What a lexicon offers for the word at `start` to `end` (code points of the text): target words, the likeliest first."""

    start: int
    end: int
    candidates: tuple[str, ...]


def _line(candidates: Counts) -> str:
    return "\t".join(part for text, count in candidates.items() for part in (text, f"{count:.12g}"))


def _parsed(line: str) -> Iterator[tuple[str, float]]:
    """The candidates and counts in what `_line` wrote."""
    parts = line.split("\t")
    return zip(parts[::2], map(float, parts[1::2]), strict=True)


def _shared(a: str, b: str) -> int:
    """The number of first letters that two words have in common."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))


@dataclasses.dataclass(frozen=True)
class Lexicon:
    """A lexicon of one direction.

    `lines` has for each key its candidates and counts as lexicon.tsv has them: they are taken apart when they are asked for. `totals` has what a folded
    candidate counts under all keys, `common` the commonest source words, folded, in order, and `struck` the folded source words that get no hint.
    """

    pair: LanguagePair
    keying: Keying
    common: tuple[str, ...]
    lines: Mapping[str, str]
    totals: Mapping[str, int]
    struck: frozenset[str] = frozenset()
    # What words were offered, by the folded word and the options.
    _ready: dict[tuple[str, int, float], tuple[str, ...]] = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        pair: LanguagePair,
        keying: Keying,
        common: Sequence[str],
        entries: Mapping[str, Counts],
        totals: Mapping[str, int],
        struck: frozenset[str] = frozenset(),
    ) -> Lexicon:
        """The lexicon with these entries (key, candidate, count). Keys without candidates are left out, and all but the ten commonest candidates of a key."""
        kept = {k: dict(sorted(entries[k].items(), key=lambda c: (-c[1], c[0]))[:CANDIDATES]) for k in sorted(entries) if entries[k]}
        named = {folded(text) for candidates in kept.values() for text in candidates}
        counted = {text: totals[text] for text in sorted(named) if totals.get(text, 0) > 1}
        return cls(pair, keying, tuple(common[:RANKED]), {k: _line(candidates) for k, candidates in kept.items()}, counted, struck)

    @classmethod
    def read(cls, path: Path) -> Lexicon:
        """The lexicon in a file, or in lexicon.tsv of a directory. Raises BadInput as `parse` does, and where there is none."""
        file = path / FILE if path.is_dir() else path
        try:
            return cls.parse(file.read_bytes(), str(file))
        except (FileNotFoundError, NotADirectoryError):
            raise BadInput("there is no lexicon here", place=str(path), found=f"no {FILE}", valid="a directory made by tellmt lexicon build") from None

    @classmethod
    def parse(cls, data: bytes, place: str = FILE) -> Lexicon:
        """The lexicon that `dump` wrote. Raises BadInput where it is damaged, was altered, or is of a later format."""
        header, body = FILE_FORMAT.read(data, place)
        try:
            entries, _, counts = body.decode().rpartition("\n\n")
            lines = dict(line.split("\t", 1) for line in entries.split("\n")[1:])
            totals = {text: int(n) for text, _, n in (line.partition("\t") for line in counts.split("\n")[:-1])}
            common, struck = tuple(map(str, header["common"])), frozenset(map(str, header["struck"]))
            return cls(parse_pair(str(header["pair"]), place), Keying(**header["keying"]), common, lines, totals, struck)
        except (KeyError, TypeError, ValueError) as e:
            raise BadInput("this lexicon cannot be read", place=place, found=repr(e), valid="build the lexicon again") from None

    def dump(self) -> bytes:
        """The bytes of lexicon.tsv; equal lexicons have equal bytes."""
        entries = "".join(f"\n{source_key}\t{line}" for source_key, line in sorted(self.lines.items()))
        body = (entries + "\n\n" + "".join(f"{text}\t{n}\n" for text, n in sorted(self.totals.items()))).encode()
        header = {"common": self.common, "keying": dataclasses.asdict(self.keying), "pair": str(self.pair), "struck": sorted(self.struck)}
        return FILE_FORMAT.write(header, body)

    def __len__(self) -> int:
        return len(self.lines)

    def candidates(self, source_key: str) -> dict[str, float]:
        """The candidates of a key and their counts, commonest first; empty where the key is unknown."""
        if (line := self.lines.get(source_key)) is None:
            return {}
        return dict(_parsed(line))

    def written(self) -> Iterator[str]:
        """Every key and candidate, as often as it stands there: source words and their beginnings, folded, and target words."""
        for key, line in self.lines.items():
            yield key
            yield from line.split("\t")[::2]

    @functools.cached_property
    def _ranks(self) -> dict[str, int]:
        return {word: rank for rank, word in enumerate(self.common)}

    @functools.cached_property
    def _heads(self) -> list[str]:
        return sorted(k.removesuffix(HEAD) for k in self.lines if k.endswith(HEAD))

    def rank(self, word: str) -> int | None:
        """How many source words are commoner than this one; None for what is none of the commonest thousand."""
        return self._ranks.get(folded(word))

    def heads(self, word: str) -> list[str]:
        """The dictionaries' headwords for a word: itself, or those that have the most first letters in common with it, if these are enough."""
        heads = self._heads
        if not heads:
            return []
        word = radical(folded(word), self.keying.initials)
        if word + HEAD in self.lines:
            return [word]
        at = bisect.bisect_left(heads, word)
        most = max(_shared(word, head) for head in heads[max(at - 1, 0) : at + 1])
        if most < SHARED or len(word) - most > ENDING:
            return []
        shared = word[:most]
        first = bisect.bisect_left(heads, shared)
        alike = itertools.takewhile(lambda head: head.startswith(shared), heads[first : first + HEADS])
        return [head for head in alike if len(head) - most <= ENDING]

    def ranked(self, word: str, without: Mapping[str, Counts] | None = None) -> dict[str, float]:
        """The candidates for a source word and how much speaks for each, the likeliest first; empty where there are none, and for a struck word.

        For a candidate speaks what it counts under the word's keys, times the weights of these, times the share that this is of all that it counts anywhere:
        else articles and prepositions that stand beside a rare word would come before its translation. What it counts in a dictionary is added.
        """
        ordered, written = self._ordered(word, without)
        return {written[name]: -less for less, name in ordered}

    def _ordered(self, word: str, without: Mapping[str, Counts] | None) -> tuple[list[tuple[float, str]], dict[str, str]]:
        """`ranked` as what speaks against each folded candidate, the least first; and how each candidate is written."""
        if folded(word) in self.struck:
            return [], {}
        found: dict[str, float] = {}
        # A dictionary may write what the corpus has too otherwise.
        written: dict[str, str] = {}
        for source_key, weight in keys(word, self.keying):
            if (line := self.lines.get(source_key)) is None:
                continue
            own = without.get(source_key) if without else None
            for text, count in _parsed(line):
                name = folded(text)
                if own:
                    count -= own.get(name, 0)
                if count > 0:
                    written.setdefault(name, text)
                    found[name] = found.get(name, 0) + weight * count
        totals = self.totals
        found = {name: count * count / (totals.get(name, 1) + SMOOTHING) for name, count in found.items()}
        listed: dict[str, float] = {}
        for head in self.heads(word):
            for text, count in _parsed(self.lines[head + HEAD]):
                name = folded(text)
                written.setdefault(name, text)
                listed[name] = max(count, listed.get(name, 0))
        for name, count in listed.items():
            found[name] = found.get(name, 0) + count
        return sorted([(-count, name) for name, count in found.items()]), written

    def hints(self, text: str, *, candidates: int, skip_common: int, without: Mapping[str, Counts] | None = None, min_share: float = 0.0) -> list[Hint]:
        """The hints for a text, in its order: for each word that is none of the `skip_common` commonest, at most `candidates` target words.

        `without` has what is taken off the counts first, by key and folded candidate: the text's own part in the lexicon (`tell.alignment.links`), so that a
        training example gets no hint that it alone gave rise to. Candidates with less than `min_share` of all that speaks for any are left out.
        """
        found: list[Hint] = []
        ranks, ready = self._ranks, self._ready
        for word in words(text, self.pair.source.tag):
            name = folded(word.text)
            if ranks.get(name, skip_common) < skip_common:
                continue
            if without:
                offered = self._offered(word.text, candidates, min_share, without)
            elif (kept := ready.get((name, candidates, min_share))) is not None:
                offered = kept
            else:
                if len(ready) >= READY:
                    ready.clear()
                offered = ready[name, candidates, min_share] = self._offered(word.text, candidates, min_share)
            if offered:
                found.append(Hint(word.start, word.end, offered))
        return found

    def _offered(self, word: str, candidates: int, min_share: float, without: Mapping[str, Counts] | None = None) -> tuple[str, ...]:
        """The target words that a source word is offered."""
        ordered, written = self._ordered(word, without)
        most = min_share * sum([less for less, _ in ordered])
        return tuple([written[name] for less, name in ordered[:candidates] if less <= most])

"""A bilingual lexicon: which target words stand for a source word, how often they did, and the hints that follow for a text.

Reads and writes lexicon.tsv. Its first line is "# tellmt lexicon", a tab and a JSON object: format, pair, keying, the commonest source words in order, and the
SHA-256 of the rest. Each other line has a key, then each candidate and its count, commonest first, tabs between them.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tell.errors import BadInput
from tell.files import sha256_bytes
from tell.languages import LanguagePair, parse_pair
from tell.lexicon.words import Keying, folded, key, words

FORMAT = 1
FILE = "lexicon.tsv"
_TITLE = "# tellmt lexicon"
# Bytes of a lexicon: it is part of an adapter.
MOST_BYTES = 4 << 20
# Source words whose rank is kept, and candidates of a key: nobody asks for more.
RANKED, CANDIDATES = 1000, 10

Counts = Mapping[str, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Hint:
    """What a lexicon offers for the word at `start` to `end` (code points of the text): target words, the likeliest first."""

    start: int
    end: int
    candidates: tuple[str, ...]


def _number(count: float) -> str:
    return str(int(count)) if count == int(count) else f"{count:.4f}".rstrip("0")


def _line(source_key: str, candidates: Counts) -> str:
    ranked = sorted(candidates.items(), key=lambda c: (-c[1], c[0]))
    return "\t".join([source_key, *(part for text, count in ranked for part in (text, _number(count)))])


@dataclasses.dataclass(frozen=True)
class Lexicon:
    """A lexicon of one direction.

    `lines` has for each key its candidates and counts as lexicon.tsv has them: they are taken apart when they are asked for. `common` has the commonest source
    words, folded, in order. Two candidates of a key differ in more than case.
    """

    pair: LanguagePair
    keying: Keying
    common: tuple[str, ...]
    lines: Mapping[str, str]

    @classmethod
    def of(cls, pair: LanguagePair, keying: Keying, common: Sequence[str], entries: Mapping[str, Counts]) -> Lexicon:
        """The lexicon with these entries (key, candidate, count). Keys without candidates are left out, and so are all candidates after the tenth."""
        lines = {}
        for source_key, candidates in sorted(entries.items()):
            kept = dict(sorted(candidates.items(), key=lambda c: (-c[1], c[0]))[:CANDIDATES])
            if kept:
                lines[source_key] = _line(source_key, kept).partition("\t")[2]
        return cls(pair, keying, tuple(common[:RANKED]), lines)

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
        first, _, body = data.partition(b"\n")
        title, _, head = first.decode(errors="replace").partition("\t")
        try:
            header: dict[str, Any] = dict(json.loads(head))
            if title != _TITLE:
                raise ValueError(title)
        except (ValueError, TypeError, RecursionError):
            raise BadInput("this is not a lexicon", place=place, valid="a lexicon.tsv that tellmt lexicon build wrote") from None
        if header.get("format") != FORMAT:
            raise BadInput("this lexicon has another format", place=place, found=str(header.get("format")), valid=f"format {FORMAT}; build the lexicon again")
        if sha256_bytes(body) != header.get("sha256"):
            found = f"{len(body)} bytes of entries with another SHA-256 than its first line names"
            raise BadInput("this lexicon is damaged or was altered", place=place, found=found, valid="the file as it was built")
        try:
            keying, common = Keying(**header["keying"]), tuple(map(str, header["common"]))
            lines = dict(line.split("\t", 1) for line in body.decode().split("\n")[:-1])
            return cls(parse_pair(str(header["pair"]), place), keying, common, lines)
        except (KeyError, TypeError, ValueError) as e:
            raise BadInput("this lexicon cannot be read", place=place, found=repr(e), valid="build the lexicon again") from None

    def dump(self) -> bytes:
        """The bytes of lexicon.tsv; equal lexicons have equal bytes."""
        body = "".join(f"{source_key}\t{line}\n" for source_key, line in sorted(self.lines.items())).encode()
        header = {
            "common": self.common,
            "format": FORMAT,
            "keying": dataclasses.asdict(self.keying),
            "pair": str(self.pair),
            "sha256": sha256_bytes(body),
        }
        return f"{_TITLE}\t{json.dumps(header, sort_keys=True, ensure_ascii=False)}\n".encode() + body

    def __len__(self) -> int:
        return len(self.lines)

    def candidates(self, source_key: str) -> dict[str, float]:
        """The candidates of a key and their counts, commonest first; empty where the key is unknown."""
        if (line := self.lines.get(source_key)) is None:
            return {}
        parts = line.split("\t")
        return {text: float(count) for text, count in zip(parts[::2], parts[1::2], strict=True)}

    @functools.cached_property
    def _ranks(self) -> dict[str, int]:
        return {word: rank for rank, word in enumerate(self.common)}

    def rank(self, word: str) -> int | None:
        """How many source words are commoner than this one; None for what is none of the commonest thousand."""
        return self._ranks.get(folded(word))

    def hints(self, text: str, *, candidates: int, skip_common: int, without: Mapping[str, Counts] | None = None, min_share: float = 0.0) -> list[Hint]:
        """The hints for a text, in its order: for each word that is none of the `skip_common` commonest, at most `candidates` target words.

        `without` has what is taken off the counts first, by key and folded candidate: the text's own part in the lexicon (see `tell.lexicon.links`), so that a
        training example gets no hint that it alone gave rise to. Candidates with less than `min_share` of what their key counts are left out.
        """
        found: list[Hint] = []
        for word in words(text, self.pair.source.tag):
            rank = self._ranks.get(folded(word.text))
            if rank is not None and rank < skip_common:
                continue
            source_key = key(word.text, self.keying)
            if offered := self._offered(source_key, candidates, without.get(source_key) if without else None, min_share):
                found.append(Hint(word.start, word.end, offered))
        return found

    def _offered(self, source_key: str, most: int, own: Counts | None, min_share: float) -> tuple[str, ...]:
        counts = self.candidates(source_key)
        if own:
            rest = {text: count - own.get(folded(text), 0) for text, count in counts.items()}
            # Stable: equal counts stay in the order of the file.
            counts = dict(sorted(((t, c) for t, c in rest.items() if c > 0), key=lambda c: -c[1]))
        least = min_share * sum(counts.values())
        return tuple(text for text, count in counts.items() if count >= least)[:most]


def pruned(lexicon: Lexicon, most_bytes: int = MOST_BYTES) -> tuple[Lexicon, dict[str, int]]:
    """The lexicon with its rarest entries left out until it has no more than `most_bytes`, and how many keys and candidates that were.

    At each step from a count of 1 up, candidates that occurred no oftener go first, but for the first of a key; then keys.
    """
    left_out = {"keys": 0, "candidates": 0}
    entries = {k: lexicon.candidates(k) for k in lexicon.lines} if len(lexicon.dump()) > most_bytes else {}
    level, keys_too = 1, False
    while len(lexicon.dump()) > most_bytes:
        smaller: dict[str, dict[str, float]] = {}
        for source_key, counts in entries.items():
            first = next(iter(counts))
            kept = {t: c for t, c in counts.items() if c > level or (t == first and not keys_too)}
            left_out["candidates"] += len(counts) - len(kept)
            left_out["keys"] += not kept
            if kept:
                smaller[source_key] = kept
        entries = smaller
        lexicon = Lexicon.of(lexicon.pair, lexicon.keying, lexicon.common, entries)
        level, keys_too = (level + 1, False) if keys_too else (level, True)
    return lexicon, left_out

"""A user's glossary: source terms, and the target term that each is to become. A prompt has it as the hint behind the source term (tell.lexicon.hints).

Reads TSV, CSV and mappings; writes TSV. A glossary is checked when it is made, and its digest tells one content from another.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from tell.errors import BadInput, TooLarge
from tell.files import decode, key_of
from tell.languages import LanguagePair, base_language
from tell.lexicon.terms import SegmentTerms, Terms
from tell.lexicon.words import Keying, keying_for
from tell.text.placeholders import bare

# Terms of a glossary, characters of a term on either side, and characters of all together.
MOST_TERMS, LONGEST_TERM, MOST_CHARACTERS = 10_000, 200, 500_000
# Bytes of a file with a glossary.
MOST_BYTES = 4 << 20

EntriesFormat = Literal["tsv", "csv"]
TWO_COLUMNS = "a source term and a target term, with a tab between them (TSV) or a comma (CSV)"


@dataclasses.dataclass(frozen=True, eq=False)
class Glossary:
    """`terms`: source term -> target term, in NFC, with single spaces."""

    terms: Mapping[str, str]
    # The terms made ready for a pair; a service asks for the same ones again and again.
    _ready: dict[tuple[LanguagePair, Keying], Terms] = dataclasses.field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, entries: Iterable[tuple[str, str, str]], whole: str = "glossary") -> Glossary:
        """The glossary of (source term, target term, place in messages). Raises BadInput with the place, TooLarge."""
        terms: dict[str, str] = {}
        characters = 0
        for source, target, place in entries:
            source, target = _term(source, f"{place}: the source term"), _term(target, f"{place}: the target term")
            if not any(map(str.isalnum, bare(source))):
                # It would be found in every sentence, or never, and no adapter has seen a hint behind it.
                raise BadInput("no letter or digit in a source term", place=place, found=source, valid="words; symbols and placeholders are not looked for")
            if terms.setdefault(source, target) != target:
                raise BadInput("a source term has two target terms", place=place, valid="one line for each source term")
            characters += len(source) + len(target)
            if len(terms) > MOST_TERMS or characters > MOST_CHARACTERS:
                raise TooLarge("the glossary is too large", place=place, valid=f"at most {MOST_TERMS:,} terms and {MOST_CHARACTERS:,} characters")
        if not terms:
            raise BadInput("the glossary has no terms", place=whole, valid=TWO_COLUMNS)
        return cls(terms)

    @classmethod
    def inline(cls, terms: Mapping[str, str]) -> Glossary:
        """The glossary in the body of a request. Raises BadInput, TooLarge."""
        return cls.of((source, target, f"glossary, term {number}") for number, (source, target) in enumerate(terms.items(), 1))

    @classmethod
    def parse(cls, text: str, format: EntriesFormat, place: str, pair: LanguagePair | None = None) -> Glossary:
        """The glossary in a text of lines. CSV may name the languages in two more columns, which must be those of the pair.

        Raises BadInput with the line, TooLarge.
        """
        rows = _csv_rows(text, place, pair) if format == "csv" else _tsv_rows(text)
        return cls.of(_entries(rows, place), place)

    @classmethod
    def read(cls, path: Path, pair: LanguagePair | None = None) -> Glossary:
        """The glossary in a file: CSV where its name says so, or else TSV. Raises what `parse` does, with the file."""
        try:
            with path.open("rb") as f:
                raw = f.read(MOST_BYTES + 1)
        except OSError as e:
            raise BadInput("the glossary cannot be read", place=str(path), found=e.strerror or str(e)) from None
        if len(raw) > MOST_BYTES:
            raise TooLarge("the glossary is too large", place=str(path), valid=f"at most {MOST_BYTES:,} bytes")
        return cls.parse(decode(raw, str(path)), "csv" if path.suffix.lower() == ".csv" else "tsv", str(path), pair)

    @functools.cached_property
    def digest(self) -> str:
        """The hash of its content; the order of the terms is none of it."""
        return key_of({"glossary": sorted(self.terms.items())})[:32]

    def tsv(self) -> str:
        return "".join(f"{source}\t{target}\n" for source, target in self.terms.items())

    def ready(self, pair: LanguagePair, keying: Keying) -> Terms:
        """The terms as they are looked for in texts of a pair. Takes some ten microseconds a term the first time."""
        if (terms := self._ready.get((pair, keying))) is None:
            terms = self._ready[pair, keying] = Terms(self.terms, self.digest, pair, keying)
        return terms

    def segment_terms(self, pair: LanguagePair, keying: Keying | None = None) -> SegmentTerms:
        """The terms for the segments of one request."""
        return SegmentTerms(self.ready(pair, keying or keying_for(pair.source.tag)))


def _term(text: str, place: str) -> str:
    """The term in NFC with single spaces. Raises BadInput."""
    if (control := next((c for c in text if unicodedata.category(c) in ("Cc", "Zl", "Zp") and c != "\t"), None)) is not None:
        raise BadInput("a term has a control character or a line end", place=place, found=f"U+{ord(control):04X}", valid="a word, or words with spaces")
    term = " ".join(unicodedata.normalize("NFC", text).split())
    if not any(map(str.isprintable, term)):
        raise BadInput("empty", place=place, valid="a word, or words with spaces")
    if len(term) > LONGEST_TERM:
        raise BadInput("too long", place=place, found=f"{len(term)} characters", valid=f"at most {LONGEST_TERM}")
    return term


def _entries(rows: Iterable[tuple[int, list[str]]], place: str) -> Iterator[tuple[str, str, str]]:
    for line, row in rows:
        where = f"{place}, line {line}"
        if len(row) != 2:
            raise BadInput("not two columns", place=where, found=f"{len(row)}", valid=TWO_COLUMNS)
        yield row[0], row[1], where


def _tsv_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.removesuffix("\r").split("\t")


def _csv_rows(text: str, place: str, pair: LanguagePair | None) -> Iterator[tuple[int, list[str]]]:
    # `strict`, so that a quotation mark nobody closes is refused rather than read to the end of the file.
    reader = csv.reader(text.split("\n"), strict=True, skipinitialspace=True)
    try:
        for row in reader:
            if len(row) == 4 and pair is not None:
                # As DeepL's web page writes it.
                if [base_language(cell.strip()) for cell in row[2:]] != [base_language(side.tag) for side in (pair.source, pair.target)]:
                    raise BadInput("a term of other languages", place=f"{place}, line {reader.line_num}", found="-".join(row[2:]), valid=str(pair))
                row = row[:2]
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as e:
        raise BadInput("not CSV", place=f"{place}, line {reader.line_num}", found=str(e), valid=TWO_COLUMNS) from None

"""Reads bilingual dictionaries: tables (tab-separated, or CSV), terms in TBX and TMX, and Apertium's bilingual dictionaries (.dix).

Reads the file as a stream. What comes out are single source words, each with its translations, the likeliest first; what is left out is counted by reason.
"""

from __future__ import annotations

import csv
import dataclasses
import html
import io
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tell.corpus.readers.inline import local
from tell.corpus.readers.segment import ReadOptions, ReadReport
from tell.corpus.readers.streams import open_unpacked
from tell.corpus.readers.tmx import read_tmx
from tell.errors import CorpusError, LanguageError
from tell.files import iter_lines, line_text
from tell.languages import LanguagePair, base_language, language
from tell.lexicon.words import folded, words
from tell.text.normalise import controls, storable, tidy
from tell.text.safe_xml import elements

# More than any bilingual dictionary has, and what memory holds with ease; a lexicon takes a fifth of it at most.
MOST_ENTRIES = 1_000_000
# Headwords, and words of a corpus, from which on it is judged whether they are of one language.
LEAST_JUDGED = 500
# Headwords of a dictionary with fewer than that, from which on it is judged by their first letters: too few of them are in the corpus as they are.
LEAST_SMALL, STEM = 100, 5
# Lines of a CSV file above its entries, at most.
MOST_NAMED = 100
# A longer translation is a definition.
MOST_WORDS, MOST_CHARACTERS = 4, 60
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_TAG = re.compile(r"<[^<>]{0,200}>")
_BETWEEN = re.compile("[;,/|]")
_CODE = re.compile("[a-z]{2,3}(?:-[A-Za-z]{2,4})?")
# A remark in brackets, and how a word is spoken, between slashes.
_REMARK = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|/[^/\n]{0,60}[\u0250-\u02ff][^/\n]{0,60}/")
# What stands in elements of its own, as entries in HTML have it, is a translation of its own.
_BLOCK = re.compile(r"</?(?:li|br|p|div|tr|td|dd|dt|ol|ul|hr|h[1-6]|blockquote)\b[^<>]{0,200}>", re.I)
# A short text in italics is a class or a field ("n", "zool."), where there is other text beside it.
_LABEL = re.compile(r"<(i|em|abbr|small|sup)\b[^<>]{0,200}>[^<>]{0,8}</\1>", re.I)
# How pyglossary writes what would end a cell or a line of a table.
_ESCAPED = re.compile(r"\\([\\nt|])")
_UNESCAPED = {"\\": "\\", "n": "\n", "t": " ", "|": " "}

# Source, target, and the rank of the sense where the dictionary has one.
Row = tuple[str, str, int]


@dataclasses.dataclass(slots=True)
class Dictionary:
    """The entries of one file. `entries`: for each folded source word its translations and the ranks of their senses, lowest first. `left_out` counts rows."""

    path: Path
    entries: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    read: int = 0
    left_out: Counter[str] = dataclasses.field(default_factory=Counter)

    def report(self) -> dict[str, Any]:
        kept = sum(map(len, self.entries.values()))
        return {"read": self.read, "words": len(self.entries), "translations": kept, "left_out": dict(sorted(self.left_out.items()))}


def read_dictionary(path: Path, pair: LanguagePair, backward: bool = False) -> Dictionary:
    """The dictionary in a file, from the pair's source to its target; `backward`: the file's columns are the other way round.

    Raises CorpusError for a file that cannot be read, is of another pair, or has more than a million entries.
    """
    name = path.name.lower().removesuffix(".gz")
    reader = _READERS.get(name.rpartition(".")[2], _table)
    found = Dictionary(path)
    ranked: dict[str, dict[str, tuple[int, int, str]]] = {}
    for source, target, rank in reader(path, pair, backward):
        found.read += 1
        if found.read > MOST_ENTRIES:
            raise CorpusError("too many entries for a dictionary", place=str(path), found=f"more than {MOST_ENTRIES:,}", valid=f"at most {MOST_ENTRIES:,}")
        reason, heads, translations = _entry(source, target, pair)
        if reason:
            found.left_out[reason] += 1
        for head in heads:
            senses = ranked.setdefault(head, {})
            for at, text in enumerate(translations):
                senses.setdefault(folded(text), (rank, len(senses) + at, text))
    if not ranked:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in found.left_out.most_common()) or "no entries"
        raise CorpusError("nothing in this dictionary can be used", place=str(path), found=reasons, valid="source word, tab, target word on each line")
    found.entries = {head: {text: rank for rank, _, text in sorted(senses.values())} for head, senses in sorted(ranked.items())}
    return found


def plain(text: str) -> str:
    """The text without HTML and without remarks in brackets, tidied."""
    if "<" in text or "&" in text:
        text = html.unescape(_TAG.sub(" ", text))
    return " ".join(tidy(_REMARK.sub(" ", text)).split())


def _apart(definition: str) -> str:
    """A definition as plain text, with semicolons between what its lines or its HTML set apart."""
    if "<" in definition:
        definition = _BLOCK.sub("\n", definition)
        unlabelled = _LABEL.sub(" ", definition)
        definition = unlabelled if any(map(str.isalnum, plain(unlabelled))) else definition
    return "; ".join(line for part in definition.split("\n") if (line := plain(part)))


def _entry(source: str, target: str, pair: LanguagePair) -> tuple[str, list[str], list[str]]:
    """Why a row gives nothing (empty if it does), the folded source words, and the translations. Several of either stand between semicolons or commas."""
    source, target = plain(source), _apart(target)
    if not source or not target:
        return "empty", [], []
    if "<" in source + target or ">" in source + target:
        return "markup", [], []
    if controls(source + target) or not storable(source + target):
        return "control characters", [], []
    heads = [folded(w[0].text) for part in _parts(source) if len(w := words(part, pair.source.tag)) == 1 and w[0].text == part]
    if not heads:
        return "not one word", [], []
    parts = [t for t in _parts(target) if folded(t) not in heads]
    if not parts:
        return "the same on both sides", [], []
    short = [t for t in parts if len(t) <= MOST_CHARACTERS and 0 < len(words(t, pair.target.tag)) <= MOST_WORDS and not any(c.isdigit() for c in t)]
    return ("" if short else "a definition, or no word"), heads if short else [], short


def _parts(text: str) -> list[str]:
    return [part for p in _BETWEEN.split(text) if (part := p.strip(" .!?:"))]


def _sides(tag: str, pair: LanguagePair) -> int | None:
    """0 for a tag of the source language, 1 for the target's, None for any other; regions do not matter."""
    try:
        name = base_language(language(tag).tag)
    except LanguageError:
        return None
    sides = [base_language(side.tag) for side in (pair.source, pair.target)]
    return sides.index(name) if name in sides else None


def _table(path: Path, pair: LanguagePair, backward: bool) -> Iterator[Row]:
    """Rows of source, target and, where the fourth column has it, the rank of the sense. A first line of two language codes says which column is which."""
    columns = (1, 0) if backward else (0, 1)
    named_languages: dict[str, str] = {}
    begun = False
    for number, (start, raw) in enumerate(iter_lines(path), 1):
        cells = line_text(raw, path, number, start).split("\t")
        if not any(cells):
            continue
        if not begun and cells[0].startswith("##"):
            # What pyglossary writes above the entries.
            named_languages[cells[0].strip("# ")] = cells[-1]
            columns = _by_name(named_languages, pair) or columns
            continue
        begun = True
        cells = [_ESCAPED.sub(lambda m: _UNESCAPED[m.group(1)], cell) if "\\" in cell else cell for cell in cells]
        if len(cells) < 2:
            raise CorpusError(
                "one column", place=f"{path}, line {number}", found=cells[0], valid="source word, tab, target word; then, if known, class and rank"
            )
        if number == 1 and (named := _header(cells, pair, f"{path}, line 1")) is not None:
            columns = named
            continue
        rank = int(cells[3]) if len(cells) > 3 and cells[3].isdecimal() and len(cells[3]) < 6 else 0
        yield cells[columns[0]], cells[columns[1]], rank


def _csv(path: Path, pair: LanguagePair, backward: bool) -> Iterator[Row]:
    """Rows of source and target, and as `_table` has them. Above them, pyglossary writes lines with a #; then a third column has other headwords."""
    columns = (1, 0) if backward else (0, 1)
    named_languages: dict[str, str] = {}
    with open_unpacked(path) as stream:
        # A cell may have several lines.
        rows = csv.reader(io.TextIOWrapper(stream, "utf-8-sig", newline=""), strict=True)
        try:
            for row in rows:
                place = f"{path}, line {rows.line_num}"
                if not any(row):
                    continue
                if len(row) < 2:
                    raise CorpusError("one column", place=place, found=row[0], valid="source word, comma, target word")
                if row[0].startswith("#") and rows.line_num <= MOST_NAMED:
                    named_languages[row[0].strip("# ")] = row[1]
                    columns = _by_name(named_languages, pair) or columns
                    continue
                if rows.line_num == 1 and (named := _header(row, pair, place)) is not None:
                    columns = named
                    continue
                heads = "|".join([row[0], *row[2:3]]) if named_languages else row[0]
                rank = int(row[3]) if len(row) > 3 and row[3].isdecimal() and len(row[3]) < 6 else 0
                cells = heads, row[1]
                yield cells[columns[0]], cells[columns[1]], rank
        except (csv.Error, UnicodeDecodeError) as e:
            found = "not UTF-8" if isinstance(e, UnicodeDecodeError) else str(e)
            raise CorpusError("not CSV", place=f"{path}, line {rows.line_num + 1}", found=found, valid="source word, comma, target word on each line") from None


def _by_name(named: Mapping[str, str], pair: LanguagePair) -> tuple[int, int] | None:
    """The columns of source and target, where pyglossary names the pair's two languages; None where it does not."""
    languages = [named.get(side, "").strip().lower() for side in ("sourceLang", "targetLang")]
    own = [pair.source.name.lower(), pair.target.name.lower()]
    return (0, 1) if languages == own else (1, 0) if languages == own[::-1] else None


def _header(cells: list[str], pair: LanguagePair, place: str) -> tuple[int, int] | None:
    """The columns of source and target, where the line has language codes; None where it has words. Raises CorpusError for the codes of another pair."""
    sides = [_sides(c, pair) if 1 < len(c) < 12 else None for c in cells[:2]]
    if set(sides) == {0, 1}:
        return sides.index(0), sides.index(1)
    known = [_CODE.fullmatch(c) for c in cells[:2]]
    # Two codes that are no side of the pair: words of two letters that are both codes do not begin a dictionary.
    codes = cells[0] != cells[1] and all(len(c) == 2 and is_language(c) for c in cells[:2])
    if all(known) and (any(s is not None for s in sides) or codes):
        raise CorpusError("this dictionary is of another pair", place=place, found="-".join(cells[:2]), valid=str(pair))
    return None


def is_language(code: str) -> bool:
    try:
        language(code)
    except LanguageError:
        return False
    return True


def _tmx(path: Path, pair: LanguagePair, backward: bool) -> Iterator[Row]:
    for unit in read_tmx(path, ReadOptions(pair), ReadReport((path,), path.name, "tmx")):
        if unit.reason is None:
            yield unit.source, unit.target, 0


def _tbx(path: Path, pair: LanguagePair, backward: bool) -> Iterator[Row]:
    """Every source term of a concept with every target term of it."""
    tags: Counter[str] = Counter()
    good = 0
    with open_unpacked(path) as stream:
        for _, concept in elements(stream, ["{*}conceptEntry", "{*}termEntry"], place=str(path), error=CorpusError):
            terms: tuple[list[str], list[str]] = ([], [])
            for section in concept:
                if local(section) in ("langSec", "langSet"):
                    tag = section.get(_LANG) or ""
                    tags[tag] += 1
                    if (side := _sides(tag, pair)) is not None:
                        terms[side].extend("".join(t.itertext()) for t in section.iter() if local(t) == "term")
            good += bool(terms[0] and terms[1])
            yield from ((s, t, n) for s in terms[0] for n, t in enumerate(terms[1]))
    if not good:
        found = ", ".join(tag for tag, _ in tags.most_common(5)) or "no terms"
        raise CorpusError("no terms of this pair", place=str(path), found=found, valid=f"terms of {pair.source.tag} and {pair.target.tag}")


def _dix(path: Path, pair: LanguagePair, backward: bool) -> Iterator[Row]:
    """Entries of an Apertium bilingual dictionary, left to right; those that hold in the other direction only are left out."""
    other = "LR" if backward else "RL"
    with open_unpacked(path) as stream:
        for _, entry in elements(stream, ["e"], place=str(path), error=CorpusError):
            if entry.get("r") == other:
                continue
            for p in (child for child in entry if local(child) == "p"):
                sides = {local(side): _lemma(side) for side in p}
                if "l" in sides and "r" in sides:
                    yield (sides["r"], sides["l"], 0) if backward else (sides["l"], sides["r"], 0)


def _lemma(side: Any) -> str:
    """The letters of one side of a .dix entry: `b` is a space, and `s` names a class."""
    parts = [side.text or ""]
    for child in side:
        parts += [" " if local(child) == "b" else "", "".join(child.itertext()) if local(child) == "g" else "", child.tail or ""]
    return "".join(parts)


_READERS: dict[str, Callable[[Path, LanguagePair, bool], Iterator[Row]]] = {"tmx": _tmx, "tbx": _tbx, "dix": _dix, "xml": _tbx, "csv": _csv}


def _known(terms: Iterable[str], corpus_words: Iterable[str]) -> int:
    """How many of some words are in the corpus, or begin as one there does."""
    beginnings = {word[:STEM] for word in corpus_words}
    return sum(term[:STEM] in beginnings for term in terms)


def foreign(dictionary: Dictionary, source_words: Collection[str]) -> int | None:
    """The number of its words that are in the corpus, where they are so few that the dictionary may be of another language; None where it looks right.

    Icelandic in an Icelandic corpus of 400 pairs: 1.9% of 35,460 headwords, which are 28% of the corpus's words; Northern Sami there: 0.1% and 0.2%. A hundred
    headwords drawn from these have 3 to 40 with the first letters of a word of corpora of 100 to 1,700 pairs; Northern Sami ones mostly 0 to 2, rarely 4.
    """
    if LEAST_SMALL <= len(dictionary.entries) < LEAST_JUDGED <= len(source_words):
        known = _known(dictionary.entries, source_words)
        return known if known <= len(dictionary.entries) / 50 else None
    known = sum(head in source_words for head in dictionary.entries)
    few = known < len(dictionary.entries) / 100 and known < len(source_words) / 100
    return known if few and len(dictionary.entries) >= LEAST_JUDGED and len(source_words) >= LEAST_JUDGED else None


def turned_round(dictionary: Dictionary, source_words: Iterable[str], target_words: Iterable[str]) -> bool:
    """Whether the dictionary's sides seem to be exchanged: by the corpus's words, its headwords are target words and its translations source words.

    Of a small one by the first letters: of fifty headwords drawn from an Icelandic dictionary and their translations 5 to 45 begin as the corpus's words do on
    their own sides, and 0 to 6 on the other ones.
    """
    sources, targets = frozenset(source_words), frozenset(target_words)
    heads, first = list(dictionary.entries), [folded(next(iter(translations))) for translations in dictionary.entries.values()]
    if len(heads) < LEAST_JUDGED <= min(len(sources), len(targets)):
        right, wrong = _known(heads, sources) + _known(first, targets), _known(heads, targets) + _known(first, sources)
        if wrong >= 10 and wrong > 3 * right:
            return True
    right = sum(head in sources and text in targets for head, text in zip(heads, first, strict=True))
    wrong = sum(head in targets and text in sources for head, text in zip(heads, first, strict=True))
    return wrong > 20 and wrong > 4 * right

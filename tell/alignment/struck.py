"""Entries that a person has struck: wrong ones, which stay out of a lexicon however often it is built.

Reads and writes struck.tsv: on each line a source word, or a key as `tellmt lexicon show` lists it, and then, if one candidate alone is struck, a tab and that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tell.errors import BadInput, CorpusError
from tell.files import read_lines, write_atomic
from tell.lexicon.lexicon import HEAD, Lexicon
from tell.lexicon.words import folded, keys

FILE = "struck.tsv"
# A folded source word or a key, and a folded candidate, empty for all of them.
Struck = tuple[str, str]


def read_struck(paths: Iterable[Path]) -> list[Struck]:
    """What the files strike, each once, sorted. Raises CorpusError for a line that has no word, or more than two columns."""
    found: set[Struck] = set()
    for path in paths:
        for number, line in enumerate(read_lines(path), 1):
            if not line.strip():
                continue
            cells = [c.strip() for c in line.split("\t")]
            if len(cells) > 2 or not cells[0].rstrip("*"):
                raise CorpusError(
                    "not a struck entry", place=f"{path}, line {number}", found=line, valid="a source word; and, for one candidate of it, a tab and that"
                )
            found.add((folded(cells[0]), folded(cells[1]) if len(cells) > 1 else ""))
    return sorted(found)


def struck_entry(word: str, candidate: str) -> Struck:
    """The entry of a word, or of a key that ends in *, and of one of its candidates. Raises BadInput for what is not one word."""
    place, valid = "tellmt lexicon strike", "one word of the source language, and a translation of it"
    if (letters := word.rstrip("*")).split() != [letters]:
        raise BadInput("not a word", place=place, found=repr(letters), valid=valid)
    if any(c in candidate for c in "\t\n\r"):
        raise BadInput("not a candidate", place=place, found=repr(candidate), valid=valid)
    return folded(word), folded(candidate)


def write_struck(path: Path, struck: Iterable[Struck]) -> None:
    write_atomic(path, "".join(f"{word}\t{candidate}".rstrip("\t") + "\n" for word, candidate in sorted(struck)))


def without_struck(lexicon: Lexicon, struck: Sequence[Struck]) -> Lexicon:
    """The lexicon without these entries. A word struck as a whole gets no hint; a candidate struck for a word goes from all keys of the word."""
    if not struck:
        return lexicon
    entries = {k: lexicon.candidates(k) for k in lexicon.lines}
    whole = set(lexicon.struck)
    for word, candidate in struck:
        of_word = [word] if word.endswith(("*", HEAD)) else [*(k for k, _ in keys(word, lexicon.keying)), *(h + HEAD for h in lexicon.heads(word))]
        if not candidate and of_word != [word]:
            whole.add(word)
            continue
        for source_key in of_word:
            if source_key in entries:
                kept = {text: n for text, n in entries[source_key].items() if candidate and folded(text) != candidate}
                entries[source_key] = kept
    return Lexicon.of(lexicon.pair, lexicon.keying, lexicon.common, entries, lexicon.totals, frozenset(whole))

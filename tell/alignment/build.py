"""Builds a lexicon from the training pairs of corpora by word alignment.

Reads corpus directories (`tell.corpus.build`). Writes a directory: lexicon.tsv, links.jsonl.gz with what each pair gave to it, and build.json with the counts.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from tell.alignment import links
from tell.alignment.align import PASSES, Alignment, Link
from tell.alignment.dictionary import Dictionary, foreign, read_dictionary, turned_round
from tell.alignment.join import joined, read_fitting
from tell.alignment.pruning import pruned
from tell.alignment.struck import FILE as STRUCK
from tell.alignment.struck import Struck, read_struck, without_struck, write_struck
from tell.console import progress
from tell.corpus.directory import Corpus, open_corpus
from tell.errors import BadInput, CorpusError
from tell.files import atomic_dir, check_replaceable, key_of, sha256_bytes, sha256_file, write_json
from tell.languages import LanguagePair
from tell.lexicon import lexicon as lex
from tell.lexicon.initials import radical, rule_for
from tell.lexicon.lexicon import Lexicon
from tell.lexicon.words import Keying, folded, keying_for, keys, words
from tell.records import Pair
from tell.text.entities import known_letters
from tell.text.normalise import spelled

FORMAT = 1
REPORT = "build.json"
FILES = (REPORT, lex.FILE, links.FILE, STRUCK)
# Pairs that are aligned together. Memory grows with them; a hundred thousand know their common words as well as a million do.
CHUNK = 100_000
# Fewer pairs repeat too few words for an alignment to be more than a guess.
LEAST_PAIRS = 50
# Words are aligned by this many of their first letters, on both sides: in small corpora few forms of a word occur often enough to be aligned by themselves.
STEM = 5
# How much speaks for the first translation in a dictionary, beside what speaks for a candidate of the corpus (docs/results/lexicon.md).
DICTIONARY = 1
# A target word that begins its sentence tells little of how it is written elsewhere.
INSIDE, AT_START = 10, 1


@dataclasses.dataclass(frozen=True, slots=True)
class LexiconPlan:
    """What a lexicon is built from. `keying` None: the way of the source language. `reversed`: dictionaries whose sides are the other way round.

    `struck`: files of entries that stay out, beside the one in the lexicon's directory. `lexicons`: others of the pair, whose counts are added, such as that
    of an adapter; without the links of its pairs it is not known whether one of them is a dev or test pair of the corpora.
    """

    corpora: tuple[Path, ...]
    dictionaries: tuple[Path, ...] = ()
    reversed: tuple[Path, ...] = ()
    struck: tuple[Path, ...] = ()
    lexicons: tuple[Path, ...] = ()
    keying: Keying | None = None

    def keying_of(self, pair: LanguagePair) -> Keying:
        return keying_for(pair.source.tag) if self.keying is None else self.keying


def _open(plan: LexiconPlan) -> list[Corpus]:
    if len({c.resolve() for c in plan.corpora}) < len(plan.corpora):
        raise CorpusError("the same corpus is given twice", place="CORPUS", found=", ".join(map(str, plan.corpora)))
    corpora = [open_corpus(path) for path in plan.corpora]
    for corpus in corpora:
        if corpus.pair != corpora[0].pair:
            raise CorpusError("this corpus is of another pair", place=str(corpus.path), found=str(corpus.pair), valid=str(corpora[0].pair))
    return corpora


def lexicon_key(plan: LexiconPlan, corpora: Sequence[Corpus], struck: Sequence[Struck]) -> str:
    """The hash of everything that decides a lexicon."""
    return key_of(
        {
            "format": FORMAT,
            "corpora": [c.pairs_sha256 for c in corpora],
            "pair": str(corpora[0].pair),
            "keying": dataclasses.asdict(plan.keying_of(corpora[0].pair)),
            "align": [PASSES, STEM, CHUNK],
            "dictionaries": [sha256_file(p) for p in plan.dictionaries],
            "reversed": [sha256_file(p) for p in plan.reversed],
            "struck": [list(s) for s in struck],
            # Left out where there are none, so that what was built before is still known.
            **({"lexicons": [sha256_file(f) for p in plan.lexicons for f in _files_of(p)]} if plan.lexicons else {}),
        }
    )


def _files_of(lexicon: Path) -> list[Path]:
    """What a lexicon is read from: its entries and, where they are there, the links of its pairs."""
    if not lexicon.is_dir():
        return [lexicon]
    return [lexicon / lex.FILE, *([lexicon / links.FILE] if (lexicon / links.FILE).is_file() else [])]


def _training_pairs(corpora: Sequence[Corpus], left_out: Counter[str]) -> Iterator[Pair]:
    """The training pairs, without those of which a side is a dev or test segment in another of the corpora."""
    held: set[str] = set()
    if len(corpora) > 1:
        for corpus in corpora:
            held |= {known_letters(side) for p in corpus.pairs() if p.split != "train" for side in (p.source, p.target)}
    held.discard("")
    for corpus in corpora:
        for pair in corpus.pairs("train"):
            if held and (known_letters(pair.source) in held or known_letters(pair.target) in held):
                left_out["dev or test of another corpus"] += 1
            else:
                yield pair


def _check_sides(dictionary: Dictionary, tally: LinkCounts) -> None:
    if turned_round(dictionary, tally.source_words, tally.casings):
        found = f"{tally.pair.target.name} words where {tally.pair.source.name} ones should be"
        raise CorpusError("the sides of this dictionary are the other way round", place=str(dictionary.path), found=found, valid="--reversed with this file")


def _chunks(pairs: Iterable[Pair], total: int) -> Iterator[list[Pair]]:
    """The pairs in chunks of about one size, none larger than CHUNK: a small last one would be aligned badly."""
    size = -(-total // max(1, -(-total // CHUNK)))
    rest = iter(pairs)
    while chunk := list(itertools.islice(rest, size)):
        yield chunk


@dataclasses.dataclass(frozen=True, slots=True)
class _Side:
    """The words of one side of a pair: as they are aligned, and as they are counted."""

    stems: list[str]
    counted: list[str]


class LinkCounts:
    """The counts that become a lexicon, gathered pair by pair."""

    def __init__(self, pair: LanguagePair, keying: Keying):
        self.pair, self.keying, self.target_initials = pair, keying, rule_for(pair.target.tag)
        self.entries: defaultdict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self.source_words: Counter[str] = Counter()
        self.casings: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.totals: Counter[str] = Counter()

    def read(self, pair: Pair) -> tuple[_Side, _Side]:
        """Counts the words of a pair, and returns what of it is aligned."""
        source = [folded(w.text) for w in words(pair.source, self.pair.source.tag)]
        self.source_words.update(source)
        target = words(pair.target, self.pair.target.tag)
        counted = [folded(w.text) for w in target]
        end = 0
        for word, name in zip(target, counted, strict=True):
            starts = not end or pair.target[end : word.start].strip().endswith((".", "!", "?", ":"))
            self.casings[name][word.text] += AT_START if starts else INSIDE
            end = word.end
        return _Side([self._stem(w, self.keying.initials) for w in source], source), _Side([self._stem(w, self.target_initials) for w in counted], counted)

    @staticmethod
    def _stem(word: str, initials: str) -> str:
        return radical(word, initials)[:STEM] or word

    def add(self, source: _Side, target: _Side, found: Iterable[Link]) -> dict[str, Counter[str]]:
        """Counts the links of a pair, and returns what it gave: links by key and folded candidate."""
        given: dict[str, Counter[str]] = {}
        for i, j in found:
            candidate = target.counted[j]
            self.totals[candidate] += 1
            for source_key, _ in keys(source.counted[i], self.keying):
                given.setdefault(source_key, Counter())[candidate] += 1
        for source_key, counts in given.items():
            entry = self.entries[source_key]
            for candidate, n in counts.items():
                entry[candidate] += n
        return given

    def add_dictionary(self, dictionary: Dictionary) -> None:
        """Adds the entries of a dictionary: the first translation of a word counts DICTIONARY, the second half of that, the third a third.

        Senses of one rank are in the order in which the corpus uses their words most: dictionaries that were turned round have them in the alphabet's.
        """
        used = {name: ways.total() for name, ways in self.casings.items()}
        for head, translations in dictionary.entries.items():
            counts = self.entries[radical(head, self.keying.initials) + lex.HEAD]
            order = sorted(translations.items(), key=lambda sense: (sense[1], -used.get(folded(sense[0]), 0)))
            for n, (text, _) in enumerate(order, 1):
                name = folded(text)
                self.casings[name][text] += AT_START
                counts[name] = max(counts[name], round(DICTIONARY / n, 2))

    def lexicon(self) -> Lexicon:
        def written(word: str) -> str:
            ways = self.casings[word]
            return min(ways, key=lambda w: (-ways[w], w))

        common = [w for w, _ in sorted(self.source_words.items(), key=lambda c: (-c[1], c[0]))[: lex.RANKED]]
        kept = {k: sorted(counts.items(), key=lambda c: (-c[1], c[0]))[: lex.CANDIDATES] for k, counts in self.entries.items()}
        return Lexicon.of(self.pair, self.keying, common, {k: {written(t): n for t, n in counts} for k, counts in kept.items()}, self.totals)


def build(plan: LexiconPlan, out: Path, force: bool = False) -> tuple[dict[str, Any], bool]:
    """Builds the lexicon at `out`. Returns its build.json, and whether it was reused.

    A lexicon is reused when it was built from the same pairs in the same way and its files are as they were written; `force` builds it even then. Raises
    CorpusError or BadInput, and then leaves `out` as it was.
    """
    corpora = _open(plan)
    others = [read_fitting(p, corpora[0].pair, plan.keying_of(corpora[0].pair)) for p in plan.lexicons]
    struck = read_struck([*plan.struck, *([out / STRUCK] if (out / STRUCK).is_file() else [])])
    wanted = lexicon_key(plan, corpora, struck)
    if not force and (unchanged := intact(out, wanted)) is not None:
        return unchanged, True
    check_replaceable(out, FILES)
    with atomic_dir(out) as aside:
        report = {"format": FORMAT, "key": wanted, **_build(plan, corpora, others, struck, aside)}
        write_json(aside / REPORT, report)
    return report, False


def intact(out: Path, wanted: str) -> dict[str, Any] | None:
    """The build.json at `out` if it has this key and the files beside it are as they were written."""
    try:
        report = dict(json.loads((out / REPORT).read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError) as e:
        raise BadInput(f"{REPORT} cannot be read", place=str(out / REPORT), found=str(e), valid="--force builds it again") from None
    files: Any = report.get("sha256")
    whole = report.get("key") == wanted and isinstance(files, dict) and lex.FILE in files
    return report if whole and all((out / n).is_file() and sha256_file(out / n) == digest for n, digest in files.items()) else None


_UNKNOWN = (
    "{}: of which pairs these words were learned is not known; "
    "where dev or test segments of yours were among them, their scores are higher than those of new texts"
)


def _build(plan: LexiconPlan, corpora: Sequence[Corpus], others: Sequence[Lexicon], struck: Sequence[Struck], aside: Path) -> dict[str, Any]:
    pair = corpora[0].pair
    dictionaries = [read_dictionary(p, pair) for p in plan.dictionaries] + [read_dictionary(p, pair, backward=True) for p in plan.reversed]
    tally, left_out = LinkCounts(pair, plan.keying_of(pair)), Counter[str]()
    total = sum(int(c.report["splits"]["train"]["pairs"]) for c in corpora)
    linked = pairs = 0
    with links.opened(aside / links.FILE) as out, progress() as bar:
        task = bar.add_task("aligning words", total=total * 2 * PASSES)
        with closing(_aligned(_training_pairs(corpora, left_out), total, tally, aside, lambda done: bar.advance(task, done))) as rows:
            for p, source, target, found in rows:
                given = tally.add(source, target, found)
                pairs, linked = pairs + 1, linked + bool(given)
                links.write_line(out, p.source, p.target, given)
        for path in plan.lexicons:
            for file in _files_of(path)[1:]:
                links.append(out, file)
    doubts = []
    for dictionary in dictionaries:
        _check_sides(dictionary, tally)
        if (known := foreign(dictionary, tally.source_words)) is not None:
            doubts.append(f"{dictionary.path}: {known:,} of its {len(dictionary.entries):,} words are in the corpus; is it of {pair}?")
        tally.add_dictionary(dictionary)
    own = tally.lexicon()
    kept, pruning = pruned(without_struck(joined([own, *others], [1.0] * (1 + len(others))) if others else own, struck))
    data = kept.dump()
    (aside / lex.FILE).write_bytes(data)
    if struck:
        write_struck(aside / STRUCK, struck)
    return {
        "pair": str(pair),
        "keying": dataclasses.asdict(tally.keying),
        "corpora": [{"path": spelled(str(c.path)), "pairs_sha256": c.pairs_sha256} for c in corpora],
        "counts": {"pairs": pairs, "linked": linked, "links": tally.totals.total(), "keys": len(kept), "bytes": len(data)},
        "left_out": dict(sorted(left_out.items())),
        "dictionaries": [{"path": spelled(str(d.path)), **d.report()} for d in dictionaries],
        **({"lexicons": [{"path": spelled(str(p)), "keys": len(other)} for p, other in zip(plan.lexicons, others, strict=True)]} if others else {}),
        "struck": len(struck),
        "notes": [*_notes(pair, pairs, tally), *doubts, *(_UNKNOWN.format(p) for p in plan.lexicons if len(_files_of(p)) == 1)],
        "pruned": pruning,
        "sha256": {lex.FILE: sha256_bytes(data), links.FILE: sha256_file(aside / links.FILE)},
    }


def _notes(pair: LanguagePair, pairs: int, tally: LinkCounts) -> list[str]:
    if pairs < LEAST_PAIRS:
        return [f"{pairs} pairs are too few to align words (at least {LEAST_PAIRS}): the lexicon has what the dictionaries have, and nothing else"]
    side = pair.source if not tally.source_words else pair.target
    if not tally.totals:
        return [f"no words were aligned: {side.name} is written without spaces between words here, and the corpus gives no hints"]
    return []


def _aligned(
    pairs: Iterable[Pair], total: int, tally: LinkCounts, folder: Path, step: Callable[[int], None]
) -> Generator[tuple[Pair, _Side, _Side, list[Link]]]:
    """The pairs with their words and links, in order. While the links of a chunk are asked for, the next one is being aligned."""
    with ExitStack() as stack:
        waiting: tuple[Alignment, list[tuple[Pair, _Side, _Side]]] | None = None
        for chunk in itertools.chain(_chunks(pairs, total), [[]]):
            read = [(p, *tally.read(p)) for p in chunk]
            tokens = [(s.stems, t.stems) if total >= LEAST_PAIRS else ([], []) for _, s, t in read]
            alignment = stack.enter_context(closing(Alignment(tokens, folder, step)))
            if waiting is not None:
                for row, found in zip(waiting[1], waiting[0].links(), strict=True):
                    yield *row, found
                waiting[0].close()
            waiting = alignment, read

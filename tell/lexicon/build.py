"""Builds a lexicon from the training pairs of corpora by word alignment.

Reads corpus directories (`tell.corpus.build`). Writes a directory: lexicon.tsv, links.jsonl.gz with what each pair gave to it, and build.json with the counts.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tell.console import progress
from tell.corpus.directory import Corpus, open_corpus
from tell.errors import BadInput, CorpusError
from tell.files import atomic_dir, check_replaceable, key_of, sha256_bytes, sha256_file, write_json
from tell.languages import LanguagePair
from tell.lexicon import lexicon as lex
from tell.lexicon import links
from tell.lexicon.align import PASSES, align
from tell.lexicon.lexicon import Lexicon, pruned
from tell.lexicon.words import Keying, Word, folded, key, words
from tell.records import Pair
from tell.text.normalise import letters, spelled

FORMAT = 1
REPORT = "build.json"
FILES = (REPORT, lex.FILE, links.FILE)
# Pairs that are aligned together. Memory grows with them; a hundred thousand know their common words as well as a million do.
CHUNK = 100_000
# Words are aligned by this many of their first letters, on both sides: in small corpora few forms of a word occur often enough to be aligned by themselves.
STEM = 5
# A target word that begins its sentence tells little of how it is written elsewhere.
INSIDE, AT_START = 10, 1


@dataclasses.dataclass(frozen=True, slots=True)
class LexiconPlan:
    """What a lexicon is built from, and how its source words are keyed."""

    corpora: tuple[Path, ...]
    keying: Keying = dataclasses.field(default_factory=Keying)


def _open(plan: LexiconPlan) -> list[Corpus]:
    if len({c.resolve() for c in plan.corpora}) < len(plan.corpora):
        raise CorpusError("the same corpus is given twice", place="CORPUS", found=", ".join(map(str, plan.corpora)))
    corpora = [open_corpus(path) for path in plan.corpora]
    for corpus in corpora:
        if corpus.pair != corpora[0].pair:
            raise CorpusError("this corpus is of another pair", place=str(corpus.path), found=str(corpus.pair), valid=str(corpora[0].pair))
    return corpora


def lexicon_key(plan: LexiconPlan, corpora: Sequence[Corpus]) -> str:
    """The hash of everything that decides a lexicon."""
    return key_of(
        {
            "format": FORMAT,
            "corpora": [c.pairs_sha256 for c in corpora],
            "pair": str(corpora[0].pair),
            "keying": dataclasses.asdict(plan.keying),
            "align": [PASSES, STEM, CHUNK],
        }
    )


def _training_pairs(corpora: Sequence[Corpus], left_out: Counter[str]) -> Iterator[Pair]:
    """The training pairs, without those of which a side is a dev or test segment in another of the corpora."""
    held: set[str] = set()
    if len(corpora) > 1:
        for corpus in corpora:
            held |= {letters(side) for p in corpus.pairs() if p.split != "train" for side in (p.source, p.target)}
    held.discard("")
    for corpus in corpora:
        for pair in corpus.pairs("train"):
            if held and (letters(pair.source) in held or letters(pair.target) in held):
                left_out["dev or test of another corpus"] += 1
            else:
                yield pair


def _chunks(pairs: Iterable[Pair], total: int) -> Iterator[list[Pair]]:
    """The pairs in chunks of about one size, none larger than CHUNK: a small last one would be aligned badly."""
    size = -(-total // max(1, -(-total // CHUNK)))
    rest = iter(pairs)
    while chunk := list(itertools.islice(rest, size)):
        yield chunk


class Tally:
    """The counts that become a lexicon, gathered pair by pair."""

    def __init__(self, pair: LanguagePair, keying: Keying):
        self.pair, self.keying = pair, keying
        self.entries: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.source_words: Counter[str] = Counter()
        self.casings: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.links = 0

    def add(self, source: list[Word], target: list[Word], target_text: str, found: Iterable[tuple[int, int]]) -> dict[str, Counter[str]]:
        """Counts a pair's words and links, and returns what it gave: links by key and folded candidate."""
        given: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for i, j in found:
            given[key(source[i].text, self.keying)][folded(target[j].text)] += 1
        for source_key, counts in given.items():
            self.entries[source_key].update(counts)
            self.links += counts.total()
        self.source_words.update(folded(w.text) for w in source)
        for n, word in enumerate(target):
            starts = n == 0 or target_text[target[n - 1].end : word.start].strip().endswith((".", "!", "?", ":"))
            self.casings[folded(word.text)][word.text] += AT_START if starts else INSIDE
        return dict(given)

    def lexicon(self) -> Lexicon:
        def written(word: str) -> str:
            ways = self.casings[word]
            return min(ways, key=lambda w: (-ways[w], w))

        common = [w for w, _ in sorted(self.source_words.items(), key=lambda c: (-c[1], c[0]))[: lex.RANKED]]
        entries = {k: {written(t): n for t, n in counts.most_common(2 * lex.CANDIDATES)} for k, counts in self.entries.items()}
        return Lexicon.of(self.pair, self.keying, common, entries)


def build(plan: LexiconPlan, out: Path, force: bool = False) -> tuple[dict[str, Any], bool]:
    """Builds the lexicon at `out`. Returns its build.json, and whether it was reused.

    A lexicon is reused when it was built from the same pairs in the same way and its files are as they were written; `force` builds it even then. Raises
    CorpusError or BadInput, and then leaves `out` as it was.
    """
    corpora = _open(plan)
    wanted = lexicon_key(plan, corpora)
    if not force and (unchanged := intact(out, wanted)) is not None:
        return unchanged, True
    check_replaceable(out, FILES)
    with atomic_dir(out) as aside:
        report = {"format": FORMAT, "key": wanted, **_build(plan, corpora, aside)}
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
    files = {name: out / name for name in (lex.FILE, links.FILE)}
    whole = report.get("key") == wanted and all(f.is_file() and sha256_file(f) == report.get("sha256", {}).get(name) for name, f in files.items())
    return report if whole else None


def _build(plan: LexiconPlan, corpora: Sequence[Corpus], aside: Path) -> dict[str, Any]:
    pair = corpora[0].pair
    tally, left_out = Tally(pair, plan.keying), Counter[str]()
    total = sum(int(c.report["splits"]["train"]["pairs"]) for c in corpora)
    stem = Keying(STEM)
    linked = pairs = 0
    with links.opened(aside / links.FILE) as out, progress() as bar:
        task = bar.add_task("aligning words", total=total * (2 * PASSES + 1))
        for chunk in _chunks(_training_pairs(corpora, left_out), total):
            sources = [words(p.source, pair.source.tag) for p in chunk]
            targets = [words(p.target, pair.target.tag) for p in chunk]
            tokens = [([key(w.text, stem) for w in s], [key(w.text, stem) for w in t]) for s, t in zip(sources, targets, strict=True)]
            found = align(tokens, lambda done: bar.advance(task, done))
            for p, source, target, pair_links in zip(chunk, sources, targets, found, strict=True):
                given = tally.add(source, target, p.target, pair_links)
                linked += bool(given)
                links.write_line(out, p.source, p.target, given)
            pairs += len(chunk)
    full = tally.lexicon()
    kept, pruning = pruned(full)
    data = kept.dump()
    (aside / lex.FILE).write_bytes(data)
    return {
        "pair": str(pair),
        "keying": dataclasses.asdict(plan.keying),
        "corpora": [{"path": spelled(str(c.path)), "pairs_sha256": c.pairs_sha256} for c in corpora],
        "counts": {"pairs": pairs, "linked": linked, "links": tally.links, "keys": len(kept), "bytes": len(data)},
        "left_out": dict(sorted(left_out.items())),
        "pruned": pruning,
        "sha256": {lex.FILE: sha256_bytes(data), links.FILE: sha256_file(aside / links.FILE)},
    }

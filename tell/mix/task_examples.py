"""The task side of a mix: the anchored examples of the corpora's training pairs, within the budget.

Reads pairs.jsonl of each corpus twice, line by line: once for what no example may repeat, once for the examples.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence

from tell.corpus.directory import Corpus
from tell.corpus.overlap import HeldStretches
from tell.corpus.segment_table import FirstSeen, hashed
from tell.corpus.testsets import RegisteredTestSet
from tell.errors import CorpusError
from tell.mix.config import Kind, MixPlan
from tell.mix.counting import counted
from tell.mix.granularity import AlignedDocument, SizedSegment, choose_granularities, joined
from tell.mix.hinting import ExampleHints
from tell.mix.output_length import PairSample
from tell.mix.sources import ExampleSources
from tell.model.anchor import Anchor
from tell.model.tokenizer import BaseTokenizer
from tell.records import Example, Pair
from tell.retrieval.retriever import without_pairs
from tell.spool import BATCH, Spool
from tell.text.entities import known_letters
from tell.text.normalise import weight

# Letters; a character of Chinese, Japanese or Korean counts as three.
# A shorter segment ("Yes.", "Thank you.") is in any general data by chance and gives nothing away.
LEAK_LETTERS = 16


@dataclasses.dataclass(frozen=True, slots=True)
class NamedCorpus:
    """A corpus and the name that its examples carry."""

    corpus: Corpus
    name: str

    def whole(self, doc: str) -> bool:
        """Whether a document is one: where nothing parted the lines, blocks of them stand in for documents."""
        blocks = any(d.startswith("blocks of ") for d in self.corpus.report.get("documents", []))
        return not (blocks and doc.rpartition("/")[2].startswith("block-"))


@dataclasses.dataclass(slots=True)
class ReservedTexts:
    """What other data may not repeat, normalised: the two sides of dev and test, and every segment long enough to give something away; and what may not be in
    a longer text: dev, test and registered test sets."""

    held: tuple[set[str], set[str]] = dataclasses.field(default_factory=lambda: (set(), set()))
    segments: set[str] = dataclasses.field(default_factory=set)
    stretches: HeldStretches = dataclasses.field(default_factory=HeldStretches)


@dataclasses.dataclass(slots=True)
class TaskExamples:
    """The chosen examples, as numbers of spooled lines."""

    # By documents, in the order in which the corpora begin them.
    chosen: array[int]
    # As the corpora have them.
    plain: array[int]
    tokens: int
    # Per corpus: training pairs, examples, tokens.
    corpora: list[Counter[str]]
    # Per granularity: examples, tokens, documents, segments, split.
    kinds: dict[Kind, Counter[str]]
    # New tokens that a translation may need per token of its source, where that is more than the default.
    length_factor: float | None = None


@dataclasses.dataclass(slots=True)
class _SegmentExamples:
    """Every usable segment as an example of its own. The i-th is the i-th line of the spool, which was empty before."""

    tokens: array[int] = dataclasses.field(default_factory=lambda: array("I"))
    documents: array[int] = dataclasses.field(default_factory=lambda: array("I"))
    numbers: array[int] = dataclasses.field(default_factory=lambda: array("Q"))
    # name of the document -> (corpus, whether it is a real document)
    names: dict[str, tuple[int, bool]] = dataclasses.field(default_factory=dict)
    trained: list[int] = dataclasses.field(default_factory=list)
    lengths: PairSample = dataclasses.field(default_factory=PairSample)


def read_known(
    corpora: list[NamedCorpus], hints: ExampleHints | None = None, testsets: Sequence[RegisteredTestSet] = (), general: bool = True
) -> ReservedTexts:
    """The texts of the corpora that other data may not repeat: every segment, where there is general data to compare with them, at some 240 bytes a pair; and
    what is held back, where another corpus could have it. Without either, nothing is held, and without hints nothing is read.

    Raises CorpusError when the lexicon of the hints was learned from a pair that one of the corpora holds back for dev or test."""
    reserved, several = ReservedTexts(), len(corpora) > 1
    if not (general or several or hints is not None):
        return reserved
    for named in corpora:
        for p in named.corpus.pairs():
            if hints is not None and p.split != "train":
                hints.check_held_out(named.corpus.path, p)
            if not (general or (several and p.split != "train")):
                continue
            for held, text in zip(reserved.held, (p.source, p.target), strict=True):
                text_letters = known_letters(text)
                if general and weight(text_letters) >= LEAK_LETTERS:
                    reserved.segments.add(text_letters)
                if p.split != "train" and text_letters:
                    held.add(text_letters)
                    if general:
                        reserved.stretches.add(text, p.split)
    for testset in testsets if general else ():
        for text in itertools.chain(*testset.texts()):
            if weight(text_letters := known_letters(text)) >= LEAK_LETTERS:
                reserved.segments.add(text_letters)
            reserved.stretches.add(text, f"the test set {testset.name}")
    return reserved


def _example(anchor: Anchor, name: str, line: str, source: str, target: str) -> Example:
    return Example(f"task:{name}:{line}", "task", anchor.prompt(source), anchor.opening, target)


def _source_of(anchor: Anchor, prompt: str) -> str:
    """What a prompt has for its source."""
    before, around = len(anchor.prefix), len(anchor.prompt(""))
    return prompt[before : len(prompt) - (around - before)]


def _pair_example(plan: MixPlan, named: NamedCorpus, pair: Pair, source: str) -> Example:
    return _example(plan.anchor, f"{named.name}/{pair.doc}", str(pair.line), source, pair.target)


def _batches(
    plan: MixPlan,
    corpora: list[NamedCorpus],
    reserved: ReservedTexts,
    read: _SegmentExamples,
    queue: list[list[tuple[int, Pair]]],
    left_out: Counter[str],
    sources: ExampleSources,
) -> Iterator[list[Example]]:
    """The training pairs as examples, a batch at a time; `queue` gets the pairs of each batch with their corpus."""
    pairs = training_pairs(corpora, reserved, read.trained, left_out)
    while batch := list(itertools.islice(pairs, BATCH)):
        queue.append(batch)
        yield [_pair_example(plan, corpora[c], p, sources.written(p)) for c, p in batch]


def training_pairs(corpora: list[NamedCorpus], reserved: ReservedTexts, trained: list[int], left_out: Counter[str]) -> Iterator[tuple[int, Pair]]:
    """The training pairs with the number of their corpus, each once, and none that another corpus holds back. `trained` gets how many each corpus has."""
    seen = FirstSeen()
    # A corpus is built free of pairs that are in its own dev or test.
    held: tuple[set[str], set[str]] = reserved.held if len(corpora) > 1 else (set(), set())
    for number, named in enumerate(corpora):
        trained.append(0)
        for p in named.corpus.pairs("train"):
            trained[number] += 1
            # Hashes: the pairs themselves would be most of the memory.
            if seen.first(hashed(p.source, p.target), number) is not None:
                left_out["task: in another corpus too"] += 1
            elif any(side and known_letters(text) in side for side, text in zip(held, (p.source, p.target), strict=True)):
                left_out["task: in dev or test of another corpus"] += 1
            else:
                yield number, p


def _read(
    plan: MixPlan,
    tokenizer: BaseTokenizer,
    corpora: list[NamedCorpus],
    reserved: ReservedTexts,
    spool: Spool,
    left_out: Counter[str],
    sources: ExampleSources,
) -> _SegmentExamples:
    read = _SegmentExamples()
    queue: list[list[tuple[int, Pair]]] = []
    indices: dict[str, int] = {}
    for examples, lengths in counted(tokenizer, _batches(plan, corpora, reserved, read, queue, left_out, sources)):
        for (c, p), example, n in zip(queue.pop(0), examples, lengths, strict=True):
            if n > plan.config.max_tokens:
                for shorter in sources.shorter(p, _source_of(plan.anchor, example.prompt)):
                    example = _pair_example(plan, corpora[c], p, shorter)
                    if (n := tokenizer.lengths([example])[0]) <= plan.config.max_tokens:
                        break
            if n > plan.config.max_tokens:
                left_out["task: longer than max_tokens"] += 1
                continue
            name = f"{corpora[c].name}/{p.doc}"
            if name not in indices:
                indices[name] = len(indices)
                read.names[name] = (c, corpora[c].whole(p.doc))
            read.lengths.add(p.source, p.target)
            spool.add(example.line())
            read.tokens.append(n)
            read.documents.append(indices[name])
            read.numbers.append(p.line)
    return read


def counts(of: Counter[str]) -> str:
    return ", ".join(f"{n} {r}" for r, n in of.most_common()) or "nothing read"


def read_task(
    plan: MixPlan,
    tokenizer: BaseTokenizer,
    corpora: list[NamedCorpus],
    reserved: ReservedTexts,
    spool: Spool,
    left_out: Counter[str],
    sources: ExampleSources,
) -> TaskExamples:
    """Spool the anchored examples and choose those within the budget. Raises CorpusError when none are left, or a share cannot be had."""
    read = _read(plan, tokenizer, corpora, reserved, spool, left_out, sources)
    if not read.tokens:
        raise CorpusError("no task examples left", place=", ".join(map(str, plan.corpora)), found=counts(left_out), valid="training pairs")
    sentences = plan.config.granularity.keys() == {"sentence"}
    task = _by_sentence(plan, read) if sentences else _by_granularity(plan, tokenizer, read, spool)
    if beyond := len(read.tokens) - sum(k["segments"] for k in task.kinds.values()):
        left_out["task: beyond task_tokens"] += beyond
    for corpus, n in zip(task.corpora, read.trained, strict=True):
        corpus["pairs"] = n
    task.length_factor = read.lengths.length_factor(tokenizer, ", ".join(map(str, plan.corpora)))
    return task


def _hash_order(plan: MixPlan, read: _SegmentExamples) -> list[int]:
    """The documents in an order that the seed and their names decide: budgets are prefixes of it, and so they nest."""
    names = list(read.names)
    return sorted(range(len(names)), key=lambda d: hashlib.sha256(f"{plan.seed}\n{names[d]}".encode()).hexdigest())


def _too_small(plan: MixPlan, least: int) -> CorpusError:
    found = str(plan.config.task_tokens)
    return CorpusError("the budget is smaller than the first document", place="[mix] task_tokens", found=found, valid=f"at least {least}")


def _by_sentence(plan: MixPlan, read: _SegmentExamples) -> TaskExamples:
    budget = plan.config.task_tokens
    sizes = array("Q", bytes(8 * len(read.names)))
    for d, n in zip(read.documents, read.tokens, strict=True):
        sizes[d] += n
    chosen = bytearray(b"\1" * len(sizes))
    if budget is not None:
        chosen, total = bytearray(len(sizes)), 0
        for d in (order := _hash_order(plan, read)):
            if total + sizes[d] > budget:
                break
            total += sizes[d]
            chosen[d] = True
        if not any(chosen):
            raise _too_small(plan, sizes[order[0]])
    where = [c for c, _ in read.names.values()]
    corpora: list[Counter[str]] = [Counter() for _ in plan.corpora]
    plain = array("I")
    for i, (d, n) in enumerate(zip(read.documents, read.tokens, strict=True)):
        if chosen[d]:
            plain.append(i)
            corpora[where[d]].update(examples=1, tokens=n)
    grouped = array("I", sorted(plain, key=lambda i: read.documents[i]))
    total = sum(c["tokens"] for c in corpora)
    used = Counter(examples=len(plain), tokens=total, documents=sum(chosen), segments=len(plain))
    return TaskExamples(grouped, plain, total, corpora, {"sentence": used})


def _documents(plan: MixPlan, read: _SegmentExamples, spool: Spool) -> Iterator[AlignedDocument]:
    """The documents in hash order, each read back from the spool when its turn comes."""
    members: list[list[int]] = [[] for _ in read.names]
    for i, d in enumerate(read.documents):
        members[d].append(i)
    whole = [w for _, w in read.names.values()]
    for d in _hash_order(plan, read):
        segments = []
        for i in members[d]:
            row = json.loads(spool.read(i))
            source = _source_of(plan.anchor, row["prompt"])
            if plan.retrieval:
                # Pairs stand before a whole source, never between joined segments.
                source = without_pairs(source)
            segments.append(SizedSegment(i, read.numbers[i], source, row["response"], read.tokens[i]))
        yield AlignedDocument(d, segments, whole[d])


def _by_granularity(plan: MixPlan, tokenizer: BaseTokenizer, read: _SegmentExamples, spool: Spool) -> TaskExamples:
    config, names, place = plan.config, list(read.names), "[mix] granularity"
    shares = config.shares()
    sizes = Counter(read.documents)
    if not any(w and sizes[d] > 1 for d, (_, w) in enumerate(read.names.values())):
        found = f"{len(names)} documents, none of several segments that belong together"
        raise CorpusError("these corpora can only give sentences", place=place, found=found, valid="sentence = 1.0, or a corpus with documents")

    def count(texts: list[tuple[str, str]]) -> list[int]:
        examples = [_example(plan.anchor, "", "", *t) for t in texts]
        return [n for a in range(0, len(examples), BATCH) for n in tokenizer.lengths(examples[a : a + BATCH])]

    corpora: list[Counter[str]] = [Counter() for _ in plan.corpora]
    kinds: dict[Kind, Counter[str]] = {k: Counter() for k in shares}
    examples: list[tuple[int, int, int]] = []
    uses = choose_granularities(_documents(plan, read, spool), shares, config.paragraph_segments, config.max_tokens, count, config.task_tokens)
    for use in uses:
        kind = kinds.setdefault(use.kind, Counter())
        kind.update(documents=1, segments=len(use.document.segments), split=use.split)
        if not use.document.joinable:
            kind["no_other_way"] += 1
        name = names[use.document.index]
        for unit in use.units:
            first, last = unit.segments[0], unit.segments[-1]
            line = first.number
            if last is not first:
                line = spool.add(_example(plan.anchor, name, f"{first.line}-{last.line}", *joined(unit.segments)).line())
            examples.append((first.number, use.document.index, line))
            kind.update(examples=1, tokens=unit.tokens)
            corpora[read.names[name][0]].update(examples=1, tokens=unit.tokens)
    total = sum(c["tokens"] for c in corpora)
    if not examples:
        least = next(choose_granularities(_documents(plan, read, spool), shares, config.paragraph_segments, config.max_tokens, count, None))
        raise _too_small(plan, least.tokens)
    for k, share in shares.items():
        if not kinds[k]:
            found, valid = f"{k} = {share:g} of {total} task tokens", "a larger share, more documents, or no such share"
            raise CorpusError("this share rounds to no example", place=place, found=found, valid=valid)
    examples.sort()
    plain = array("I", [line for _, _, line in examples])
    examples.sort(key=lambda m: m[1])
    return TaskExamples(array("I", [line for _, _, line in examples]), plain, total, corpora, kinds)

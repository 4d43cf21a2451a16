#!/usr/bin/env python3
"""How many of the reference's content words a lexicon offers: by aligner, by keying, and with dictionaries beside the corpus.

Reads corpora (`tellmt corpus build`) with a dev split. The lexicon is learned from their training pairs; the dev pairs, on which nothing is learned, are asked.
Prints a table, and writes OUT as JSON.

    python -m benchmarks.quality.lexicon CORPUS... --aligner fast eflomal hmm ibm1 --prefix 4 5 6 --whole 0 10 -o OUT.json

A content word has four letters or more and is none of the 150 commonest target words of the training pairs. It is offered where one of the first 1, 2 or 3
candidates of any word of the source sentence has it, as it is written or by its first five letters; the hundred commonest source words offer nothing.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tell.alignment.build
import tell.lexicon.lexicon
from tell.alignment.align import Alignment, Link, same_words
from tell.alignment.build import LinkCounts
from tell.alignment.dictionary import read_dictionary
from tell.corpus.directory import open_corpus
from tell.languages import LanguagePair
from tell.lexicon.initials import radical
from tell.lexicon.lexicon import Lexicon
from tell.lexicon.words import Keying, folded, keying_for, words
from tell.records import Pair

# Letters and rank that make a target word one of content, source words without hints, and what counts as the same word in another form.
LETTERS, COMMONEST, SKIPPED, STEM = 4, 150, 100, 5
CANDIDATES = (1, 2, 3)
# thot's other aligners, with the passes of each (eflomal has a schedule of its own).
OTHERS = {"ibm1": ("Ibm1AlignmentModel", 5), "hmm": ("HmmAlignmentModel", 5), "eflomal": ("EflomalAlignmentModel", 0)}
RESAMPLES, SEED = 1000, 12345


def thot_links(aligner: str, tokens: Sequence[tuple[list[str], list[str]]]) -> list[list[Link]]:
    """Links of one of thot's other models, both ways, joined by its grow-diag-final-and."""
    import thot.alignment as thot

    name, passes = OTHERS[aligner]
    models = []
    for backward in (False, True):
        model = getattr(thot, name)()
        if aligner == "eflomal":
            model.seed, model.deterministic = SEED, True
        for source, target in tokens:
            model.add_sentence_pair(*((target, source) if backward else (source, target)))
        model.start_training()
        for _ in range(passes or model.scheduled_iterations):
            model.train()
        model.end_training()
        models.append(model)
    both = thot.SymmetrizedAligner(*models)
    both.heuristic = thot.SymmetrizationHeuristic.GROW_DIAG_FINAL_AND
    links = []
    for source, target in tokens:
        rows, columns = both.get_best_alignment(source, target)[1].to_numpy().nonzero()
        links.append(same_words(set(zip(rows.tolist(), columns.tolist(), strict=True)), source, target))
    return links


def our_links(tokens: Sequence[tuple[list[str], list[str]]]) -> list[list[Link]]:
    with TemporaryDirectory() as folder, closing(Alignment(tokens, Path(folder))) as alignment:
        return alignment.links()


def offered(lexicon: Lexicon, dev: Sequence[Pair], common: frozenset[str]) -> list[dict[str, Any]]:
    """For each dev pair its content words, and for each number of candidates those that are offered, exactly and by their first letters."""
    rows: list[dict[str, Any]] = []
    for pair in dev:
        content = [w for w in (folded(x.text) for x in words(pair.target, lexicon.pair.target.tag)) if len(w) >= LETTERS and w not in common]
        row: dict[str, Any] = {"words": len(content)}
        hints = lexicon.hints(pair.source, candidates=max(CANDIDATES), skip_common=SKIPPED)
        for most in CANDIDATES:
            found = {folded(w.text) for h in hints for c in h.candidates[:most] for w in words(c, lexicon.pair.target.tag)}
            stems = {w[:STEM] for w in found}
            row[f"exact {most}"] = sum(w in found for w in content)
            row[f"stem {most}"] = sum(w[:STEM] in stems for w in content)
        rows.append(row)
    return rows


def shares(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The share of content words that are offered, and half the 95% interval of resampled segments for the first candidate by its letters."""
    total = sum(r["words"] for r in rows)
    result = {name: round(sum(r[name] for r in rows) / total, 4) for name in rows[0] if name != "words"}
    draw = random.Random(SEED)
    samples = []
    for _ in range(RESAMPLES):
        sample = draw.choices(rows, k=len(rows))
        samples.append(sum(r["stem 1"] for r in sample) / sum(r["words"] for r in sample))
    samples.sort()
    return {"words": total, "segments": len(rows), **result, "±": round((samples[int(0.975 * RESAMPLES)] - samples[int(0.025 * RESAMPLES)]) / 2, 4)}


def key_by_lemmas(language: str) -> None:
    """From now on a word is keyed by itself and by its lemma in simplemma's list, where it has one, in place of its first letters."""
    import simplemma

    def keys(word: str, keying: Keying) -> tuple[tuple[str, int], ...]:
        whole = radical(folded(word), keying.initials)
        lemma = folded(str(simplemma.lemmatize(whole, lang=language)))
        return ((whole, keying.whole), (f"{lemma}*", 1)) if keying.whole else ((f"{lemma}*", 1),)

    for module in (tell.alignment.build, tell.lexicon.lexicon):
        vars(module)["keys"] = keys


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    corpora = [open_corpus(path) for path in args.corpora]
    pair: LanguagePair = corpora[0].pair
    train = [p for c in corpora for p in c.pairs("train")][: args.pairs]
    dev = [p for c in corpora for p in c.pairs("dev")]
    counts = Counter(folded(w.text) for p in train for w in words(p.target, pair.target.tag))
    common = frozenset(w for w, _ in counts.most_common(COMMONEST))
    dictionaries = [read_dictionary(path, pair) for path in args.dictionary or ()]
    results = []
    for aligner in args.aligner:
        reader = LinkCounts(pair, keying_for(pair.source.tag))
        sides = [reader.read(p) for p in train]
        tokens = [(s.stems, t.stems) for s, t in sides]
        began = time.monotonic()
        links = our_links(tokens) if aligner == "fast" else [[] for _ in tokens] if aligner == "none" else thot_links(aligner, tokens)
        seconds = time.monotonic() - began
        for prefix in args.prefix:
            for whole in args.whole:
                keying = type(reader.keying)(prefix, whole, "" if args.no_initials else reader.keying.initials)
                tally = LinkCounts(pair, keying)
                tally.source_words, tally.casings = reader.source_words, reader.casings
                for (source, target), found in zip(sides, links, strict=True):
                    tally.add(source, target, found)
                for dictionary in dictionaries:
                    tally.add_dictionary(dictionary)
                lexicon = tally.lexicon()
                setting = {"pair": str(pair), "pairs": len(train), "aligner": aligner, "prefix": prefix, "whole": whole, "dictionaries": len(dictionaries)}
                size = {"bytes": len(lexicon.dump()), "seconds": round(seconds, 1)}
                results.append({**setting, **shares(offered(lexicon, dev, common)), **size})
                print(_row(results[-1]), flush=True)
    return results


def _row(r: dict[str, Any]) -> str:
    found = " | ".join(f"{r[f'{kind} {n}']:.3f}" for kind in ("exact", "stem") for n in CANDIDATES)
    kind = f"{r['pair']} | {r['pairs']:,} | {r['aligner']} | {r['prefix']} | {r['whole']} | {r['dictionaries']}"
    return f"| {kind} | {found} | {r['±']:.3f} | {r['bytes'] / 1e6:.2f} | {r['seconds']} |"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("corpora", nargs="+", type=Path, metavar="CORPUS")
    parser.add_argument("--aligner", nargs="+", choices=["fast", "none", *OTHERS], default=["fast"])
    parser.add_argument("--prefix", nargs="+", type=int, default=[5])
    parser.add_argument("--whole", nargs="+", type=int, default=[10])
    parser.add_argument("--pairs", type=int, help="the first N training pairs alone")
    parser.add_argument("--dictionary", nargs="+", type=Path)
    parser.add_argument("--no-initials", action="store_true", help="Celtic mutations stay as they are in keys")
    parser.add_argument("--lemmas", action="store_true", help="the lemma in place of the first letters (pip install simplemma)")
    parser.add_argument("-o", "--out", type=Path)
    args = parser.parse_args(arguments)
    if args.lemmas:
        key_by_lemmas(open_corpus(args.corpora[0]).pair.source.tag)
    print("| direction | pairs | aligner | prefix | whole | dictionaries | exact 1 | 2 | 3 | by five letters 1 | 2 | 3 | ± | MB | seconds |")
    print("|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    results = measure(args)
    if args.out:
        args.out.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

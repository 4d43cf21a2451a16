"""Whether an adapter that keeps a part of its base's vocabulary translates as it would with the whole: the same texts, both ways, in one run.

    python -m benchmarks.quality.vocabulary ADAPTER SOURCE [REFERENCE] -o DIR

Reads an adapter with `pieces.json`, its base from the cache, and line-aligned texts. Writes `whole/` (the same adapter without its pieces) and
`differences.tsv` (source, whole, own) to DIR, and prints one JSON object: the share of outputs that are the same, and with references the chrF2 and BLEU of
both with the 95% interval of the difference (paired bootstrap). What was translated before is taken from the cache, so a run that was broken off goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from eval.scoring.hypotheses import System, translate_set
from eval.scoring.metrics import metric
from eval.scoring.scores import score_system
from eval.scoring.significance import bootstrap
from eval.scoring.testset import TestSet, from_files
from tell.adapter.card import PIECES, Adapter, open_adapter, pieces_of, write_card
from tell.errors import BadInput, TellmtError
from tell.files import atomic_dir, read_lines
from tell.languages import LanguagePair, parse_pair
from tell.model.base import find_base
from tell.model.pieces import PairTokenizer, pair_tokenizer
from tell.model.tokenizer import BaseTokenizer


def with_whole_vocabulary(adapter: Adapter, out: Path) -> Adapter:
    files = {name: digest for name, digest in adapter.card.files.items() if name != PIECES}
    with atomic_dir(out) as aside:
        for name in files:
            shutil.copyfile(adapter.path / name, aside / name)
        write_card(aside, adapter.card.model_copy(update={"pieces": None, "files": files, "golden": None}))
    return open_adapter(out)


def difference(whole: list[str], own: list[str], references: list[str], pair: LanguagePair) -> dict[str, Any]:
    """The scores of both, and of each metric own - whole with its 95% interval."""
    row: dict[str, Any] = {}
    scores = [score_system(outputs, references, pair) for outputs in (whole, own)]
    for key in ("chrf", "bleu"):
        measure = metric(key, pair)
        found = bootstrap(measure, *(measure.statistics(outputs, references) for outputs in (whole, own)))
        first, second = (s[key]["score"] for s in scores)
        interval = [round(found.low, 3), round(found.high, 3)]
        row[key] = {"whole": round(first, 2), "own": round(second, 2), "difference": round(second - first, 3), "interval": interval}
    return row


def spelled(adapter: Adapter, sources: list[str]) -> dict[str, Any]:
    """How the sources are spelled: the share of their tokens that the pieces lack, and how much longer the texts become."""
    tokens = BaseTokenizer(find_base(adapter.card.base.id))
    own = pair_tokenizer(tokens, pieces_of(adapter))
    assert isinstance(own, PairTokenizer)
    kept, before, after = set(own.pieces.kept), tokens.encode_batch(sources), own.encode_batch(sources)
    count = sum(map(len, before))
    lacking = sum(i not in kept for ids in before for i in ids)
    return {"tokens": count, "lacking": round(lacking / count, 5), "longer": round(sum(map(len, after)) / count, 4)}


def compare(adapter: Adapter, test: TestSet, scored: bool, out: Path) -> dict[str, Any]:
    if adapter.card.pieces is None:
        raise BadInput("the adapter has the whole vocabulary", place=str(adapter.path), valid="one with pieces.json")
    whole = with_whole_vocabulary(adapter, out / "whole")
    base = find_base(adapter.card.base.id)
    outputs = translate_set(base, [System.of("own", adapter), System.of("whole", whole)], test, "ct2")
    texts = {name: output.hypotheses for name, output in outputs.items()}
    rows = [(s, w, o) for s, w, o in zip(test.sources, texts["whole"], texts["own"], strict=True) if w != o]
    (out / "differences.tsv").write_text("".join("\t".join(row) + "\n" for row in [("source", "whole", "own"), *rows]), encoding="utf-8")
    result = {
        "adapter": adapter.id,
        "pair": adapter.card.pair,
        "pieces": adapter.card.pieces.model_dump(),
        "segments": len(test.sources),
        "the same": round(1 - len(rows) / len(test.sources), 4),
        "sources": spelled(adapter, list(test.sources)),
        "seconds": {name: output.seconds for name, output in outputs.items() if not output.reused},
    }
    if scored:
        result |= difference(texts["whole"], texts["own"], list(test.references), parse_pair(adapter.card.pair))
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description="An adapter's outputs with its own vocabulary and with the whole.")
    parser.add_argument("adapter", type=Path)
    parser.add_argument("source", type=Path)
    parser.add_argument("reference", type=Path, nargs="?")
    parser.add_argument("--first", type=int, default=0, help="so many segments from the top alone")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    try:
        adapter = open_adapter(options.adapter)
        if options.reference:
            test = from_files(options.source, options.reference, parse_pair(adapter.card.pair))
        else:
            lines = read_lines(options.source)
            test = TestSet(options.source.name, parse_pair(adapter.card.pair), lines, lines, [f"{options.source}, line {i}" for i in range(1, len(lines) + 1)])
        options.out.mkdir(parents=True, exist_ok=True)
        result = compare(adapter, test.first(options.first) if options.first else test, bool(options.reference), options.out)
    except TellmtError as e:
        print(f"vocabulary: {e}", file=sys.stderr)
        return e.exit_code
    print(json.dumps(result, ensure_ascii=False, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""What a penalty on repetition does to translations: chrF2, BLEU, flags and characters, on the dev split of the corpus an adapter was trained on.

Reads ADAPTER=CORPUS directories; writes a row each to stdout (JSON), and what was translated into the cache of hypotheses. Never the test split.

    python -m benchmarks.quality.decoding work/pairs/cy-en/en-cy/adapter=work/pairs/cy-en/en-cy/corpus --penalties 1.0 1.1 1.2
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from eval.gate.decoding import penalised
from eval.scoring.diagnose import diagnose
from eval.scoring.hypotheses import translate_set
from eval.scoring.scores import score_system
from eval.scoring.testset import from_corpus
from tell.adapter.card import open_adapter
from tell.corpus.directory import open_corpus
from tell.languages import parse_pair
from tell.model.base import find_base


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("adapters", nargs="+", metavar="ADAPTER=CORPUS")
    parser.add_argument("--penalties", nargs="+", type=float, default=[1.0, 1.05, 1.1, 1.2, 1.3])
    parser.add_argument("--engine", default="auto")
    options = parser.parse_args()
    for argument in options.adapters:
        place, _, corpus = argument.partition("=")
        adapter = open_adapter(Path(place))
        dev = from_corpus(open_corpus(Path(corpus)), "dev")
        pair = parse_pair(adapter.card.pair)
        outputs = translate_set(find_base(adapter.card.base.id), [penalised(adapter, p) for p in options.penalties], dev, options.engine)
        for penalty, output in zip(options.penalties, outputs.values(), strict=True):
            scores = score_system(output.hypotheses, dev.references, pair)
            row = {
                "adapter": place, "pair": str(pair), "segments": len(dev.sources), "penalty": penalty,
                **{m: round(scores[m]["score"], 2) for m in ("chrf", "bleu")}, "seconds": output.seconds,
                **diagnose(pair, dev.sources, output.hypotheses, dev.references, output.cut).row(),
                "characters": sum(map(len, output.hypotheses)),
            }  # fmt: skip
            print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

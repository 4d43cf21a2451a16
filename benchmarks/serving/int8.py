#!/usr/bin/env python3
"""What the number formats of the engine ct2 bring and cost: tokens per second, and translations and loss against those of float32.

Reads a prepared base, an adapter, and two line-aligned files of segments that nothing was tested on; writes models into a temporary directory.
Every format that this processor has is measured on one merged model, those of int8 with the activations evened out, as the engine has them, and without:
the speed on the first 32 prompts in one batch (the best of --repeat), the scores on all segments as the engine would batch them, and the loss of the
references in nats per token, which shows differences that a hundred translations cannot.

    python -m benchmarks.serving.int8 --adapter adapters/is-en --source FILE --reference FILE --segments 100
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serve.engines.ct2.batch_cost import OUTPUT, split_batch
from serve.engines.ct2.convert import Conversion
from serve.engines.ct2.merged import merged, smoothed, write
from tell.adapter.card import Adapter, open_adapter
from tell.errors import TellmtError
from tell.machine import cores, processor
from tell.model.base import Base, find_base
from tell.model.engine import Prompt
from tell.model.stopping import StopTokens
from tell.model.tokenizer import BaseTokenizer
from tell.model.translator import Translator

BATCH = 32
# What a file is written in for a way of computing.
WRITTEN = {"float32": "float32", "int8": "int8", "int8_float32": "int8", "bfloat16": "bfloat16", "int8_bfloat16": "int8_bfloat16", "int16": "int16"}


class Model:
    """One format: the converted model, opened."""

    def __init__(self, path: Path, kind: str, endings: StopTokens):
        import ctranslate2

        self.names = json.loads((path / "vocabulary.json").read_text())
        self.generator = ctranslate2.Generator(str(path), device="cpu", compute_type=kind, inter_threads=1, intra_threads=cores())
        self.endings = endings
        self.size = sum(f.stat().st_size for f in path.iterdir())

    def generate(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """As the engine does, one batch."""
        budgets = [p.max_tokens for p in prompts]

        def stop(step: Any) -> bool:
            budgets[step.batch_id] -= 1
            return bool(budgets[step.batch_id] <= 0)

        results = self.generator.generate_batch(
            [[self.names[i] for i in p.ids] for p in prompts],
            max_length=max(budgets), end_token=self.endings.ids(True), return_end_token=True, include_prompt_in_result=False,
            repetition_penalty=prompts[0].repetition_penalty, beam_size=1, sampling_topk=1, callback=stop,
        )  # fmt: skip
        return [list(r.sequences_ids[0]) for r in results]

    def translate(self, prompts: Sequence[Prompt]) -> list[str]:
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].ids))
        ordered = [prompts[i] for i in order]
        sizes = [(len(p.ids), int(p.max_tokens * OUTPUT), len(p.ids) + p.max_tokens) for p in ordered]
        texts, start = [""] * len(prompts), 0
        for end in split_batch(sizes, 64, 64 * 512):
            for n, ids in enumerate(self.generate(ordered[start:end]), start):
                texts[order[n]] = self.endings.generation(ids, prompts[order[n]]).text.strip()
            start = end
        return texts

    def loss(self, prompts: Sequence[Prompt], references: Sequence[list[int]]) -> float:
        """Nats per token of the references, each with its end."""
        import numpy as np

        total, count = 0.0, 0
        for p, r in zip(prompts, references, strict=True):
            tokens = [self.names[i] for i in (*p.ids, *r)]
            log_probabilities = np.array(self.generator.forward_batch([tokens], return_log_probs=True))[0]
            total -= float(log_probabilities[np.arange(len(p.ids) - 1, len(tokens) - 1), r].sum())
            count += len(r)
        return total / count


def measure(model: Model, prompts: Sequence[Prompt], references: Sequence[list[int]], repeat: int) -> dict[str, Any]:
    model.generate(prompts[:2])
    speed = 0.0
    for _ in range(repeat):
        started = time.perf_counter()
        tokens = sum(map(len, model.generate(prompts[:BATCH])))
        speed = max(speed, tokens / (time.perf_counter() - started))
    return {"speed": speed, "loss": model.loss(prompts, references), "texts": model.translate(prompts), "bytes": model.size}


def compare(base: Base, adapter: Adapter, sources: list[str], targets: list[str], repeat: int, formats: list[str]) -> list[dict[str, Any]]:
    from sacrebleu.metrics import BLEU, CHRF

    tokenizer = BaseTokenizer(base)
    endings = StopTokens(tokenizer, tokenizer.vocabulary().items())
    translator = Translator(None, tokenizer, adapter.card.anchor, adapter.card.decoding, adapter.id, base.context)  # type: ignore[arg-type]
    prompts = [translator.prompt(s) for s in sources]
    references = [[*tokenizer.encode(t), tokenizer.eos_ids[0]] for t in targets]
    ids = Conversion(base, None, 1).job()["ids"]
    # Torch first, or one of the two does not find the other's copy of MKL.
    import torch  # noqa: F401
    import ctranslate2  # isort: skip

    kinds = sorted(ctranslate2.get_supported_compute_types("cpu"), key=lambda k: (k != "float32", k))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        chosen_kinds = [k for k in kinds if k in WRITTEN and (k in formats or k == "float32" or not formats)]
        for kind, even in [(k, even) for k in chosen_kinds for even in ((True, False) if "int8" in k else (False,))]:
            path = Path(folder) / f"{WRITTEN[kind]}-{even}"
            if not path.exists():
                # Each time anew: written out, a model has lost its layers on the way.
                place, probe = str(adapter.path), ids["probe"]
                write(base, smoothed(base, place, ids["texts"], probe)[0] if even else merged(base, place, probe)[0], path, WRITTEN[kind])
            model = Model(path, kind, endings)
            figures = {"kind": kind if even or "int8" not in kind else f"{kind}, not evened out", **measure(model, prompts, references, repeat)}
            del model
            gc.collect()
            bleu, chrf = BLEU(), CHRF()
            figures["bleu"] = bleu.corpus_score(figures["texts"], [targets]).score
            figures["chrf"] = chrf.corpus_score(figures["texts"], [targets]).score
            figures["signatures"] = [str(bleu.get_signature()), str(chrf.get_signature())]
            rows.append(figures)
            print(f"{kind}: done", file=sys.stderr)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    first = rows[0]
    lines = ["| format | tokens/s | model, MB | loss | against float32 | BLEU | chrF2 | outputs as float32's |", "|---|---|---|---|---|---|---|---|"]
    for r in rows:
        same = sum(a == b for a, b in zip(r["texts"], first["texts"], strict=True))
        lines.append(
            f"| {r['kind']} | {r['speed']:.0f} | {r['bytes'] / 1e6:.0f} | {r['loss']:.4f} | {r['loss'] - first['loss']:+.4f} "
            f"| {r['bleu']:.1f} | {r['chrf']:.1f} | {same} of {len(r['texts'])} |"
        )
    return "\n".join([*lines, "", *first["signatures"]])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--adapter", type=Path, required=True, help="adapter directory")
    parser.add_argument("--source", type=Path, required=True, help="segments to translate, one a line")
    parser.add_argument("--reference", type=Path, required=True, help="their translations, line by line")
    parser.add_argument("--segments", type=int, default=100, help="how many, from the start  [default: 100]")
    parser.add_argument("--repeat", type=int, default=3, help="runs of the timed batch  [default: 3]")
    parser.add_argument("--formats", default="", help="beside float32, with commas between  [default: all that the processor has]")
    args = parser.parse_args()
    try:
        adapter = open_adapter(args.adapter)
        base = find_base(adapter.card.base.id)
        sources, targets = (p.read_text(encoding="utf-8").split("\n")[: args.segments] for p in (args.source, args.reference))
        if len(sources) != len(targets) or len(sources) < BATCH:
            print(f"{len(sources)} and {len(targets)} segments; valid: as many in both, at least {BATCH}", file=sys.stderr)
            return 2
        print(f"{base.id}, {adapter.card.pair} {adapter.id[:12]}, {len(sources)} segments; {cores()} cores, {processor()}")
        print(table(compare(base, adapter, sources, targets, args.repeat, [f for f in args.formats.split(",") if f])))
    except (TellmtError, OSError) as e:
        print(e, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

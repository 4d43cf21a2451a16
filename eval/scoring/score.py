"""Score an adapter and the bare base on a test set, or outputs that are there already.

Reads an adapter directory, or outputs, and a test set. Writes base.hyp.txt and adapter.hyp.txt (one segment a line; where the adapter has hints or
nearest pairs, adapter-without-hints.hyp.txt or adapter-without-retrieval.hyp.txt too), segments.jsonl with everything that was
scored, then scores.json, last.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import tell.model.engine
from eval.scoring.diagnose import diagnose
from eval.scoring.hypotheses import FORMAT, WITHOUT, System, translate_set
from eval.scoring.metrics import Metric, chosen
from eval.scoring.references import check_references
from eval.scoring.scores import RESAMPLES, bootstrap_seed, score_system
from eval.scoring.significance import METHOD, SEED, TRIALS, paired_test
from eval.scoring.system_outputs import SEGMENTS, ScoredSegments, SystemOutput, write_segments
from eval.scoring.testset import TestSet
from tell import __version__
from tell.adapter.card import Adapter, check_base
from tell.errors import BadInput
from tell.files import key_of, sha256_bytes, sha256_file, write_atomic, write_json
from tell.languages import parse_pair, same_pair
from tell.model.base import Base, find_base
from tell.model.engine import engine_version


def versions(engine: str, base: Base) -> dict[str, str]:
    own = {"tellmt": __version__, "sacrebleu": metadata.version("sacrebleu"), "python": platform.python_version()}
    return {**own, engine: engine_version(engine, base)}


def scores_key(adapter: Adapter, base: Base, test: TestSet, engine: str, with_base: bool, measures: Sequence[Metric]) -> str:
    return key_of(
        {
            "stage": "score",
            "format": FORMAT,
            "adapter": adapter.card.files,
            "base": adapter.card.base.model_dump(),
            "anchor": adapter.card.anchor.model_dump(),
            "decoding": adapter.card.decoding.model_dump(),
            **adapter.card.prompt_parts,
            "test": [test.name, str(test.pair), test.source_sha256, test.reference_sha256, len(test.sources)],
            "with_base": with_base,
            "metrics": [[m.signature() for m in measures], RESAMPLES, bootstrap_seed(), METHOD, TRIALS, SEED],
            "versions": versions(engine, base),
        }
    )


def earlier(out: Path, key: str) -> dict[str, Any] | None:
    """The scores in `out`, if they have this key and the hypotheses beside them are those that were scored; None otherwise."""
    try:
        result = json.loads((out / "scores.json").read_bytes())
        if result["key"] != key:
            return None
        whole = all(sha256_file(out / f"{name}.hyp.txt") == system["hypotheses_sha256"] for name, system in result["systems"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return result if whole else None


def score_adapter(
    adapter: Adapter, test: TestSet, engine: str, with_base: bool, out: Path, again: bool = False, measures: Sequence[Metric] | None = None
) -> tuple[dict[str, Any], bool]:
    """Scores the adapter. Returns the content of scores.json, and whether it was reused. Raises BadInput when adapter and test set are of different pairs."""
    if not same_pair(test.pair, parse_pair(adapter.card.pair, f"{adapter.path}: card")):
        raise BadInput("the test set and the adapter are of different pairs", place=test.name, found=str(test.pair), valid=adapter.card.pair)
    engine = tell.model.engine.choose_engine(engine)
    base = find_base(adapter.card.base.id)
    check_base(adapter, base.id, base.revision)
    measures = measures or chosen(["bleu", "chrf"], test.pair)
    key = scores_key(adapter, base, test, engine, with_base, measures)
    if not again and (earlier_result := earlier(out, key)) is not None:
        return earlier_result, True
    check_references(base, adapter.card.decoding, test)
    out.mkdir(parents=True, exist_ok=True)

    systems = [*([System.bare_base(adapter)] if with_base else []), *System.variants(adapter)]
    outputs = translate_set(base, systems, test, engine)
    # Gone before the hypotheses change: scores.json must never stand beside texts it was not computed from.
    (out / "scores.json").unlink(missing_ok=True)
    texts = {name: output.hypotheses for name, output in outputs.items()}
    write_segments(out / SEGMENTS, texts, test.references, test.sources, test.documents)
    result: dict[str, Any] = {
        "key": key,
        "name": test.name,
        "segments": len(test.sources),
        "pair": str(test.pair),
        "base": {"id": base.id, "revision": base.revision},
        "adapter": {"id": adapter.id, "weights": adapter.card.files},
        "source_sha256": test.source_sha256,
        "reference_sha256": test.reference_sha256,
        "systems": {},
        "paired": None,
        "seconds": round(sum(o.seconds for o in outputs.values()), 2),
        "engine": engine,
        "versions": versions(engine, base),
    }
    for name, output in outputs.items():
        file = out / f"{name}.hyp.txt"
        write_atomic(file, "".join(h + "\n" for h in output.hypotheses))
        result["systems"][name] = {
            **score_system(output.hypotheses, test.references, test.pair, measures, test.sources),
            "diagnostics": diagnose(test.pair, test.sources, output.hypotheses, test.references, output.cut).row(),
            "truncated": output.truncated,
            "empty": output.empty,
            "too_long": output.too_long,
            "reused": output.reused,
            "seconds": output.seconds,
            "hypotheses_sha256": sha256_file(file),
        }
    if with_base:
        result["paired"] = paired_test(outputs["base"].hypotheses, outputs["adapter"].hypotheses, test.references).row()
    for name, without in WITHOUT.items():
        if without in outputs:
            result[f"paired_{name}"] = paired_test(outputs[without].hypotheses, outputs["adapter"].hypotheses, test.references).row()
    write_json(out / "scores.json", result)
    return result, False


def score_outputs(name: str, outputs: Sequence[SystemOutput], segments: ScoredSegments, measures: Sequence[Metric], out: Path | None) -> dict[str, Any]:
    """Scores existing outputs, and writes the scores to `out` if it is given. Raises BadInput when an output is not as long as the references."""
    sources, references, documents, pair = segments.sources, segments.references, segments.documents, segments.pair
    for output in outputs:
        if len(output.hypotheses) != len(references):
            found = f"{len(output.hypotheses):,} hypotheses and {len(references):,} references"
            raise BadInput("hypotheses and references are not equally many", place=output.place, found=found, valid="one line each for every segment")
    if sources is not None and len(sources) != len(references):
        raise BadInput(
            "sources and references are not equally many", found=f"{len(sources):,} and {len(references):,}", valid="one line each for every segment"
        )
    result: dict[str, Any] = {
        "name": name,
        "segments": len(references),
        "pair": None if pair is None else str(pair),
        "source_sha256": None if sources is None else sha256_bytes("\n".join(sources).encode()),
        "reference_sha256": sha256_bytes("\n".join(references).encode()),
        "systems": {},
        "versions": {"tellmt": __version__, "sacrebleu": metadata.version("sacrebleu"), "python": platform.python_version()},
    }
    for output in outputs:
        scores = score_system(output.hypotheses, references, pair, measures, sources)
        diagnostics = None if pair is None or sources is None else diagnose(pair, sources, output.hypotheses, references).row()
        empty = sum(not h.strip() for h in output.hypotheses)
        digest = sha256_bytes("".join(h + "\n" for h in output.hypotheses).encode())
        result["systems"][output.name] = {**scores, "diagnostics": diagnostics, "empty": empty, "hypotheses_sha256": digest}
    if out is not None:
        write_segments(out / SEGMENTS, {o.name: o.hypotheses for o in outputs}, references, sources, documents)
        write_json(out / "scores.json", result)
    return result

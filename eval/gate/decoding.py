"""Choose the penalty on repetition that an adapter decodes with: the one that the dev split of its corpus is translated best with.

Reads an adapter directory and a corpus directory. Writes what each penalty gave into `<adapter>.decoding.json`, and the chosen one into the adapter's card;
the weights stay what they are. What is translated is kept in the cache. Only the half of the dev split that chooses is asked (`tell.corpus.dev_halves`); with
too few dev segments nothing is chosen, and the adapter decodes as its recipe says.

An adapter that was trained on little data repeats itself where it does not know how to go on, up to the token limit. A penalty ends that, and costs words
that ought to be repeated: chrF2, which counts what is missing more than what is too much, may still rise when BLEU falls. So the penalty is raised only
while something loops, chrF2 gains, BLEU does not lose, and the length stays within the gate's limits (docs/results/decoding.md).
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import tell.model.engine
from eval.gate.dev_choices import recipe_penalty, with_penalty
from eval.gate.flag_limits import wrong_length
from eval.scoring.diagnose import diagnose
from eval.scoring.hypotheses import FORMAT, Output, System, translate_set
from eval.scoring.metrics import chosen
from eval.scoring.references import check_references
from eval.scoring.scores import score_system, scored_alike
from eval.scoring.significance import METHOD, paired
from eval.scoring.testset import TestSet, from_corpus, not_empty, of_pairs
from tell.adapter.card import Adapter, check_base, open_adapter, write_card
from tell.corpus.dev_halves import CHOOSES, can_choose, choosing_part
from tell.corpus.directory import open_corpus
from tell.errors import BadInput
from tell.files import beside, key_of, write_json
from tell.languages import parse_pair, same_pair
from tell.model.base import Base, find_base
from tell.model.engine import engine_traits, engine_version
from tell.text.flags import Flag

# The penalties on repetition that `tellmt decoding` tries, from none upwards, and the dev segments that each is tried on, at most.
PENALTIES = (1.0, 1.1, 1.2, 1.3)
PENALTY_SEGMENTS = 200

# The p value below which a difference counts.
ALPHA = 0.1
# Flags of a segment on which the model is stuck.
STUCK: set[Flag] = {"loop", "truncated"}


def decoding_path(adapter: Path) -> Path:
    return beside(adapter, ".decoding.json")


def penalised(adapter: Adapter, penalty: float) -> System:
    """The adapter with another penalty on repetition than its card has."""
    decoding = adapter.card.decoding.model_copy(update={"repetition_penalty": penalty})
    return dataclasses.replace(System.of(f"penalty {penalty:g}", adapter), decoding=decoding)


def _key(adapter: Adapter, base: Base, dev: TestSet, engine: str) -> str:
    return key_of(
        {
            "stage": "decoding",
            "format": FORMAT,
            "adapter": adapter.card.files,
            "base": adapter.card.base.model_dump(),
            "anchor": adapter.card.anchor.model_dump(),
            "decoding": adapter.card.decoding.model_dump(exclude={"repetition_penalty"}),
            **adapter.card.prompt_parts,
            "dev": [str(dev.pair), dev.source_sha256, dev.reference_sha256, len(dev.sources)],
            "rule": [3, PENALTIES, ALPHA, sorted(STUCK), METHOD],
            "engine": [engine, engine_version(engine, base)],
        }
    )


def _earlier(path: Path, keys: list[str]) -> dict[str, Any] | None:
    try:
        earlier = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    usable = isinstance(earlier, dict) and earlier.get("key") in keys and isinstance(earlier.get("chosen"), float)
    return earlier if usable and 1.0 <= earlier["chosen"] <= 2.0 else None


def choose_decoding(path: Path, corpus: Path, engine: str = "auto", force: bool = False) -> tuple[dict[str, Any], bool]:
    """What `<adapter>.decoding.json` holds, and whether it was there already; the card has the penalty that is `chosen` in it.

    Raises BadInput when corpus and adapter are of different pairs, or the corpus has no dev split.
    """
    adapter = open_adapter(path)
    split_corpus = open_corpus(corpus)
    if not same_pair(split_corpus.pair, parse_pair(adapter.card.pair, f"{path}: card")):
        raise BadInput("the corpus and the adapter are of different pairs", place=str(corpus), found=str(split_corpus.pair), valid=adapter.card.pair)
    base = find_base(adapter.card.base.id)
    check_base(adapter, base.id, base.revision)
    whole = not_empty(from_corpus(split_corpus, "dev"), f"{corpus}, split dev")
    part = choosing_part(list(split_corpus.pairs("dev")))
    dev = whole if part.part == "whole" else of_pairs(split_corpus, "dev", part.pairs, "choosing half")
    dev = dev.first(PENALTY_SEGMENTS)
    engine = tell.model.engine.choose_engine(engine)
    target, before = decoding_path(path), _key(adapter, base, whole.first(PENALTY_SEGMENTS), engine)
    key = _key(adapter, base, dev, engine) if can_choose(part.of) else key_of({"before": before, "fewer than": CHOOSES, "recipe": recipe_penalty(adapter.card)})
    # What a version without halves chose on the whole split stays until something changes: the adapter keeps its id.
    earlier = None if force else _earlier(target, [key, before])
    if earlier is not None and not all(scored_alike(tried, dev.pair) for tried in earlier.get("tried", [])):
        earlier = None
    if reused := earlier is not None:
        result = earlier
    else:
        result = {"key": key, "adapter": adapter.card.files, "pair": adapter.card.pair, "dev": dev.name, "segments": len(dev.sources), "engine": engine}
        result["part"] = part.record()
        if can_choose(part.of):
            result |= _chosen(adapter, base, dev, engine)
        else:
            reason = f"the dev split has {part.of:,} segments, fewer than {CHOOSES}"
            result |= {"chosen": recipe_penalty(adapter.card), "alpha": ALPHA, "tried": [], "not_chosen": reason}
        write_json(target, result)
    card = with_penalty(adapter.card, result["chosen"], result.get("part"))
    if card != adapter.card:
        write_card(path, card)
    return result, reused


def _chosen(adapter: Adapter, base: Base, dev: TestSet, engine: str) -> dict[str, Any]:
    """Every penalty that was tried, and the chosen one."""
    check_references(base, adapter.card.decoding, dev)

    def row(penalty: float, output: Output) -> dict[str, Any]:
        diagnosis = diagnose(dev.pair, dev.sources, output.hypotheses, dev.references, output.cut)
        scores = score_system(output.hypotheses, dev.references, dev.pair, chosen(["bleu", "chrf"], dev.pair), dev.sources)
        return {
            "penalty": penalty,
            **{name: {k: s[k] for k in ("score", "ci", "signature")} for name, s in scores.items()},
            "stuck": sum(bool(STUCK & set(flags)) for flags in diagnosis.flags),
            "diagnostics": diagnosis.row(),
            "seconds": output.seconds,
        }

    outputs: dict[float, Output] = {}

    def translated(penalty: float) -> Output:
        if penalty not in outputs:
            # Where starting the engine takes longer than translating, everything that may be needed is translated at once.
            penalties = [penalty] if penalty == PENALTIES[0] or engine_traits(engine).starts_quickly else PENALTIES[1:]
            translations = translate_set(base, [penalised(adapter, p) for p in penalties], dev, engine)
            outputs.update({p: translations[f"penalty {p:g}"] for p in penalties})
        return outputs[penalty]

    best = row(PENALTIES[0], translated(PENALTIES[0]))
    rows = [best]
    for penalty in PENALTIES[1:]:
        if not best["stuck"]:
            break
        tried = row(penalty, translated(penalty))
        pair = translated(best["penalty"]).hypotheses, translated(penalty).hypotheses
        tests = {name: paired(*pair, dev.references, name, pair=dev.pair) for name in ("chrf", "bleu")}
        tried |= {"against": best["penalty"], "paired": {name: test.row() for name, test in tests.items()}}
        rows.append(tried)
        worse = tests["bleu"].delta < 0 and tests["bleu"].p < ALPHA
        worse = worse or wrong_length(tried["diagnostics"]["length_ratio"], best["diagnostics"]["length_ratio"])
        if tests["chrf"].delta > 0 and tests["chrf"].p < ALPHA and not worse:
            best = tried
    return {"chosen": best["penalty"], "alpha": ALPHA, "tried": rows}

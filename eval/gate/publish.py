"""Publishes an adapter: passes it through the gate, adds it to the registry with its scores and verdict on the card, and makes it live.

Reads an adapter directory, a corpus directory, and scores.json files of `tellmt score`. Always writes the verdict (`<adapter>.verdict.json` by default);
writes the registry only when the adapter passes the gate or the gate is overruled.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.gate.gate import Question, ask, judge, same_content
from eval.gate.golden import golden_sentences
from eval.gate.rivals import NAMES
from eval.scoring.scores import scored_alike
from tell.adapter.card import Adapter, check_base, open_adapter
from tell.adapter.shipped import Shipped
from tell.corpus.directory import open_corpus
from tell.errors import BadInput, GateRefused
from tell.files import beside, write_json
from tell.model.base import find_base
from tell.registry.registry import PairState, Registry

# What a card keeps of a scores.json: the numbers and what they were measured on, nothing that differs between two equal runs.
SCORE_FIELDS = ("name", "segments", "pair", "source_sha256", "reference_sha256", "engine", "versions", "paired", "systems")


@dataclasses.dataclass(frozen=True, slots=True)
class Published:
    """`id` is the adapter's id in the registry: its card there carries scores and verdict, so it is not the id of the directory."""

    id: str
    state: PairState
    verdict: dict[str, Any]
    already: bool
    forced: bool


def read_scores(path: Path, adapter: Adapter) -> dict[str, Any]:
    """One scores.json as the card keeps it. Raises BadInput when it is not one, or is of another adapter."""
    file = path / "scores.json" if path.is_dir() else path
    try:
        result = json.loads(file.read_bytes())
        weights = result["adapter"]["weights"]
        kept = {name: result[name] for name in SCORE_FIELDS}
        for system in kept["systems"].values():
            if not all(system[metric]["signature"] for metric in ("bleu", "chrf")):
                raise ValueError("a score without its signature")
    except FileNotFoundError:
        raise BadInput("no such scores", place=str(file), valid="the scores.json of tellmt score") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise BadInput("not the scores of a test set", place=str(file), found=repr(e), valid="the scores.json of tellmt score") from None
    if weights != adapter.card.files:
        raise BadInput("these are the scores of another adapter", place=str(file), found=str(result["adapter"].get("id")), valid=adapter.id)
    # what a run cost is not part of what was measured
    kept["systems"] = {name: {k: v for k, v in s.items() if k not in ("seconds", "reused")} for name, s in kept["systems"].items()}
    return kept


def verdict_path(adapter: Path) -> Path:
    return beside(adapter, ".verdict.json")


def _earlier(path: Path, question: Question) -> dict[str, Any] | None:
    """The verdict on the very same question, if the file holds it."""
    try:
        verdict = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(verdict, dict) or not isinstance(verdict.get("passed"), bool):
        return None
    asked = [question.key, question.against, [rival.adapter.id for rival in question.rivals], question.best_id]
    best = verdict.get("best")
    was = [verdict.get("key"), verdict.get("against"), verdict.get("rivals"), best.get("id") if isinstance(best, dict) else None]
    return verdict if was == asked and all(scored_alike(system, question.corpus.pair) for system in verdict.get("metrics", {}).values()) else None


def _already_live(registry: Registry, question: Question, scores: list[dict[str, Any]], state: PairState) -> Adapter | None:
    """The live adapter, if it is this one, passed the gate on this question, and has all of `scores` on its card."""
    if state.live is None or question.live is not None:
        return None
    try:
        live = registry.adapter(state.live)
    except Exception:  # whatever is wrong with it, it is not a version to be content with
        return None
    same = same_content(live, question.adapter) and (live.card.verdict or {}).get("key") in question.keys
    return live if same and all(s in live.card.scores for s in scores) else None


def _differences(verdict: dict[str, Any]) -> str:
    """The differences from what was live before and from the best version, for the log."""
    tests = {NAMES[role]: verdict["paired"][f"adapter_vs_{role}"] for role in ("live", "shipped", "best") if f"adapter_vs_{role}" in verdict["paired"]}
    return "".join(f"; {t['delta']:+.2f} to {name}, 95% interval {t['interval'][0]:+.2f} to {t['interval'][1]:+.2f}" for name, t in tests.items())


def publish_adapter(
    path: Path,
    corpus: Path,
    scores: Sequence[Path],
    engine: str,
    alpha: float,
    forced_why: str | None,
    why: str | None,
    verdict_file: Path | None,
    shipped: Mapping[str, Shipped],
    golden: bool = True,
    allowed: Mapping[str, float] | None = None,
    best: bool = True,
) -> Published:
    """Publishes an adapter. `shipped` adapters stand in for the live version of pairs without one; with `golden` the card gets golden sentences; with `best`
    it is compared with the best version before the live one too.

    Raises GateRefused with the numbers when the adapter does not pass and is not forced, after writing the verdict."""
    adapter = open_adapter(path)
    base = find_base(adapter.card.base.id)
    check_base(adapter, base.id, base.revision)
    registry = Registry()
    # now, not after minutes of translating
    registry.writable()
    state = registry.state(adapter.card.pair)
    question = ask(adapter, base, open_corpus(corpus), engine, alpha, registry, shipped, allowed, best)
    kept = [read_scores(s, adapter) for s in scores]
    target = verdict_file or verdict_path(path)

    if (live := _already_live(registry, question, kept, state)) is not None:
        verdict = live.card.verdict or {}
        return Published(live.id, state, verdict, already=True, forced=not verdict.get("passed"))
    verdict = _earlier(target, question) or judge(question)
    write_json(target, verdict)
    passed = bool(verdict["passed"])
    if not passed and forced_why is None:
        raise GateRefused(f"the gate refused this adapter: {'; '.join(verdict['reasons'])}", place=str(path), valid=f"the verdict is in {target}")

    names = [s["name"] for s in kept]
    sentences = golden_sentences(adapter, base, question.dev, question.engine) if golden else None
    card_scores = [*(s for s in adapter.card.scores if s.get("name") not in names), *kept]
    card = adapter.card.model_copy(update={"scores": card_scores, "verdict": verdict, "golden": sentences})
    id = registry.add(path, card)
    if passed:
        numbers = verdict["paired"]["adapter_vs_base"]
        reason = f"passed the gate: {numbers['metric']} {numbers['delta']:+.2f} over the bare base, p = {numbers['p']:.4f}{_differences(verdict)}"
        reason = f"{why}; {reason}" if why else reason
    else:
        reason = f"forced: {forced_why}; the gate refused: {'; '.join(verdict['reasons'])}{_differences(verdict)}"
    # Judged against what was live then; what has gone live since was never compared with.
    new = registry.promote(adapter.card.pair, id, reason, generation=state.generation)
    return Published(id, new, verdict, already=False, forced=not passed)

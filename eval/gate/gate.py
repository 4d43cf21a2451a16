"""The gate: does an adapter go live?

Reads the dev split of a corpus, the adapter, and what it would replace: the live adapter of the pair from the registry, or else the one that came
with tellmt; returns a verdict, which `tellmt publish` writes as `<adapter>.verdict.json`. An adapter passes when its chrF2 is higher than the bare base's by a
paired test at `alpha`; when it is surely no more than a margin lower than that of what it would replace, and than that of the best version of the line
(`eval.gate.rivals`); when its outputs are not more often wrong by themselves than `eval.gate.flag_limits` allows; and when no registered test set is in what it
was trained on. Scores on test sets are recorded and never decide. Only the half of the dev split that chose nothing judges (`tell.corpus.dev_halves`), or the
whole where it is too small for halves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import tell.model.engine
from eval.gate.contamination import TrainingOverlap, repeats, trained_on
from eval.gate.dev_choices import chosen_on, notes
from eval.gate.flag_limits import LIMITS, over
from eval.gate.line import best_before
from eval.gate.rivals import NAMES, Rival, compared, numbers
from eval.scoring.diagnose import diagnose
from eval.scoring.hypotheses import FORMAT, WITHOUT, System, translate_set
from eval.scoring.references import check_references
from eval.scoring.scores import bootstrap_seed, score_system
from eval.scoring.significance import METHOD, SEED, TRIALS, paired_test
from eval.scoring.testset import TestSet, from_corpus, of_pairs
from tell.adapter.card import Adapter, Card
from tell.adapter.shipped import Shipped
from tell.corpus.dev_halves import DevPart, judging_part
from tell.corpus.directory import Corpus
from tell.corpus.testsets import RegisteredTestSet, of_languages
from tell.errors import AdapterError, BadInput, RegistryError
from tell.files import key_of
from tell.languages import parse_pair, same_pair
from tell.model.base import Base
from tell.model.engine import engine_version
from tell.registry.registry import Registry
from tell.text.normalise import spelled

# Grows when the same outputs may get another verdict; 2: a share of flags must be surely above its limit; 3: surely no more than a margin worse than what is
# live and the best before it.
RULES = 3
# Fewer segments than this cannot tell two systems apart: with n of them the smallest possible p is 2^(1-n).
MIN_SEGMENTS = 10


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """Everything that decides a verdict."""

    adapter: Adapter
    base: Base
    corpus: Corpus
    # The whole dev split, and the part of it that judges.
    dev: TestSet
    judged: TestSet
    part: DevPart
    engine: str
    alpha: float
    # What it would replace, and by what name to speak of it: `live` or `shipped`.
    live: Adapter | None
    role: Literal["live", "shipped"]
    notes: list[str]
    # Shares of the judged segments that may have each flag.
    limits: dict[str, float]
    # Test sets of the pair's languages, none of which the adapter may have been trained on.
    testsets: list[RegisteredTestSet]
    # The best version in the line of what is live: its id, and the adapter where it is another than the live one and can be compared with.
    best_id: str | None = None
    best: Adapter | None = None

    @property
    def key(self) -> str:
        """What was asked of the adapter, whatever is live."""
        return self._key(RULES, {"judged": self.part.record()} if self.part.by else {})

    @property
    def keys(self) -> tuple[str, ...]:
        """Its key, and those of the same question by earlier rules and to the whole dev split: what an earlier version of tellmt published stays published."""
        halved = {"judged": self.part.record()} if self.part.by else {}
        return self.key, *(self._key(rules, part) for rules in (2, RULES) for part in (halved, {}))

    def _key(self, rules: int, more: dict[str, Any]) -> str:
        return key_of(
            {
                "stage": "gate",
                "rules": rules,
                "format": FORMAT,
                "adapter": self.adapter.card.files,
                "base": [self.base.id, self.base.revision],
                "anchor": self.adapter.card.anchor.model_dump(),
                "decoding": self.adapter.card.decoding.model_dump(),
                **self.adapter.card.prompt_parts,
                "pairs_sha256": self.corpus.pairs_sha256,
                "training": self.adapter.card.data.get("corpora", []),
                "engine": [self.engine, engine_version(self.engine, self.base)],
                "alpha": self.alpha,
                "limits": self.limits,
                "testsets": [[s.name, *s.sha256] for s in self.testsets],
                "test": [METHOD, TRIALS, SEED, bootstrap_seed()],
                **more,
            }
        )

    @property
    def against(self) -> str | None:
        return None if self.live is None else self.live.id

    @property
    def rivals(self) -> list[Rival]:
        """What it is compared with beside the bare base."""
        rivals = [Rival(self.role, self.live)] if self.live is not None else []
        return [*rivals, *([Rival("best", self.best)] if self.best is not None else [])]


def same_content(a: Adapter, b: Adapter) -> bool:
    """Whether two adapters translate alike: the same files beside the card, base, anchor, decoding and prompts. Their cards may differ in scores."""

    def deciding(card: Card) -> tuple[object, ...]:
        return card.files, card.base, card.anchor, card.decoding, card.prompt_parts

    return deciding(a.card) == deciding(b.card)


def replaced(registry: Registry, pair: str, shipped: Mapping[str, Shipped]) -> tuple[Adapter | None, Literal["live", "shipped"], list[str]]:
    """The adapter that answers for a pair now, or None with a note why it cannot be compared with: a damaged adapter must not keep a good one out."""
    live, shipped_version = registry.state(pair).live, shipped.get(pair)
    try:
        if live is not None:
            return registry.adapter(live), "live", []
        return (shipped_version.open() if shipped_version else None), "shipped", []
    except (AdapterError, RegistryError) as e:
        name = f"live version {live[:12]}" if live else "shipped version"
        return None, "live", [f"the {name} cannot be read and was not compared with: {e}"]


def ask(
    adapter: Adapter,
    base: Base,
    corpus: Corpus,
    engine: str,
    alpha: float,
    registry: Registry,
    shipped: Mapping[str, Shipped],
    allowed: Mapping[str, float] | None = None,
    best: bool = True,
) -> Question:
    """Collects what the verdict on an adapter needs; without `best` it is not compared with the best version before the live one.

    Raises BadInput when corpus and adapter are of different pairs."""
    if not same_pair(corpus.pair, parse_pair(adapter.card.pair, f"{adapter.path}: card")):
        raise BadInput("the corpus and the adapter are of different pairs", place=str(corpus.path), found=str(corpus.pair), valid=adapter.card.pair)
    live, role, said = replaced(registry, str(parse_pair(adapter.card.pair)), shipped)
    best_id: str | None = None
    best_version: Adapter | None = None
    if live is not None and role == "live":
        best_id, best_version, unread = best_before(registry, live)
        said += unread
        if best_version is not None and (same_content(best_version, adapter) or same_content(best_version, live)):
            best_version = None
        elif best_version is not None and not best:
            said.append(f"not compared with the best version {best_version.short}, as asked")
            best_version = None
    if live is not None and same_content(live, adapter):
        # What is live is not refused when it is published once more; the line goes on.
        live = best_version = None
    elif live is not None and (live.card.base.id, live.card.base.revision) != (base.id, base.revision):
        said.append(f"the {role} version {live.short} is on another base ({live.card.base.id}) and was not compared with")
        live = best_version = best_id = None
    part, sets = judging_part(list(corpus.pairs("dev"))), of_languages(corpus.pair)
    dev = from_corpus(corpus, "dev")
    judged = of_pairs(corpus, "dev", part.pairs, "judging half") if part.by else dev
    engine, allowed = tell.model.engine.choose_engine(engine), dict(allowed or LIMITS)
    return Question(adapter, base, corpus, dev, judged, part, engine, alpha, live, role, said, allowed, sets, best_id, best_version)


def _leaks(question: Question, trained: TrainingOverlap) -> list[str]:
    """The reasons why the adapter's training data, or the dev split, rule out a judgement."""
    dev, reasons = question.dev, []
    if trained.dev:
        reasons.append(f"{trained.dev:,} of {len(dev.sources):,} dev segments are in the data it was trained on")
    for r in trained.sets:
        if r["leaked"]:
            first = ", ".join(f"segment {x['segment']} ({x['place']})" for x in r["leaked_segments"][:3])
            how = "build the corpus again, which leaves them out, and train on that"
            reasons.append(f"{r['leaked']:,} of {r['segments']:,} segments of the test set {r['name']} are in the data it was trained on: {first}; {how}")
    for r in repeats(dev, question.testsets):
        if r["leaked"]:
            reasons.append(f"{r['leaked']:,} segments of the test set {r['name']} are in the dev split, and a test does not decide; build the corpus again")
    return reasons


def _compare(question: Question, outputs: dict[str, list[str]]) -> tuple[list[str], dict[str, Any]]:
    refs, alpha = question.judged.references, question.alpha
    reasons: list[str] = []
    base = paired_test(outputs["base"], outputs["adapter"], refs)
    tests: dict[str, Any] = {"adapter_vs_base": base.row()}
    if outputs["adapter"] == outputs["base"]:
        reasons.append(f"its output is the bare base's on all {len(refs):,} dev segments: the weights do not act")
    elif base.delta <= 0:
        reasons.append(f"not better than the bare base: {numbers(base)}")
    elif base.p >= alpha:
        reasons.append(f"not surely better than the bare base: {numbers(base)}; needed: p < {alpha:g}")
    for name, without in WITHOUT.items():
        if without in outputs:
            # Told, and decides nothing: what the hints and the nearest pairs are worth.
            tests[f"adapter_vs_without_{name}"] = paired_test(outputs[without], outputs["adapter"], refs).row()
    return reasons, tests


def judge(question: Question) -> dict[str, Any]:
    """The verdict: {"passed", "reasons", "notes", "metrics", ...}; `reasons` says why the adapter was refused. Equal questions get equal verdicts."""
    adapter, dev = question.adapter, question.judged
    verdict: dict[str, Any] = {
        "key": question.key,
        "against": question.against,
        "rivals": [rival.adapter.id for rival in question.rivals],
        "pair": adapter.card.pair,
        "adapter": {"id": adapter.id, "weights": adapter.card.files},
        "base": {"id": question.base.id, "revision": question.base.revision},
        "corpus": {"pairs_sha256": question.corpus.pairs_sha256, "split": "dev", "segments": len(dev.sources)},
        "dev": {"source_sha256": dev.source_sha256, "reference_sha256": dev.reference_sha256},
        "judged_on": question.part.record(),
        "chosen_on": chosen_on(adapter.card),
        "engine": {"name": question.engine, "version": engine_version(question.engine, question.base)},
        "alpha": question.alpha,
        "limits": question.limits,
        "metrics": {},
        "paired": {},
    }
    reasons: list[str] = []
    said: list[str] = []
    beaten = False
    trained = trained_on(adapter, question.corpus, question.dev, question.testsets)
    if len(dev.sources) < MIN_SEGMENTS:
        where = f"the dev split of {spelled(str(question.corpus.path))}"
        reasons.append(f"{where} has {len(dev.sources):,} segments, too few to judge by; needed: at least {MIN_SEGMENTS}")
    reasons += _leaks(question, trained)
    if not reasons:
        check_references(question.base, adapter.card.decoding, dev)
        systems = [System.bare_base(adapter), *System.variants(adapter)]
        systems += [System.of(rival.role, rival.adapter) for rival in question.rivals]
        outputs = translate_set(question.base, systems, dev, question.engine)
        diagnoses = {}
        for name, output in outputs.items():
            scores = score_system(output.hypotheses, dev.references, question.corpus.pair)
            diagnoses[name] = diagnose(question.corpus.pair, dev.sources, output.hypotheses, dev.references, output.cut)
            counts = {"truncated": output.truncated, "empty": output.empty, "too_long": output.too_long, "diagnostics": diagnoses[name].row()}
            verdict["metrics"][name] = {**scores, **counts}
        hypotheses = {name: output.hypotheses for name, output in outputs.items()}
        reasons, verdict["paired"] = _compare(question, hypotheses)
        for rival in question.rivals:
            comparison = compared(rival, hypotheses, dev, question.corpus, question.part, question.alpha, MIN_SEGMENTS)
            reasons += comparison.reasons
            said += comparison.notes
            verdict["paired"] |= comparison.tests
            beaten = beaten or (rival.adapter.id == question.best_id and comparison.better)
        before = "base" if question.live is None else question.role
        reasons += over(diagnoses["adapter"], diagnoses[before].row(), NAMES[before], question.limits)
    verdict["testsets"] = trained.sets
    verdict["best"] = {"id": question.best_id, "beaten": beaten} if question.best_id else None
    heard = (*said, *question.notes, *trained.notes, *notes(adapter.card, question.part))
    outcome = {"passed": not reasons, "exit_code": 1 if reasons else 0, "reasons": reasons, "notes": [spelled(n) for n in heard]}
    return {**verdict, **outcome}

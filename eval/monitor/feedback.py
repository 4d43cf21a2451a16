"""Corrections of users (`serve.corrections`): what they say of the live system, and what of them may be trained on.

Reads the file of `tellmt serve --feedback`, or one that was moved away; writes feedback.jsonl for `tellmt corpus build`: the newest correction of each
source, cleaned, without what any of the test sets given, or the pair's canary set, holds.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from eval.monitor.canary_sets import CanarySet
from eval.scoring.scores import bleu_tokenizer, one_line
from tell.corpus.readers.dispatch import read_against
from tell.errors import BadInput, LanguageError
from tell.files import read_jsonl, sha256_bytes
from tell.languages import LanguagePair, parse_pair
from tell.text.normalise import fault, normalised, tidy


@dataclasses.dataclass(frozen=True, slots=True)
class Correction:
    pair: str
    version: str
    source: str
    translation: str
    correction: str


def read_feedback(path: Path) -> tuple[list[Correction], int]:
    """The corrections, and how many lines are none. Raises CorpusError for a line that is no JSON object."""
    found, strange = [], 0
    for _, row in read_jsonl(path):
        values = [row.get(name) for name in ("pair", "adapter", "source", "translation", "target")]
        try:
            if not all(isinstance(v, str) for v in values) or not tidy(str(values[2])) or not tidy(str(values[4])):
                raise LanguageError("no correction")
            values[0] = str(parse_pair(str(values[0])))
        except LanguageError:
            strange += 1
            continue
        found.append(Correction(*map(str, values)))
    return found, strange


def scores(corrections: Iterable[Correction]) -> list[dict[str, Any]]:
    """By pair and version: how far the outputs were from what users made of them, as BLEU, chrF2 and TER, each with its signature.

    Those without the output are left out and counted; an output that was left as it is counts as right.
    """
    from sacrebleu.metrics import BLEU, CHRF, TER

    groups: dict[tuple[str, str], list[Correction]] = {}
    for c in corrections:
        groups.setdefault((c.pair, c.version), []).append(c)
    out = []
    for (pair, version), own in sorted(groups.items()):
        usable = [c for c in own if c.translation.strip()]
        row: dict[str, Any] = {"pair": pair, "version": version, "segments": len(usable), "without_output": len(own) - len(usable), "scores": {}}
        if usable:
            row["unchanged"] = sum(c.translation.strip() == c.correction.strip() for c in usable)
            made, wanted = [one_line(c.translation) for c in usable], [one_line(c.correction) for c in usable]
            for key, metric in (("bleu", BLEU(tokenize=bleu_tokenizer(parse_pair(pair)))), ("chrf", CHRF()), ("ter", TER())):
                score = metric.corpus_score(made, [wanted]).score
                row["scores"][key] = {"score": round(float(score), 4), "signature": str(metric.get_signature())}
        out.append(row)
    return out


def training_pairs(
    corrections: Sequence[Correction], pair: LanguagePair, against: Sequence[Path], canary: CanarySet | None
) -> tuple[list[dict[str, str]], dict[str, int]]:
    """Rows of feedback.jsonl, and how many corrections were left out and why. Raises BadInput when nothing is left."""
    held: dict[str, str] = {}
    for path in against:
        held.update(dict.fromkeys(map(normalised, read_against(path, pair)), f"in {path.name}"))
    if canary is not None:
        held.update(dict.fromkeys((normalised(side) for s in canary.segments for side in (s.source, s.reference)), "in the canary set"))
    held.pop("", None)
    left: Counter[str] = Counter()
    kept: dict[str, dict[str, str]] = {}
    own = [c for c in corrections if c.pair == str(pair)]
    left["of another pair"] = len(corrections) - len(own)
    for c in own:
        sides = [(tidy(s), tidy(t)) for s, t in _lines(c)]
        for source, target in sides:
            if why := fault(source, target) or held.get(normalised(source)) or held.get(normalised(target)):
                left[why] += 1
                continue
            # The newest word on a source is the last one.
            left["corrected again later"] += kept.pop(source, None) is not None
            kept[source] = {"source": source, "target": target, "doc": f"feedback-{sha256_bytes(source.encode())[:12]}", "adapter": c.version}
    if not kept:
        found = ", ".join(f"{n} {why}" for why, n in left.items() if n) or "no corrections"
        raise BadInput("no correction can be trained on", place=str(pair), found=found)
    return list(kept.values()), {why: n for why, n in left.items() if n}


def _lines(c: Correction) -> list[tuple[str, str]]:
    """Line by line where both sides have equally many, as a text of several lines is translated."""
    sources, targets = c.source.split("\n"), c.correction.split("\n")
    if len(sources) != len(targets):
        return [(c.source, c.correction)]
    return [(s, t) for s, t in zip(sources, targets, strict=True) if s.strip() or t.strip()]

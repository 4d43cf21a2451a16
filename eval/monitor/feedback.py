"""Corrections of users (`serve.corrections`): scores of the live system, and training data.

Reads the file of `tellmt serve --feedback`, or one that was moved away. Writes feedback.jsonl for `tellmt corpus build`: the newest correction of each
source, cleaned, without the segments of the given test sets and of the pair's canary set.
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
    """(corrections, number of lines that are not corrections). Raises CorpusError for a line that is not a JSON object."""
    corrections, invalid = [], 0
    for _, row in read_jsonl(path):
        values = [row.get(name) for name in ("pair", "adapter", "source", "translation", "target")]
        try:
            if not all(isinstance(v, str) for v in values) or not tidy(str(values[2])) or not tidy(str(values[4])):
                raise LanguageError("not a correction")
            values[0] = str(parse_pair(str(values[0])))
        except LanguageError:
            invalid += 1
            continue
        corrections.append(Correction(*map(str, values)))
    return corrections, invalid


def correction_scores(corrections: Iterable[Correction]) -> list[dict[str, Any]]:
    """BLEU, chrF2 and TER of each pair and version with the corrections as references, each with its signature.

    Corrections without the output are left out and counted. An output that the user did not change counts as right.
    """
    from sacrebleu.metrics import BLEU, CHRF, TER

    groups: dict[tuple[str, str], list[Correction]] = {}
    for c in corrections:
        groups.setdefault((c.pair, c.version), []).append(c)
    rows = []
    for (pair, version), of_version in sorted(groups.items()):
        usable = [c for c in of_version if c.translation.strip()]
        row: dict[str, Any] = {"pair": pair, "version": version, "segments": len(usable), "without_output": len(of_version) - len(usable), "scores": {}}
        if usable:
            row["unchanged"] = sum(c.translation.strip() == c.correction.strip() for c in usable)
            outputs, corrected = [one_line(c.translation) for c in usable], [one_line(c.correction) for c in usable]
            for key, metric in (("bleu", BLEU(tokenize=bleu_tokenizer(parse_pair(pair)))), ("chrf", CHRF()), ("ter", TER())):
                score = metric.corpus_score(outputs, [corrected]).score
                row["scores"][key] = {"score": round(float(score), 4), "signature": str(metric.get_signature())}
        rows.append(row)
    return rows


def training_pairs(
    corrections: Sequence[Correction], pair: LanguagePair, against: Sequence[Path], canary: CanarySet | None
) -> tuple[list[dict[str, str]], dict[str, int]]:
    """(rows of feedback.jsonl, {reason: corrections left out}). Raises BadInput when no row is left."""
    reserved: dict[str, str] = {}
    for path in against:
        reserved.update(dict.fromkeys(map(normalised, read_against(path, pair)), f"in {path.name}"))
    if canary is not None:
        reserved.update(dict.fromkeys((normalised(side) for s in canary.segments for side in (s.source, s.reference)), "in the canary set"))
    reserved.pop("", None)
    left_out: Counter[str] = Counter()
    rows: dict[str, dict[str, str]] = {}
    of_pair = [c for c in corrections if c.pair == str(pair)]
    left_out["of another pair"] = len(corrections) - len(of_pair)
    for c in of_pair:
        sides = [(tidy(s), tidy(t)) for s, t in _aligned_lines(c)]
        for source, target in sides:
            if reason := fault(source, target) or reserved.get(normalised(source)) or reserved.get(normalised(target)):
                left_out[reason] += 1
                continue
            # The last correction of a source is the newest.
            left_out["corrected again later"] += rows.pop(source, None) is not None
            rows[source] = {"source": source, "target": target, "doc": f"feedback-{sha256_bytes(source.encode())[:12]}", "adapter": c.version}
    if not rows:
        reasons = ", ".join(f"{n} {reason}" for reason, n in left_out.items() if n) or "no corrections"
        raise BadInput("no correction can be trained on", place=str(pair), found=reasons)
    return list(rows.values()), {reason: n for reason, n in left_out.items() if n}


def _aligned_lines(c: Correction) -> list[tuple[str, str]]:
    """Pairs of lines where both sides have equally many, since a text of several lines is translated line by line; else the whole texts."""
    sources, targets = c.source.split("\n"), c.correction.split("\n")
    if len(sources) != len(targets):
        return [(c.source, c.correction)]
    return [(s, t) for s, t in zip(sources, targets, strict=True) if s.strip() or t.strip()]

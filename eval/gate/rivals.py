"""Compares an adapter with what it would replace: the live version, or the one that came with tellmt, and the best version of the line (`eval.gate.line`).

Reads hypotheses from memory, and the corpora that the cards name. Writes nothing. Segments that the other one was trained on are left out of a comparison.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from eval.gate.contamination import seen
from eval.gate.dev_choices import notes
from eval.gate.margin import ENOUGH, Difference, difference
from eval.scoring.significance import Paired, paired_test
from eval.scoring.testset import TestSet
from tell.adapter.card import Adapter
from tell.corpus.dev_halves import DevPart
from tell.corpus.directory import Corpus

Role = Literal["live", "shipped", "best"]
# How messages speak of what is compared with.
NAMES = {"base": "the bare base", "live": "the live version", "shipped": "the shipped version", "best": "the best version"}
FEW = f"may pass in fewer than half of the cases; {ENOUGH} or more are enough"


@dataclasses.dataclass(frozen=True, slots=True)
class Rival:
    role: Role
    adapter: Adapter

    @property
    def name(self) -> str:
        return f"{NAMES[self.role]} {self.adapter.short}"


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """`reasons` to refuse, `notes` for whoever publishes, `tests` for the verdict, and whether the adapter is surely better."""

    reasons: list[str]
    notes: list[str]
    tests: dict[str, Any]
    better: bool


def numbers(p: Paired) -> str:
    return f"{p.metric} {p.second:.2f} against {p.first:.2f} ({p.delta:+.2f}, p = {p.p:.4f}, {p.segments:,} segments)"


def _remedy(rival: Rival) -> str:
    if rival.role == "shipped":
        # Where its training data lies is not known here, so nobody can tell whether these segments are in it.
        return "; it may have been trained on them: --no-shipped publishes without this comparison"
    if rival.role == "best":
        return f"; --no-best publishes without this comparison, tellmt registry promote {rival.adapter.card.pair} {rival.adapter.short} brings that one back"
    return ""


def _reasons(rival: Rival, test: Paired, by: Difference, alpha: float) -> list[str]:
    if test.delta < 0 and test.p < alpha:
        return [f"worse than {rival.name}: {numbers(test)}{_remedy(rival)}"]
    if by.within:
        return []
    found = f"not surely within {by.margin:g} chrF2 of {rival.name}: {by.words()}; surely no more than {-by.least:.2f} worse, at {1 - by.level:.0%}"
    few = f"; with {by.segments:,} segments equal versions {FEW}" if by.segments < ENOUGH else ""
    return [found + few + _remedy(rival)]


def compared(rival: Rival, outputs: Mapping[str, Sequence[str]], judged: TestSet, corpus: Corpus, part: DevPart, alpha: float, fewest: int) -> Comparison:
    """How the outputs of `adapter` compare with those of the rival, on the segments that the rival was not trained on."""
    trained, unknown = seen(rival.adapter, corpus, judged)
    others = f", and {len(unknown) - 1} more" if len(unknown) > 1 else ""
    said = [f"it is not known whether {rival.name} was trained on some of these segments: {unknown[0]}{others}"] if unknown else []
    said += [f"{rival.name}: {note}" for note in notes(rival.adapter.card, part)]
    kept = [i for i in range(len(judged.references)) if i not in trained]
    if trained:
        counts = f"{len(trained):,} of {len(judged.references):,} segments"
        said.append(f"{counts} are in what {rival.name} was trained on, and are left out of the comparison with it")
    if len(kept) < fewest:
        left = f"{len(kept):,} segments are left that {rival.name} was not trained on, too few to compare; needed: at least {fewest}"
        return Comparison([left + _remedy(rival)], said, {}, False)
    first, second, references = ([texts[i] for i in kept] for texts in (outputs[rival.role], outputs["adapter"], judged.references))
    test, by = paired_test(first, second, references), difference(first, second, references)
    said.insert(0, f"difference from {rival.name}: {by.words()}; up to {by.margin:g} worse is let through, at {1 - by.level:.0%}")
    if len(kept) < ENOUGH:
        said.insert(1, f"{len(kept):,} segments are few to compare with {rival.name}: equal versions {FEW}")
    tests = {f"adapter_vs_{rival.role}": {**test.row(), **by.row(), "left_out": len(trained)}}
    return Comparison(_reasons(rival, test, by, alpha), said, tests, by.better)

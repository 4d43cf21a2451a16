"""Hints in the training examples of a mix: what each prompt gets from the lexicon that was learned from the same pairs.

Leave one out: what an example's own pair added to the lexicon is taken out before its hints are looked up. With it, every hint of a rare word would be the
word of the reference, and the model would learn to trust hints that it will not have. Some examples get no hints at all, so that the adapter also
translates without.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from tell.alignment.links import Links
from tell.errors import CorpusError
from tell.files import sha256_file
from tell.lexicon.hints import Hinter, HintOptions, escaped, write_hints
from tell.lexicon.lexicon import FILE, Lexicon
from tell.records import Pair


class HintConfig(HintOptions):
    """The `[hints]` table of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # A directory of `tellmt lexicon build`, relative to the recipe.
    lexicon: str | None = None
    # Share of the examples that get no hints.
    dropout: float = Field(default=0.15, ge=0, le=1)

    @property
    def options(self) -> HintOptions:
        return HintOptions(**{name: getattr(self, name) for name in HintOptions.model_fields})


@dataclasses.dataclass(frozen=True, slots=True)
class HintPlan:
    """Where the lexicon of a mix lies, and how its hints are used."""

    lexicon: Path
    config: HintConfig


class ExampleHints:
    """Writes the hints of a mix's task examples, and counts them."""

    def __init__(self, lexicon: Path, config: HintConfig, seed: int):
        """`lexicon` is a directory of `tellmt lexicon build`. Raises BadInput when it is none, or is damaged."""
        self.config, self.seed, self.file = config, seed, lexicon / FILE
        self.lexicon, self.sha256 = Lexicon.read(lexicon), sha256_file(self.file)
        self._links = Links(lexicon)
        self._hinter = Hinter(self.lexicon, config.options)
        self.counts: Counter[str] = Counter(hinted=0, hints=0, dropped=0, too_long=0)

    def source(self, pair: Pair) -> str:
        """The pair's source as its prompt has it."""
        digest = hashlib.sha256(f"{self.seed}\nhints\n{pair.source}\n{pair.target}".encode()).digest()
        if int.from_bytes(digest[:8]) < self.config.dropout * 2**64:
            self.counts["dropped"] += 1
            return escaped(pair.source)
        hints = self._hinter.hints(pair.source, self._links.of(pair.source, pair.target))
        self.counts.update(hinted=1 if hints else 0, hints=len(hints))
        return write_hints(pair.source, hints)

    def without(self, pair: Pair) -> str:
        """The pair's source without hints, where it would be longer than an example may be with them."""
        self.counts["too_long"] += 1
        return escaped(pair.source)

    def check_held_out(self, corpus: Path, pair: Pair) -> None:
        """Raises CorpusError when the lexicon was learned from this pair, which the corpus holds back."""
        if self._links.of(pair.source, pair.target):
            raise CorpusError(
                f"the lexicon was learned from a pair of this corpus's {pair.split} split",
                place=str(corpus), found=f"{pair.origin}, line {pair.line}", valid=f"a lexicon of the present split: tellmt lexicon build {corpus} -o DIR",
            )  # fmt: skip

    def key_parts(self) -> dict[str, Any]:
        """What decides the hints, for the key of the mix."""
        return {**self.config.model_dump(exclude={"lexicon"}), "lexicon": self.sha256}

    def row(self) -> dict[str, Any]:
        """For mix.json: `hinted` examples have `hints` hints together, `dropped` ones were left without, `too_long` ones have no room; before `task_tokens`."""
        row = {**self.config.options.model_dump(), "dropout": self.config.dropout, "lexicon_sha256": self.sha256, "counts": dict(self.counts)}
        return row if self.counts["hints"] or self.config.dropout == 1 else {**row, "note": self._why_none()}

    def _why_none(self) -> str:
        """Why no example got a hint."""
        skipped, known = self.config.skip_common, len(self.lexicon.common)
        if known <= skipped:
            return f"no example has a hint: the lexicon's corpus has {known:,} different words, and the {skipped:,} commonest get none (skip_common in [hints])"
        return "no example has a hint: the lexicon offers nothing for these words that other examples bear out"


def open_hints(plan: HintPlan, pair: str, seed: int) -> ExampleHints:
    """Raises BadInput when the lexicon is damaged, CorpusError when it is of another pair."""
    hints = ExampleHints(plan.lexicon, plan.config, seed)
    if str(hints.lexicon.pair) != pair:
        raise CorpusError("this lexicon is of another pair than the mix", place=str(plan.lexicon), found=str(hints.lexicon.pair), valid=pair)
    return hints

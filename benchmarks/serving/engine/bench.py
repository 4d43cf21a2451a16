"""What every figure of `engine_bench.py` needs: the builds, the texts, and how tokens are counted."""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from benchmarks.serving.engine.builds import Build
from benchmarks.serving.engine.results import Comparison
from benchmarks.serving.harness.load import BenchFailed
from benchmarks.serving.harness.workspace import segments, source_adapter


@dataclasses.dataclass(slots=True)
class Bench:
    options: argparse.Namespace
    work: Path
    builds: dict[str, Build]
    _texts: list[str] = dataclasses.field(default_factory=list)

    def texts(self, count: int) -> list[str]:
        """The first so many of the texts to translate."""
        if not self._texts:
            source: Path | None = self.options.source
            self._texts = [t for t in source.read_text(encoding="utf-8").split("\n") if t.strip()] if source else segments("is")
        if len(self._texts) < count:
            raise BenchFailed(f"too few texts: found {len(self._texts)}, valid: at least {count}")
        return self._texts[:count]

    def count(self, texts: Sequence[str]) -> int:
        """Tokens of the base's whole vocabulary in these outputs, each with its end: the same for every side, whatever pieces it made them of."""
        tokenizer = _tokenizer()
        return sum(len(tokenizer.encode(t)) + 1 for t in texts)

    def rate(self, run: dict[str, Any]) -> dict[str, float]:
        """Of an agent's `through`: tokens/s, and tokens per second of processor time."""
        tokens = self.count(run["texts"])
        return {"value": tokens / run["seconds"], "tokens": tokens, **({"by_cpu": tokens / run["cpu"]} if run.get("cpu") else {})}


@functools.cache
def _tokenizer() -> Any:
    from tell.model.base import find_base
    from tell.model.tokenizer import BaseTokenizer

    return BaseTokenizer(find_base(source_adapter("is-en").card.base.id))


# The value of one side in one turn, with what belongs to it.
Measure = Callable[[str], dict[str, Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """`open` starts what is needed and gives a function that measures one side once; `turns` is how often each side is measured."""

    open: Callable[[Bench], AbstractContextManager[Measure]]
    turns: int
    comparisons: tuple[Comparison, ...]

    @property
    def sides(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(s for c in self.comparisons for s in (c.theirs, c.ours)))

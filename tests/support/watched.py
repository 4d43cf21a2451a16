"""What tests of the monitor share: an engine whose quality and noise a test sets, a corpus it can translate, and a service that watches itself."""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eval.monitor.canary_sets import CanarySet
from eval.monitor.judge import CanaryTranslations
from serve.config import MonitorConfig
from serve.monitor import Monitor
from tell.languages import parse_pair
from tell.model.base import Base
from tell.model.engine import EngineOptions, Generation, Prompt
from tell.registry.registry import Registry
from tell.text.flags import flags_of
from tests.support.fake_engine import FakeEngine
from tests.support.serving import Running, running

WORDS = {
    "hús": "house", "hestur": "horse", "fjall": "mountain", "dagur": "day", "veður": "weather", "kaffi": "coffee", "bók": "book", "vegur": "road",
    "skip": "ship", "ljós": "light",
}  # fmt: skip


def translate(source: str, spoilt: float, seed: object, noise: random.Random | None = None, share: float = 0.0) -> str:
    """Word by word, a share of the words spoilt, always the same ones; with `noise`, a word otherwise in a share of the texts, as rounding has it."""
    draw = random.Random(f"{seed} {source}")
    words = ["xqz" if draw.random() < spoilt else WORDS.get(w, w) for w in source.split(" ")]
    if noise is not None and noise.random() < share:
        words[noise.randrange(len(words))] = noise.choice(["thing", "way", "small", "of", "place"])
    return " ".join(words)


class QualityEngine(FakeEngine):
    """`spoilt`: the share of words that come out wrong, by the seed on the adapter's card; `noise`: the share of texts that differ from call to call."""

    def __init__(self, options: EngineOptions):
        super().__init__(options)
        self.spoilt: dict[int, float] = {0: 0.1, 1: 0.1, 2: 0.9}
        self.noise = 0.0
        self.draw = random.Random(7)

    def _answer(self, prompt: Prompt, adapter_id: str | None) -> Generation:
        source = self.tokens.decode(list(prompt.ids)).split("\n\n", 1)[1].rsplit("\n\n", 1)[0]
        if adapter_id is None:
            return Generation(f"<base>{source}", 5, "stop")
        seed = self._loaded[adapter_id]
        translation = translate(source, self.spoilt.get(seed, 0.1), seed, self.draw, self.noise)
        return Generation(translation, len(translation), "stop")


@functools.cache
def _flags(pair: str, source: str, translation: str) -> tuple[str, ...]:
    return flags_of(parse_pair(pair), source, translation)


def made_by(canary: CanarySet, version: str, spoilt: float, noise: random.Random | None = None, share: float = 0.0, base: str = "light") -> CanaryTranslations:
    """What a system of this quality makes of a set, without a service."""
    n = len(canary.segments)
    # Of the hard texts fewer: looking at their flags takes the time of a test.
    texts = [translate(t, spoilt, version, noise, share if i < n else share / 10) for i, t in enumerate(canary.texts)]
    flags = [_flags(canary.pair, s, t) for s, t in zip(canary.texts[n:], texts[n:], strict=True)]
    return CanaryTranslations(version, base, texts[:n], flags, 1.0)


@contextlib.contextmanager
def watched(base: Base, registry: Registry, home: Path, **options: Any) -> Iterator[Running]:
    """A service that runs the canary sets of `home` at deploys, looking at everything twenty times a second."""
    options = {"every": 0.0, "tick": 0.05, "look": 0.05, "store": 0.2, "retry": 0.3, **options}
    with running(base, registry, QualityEngine, monitor=Monitor(MonitorConfig(home, **options))) as service:
        yield service

"""The service without HTTP: texts in, translations out, by the versions of `serve.versions`. It decides what is taken on and in which pieces."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Sequence

from serve.segments import Span, fill, pieces, split
from serve.versions import Limits, Version, Versions
from tell.engine import Engine
from tell.errors import EngineError, Overloaded, TooLarge
from tell.tokens import Tokens
from tell.translate import Hypothesis


@dataclasses.dataclass(frozen=True, slots=True)
class Translation:
    text: str
    truncated: bool


class Service:
    def __init__(self, engine: Engine, limits: Limits | None = None):
        self.engine, self.base = engine, engine.base
        self.limits = limits or Limits()
        self.tokens = Tokens(engine.base)
        # On use, so that translating a file needs no metrics library.
        from serve.metrics import Metrics

        self.metrics = Metrics()
        self.versions = Versions(engine, self.tokens, self.limits, self.metrics)
        # The engine is up; and the registry was looked at, so what was live at start now answers.
        self.started = self.looked = False
        self._waiting = 0

    async def start(self) -> None:
        await self.engine.start()
        self.started = True

    async def close(self) -> None:
        self.started = False
        await self.versions.close()
        await self.engine.close()

    async def ready(self) -> bool:
        """Whether a translation asked for now would be answered, if its pair is live."""
        return self.started and self.looked and await self.engine.healthy()

    @contextlib.asynccontextmanager
    async def lease(self, source: str, target: str) -> AsyncIterator[Version]:
        """`Versions.lease`. Raises EngineError while the engine starts."""
        if not self.started:
            raise EngineError("the engine is still starting")
        async with self.versions.lease(source, target) as version:
            yield version

    def pairs(self) -> list[str]:
        return self.versions.pairs()

    async def translate(self, version: Version, texts: Sequence[str]) -> list[Translation]:
        """One translation per text, in order, its lines and white space kept, by a version that the caller leases.

        Raises TooLarge, Overloaded, or what the engine raises. Cancelled, it stops the engine's work for these texts.
        """
        if len(texts) > self.limits.texts:
            raise TooLarge("too many texts in one request", found=len(texts), valid=f"at most {self.limits.texts}")
        if (characters := sum(map(len, texts))) > self.limits.characters:
            raise TooLarge("too much text in one request", found=f"{characters} characters", valid=f"at most {self.limits.characters}")
        plans = await asyncio.to_thread(self._plan, version, texts)
        done = iter(await self._hypotheses(version, [plan[i].text for plan in plans for i in pieces(plan)]))
        out = []
        for plan in plans:
            own = [next(done) for _ in pieces(plan)]
            out.append(Translation(fill(plan, [h.text for h in own]), any(h.truncated for h in own)))
        return out

    def _plan(self, version: Version, texts: Sequence[str]) -> list[list[Span]]:
        def measure(parts: list[str]) -> list[int]:
            return [len(ids) for ids in self.tokens.encode_batch(parts)]

        return [split(text, measure, version.segment_tokens) for text in texts]

    async def _hypotheses(self, version: Version, segments: list[str]) -> list[Hypothesis]:
        left = len(segments)
        if left > self.limits.waiting:
            raise TooLarge("too many lines in one request", found=left, valid=f"at most {self.limits.waiting}")
        if self._waiting + left > self.limits.waiting:
            self.metrics.refused.inc(left)
            raise Overloaded("too many segments are waiting; try again in a while", found=self._waiting, valid=f"at most {self.limits.waiting}")
        self._wait(left)
        out: list[Hypothesis] = []
        try:
            for start in range(0, len(segments), self.limits.batch):
                part = segments[start : start + self.limits.batch]
                made = await version.translator.translate(part)
                self._count(version, part, made)
                out += made
                self._wait(-len(part))
                left -= len(part)
        finally:
            self._wait(-left)
        return out

    def _wait(self, more: int) -> None:
        self._waiting += more
        self.metrics.waiting.set(self._waiting)

    def _count(self, version: Version, segments: Sequence[str], made: Sequence[Hypothesis]) -> None:
        labels = (version.adapter.card.pair, version.adapter.id)
        self.metrics.segments.labels(*labels).inc(len(segments))
        self.metrics.characters.labels(*labels).inc(sum(map(len, segments)))
        self.metrics.tokens.labels(*labels).inc(sum(h.tokens for h in made))
        self.metrics.truncated.labels(*labels).inc(sum(h.truncated for h in made))

"""Which adapter version answers for which pair: loaded, proved, taken over from, drained and removed.

Every method runs in one event loop, so what happens between two `await`s is atomic: a request takes its version and is
counted against it in one step, and a new version takes a pair over in one step. A version is unloaded when nobody uses it any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from serve.canary import prove
from tell.card import Adapter, check_base
from tell.console import say
from tell.engine import Engine
from tell.errors import AdapterError, NotServed, Overloaded, RequestError, TellmtError
from tell.languages import LanguagePair, language, parse_pair
from tell.tokens import Tokens
from tell.translate import Translator

if TYPE_CHECKING:
    from serve.metrics import Metrics

# Adapters are trained on sentences and short passages; a longer line is cut at its sentences even where the context would hold it.
SEGMENT_TOKENS = 256


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What the service takes on. `adapters` are loaded at once: the live ones and, during a change, the old and the new one."""

    adapters: int = 9
    rank: int = 16
    # Tokens of prompt and output together.
    context: int = 4096
    texts: int = 1000
    # Characters in one request: some minutes of work for a CPU.
    characters: int = 100_000
    # Segments admitted and not translated yet, over all requests.
    waiting: int = 4096
    # Segments that the engine runs at once (EngineOptions.max_batch): what it is given follows from that.
    batch: int = 64
    # Seconds for one request, from its arrival to its answer's end; it may ask for less.
    timeout: float = 300.0
    # Bytes of translations kept.
    cache: int = 32 << 20


@dataclasses.dataclass(eq=False, slots=True)
class Version:
    """A proved adapter in the engine. `idle` is set while no request uses it."""

    adapter: Adapter
    translator: Translator
    segment_tokens: int
    since: float = dataclasses.field(default_factory=time.time)
    in_flight: int = 0
    idle: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    unloading: bool = False

    def __post_init__(self) -> None:
        self.idle.set()


def segment_limit(translator: Translator) -> int:
    """The tokens of a source segment for which prompt and whole translation fit in the context."""
    decoding = translator.decoding
    room = translator.max_context - len(translator.tokens.prompt_ids(translator.anchor, "")) - decoding.length_extra
    # A text's tokens are a few more inside the prompt than alone, at the seams; 0.95 leaves them room.
    return max(1, min(SEGMENT_TOKENS, int(0.95 * room / (1 + decoding.length_factor))))


class Versions:
    def __init__(self, engine: Engine, tokens: Tokens, limits: Limits, metrics: Metrics):
        self.engine, self.base, self.tokens, self.limits, self.metrics = engine, engine.base, tokens, limits, metrics
        self.live: dict[str, Version] = {}
        self._versions: dict[str, Version] = {}
        self._drains: set[asyncio.Task[None]] = set()
        # Told the id of every version that was unloaded.
        self.unloaded: Callable[[str], None] = lambda adapter_id: None

    async def close(self) -> None:
        for task in self._drains:
            task.cancel()
        await asyncio.gather(*self._drains, return_exceptions=True)

    async def bring_up(self, adapter: Adapter) -> Version:
        """The adapter loaded and proved. Raises TellmtError, the engine being left as it was."""
        check_base(adapter, self.base.id, self.base.revision)
        if adapter.card.rank > self.limits.rank:
            raise AdapterError(
                "the adapter's rank is too high", place=str(adapter.path), found=adapter.card.rank, valid=f"at most {self.limits.rank} (--max-rank)"
            )
        while known := self._versions.get(adapter.id):
            if not known.unloading:
                # Still draining, as after a quick roll back: whole and proved.
                return known
            await asyncio.sleep(0.01)
        if (held := len(self.engine.loaded())) >= self.limits.adapters:
            raise Overloaded("no room for another adapter until an old version has drained", found=f"{held} loaded", valid="a higher --max-adapters")
        await self.engine.load(adapter.id, adapter.path)
        try:
            await prove(self.engine, self.tokens, adapter)
        except BaseException:
            await self._unload(adapter.id)
            raise
        card = adapter.card
        translator = Translator(self.engine, self.tokens, card.anchor, card.decoding, adapter.id, self.limits.context)
        version = self._versions[adapter.id] = Version(adapter, translator, segment_limit(translator))
        return version

    def switch(self, pair: str, version: Version | None) -> None:
        """Let `version` answer for the pair from now on, or nobody; requests under way end on the version they began with."""
        old = self.live.get(pair)
        if old is version:
            return
        if version is None:
            self.live.pop(pair)
        else:
            self.live[pair] = version
            self.metrics.live.labels(pair, version.adapter.id).set(1)
        if old is not None:
            self.metrics.live.remove(pair, old.adapter.id)
            task = asyncio.get_running_loop().create_task(self._drain(pair, old))
            self._drains.add(task)
            task.add_done_callback(self._drains.discard)

    async def _drain(self, pair: str, version: Version) -> None:
        while version.in_flight:
            await version.idle.wait()
        if self.live.get(pair) is version or version.unloading:
            return
        version.unloading = True
        await self._unload(version.adapter.id)
        self._versions.pop(version.adapter.id, None)

    async def _unload(self, adapter_id: str) -> None:
        try:
            await self.engine.unload(adapter_id)
        except TellmtError as e:
            say(f"{adapter_id[:12]}: not unloaded: {e}")
        self.unloaded(adapter_id)

    @contextlib.asynccontextmanager
    async def lease(self, source: str, target: str) -> AsyncIterator[Version]:
        """The version that answers for a pair, found and kept from unloading in one step.

        `source` may be `auto`, for the only language there is an adapter from. Raises LanguageError for a code that is none,
        NotServed for a pair nobody answers for.
        """
        version = self._find(source, target)
        version.in_flight += 1
        version.idle.clear()
        try:
            yield version
        finally:
            version.in_flight -= 1
            if not version.in_flight:
                version.idle.set()

    def _find(self, source: str, target: str) -> Version:
        into = language(target, "target")
        if source == "auto":
            found = [pair for pair in self.pairs() if parse_pair(pair).target == into]
            if len(found) > 1:
                raise RequestError("the source language cannot be told", place="source", found="auto", valid=f"its code: served are {', '.join(found)}")
            if not found:
                raise NotServed("no adapter translates into this language", found=into.tag, valid=self._valid())
            return self.live[found[0]]
        out_of = language(source, "source")
        if out_of == into:
            raise RequestError("source and target are the same language", found=into.tag)
        pair = str(LanguagePair(out_of, into))
        if pair not in self.live:
            raise NotServed("no adapter for this pair", found=pair, valid=self._valid())
        return self.live[pair]

    def pairs(self) -> list[str]:
        return sorted(self.live)

    def _valid(self) -> str:
        return ", ".join(self.pairs()) or "no pair is served now"

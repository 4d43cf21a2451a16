"""Translates through a running server, over its native API.

A batch that the server refuses for its texts is divided until the text at fault stands alone. A server that is busy or away for a moment is asked again;
anything else stops the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from serve.files.local import NONE_LIVE, UNHINTED
from serve.files.segment_store import SegmentResult
from serve.translation.decoder import Quality
from tell.client import calls
from tell.client.calls import TranslateOptions
from tell.client.errors import NoAnswer, UnreadableAnswer
from tell.client.models import Translation
from tell.client.transport import ApiCall, AsyncTransport, RetryPolicy, service_address
from tell.console import say
from tell.errors import BadInput, EngineError, LanguageError, NotServed, TellmtError
from tell.languages import LanguagePair, language, nearest_pair, parse_pair, same_variety
from tell.lexicon.glossary import Glossary

T = TypeVar("T")

# Seconds before each new try: a minute and a half in all, enough for a restart or for a queue to drain.
WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 30.0)
# At the first contact a server that is not there is more likely a wrong address than a restart.
FIRST_WAITS = (0.5, 1.0)
# The longest a server's Retry-After is followed.
LONGEST_WAIT = 60.0
# The server refuses the texts with these, not the request as a whole.
REFUSED_TEXTS = {400, 413, 422}
REFUSED_KEY = {401, 403}
# A batch of long lines takes a CPU some minutes.
READ_TIMEOUT = 900.0


class Server:
    """A connection to a server that is asked again while it is busy or away."""

    def __init__(self, transport: AsyncTransport):
        self.transport, self.url = transport, transport.url

    def _say(self, problem: str, seconds: float) -> None:
        say(f"{self.url}: {problem}; trying again in {seconds:g} s")

    async def send(self, call: ApiCall[T], waits: Sequence[float]) -> T:
        """The result of a call. Raises EngineError when the server stays busy or away, TellmtError for what it refuses."""
        retry = RetryPolicy(tuple(waits), LONGEST_WAIT, notify=self._say)
        try:
            return await self.transport.send(call, retry)
        except TellmtError as e:
            if e.status not in retry.statuses:
                raise
            problem = f"no answer ({e.found})" if isinstance(e, NoAnswer) else e.thing
        valid = "a running server (tellmt serve), or no --server; the same command goes on from here"
        raise EngineError(f"gave up after {len(waits) + 1} tries", place=self.url, found=problem, valid=valid)

    async def pairs(self) -> list[str]:
        """The pairs the server offers now."""
        try:
            served = await self.send(calls.languages(), FIRST_WAITS)
            pairs = [(language(row.code), language(target)) for row in served for target in row.targets]
        except EngineError:
            raise
        except LanguageError as e:
            raise self._no_server(str(e)) from None
        except TellmtError as e:
            raise self._no_server(e.thing) from None
        return sorted({str(LanguagePair(a, b)) for a, b in pairs if not same_variety(a, b)})

    def _no_server(self, answer: str) -> BadInput:
        return BadInput("no tellmt server answers here", place=self.url, found=f"{answer} for /languages")


class RemoteBackend:
    """A Backend on a server. Several requests are under way at once, so that its engine always has a batch that waits."""

    lines = 32
    characters = 20_000
    parallel = 4

    def __init__(self, server: Server, pair: LanguagePair, quality: Quality = "fast", glossary: Glossary | None = None):
        self.server, self.pair, self.quality, self.glossary = server, pair, quality, glossary
        self.adapters: list[str] = []
        self.glossary_reported = False
        # Whether the user was told that the server gives another quality than requested.
        self.quality_reported = False

    async def check_pair(self) -> None:
        """Raises NotServed with the pairs the server does offer. A pair can be withdrawn while a file is being translated."""
        offered = await self.server.pairs()
        if nearest_pair(self.pair, map(parse_pair, offered)) is None:
            raise NotServed("no adapter is live for this pair", place=self.server.url, found=str(self.pair), valid=", ".join(offered) or NONE_LIVE)

    async def translate(self, texts: Sequence[str]) -> list[SegmentResult]:
        options = TranslateOptions(quality=self.quality, glossary=self.glossary.terms if self.glossary else None)
        try:
            translations = await self.server.send(calls.translate(list(texts), self.pair.source.tag, self.pair.target.tag, options), WAITS)
        except UnreadableAnswer as e:
            raise TellmtError("the server's answer cannot be read", place=self.server.url, found=e.excerpt) from None
        except TellmtError as e:
            if e.status in REFUSED_TEXTS:
                return await self._divided(texts, e.thing)
            if e.status in REFUSED_KEY:
                raise BadInput("the server wants another API key", place=self.server.url, found=e.thing, valid="a key in TELLMT_API_KEY") from None
            if isinstance(e, EngineError):
                raise
            raise TellmtError("the server refused", place=self.server.url, found=e.thing) from None
        if self.quality == "best" and translations[0].quality != "best" and not self.quality_reported:
            say(f"{self.server.url}: busy, so some segments are translated with quality fast")
            self.quality_reported = True
        use = translations[0].glossary
        if use is not None and not use.applied and not self.glossary_reported:
            say(f"{self.server.url}: {UNHINTED}")
            self.glossary_reported = True
        if translations[0].adapter not in self.adapters:
            self.adapters.append(translations[0].adapter)
        return [SegmentResult(t.text, _flags(t)) for t in translations]

    async def _divided(self, texts: Sequence[str], refusal: str) -> list[SegmentResult]:
        """The translations of a refused batch by its halves; a text that is refused alone has failed."""
        if len(texts) == 1:
            await self.check_pair()
            return [SegmentResult("", failed=refusal)]
        middle = len(texts) // 2
        return await self.translate(texts[:middle]) + await self.translate(texts[middle:])


def _flags(translation: Translation) -> tuple[str, ...]:
    # Servers of earlier versions send no flags.
    return translation.flags or (("truncated",) if translation.truncated else ())


@asynccontextmanager
async def _connect(url: str) -> AsyncIterator[Server]:
    transport = AsyncTransport(service_address(url, "--server"), timeout=READ_TIMEOUT, follow_redirects=True)
    try:
        yield Server(transport)
    finally:
        await transport.close()


def offered_by(url: str) -> list[str]:
    """The pairs that the server at `url` offers now."""

    async def list_pairs() -> list[str]:
        async with _connect(url) as server:
            return await server.pairs()

    return asyncio.run(list_pairs())


@asynccontextmanager
async def open_remote(url: str, pair: LanguagePair, quality: Quality = "fast", glossary: Glossary | None = None) -> AsyncIterator[RemoteBackend]:
    """A server that offers the pair. Raises NotServed with the pairs it does offer, EngineError when there is none."""
    async with _connect(url) as server:
        remote = RemoteBackend(server, pair, quality, glossary)
        await remote.check_pair()
        yield remote

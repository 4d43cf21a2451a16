"""The client for programs with an event loop. Reads and writes over HTTP.

    from tellmt import AsyncClient

    async with AsyncClient("http://127.0.0.1:8080") as client:
        translation = await client.translate("Halló heimur.", "is", "en")
        async for part in client.stream(long_text, "is", "en"):
            ...

Its methods are those of `Client`, with the same arguments, records and exceptions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Unpack, overload

from tell.client import calls
from tell.client.calls import StreamOptions, Texts, TranslateOptions
from tell.client.client import DOCUMENT_NAME, POLL_INTERVAL, not_done
from tell.client.models import DocumentJob, DocumentPart, Quality, StreamEnd, Translation, TranslationPart
from tell.client.service_models import AdapterStatus, MonitorReport, Readiness, RegistryPair, ServedLanguage, ServiceInfo, ServiceLoad, ServiceStatus
from tell.client.transport import ANSWER_TIMEOUT, NO_RETRY, AsyncTransport, RetryPolicy


class AsyncClient:
    """One connection pool to a service, for one event loop; close it, or use it in an `async with`. Many requests may be under way at once.

    Raises what `Client` raises. Cancelling a call closes its connection, and the service stops that work.
    """

    def __init__(self, url: str, key: str | None = None, timeout: float = ANSWER_TIMEOUT, retry: RetryPolicy = NO_RETRY):
        """`key` is that of TELLMT_API_KEY unless given. `timeout` is in seconds, for one answer. Raises BadInput when `url` is no address."""
        self._transport = AsyncTransport(url, key, timeout, retry)
        self.url = self._transport.url

    async def close(self) -> None:
        await self._transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    @overload
    async def translate(self, text: str, source: str, target: str, **options: Unpack[TranslateOptions]) -> Translation: ...
    @overload
    async def translate(self, text: list[str] | tuple[str, ...], source: str, target: str, **options: Unpack[TranslateOptions]) -> list[Translation]: ...
    async def translate(self, text: Texts, source: str, target: str, **options: Unpack[TranslateOptions]) -> Translation | list[Translation]:
        """As `Client.translate`."""
        translations = await self._transport.send(calls.translate(text, source, target, options))
        return translations[0] if isinstance(text, str) else translations

    def stream(self, text: Texts, source: str, target: str, **options: Unpack[StreamOptions]) -> AsyncIterator[TranslationPart | StreamEnd]:
        """As `Client.stream`."""
        return self._transport.stream(calls.stream(text, source, target, options))

    async def service(self) -> ServiceInfo:
        """As `Client.service`."""
        return await self._transport.send(calls.service())

    async def languages(self) -> list[ServedLanguage]:
        """As `Client.languages`."""
        return await self._transport.send(calls.languages())

    async def adapters(self) -> list[AdapterStatus]:
        """As `Client.adapters`."""
        return await self._transport.send(calls.adapters())

    async def status(self) -> ServiceStatus:
        """As `Client.status`."""
        return await self._transport.send(calls.status())

    async def load(self) -> ServiceLoad:
        """As `Client.load`."""
        return await self._transport.send(calls.load())

    async def ready(self) -> Readiness:
        """As `Client.ready`."""
        return await self._transport.send(calls.ready())

    async def metrics(self) -> str:
        """As `Client.metrics`."""
        return await self._transport.send(calls.metrics())

    async def monitor(self) -> MonitorReport:
        """As `Client.monitor`."""
        return await self._transport.send(calls.monitor())

    async def submit(
        self,
        document: Path | bytes,
        source: str,
        target: str,
        *,
        name: str | None = None,
        cache: bool = True,
        glossary: Mapping[str, str] | str | None = None,
        quality: Quality = "fast",
    ) -> DocumentJob:
        """As `Client.submit`; a path is read in a thread."""
        if isinstance(document, Path):
            content, name = await asyncio.to_thread(document.read_bytes), name or document.name
        else:
            content = document
        return await self._transport.send(calls.submit(content, name or DOCUMENT_NAME, source, target, cache, glossary, quality))

    async def job(self, id: str) -> DocumentJob:
        """As `Client.job`."""
        return await self._transport.send(calls.job(id))

    async def wait(self, id: str, seconds: float = 3600.0) -> DocumentJob:
        """As `Client.wait`."""
        deadline = time.monotonic() + seconds
        while not (job := await self.job(id)).ended:
            if time.monotonic() > deadline:
                raise not_done(self.url, seconds, job)
            await asyncio.sleep(POLL_INTERVAL)
        return job

    def events(self, id: str, after: int = 0) -> AsyncIterator[DocumentJob | DocumentPart]:
        """As `Client.events`."""
        return self._transport.stream(calls.events(id, after))

    async def result(self, id: str) -> bytes:
        """As `Client.result`."""
        return await self._transport.send(calls.result(id))

    async def delete(self, id: str) -> None:
        """As `Client.delete`."""
        await self._transport.send(calls.delete(id))

    async def feedback(self, text: str, correction: str, translation: Translation) -> None:
        """As `Client.feedback`."""
        await self._transport.send(calls.feedback(text, correction, translation))

    async def promote(self, pair: str, adapter: str, why: str) -> RegistryPair:
        """As `Client.promote`."""
        return await self._transport.send(calls.change("promote", pair, why, adapter))

    async def rollback(self, pair: str, why: str) -> RegistryPair:
        """As `Client.rollback`."""
        return await self._transport.send(calls.change("rollback", pair, why))

    async def pin(self, pair: str, why: str) -> RegistryPair:
        """As `Client.pin`."""
        return await self._transport.send(calls.change("pin", pair, why))

    async def unpin(self, pair: str, why: str) -> RegistryPair:
        """As `Client.unpin`."""
        return await self._transport.send(calls.change("unpin", pair, why))

    async def registry_log(self) -> list[dict[str, Any]]:
        """As `Client.registry_log`."""
        return await self._transport.send(calls.registry_log())

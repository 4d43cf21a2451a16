"""A typed client of a running service that blocks; it needs nothing but the core of tellmt. Reads and writes over HTTP.

    from tellmt import Client

    with Client("http://127.0.0.1:8080") as client:
        translation = client.translate("Halló heimur.", "is", "en")
        print(translation.text, translation.adapter)
        for part in client.stream(long_text, "is", "en"):
            ...

What the service refuses is raised as an exception of `tell.errors`, with the service's own words. A client sends a request again only where it was given a
RetryPolicy; Overloaded and OverShare have `retry_after`, the seconds after which to ask again. Codes of languages are BCP 47.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Unpack, overload

from tell.client import calls
from tell.client.calls import StreamOptions, Texts, TranslateOptions
from tell.client.models import DocumentJob, DocumentPart, Quality, StreamEnd, Translation, TranslationPart
from tell.client.service_models import AdapterStatus, MonitorReport, Readiness, RegistryPair, ServedLanguage, ServiceInfo, ServiceLoad, ServiceStatus
from tell.client.transport import ANSWER_TIMEOUT, NO_RETRY, RetryPolicy, Transport
from tell.errors import TimedOut

# Seconds between two looks at a document.
POLL_INTERVAL = 0.5
# The name of a document that is given as bytes: plain text.
DOCUMENT_NAME = "document.txt"


class Client:
    """One connection pool to a service; close it, or use it in a `with`. Threads may share one client.

    Every method raises NoAnswer, UnreadableAnswer, KeyRefused and ScopeRefused for the API key, OverShare for its quotas and Overloaded, beside what the
    method names itself.
    """

    def __init__(self, url: str, key: str | None = None, timeout: float = ANSWER_TIMEOUT, retry: RetryPolicy = NO_RETRY):
        """`key` is that of TELLMT_API_KEY unless given. `timeout` is in seconds, for one answer. Raises BadInput when `url` is no address."""
        self._transport = Transport(url, key, timeout, retry)
        self.url = self._transport.url

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @overload
    def translate(self, text: str, source: str, target: str, **options: Unpack[TranslateOptions]) -> Translation: ...
    @overload
    def translate(self, text: list[str] | tuple[str, ...], source: str, target: str, **options: Unpack[TranslateOptions]) -> list[Translation]: ...
    def translate(self, text: Texts, source: str, target: str, **options: Unpack[TranslateOptions]) -> Translation | list[Translation]:
        """The translation of a text, or one for each of several texts, in order; TranslateOptions describes the options.

        Raises NotServed for a pair without an adapter, RequestError for what the service cannot use, TooLarge, and TimedOut.
        """
        translations = self._transport.send(calls.translate(text, source, target, options))
        return translations[0] if isinstance(text, str) else translations

    def stream(self, text: Texts, source: str, target: str, **options: Unpack[StreamOptions]) -> Iterator[TranslationPart | StreamEnd]:
        """The translations in parts, as they come, in order; StreamEnd is the last. Closing the iterator early stops the work.

        Raises what `translate` does, also after some parts, and NoAnswer when the connection breaks.
        """
        return self._transport.stream(calls.stream(text, source, target, options))

    def service(self) -> ServiceInfo:
        """What this service accepts. Needs no API key."""
        return self._transport.send(calls.service())

    def languages(self) -> list[ServedLanguage]:
        """The languages that the service translates from, each with those it translates into."""
        return self._transport.send(calls.languages())

    def adapters(self) -> list[AdapterStatus]:
        """The state of each pair that the service follows."""
        return self._transport.send(calls.adapters())

    def status(self) -> ServiceStatus:
        """The engine and the base of the service, and the state of each pair that it follows."""
        return self._transport.send(calls.status())

    def load(self) -> ServiceLoad:
        """How busy the service is, and how much it has translated."""
        return self._transport.send(calls.load())

    def ready(self) -> Readiness:
        """That the service translates, and which pairs. Raises Overloaded, with the reason, while it does not. Needs no API key."""
        return self._transport.send(calls.ready())

    def metrics(self) -> str:
        """The metrics of the service, as Prometheus reads them. Needs a key of the scope metrics, where there are keys."""
        return self._transport.send(calls.metrics())

    def monitor(self) -> MonitorReport:
        """Canary runs, signals of the traffic, corrections and alarms. Needs a key of the scope metrics, where there are keys."""
        return self._transport.send(calls.monitor())

    def submit(
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
        """Have a document translated: a path, or its bytes and a name whose ending tells the format. `glossary` and `quality` are those of
        StreamOptions.

        Raises OSError when the path cannot be read, and what `translate` does but TimedOut.
        """
        if isinstance(document, Path):
            content, name = document.read_bytes(), name or document.name
        else:
            content = document
        return self._transport.send(calls.submit(content, name or DOCUMENT_NAME, source, target, cache, glossary, quality))

    def job(self, id: str) -> DocumentJob:
        """The state of a document. Raises NotFound when this key has no such document, or none any more."""
        return self._transport.send(calls.job(id))

    def wait(self, id: str, seconds: float = 3600.0) -> DocumentJob:
        """The job once it has ended, well or not. Raises TimedOut when it has not ended in so many seconds; the job goes on. Raises NotFound."""
        deadline = time.monotonic() + seconds
        while not (job := self.job(id)).ended:
            if time.monotonic() > deadline:
                raise not_done(self.url, seconds, job)
            time.sleep(POLL_INTERVAL)
        return job

    def events(self, id: str, after: int = 0) -> Iterator[DocumentJob | DocumentPart]:
        """What happens to a document until it has ended: the job when its state changes, and each translated part in order.

        Parts that are done already come first, without the first `after` of them. Closing the iterator stops only the watching. Raises NotFound, also when
        the document is deleted meanwhile, and NoAnswer when the connection breaks: then ask again, with the number of parts that came.
        """
        return self._transport.stream(calls.events(id, after))

    def result(self, id: str) -> bytes:
        """The translated document. Raises NotReady while it is not done, and when it failed; NotFound."""
        return self._transport.send(calls.result(id))

    def delete(self, id: str) -> None:
        """Stop a document that is under way, and delete it. Raises NotFound."""
        self._transport.send(calls.delete(id))

    def feedback(self, text: str, correction: str, translation: Translation) -> None:
        """Send what the translation of a text should have been. Raises NotFound where the service keeps no feedback, RequestError, TooLarge."""
        self._transport.send(calls.feedback(text, correction, translation))

    def promote(self, pair: str, adapter: str, why: str) -> RegistryPair:
        """Make a published adapter live for its pair, without the checks of the gate. `adapter` is its id, or the first 4 characters or more of it.

        This and what follows need a key of the scope admin. Raises NotReady where the registry has no such adapter, RequestError.
        """
        return self._transport.send(calls.change("promote", pair, why, adapter))

    def rollback(self, pair: str, why: str) -> RegistryPair:
        """Make the adapter before live again. Raises NotReady where there is none, RequestError."""
        return self._transport.send(calls.change("rollback", pair, why))

    def pin(self, pair: str, why: str) -> RegistryPair:
        """Keep a pair loaded where more pairs are live than there is room for. Raises RequestError."""
        return self._transport.send(calls.change("pin", pair, why))

    def unpin(self, pair: str, why: str) -> RegistryPair:
        """Remove the pin of a pair. Raises RequestError."""
        return self._transport.send(calls.change("unpin", pair, why))

    def registry_log(self) -> list[dict[str, Any]]:
        """The newest changes to the registry, the oldest first: who, when, what, why."""
        return self._transport.send(calls.registry_log())


def not_done(url: str, seconds: float, job: DocumentJob) -> TimedOut:
    return TimedOut(f"the document was not done in {seconds:g} s", place=url, found=f"{job.progress.done} of {job.progress.total} characters")

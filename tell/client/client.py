"""A client of a running service, typed, with nothing but the core of tellmt installed. Reads and writes over HTTP.

    from tell.client.client import Client

    with Client("http://127.0.0.1:8080") as client:
        made = client.translate("Halló heimur.", "is", "en")
        print(made.text, made.adapter)
        for part in client.stream(long_text, "is", "en"):
            ...

What the service refuses is raised as `tell.errors` has it, with the service's own words; nothing is tried again by itself, but an error that passes has
`retry_after`, the seconds after which to ask again. Codes of languages are BCP 47.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, overload

import httpx
from pydantic import TypeAdapter, ValidationError

from tell.client.models import (
    Adapter,
    Alternative,
    Detected,
    DocumentPart,
    Done,
    Job,
    Language,
    Offer,
    Part,
    Progress,
    Quality,
    Record,
    Segment,
    Translation,
    Way,
)  # fmt: skip
from tell.errors import (
    BadInput,
    KeyRefused,
    NotFound,
    NotReady,
    NotServed,
    Overloaded,
    OverShare,
    RequestError,
    ScopeRefused,
    TellmtError,
    TimedOut,
    TooLarge,
    TooSlow,
)

__all__ = [
    "Adapter", "Alternative", "Client", "Detected", "DocumentPart", "Done", "Job", "Language", "NoAnswer", "Offer", "Part", "Progress", "Quality", "Segment",
    "Translation", "Way",
]  # fmt: skip

T = TypeVar("T")
R = TypeVar("R", bound=Record)

# Seconds for an answer: a text may take the service its whole --timeout. And for a connection.
ANSWER, CONNECT = 330.0, 10.0
# Seconds between two looks at a document.
LOOK = 0.5

_KINDS: dict[int, type[TellmtError]] = {
    400: RequestError, 401: KeyRefused, 403: ScopeRefused, 404: NotFound, 408: TooSlow, 409: NotReady, 413: TooLarge, 504: TimedOut,
}  # fmt: skip


class NoAnswer(TellmtError):
    """There is no service at this address, it went away, or it took too long."""

    status = 503


class _Status(Record):
    pairs: tuple[Adapter, ...]


def _error(response: httpx.Response, place: str) -> TellmtError:
    """What the service refused with, as the exception of its status; with the service's words."""
    try:
        body = response.json()
        said, pairs = str(body["error"]), body.get("pairs")
    except (ValueError, KeyError, TypeError, AttributeError):
        said, pairs = f"HTTP status {response.status_code}", None
    if response.status_code == 400 and pairs is not None:
        return NotServed(said, place=place)
    return _refused(response.status_code, said, place, response.headers.get("Retry-After", ""))


def _refused(status: int, said: str, place: str, after: str = "") -> TellmtError:
    if status in (429, 503):
        kind = OverShare if status == 429 else Overloaded
        return kind(said, place=place, retry_after=int(after) if after.isdigit() else 2)
    error = _KINDS.get(status, TellmtError)(said, place=place)
    error.status = status
    return error


class Client:
    """One connection pool to a service; to be closed, or used in a `with`. May be shared by threads.

    Every method raises NoAnswer, KeyRefused and ScopeRefused for the API key, OverShare for its quotas and Overloaded, beside what is said of it.
    """

    def __init__(self, url: str, key: str | None = None, timeout: float = ANSWER):
        """`key` is that of TELLMT_API_KEY unless given; `timeout` is in seconds, for one answer. Raises BadInput when `url` is no address."""
        key = os.environ.get("TELLMT_API_KEY") if key is None else key
        try:
            address = httpx.URL(url)
        except httpx.InvalidURL as e:
            raise BadInput("not an address", place="url", found=f"{url} ({e})", valid="http://HOST:PORT") from None
        if address.scheme not in ("http", "https") or not address.host:
            raise BadInput("not an address", place="url", found=url, valid="http://HOST:PORT")
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=f"{self.url}/", headers=headers, timeout=httpx.Timeout(timeout, connect=CONNECT))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **more)
        except httpx.TransportError as e:
            raise self._silent(e) from None
        if not response.is_success:
            raise _error(response, self.url)
        return response

    def _read(self, kind: type[T], response: httpx.Response) -> T:
        try:
            return TypeAdapter(kind).validate_json(response.content)
        except ValidationError:
            raise self._unreadable() from None

    def _event(self, line: str) -> dict[str, Any]:
        try:
            event = json.loads(line)
            if not isinstance(event, dict):
                raise ValueError
        except ValueError:
            raise self._unreadable() from None
        return event

    def _record(self, kind: type[R], event: dict[str, Any]) -> R:
        try:
            return kind.model_validate(event)
        except ValidationError:
            raise self._unreadable() from None

    def _silent(self, error: httpx.TransportError) -> NoAnswer:
        return NoAnswer("no answer", place=self.url, found=str(error) or type(error).__name__, valid="a running tellmt serve")

    def _unreadable(self) -> TellmtError:
        return TellmtError("the service's answer cannot be read", place=self.url, valid="the address of a tellmt serve of this version")

    @contextmanager
    def _lines(self, method: str, path: str, **more: Any) -> Iterator[Iterator[str]]:
        """The lines of an answer as they come. A connection that breaks is NoAnswer."""
        try:
            with self._http.stream(method, path, **more) as response:
                if not response.is_success:
                    response.read()
                    raise _error(response, self.url)
                yield _split(response.iter_text())
        except httpx.TransportError as e:
            raise self._silent(e) from None

    @overload
    def translate(
        self,
        text: str,
        source: str,
        target: str,
        *,
        timeout: float | None = None,
        cache: bool = True,
        segments: bool = False,
        base: bool = False,
        quality: Quality = "fast",
        alternatives: int = 0,
        fallback: Sequence[Way] = (),
        low: bool = False,
    ) -> Translation: ...
    @overload
    def translate(
        self,
        text: list[str] | tuple[str, ...],
        source: str,
        target: str,
        *,
        timeout: float | None = None,
        cache: bool = True,
        segments: bool = False,
        base: bool = False,
        quality: Quality = "fast",
        alternatives: int = 0,
        fallback: Sequence[Way] = (),
        low: bool = False,
    ) -> list[Translation]: ...
    def translate(
        self,
        text: str | list[str] | tuple[str, ...],
        source: str,
        target: str,
        *,
        timeout: float | None = None,
        cache: bool = True,
        segments: bool = False,
        base: bool = False,
        quality: Quality = "fast",
        alternatives: int = 0,
        fallback: Sequence[Way] = (),
        low: bool = False,
    ) -> Translation | list[Translation]:
        """A translation of a text, or one for each of several, in order.

        `timeout`: seconds within which the answer is wanted; `cache`: whether it may come from, and stay in, the service's memory; `segments`: whether to be
        told which part of the text each part of the translation is of; `base`: the bare base's translation, without the adapter; `alternatives`: so many other
        translations are wanted; `fallback`: what may stand in for an adapter that the pair does not have, in order;
        `low`: whether it gives way to everybody else's.
        Raises NotServed for a pair without an adapter, RequestError for what cannot be used, TooLarge, and TimedOut.
        """
        wishes = {"timeout": timeout, "segments": segments, "base": base, "quality": quality, "alternatives": alternatives, "fallback": list(fallback)}
        # RFC 9218: the urgency of what nobody waits for.
        headers = {"Priority": "u=7"} if low else None
        response = self._ask("POST", "api/v1/translate", json=_asked(text, source, target, cache, wishes), headers=headers)
        try:
            answer = response.json()
            common = {name: answer[name] for name in ("pair", "adapter", "base")} | {name: answer.get(name) for name in ("quality", "fallback")}
            made = [Translation.model_validate({**_told(common), **_told(one)}) for one in answer["translations"]]
        except (ValueError, KeyError, TypeError):
            raise self._unreadable() from None
        if len(made) != (1 if isinstance(text, str) else len(text)):
            raise self._unreadable()
        return made[0] if isinstance(text, str) else made

    def stream(
        self,
        text: str | list[str] | tuple[str, ...],
        source: str,
        target: str,
        *,
        timeout: float | None = None,
        cache: bool = True,
        segments: bool = False,
        base: bool = False,
    ) -> Iterator[Part | Done]:
        """The translations in parts, as they come, in order; Done is the last. Leaving off early stops the work.

        Raises what `translate` does, after some parts too, and NoAnswer when the connection breaks.
        """
        body = _asked(text, source, target, cache, {"timeout": timeout, "segments": segments, "base": base})
        with self._lines("POST", "api/v1/translate/stream", json=body) as lines:
            for line in lines:
                event = self._event(line)
                if "error" in event:
                    raise _refused(int(event.get("status", 500)), str(event["error"]), self.url)
                if "done" in event:
                    yield self._record(Done, event)
                    return
                yield self._record(Part, event)
        raise NoAnswer("the answer broke off", place=self.url, valid="asking again")

    def service(self) -> Offer:
        """What this service takes; asked without a key."""
        return self._read(Offer, self._ask("GET", "api/v1/service"))

    def languages(self) -> list[Language]:
        return self._read(list[Language], self._ask("GET", "languages"))

    def adapters(self) -> list[Adapter]:
        """What answers for each pair that the service follows."""
        return list(self._read(_Status, self._ask("GET", "api/v1/adapters")).pairs)

    def submit(self, document: Path | bytes, source: str, target: str, *, name: str | None = None, cache: bool = True) -> Job:
        """Have a file translated: a path, or its bytes and a name whose ending tells the format.

        Raises OSError when the path cannot be read, and what `translate` does but TimedOut.
        """
        if isinstance(document, Path):
            raw, name = document.read_bytes(), name or document.name
        else:
            raw = document
        data = {"source": source, "target": target, "cache": "true" if cache else "false"}
        return self._read(Job, self._ask("POST", "api/v1/jobs", data=data, files={"file": (name or "document.txt", raw)}))

    def job(self, id: str) -> Job:
        """Raises NotFound when there is none of this key, or none any more."""
        return self._read(Job, self._ask("GET", f"api/v1/jobs/{_segment(id)}"))

    def wait(self, id: str, seconds: float = 3600.0) -> Job:
        """The job once it has ended, well or not. Raises TimedOut when it has not in so many seconds; it goes on. Raises NotFound."""
        end = time.monotonic() + seconds
        while not (job := self.job(id)).ended:
            if time.monotonic() > end:
                raise TimedOut(f"the document was not done in {seconds:g} s", place=self.url, found=f"{job.progress.done} of {job.progress.total} characters")
            time.sleep(LOOK)
        return job

    def events(self, id: str, after: int = 0) -> Iterator[Job | DocumentPart]:
        """What happens to a document, until it has ended: the job when its state changes, and each translated part in order, of those that are done already
        the ones after the first `after`. Leaving off stops only the watching.

        Raises NotFound, also when it is deleted meanwhile, and NoAnswer when the connection breaks: then ask again, with the number of parts that came.
        """
        kind = ""
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": str(after)} if after else {})}
        with self._lines("GET", f"api/v1/jobs/{_segment(id)}/events", headers=headers) as lines:
            for line in lines:
                name, _, value = line.partition(": ")
                if name == "event":
                    kind = value
                elif name == "data" and kind == "gone":
                    raise NotFound("no such document, or it is gone")
                elif name == "data":
                    event = self._event(value)
                    yield self._record(DocumentPart, event) if kind == "part" else self._record(Job, event)
                    if kind in ("done", "failed"):
                        return
        raise NoAnswer("the answer broke off", place=self.url, valid="asking again")

    def result(self, id: str) -> bytes:
        """The translated file. Raises NotReady while it is not done, and when it failed; NotFound."""
        return self._ask("GET", f"api/v1/jobs/{_segment(id)}/result").content

    def delete(self, id: str) -> None:
        """Stop a document that is under way, and forget it. Raises NotFound."""
        self._ask("DELETE", f"api/v1/jobs/{_segment(id)}")

    def feedback(self, text: str, correction: str, made: Translation) -> None:
        """Say what the translation of a text should have been. Raises NotFound where the service keeps no feedback, RequestError, TooLarge."""
        from tell.languages import parse_pair

        pair = parse_pair(made.pair, "pair")
        body = {"source": pair.source.tag, "target": pair.target.tag, "text": text, "correction": correction, "translation": made.text, "adapter": made.adapter}
        self._ask("POST", "api/v1/feedback", json=body)


def _asked(text: str | list[str] | tuple[str, ...], source: str, target: str, cache: bool, wishes: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {"source": source, "target": target, "text": text if isinstance(text, str) else list(text), "cache": cache}
    # What is not wanted is not named, so that older services answer too.
    return body | {name: value for name, value in wishes.items() if value not in (None, "fast", 0, [])}


def _told(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def _split(chunks: Iterator[str]) -> Iterator[str]:
    """Lines by their line feeds alone: U+2028 is text."""
    held = ""
    for chunk in chunks:
        *whole, held = (held + chunk).split("\n")
        yield from whole
    if held:
        yield held


def _segment(id: str) -> str:
    """The id as one part of an address, whatever it holds. Raises NotFound for one that cannot be a part."""
    from urllib.parse import quote

    if id.strip(".") == "":
        raise NotFound("no such document, or it is gone")
    return quote(id, safe="")

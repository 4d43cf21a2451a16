"""The HTTP core under `Client` and `AsyncClient`: calls are sent, refusals raised, busy services asked again, streams read line by line.

Reads and writes over HTTP. What a call is and how its answer is read does not depend on how it is sent: `tell.client.calls` describes each call once, and the
two transports differ in `await` alone.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import httpx

from tell.client.errors import UnreadableAnswer, broken_off, error_message, no_answer, refusal, retry_after_seconds
from tell.errors import BadInput

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

# Seconds for an answer: the service may spend its whole --timeout on one text. And for a connection.
ANSWER_TIMEOUT, CONNECT_TIMEOUT = 330.0, 10.0
# From the environment, since every user of the machine can read a command line.
KEY_VARIABLE = "TELLMT_API_KEY"
# Raised by readers of answers that have another form than they should.
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


def service_address(url: str, place: str = "url") -> str:
    """The address of a service without a final slash. Raises BadInput that names `place` when `url` is no address."""
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as e:
        raise BadInput("not an address", place=place, found=f"{url} ({e})", valid="http://HOST:PORT") from None
    if address.scheme not in ("http", "https") or not address.host or "?" in url or "#" in url:
        raise BadInput("not an address", place=place, found=url, valid="http://HOST:PORT")
    return url.rstrip("/")


def _without_password(address: str) -> str:
    scheme, _, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


@dataclass(frozen=True)
class RetryPolicy:
    """When a request is sent again: after an answer with one of `statuses`, or without any answer, once for each of `waits`.

    `waits` are seconds before each new try; a longer Retry-After of the service is followed instead. No wait is longer than `longest_wait` seconds.
    `notify` is told the problem and the seconds of each wait.
    """

    waits: tuple[float, ...] = ()
    longest_wait: float = 60.0
    statuses: frozenset[int] = frozenset({429, 502, 503, 504})
    notify: Callable[[str, float], None] | None = None

    def pause(self, attempt: int, outcome: httpx.Response | httpx.RequestError) -> float | None:
        """Seconds until the request is sent again after try number `attempt` (from 0); None when its outcome stands."""
        if attempt >= len(self.waits):
            return None
        if isinstance(outcome, httpx.Response):
            if outcome.status_code not in self.statuses:
                return None
            problem, wait = error_message(outcome), max(self.waits[attempt], float(retry_after_seconds(outcome) or 0))
        else:
            problem, wait = f"no answer ({str(outcome) or type(outcome).__name__})", self.waits[attempt]
        seconds = min(wait, self.longest_wait)
        if self.notify:
            self.notify(problem, seconds)
        return seconds


NO_RETRY = RetryPolicy()


@dataclass(frozen=True)
class ApiCall(Generic[T]):
    """One request of the API: method, path, and `options` as httpx takes them. `read` makes the result of a successful answer.

    `read` raises one of UNREADABLE for an answer that it cannot read.
    """

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    options: dict[str, Any] = field(default_factory=dict)


class EventReader(Protocol[T_co]):
    """The events of a stream from its lines. `ended` is true once the last event was read; a stream that stops before that broke off."""

    ended: bool

    def read(self, line: str) -> T_co | None:
        """The event that this line completes. Raises what `ApiCall.read` does, and TellmtError where the event is an error of the service."""


@dataclass(frozen=True)
class StreamCall(Generic[T]):
    """A request whose answer is a stream of events. `reader` makes a new reader for each answer; it is given the service's address, for its errors."""

    method: str
    path: str
    reader: Callable[[str], EventReader[T]]
    options: dict[str, Any] = field(default_factory=dict)


class LineSplitter:
    """Lines of UTF-8 that comes in chunks, by their line feeds alone, since U+2028 is text. Bytes that are none become U+FFFD."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[str]:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [line.decode("utf-8", "replace") for line in lines]

    def end(self) -> list[str]:
        return [self._rest.decode("utf-8", "replace")] if self._rest else []


class _Settings:
    """The part that both transports have in common."""

    def __init__(self, url: str, key: str | None, timeout: float, retry: RetryPolicy, follow_redirects: bool):
        address, self.retry = service_address(url), retry
        # What messages name: without the password of a proxy, if there is one.
        self.url = _without_password(address)
        key = os.environ.get(KEY_VARIABLE) if key is None else key
        # A header with a blank at its end would be refused with the key in the message.
        if key and not (key.isascii() and key.isprintable() and " " not in key):
            raise BadInput("not an API key", place=f"key, or {KEY_VARIABLE}", valid="what tellmt keys add wrote, in one line")
        self.httpx_options: dict[str, Any] = {
            "base_url": f"{address}/",
            # A name and a password in the address are sent in Authorization. That alone is left out when a redirect leads to another host.
            "headers": {} if not key else {"X-API-Key": key} if address != self.url and not follow_redirects else {"Authorization": f"Bearer {key}"},
            "timeout": httpx.Timeout(timeout, connect=CONNECT_TIMEOUT),
            "follow_redirects": follow_redirects,
        }

    def pause(self, attempt: int, outcome: httpx.Response | httpx.RequestError, retry: RetryPolicy | None) -> float | None:
        return (self.retry if retry is None else retry).pause(attempt, outcome)

    def result(self, call: ApiCall[T], outcome: httpx.Response | httpx.RequestError) -> T:
        if isinstance(outcome, httpx.RequestError):
            raise no_answer(outcome, self.url) from None
        if not outcome.is_success:
            raise refusal(outcome, self.url)
        try:
            return call.read(outcome)
        except UNREADABLE:
            # Not `text`: the charset is whatever the answer says it is.
            raise UnreadableAnswer(self.url, outcome.content[:80].decode("utf-8", "replace")) from None

    def event(self, reader: EventReader[T], line: str) -> T | None:
        try:
            return reader.read(line)
        except UNREADABLE:
            raise UnreadableAnswer(self.url, line[:80]) from None


class Transport:
    """Sends calls and blocks until they are answered. Threads may share one transport."""

    def __init__(
        self, url: str, key: str | None = None, timeout: float = ANSWER_TIMEOUT, retry: RetryPolicy = NO_RETRY, follow_redirects: bool = False
    ) -> None:
        self._settings = _Settings(url, key, timeout, retry, follow_redirects)
        self.url = self._settings.url
        self._http = httpx.Client(**self._settings.httpx_options)

    def send(self, call: ApiCall[T], retry: RetryPolicy | None = None) -> T:
        """The result of a call. `retry` stands in for the transport's own policy. Raises TellmtError."""
        attempt = 0
        while True:
            try:
                outcome: httpx.Response | httpx.RequestError = self._http.request(call.method, call.path, **call.options)
            except httpx.RequestError as e:
                outcome = e
            seconds = self._settings.pause(attempt, outcome, retry)
            if seconds is None:
                return self._settings.result(call, outcome)
            time.sleep(seconds)
            attempt += 1

    def stream(self, call: StreamCall[T]) -> Iterator[T]:
        """The events of a stream, as they come; a stream is never asked for again. Raises TellmtError, NoAnswer when the connection breaks."""
        reader = call.reader(self.url)
        try:
            with self._http.stream(call.method, call.path, **call.options) as response:
                if not response.is_success:
                    response.read()
                    raise refusal(response, self.url)
                for line in _lines(response.iter_bytes()):
                    event = self._settings.event(reader, line)
                    if event is not None:
                        yield event
                    if reader.ended:
                        return
        except httpx.RequestError as e:
            raise no_answer(e, self.url) from None
        raise broken_off(self.url)

    def close(self) -> None:
        self._http.close()


class AsyncTransport:
    """Sends calls from an event loop, many at once."""

    def __init__(
        self, url: str, key: str | None = None, timeout: float = ANSWER_TIMEOUT, retry: RetryPolicy = NO_RETRY, follow_redirects: bool = False
    ) -> None:
        self._settings = _Settings(url, key, timeout, retry, follow_redirects)
        self.url = self._settings.url
        self._http = httpx.AsyncClient(**self._settings.httpx_options)

    async def send(self, call: ApiCall[T], retry: RetryPolicy | None = None) -> T:
        """As `Transport.send`."""
        attempt = 0
        while True:
            try:
                outcome: httpx.Response | httpx.RequestError = await self._http.request(call.method, call.path, **call.options)
            except httpx.RequestError as e:
                outcome = e
            seconds = self._settings.pause(attempt, outcome, retry)
            if seconds is None:
                return self._settings.result(call, outcome)
            await asyncio.sleep(seconds)
            attempt += 1

    async def stream(self, call: StreamCall[T]) -> AsyncIterator[T]:
        """As `Transport.stream`."""
        reader = call.reader(self.url)
        try:
            async with self._http.stream(call.method, call.path, **call.options) as response:
                if not response.is_success:
                    await response.aread()
                    raise refusal(response, self.url)
                async for line in _alines(response.aiter_bytes()):
                    event = self._settings.event(reader, line)
                    if event is not None:
                        yield event
                    if reader.ended:
                        return
        except httpx.RequestError as e:
            raise no_answer(e, self.url) from None
        raise broken_off(self.url)

    async def close(self) -> None:
        await self._http.aclose()


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    splitter = LineSplitter()
    for chunk in chunks:
        yield from splitter.feed(chunk)
    yield from splitter.end()


async def _alines(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    splitter = LineSplitter()
    async for chunk in chunks:
        for line in splitter.feed(chunk):
            yield line
    for line in splitter.end():
        yield line

"""What stands between the socket and the routes: raw ASGI layers, so that streams, disconnects and chunked bodies are seen as they come."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Coroutine, Mapping
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.logs import where
from serve.metrics.registry import Metrics
from tell.errors import TooLarge, TooSlow

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_BODY = 1 << 20
# A client that sends too much and reads nothing until it is done would see a reset instead of the answer: so much more is read and
# thrown away first, and for so many seconds.
DISCARD_BYTES, DISCARD_SECONDS = 16 << 20, 2.0
# Seconds in which a whole body must have come: a mebibyte at 140 kbit/s.
BODY_SECONDS = 60.0
# Of a request's head: bytes and number of its fields, bytes of its target.
MAX_HEAD, MAX_FIELDS, MAX_TARGET = 64 << 10, 100, 8 << 10

HEADERS = (
    (b"content-security-policy", b"default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"permissions-policy", b"camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
# Who asks with a key in a header of its own would be unknown to a cache on the way.
NO_STORE = (b"cache-control", b"no-store")


class ClientGone(Exception):
    """The client left before its answer: nobody is there to tell."""


async def send_error(send: Send, status: int, message: str, more: Mapping[str, str] | None = None, close: bool = True) -> None:
    """An answer from outside the routes. Where the rest of the request is not to be trusted or waited for, the connection ends with it."""
    body = json.dumps({"error": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in (more or {}).items()] + ([(b"connection", b"close")] if close else [])
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Observe:
    """Outermost: counts every request, puts the security headers on every answer, turns whatever escaped the routes into a plain 500."""

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        status, began = 0, time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = list(message.get("headers", []))
                cached = any(name.lower() == NO_STORE[0] for name, _ in headers)
                message["headers"] = [*headers, *HEADERS, *(() if cached else (NO_STORE,))]
            await send(message)

        self.metrics.in_flight.inc()
        try:
            await self.app(scope, receive, watched)
        except (ClientGone, ClientDisconnect):
            status = 499
        except Exception as e:
            logger.error(f"unexpected {where(e)}", extra={"status": 500})
            if not status:
                await send_error(watched, 500, "something went wrong in the service")
        finally:
            self.metrics.in_flight.dec()
            # A route's template, never the path asked for; an adapter that answered, never one asked for.
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, str(status or 499), *scope.get("tellmt.version", ("", ""))).inc()
            self.metrics.latency.labels(route).observe(time.perf_counter() - began)


class Heads:
    """Refuses heads that are too large, that two readers on the way could understand differently, or that announce a body in disguise."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refused := self.refused(scope)):
            status, message = refused
            # What follows such a head may be anything: the connection ends.
            return await send_error(send, status, message, {"Accept-Encoding": "identity"} if status == 415 else None)
        await self.app(scope, receive, send)

    def refused(self, scope: Scope) -> tuple[int, str] | None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        target = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        if target > MAX_TARGET:
            return 414, f"the address is too long; found {target} bytes; valid: at most {MAX_TARGET}"
        if (size := target + sum(len(name) + len(value) + 4 for name, value in headers)) > MAX_HEAD:
            return 431, f"the head of the request is too large; found {size} bytes; valid: at most {MAX_HEAD}"
        if len(headers) > MAX_FIELDS:
            return 431, f"too many header fields; found {len(headers)}; valid: at most {MAX_FIELDS}"
        given = {wanted: [value for name, value in headers if name == wanted] for wanted in _ONCE}
        if double := next((name for name, values in given.items() if len(values) > 1), None):
            return 400, f"a header field is there twice; found {double.decode()}; valid: once"
        if not given[b"host"] and scope["http_version"] == "1.1":
            return 400, "there is no Host field"
        if given[b"transfer-encoding"] and given[b"content-length"]:
            return 400, "the length of the body is given in two ways; found Content-Length and Transfer-Encoding; valid: one of them"
        if any(value.strip().lower() != b"chunked" for value in given[b"transfer-encoding"]):
            return 400, "unknown Transfer-Encoding; valid: chunked"
        if any(value.strip().lower() not in (b"", b"identity") for value in given[b"content-encoding"]):
            return 415, "compressed bodies are not read; valid: no Content-Encoding"
        return None


_ONCE = (b"host", b"content-length", b"transfer-encoding", b"content-encoding", b"content-type", b"authorization", b"x-api-key")


class BodyLimit:
    """Refuses bodies over `limit` bytes: by their Content-Length before anything is read, or, chunked, when the limit is passed.

    And bodies that take longer than `seconds`.
    """

    def __init__(self, app: ASGIApp, limit: int = MAX_BODY, seconds: float | None = None):
        self.app, self.limit, self.seconds = app, limit, BODY_SECONDS if seconds is None else seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if declared.isdigit() and int(declared[:20]) > self.limit:
            await self._discard(receive)
            return await send_error(send, 413, self._message())
        read, whole = 0, False
        deadline = asyncio.get_running_loop().time() + self.seconds

        async def counted() -> Message:
            nonlocal read, whole
            if whole:
                # What is waited for now is that the client leaves.
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise TooSlow("the body did not come in time", valid=f"within {self.seconds:g} seconds") from None
            if message["type"] == "http.request":
                whole = not message.get("more_body", False)
                read += len(message.get("body", b""))
                if read > self.limit:
                    if message.get("more_body", False):
                        await self._discard(receive)
                    raise TooLarge(self._message())
            return message

        await self.app(scope, counted, send)

    def _message(self) -> str:
        return f"the body is too large; valid: at most {self.limit} bytes"

    async def _discard(self, receive: Receive) -> None:
        read = 0
        try:
            async with asyncio.timeout(DISCARD_SECONDS):
                while read < DISCARD_BYTES:
                    message = await receive()
                    if message["type"] != "http.request":
                        return
                    read += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return
        except TimeoutError:
            return


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client leaves. Raises ClientGone then. The body must have been read before.

    Starlette cancels streaming answers alone; without this a model would go on translating for nobody.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_gone(request.receive))
    waiting: list[Awaitable[Any]] = [task, watch]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)  # type: ignore[type-var]
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        watch.cancel()
        task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

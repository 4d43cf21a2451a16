"""What stands between the socket and the routes: raw ASGI layers, so that streams, disconnects and chunked bodies are seen as they come."""

from __future__ import annotations

import asyncio
import json
import time
import traceback
from collections.abc import Awaitable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.metrics import Metrics
from tell.console import say
from tell.errors import TooLarge

T = TypeVar("T")

MAX_BODY = 1 << 20
# A client that sends too much and reads nothing until it is done would see a reset instead of the answer: so much more is read and
# thrown away first, and for so many seconds.
DISCARD_BYTES, DISCARD_SECONDS = 16 << 20, 2.0

HEADERS = (
    (b"content-security-policy", b"default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)


class ClientGone(Exception):
    """The client left before its answer: nobody is there to tell."""


async def send_error(send: Send, status: int, message: str) -> None:
    body = json.dumps({"error": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def where(error: BaseException) -> str:
    """The kind of an unexpected error and the line it comes from; never its message, which may hold a user's text."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at " + " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-4:]))


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
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        self.metrics.in_flight.inc()
        try:
            await self.app(scope, receive, watched)
        except ClientGone:
            status = 499
        except Exception as e:
            say(f"unexpected {where(e)}")
            if not status:
                await send_error(watched, 500, "something went wrong in the service")
        finally:
            self.metrics.in_flight.dec()
            # A route's template, never the path asked for; an adapter that answered, never one asked for.
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, str(status or 499), *scope.get("tellmt.version", ("", ""))).inc()
            self.metrics.latency.labels(route).observe(time.perf_counter() - began)


class BodyLimit:
    """Refuses bodies over `limit` bytes: by their Content-Length before anything is read, or, chunked, when the limit is passed."""

    def __init__(self, app: ASGIApp, limit: int = MAX_BODY):
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if declared.isdigit() and int(declared[:20]) > self.limit:
            await self._discard(receive)
            return await send_error(send, 413, self._message())
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            if message["type"] == "http.request":
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

"""The layers between the socket and the routes. They are raw ASGI, so that they see streams, disconnects and chunked bodies as they arrive."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.logs import where
from serve.metrics.registry import Metrics
from tell.errors import TooLarge, TooSlow

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_BODY = 1 << 20
# A client that sends too much and reads only when it is done would see a reset instead of the response. So the service first reads and drops up to so
# many bytes more, for up to so many seconds.
DISCARD_BYTES, DISCARD_SECONDS = 16 << 20, 2.0
# Seconds in which the whole body must arrive: a mebibyte at 140 kbit/s.
BODY_SECONDS = 60.0
# The most bytes of a request's head, the most header fields, and the most bytes of the target.
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
# A cache on the way does not know that X-API-Key names the caller, and could serve one caller's response to another.
NO_STORE = (b"cache-control", b"no-store")


class ClientGone(Exception):
    """The client left before its response."""


async def send_error(send: Send, status: int, message: str, extra_headers: Mapping[str, str] | None = None, close: bool = True) -> None:
    """An error response from outside the routes. With `close` the connection ends, since the rest of the request is not trusted or not waited for."""
    body = json.dumps({"error": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in (extra_headers or {}).items()] + ([(b"connection", b"close")] if close else [])
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class UnderPath:
    """Puts a layer before the paths that begin with one of `prefixes`, which end in a slash (`/v2` is under `/v2/`); others do not enter it."""

    def __init__(self, app: ASGIApp, prefixes: tuple[str, ...], layer: Callable[[ASGIApp], ASGIApp]):
        self.app, self.prefixes, self.layered = app, prefixes, layer(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.layered if scope["type"] == "http" and f"{scope['path']}/".startswith(self.prefixes) else self.app
        await app(scope, receive, send)


# A route finds this key in the scope of a request that was a HEAD: what the client did not get must not count as fetched.
ASKED_FOR_HEAD = "tellmt.head"


class HeadAsGet:
    """Answers HEAD as GET, without the body (RFC 9110, section 9.3.2): monitors and load balancers look at a service so. Every layer further in sees a GET."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            return await self.app(scope, receive, send)

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                # The server knows by the method that a length without a body is right. And the answer ends here: a stream would go on for nobody.
                scope["method"] = "HEAD"
                await send(message)
                await send({"type": "http.response.body", "body": b""})

        scope["method"], scope[ASKED_FOR_HEAD] = "GET", True
        await self.app(scope, receive, send_head)


class RequestObserver:
    """The outermost layer: counts every request, adds the security headers to every response, and turns an unexpected exception into a plain 500."""

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        status, started = 0, time.perf_counter()

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = list(message.get("headers", []))
                has_cache_control = any(name.lower() == NO_STORE[0] for name, _ in headers)
                message["headers"] = [*headers, *HEADERS, *(() if has_cache_control else (NO_STORE,))]
            await send(message)

        self.metrics.in_flight.inc()
        try:
            await self.app(scope, receive, send_observed)
        except (ClientGone, ClientDisconnect):
            status = 499
        except Exception as e:
            logger.error(f"unexpected {where(e)}", extra={"status": 500})
            if not status:
                await send_error(send_observed, 500, "something went wrong in the service")
        finally:
            self.metrics.in_flight.dec()
            # Labels come from the route's template and the version that translated, never from what the client wrote.
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, str(status or 499), *scope.get("tellmt.version", ("", ""))).inc()
            self.metrics.latency.labels(route).observe(time.perf_counter() - started)


class HeadLimit:
    """Refuses heads that are too large, that a proxy could read differently, or that announce a compressed body."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self.refusal(scope)):
            status, message = refusal
            # The bytes after such a head cannot be trusted: the connection ends.
            return await send_error(send, status, message, {"Accept-Encoding": "identity"} if status == 415 else None)
        await self.app(scope, receive, send)

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        target = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        if target > MAX_TARGET:
            return 414, f"the address is too long; found {target} bytes; valid: at most {MAX_TARGET}"
        if (size := target + sum(len(name) + len(value) + 4 for name, value in headers)) > MAX_HEAD:
            return 431, f"the head of the request is too large; found {size} bytes; valid: at most {MAX_HEAD}"
        if len(headers) > MAX_FIELDS:
            return 431, f"too many header fields; found {len(headers)}; valid: at most {MAX_FIELDS}"
        fields = {name: [value for other, value in headers if other == name] for name in _ONCE}
        if repeated := next((name for name, values in fields.items() if len(values) > 1), None):
            return 400, f"a header field is there twice; found {repeated.decode()}; valid: once"
        if not fields[b"host"] and scope["http_version"] == "1.1":
            return 400, "there is no Host field"
        if fields[b"transfer-encoding"] and fields[b"content-length"]:
            return 400, "the length of the body is given in two ways; found Content-Length and Transfer-Encoding; valid: one of them"
        if any(value.strip().lower() != b"chunked" for value in fields[b"transfer-encoding"]):
            return 400, "unknown Transfer-Encoding; valid: chunked"
        if any(value.strip().lower() not in (b"", b"identity") for value in fields[b"content-encoding"]):
            return 415, "compressed bodies are not read; valid: no Content-Encoding"
        return None


_ONCE = (b"host", b"content-length", b"transfer-encoding", b"content-encoding", b"content-type", b"authorization", b"x-api-key")


class BodyLimit:
    """Refuses bodies over `limit` bytes, and bodies that take longer than `seconds`.

    A body with a Content-Length is refused before anything is read, a chunked one when it passes the limit.
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
        read, complete = 0, False
        deadline = asyncio.get_running_loop().time() + self.seconds

        async def receive_counted() -> Message:
            nonlocal read, complete
            if complete:
                # The next message says that the client has left.
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise TooSlow("the body did not come in time", valid=f"within {self.seconds:g} seconds") from None
            if message["type"] == "http.request":
                complete = not message.get("more_body", False)
                read += len(message.get("body", b""))
                if read > self.limit:
                    if message.get("more_body", False):
                        await self._discard(receive)
                    raise TooLarge(self._message())
            return message

        await self.app(scope, receive_counted, send)

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


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`. When the client leaves, this cancels the work and raises ClientGone. The body must have been read before.

    Starlette cancels only streaming responses; without this the engine would go on translating for a client that has left.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_until_gone(request.receive))
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

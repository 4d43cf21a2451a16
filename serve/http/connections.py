"""Connections that cannot be held or filled for nothing: uvicorn's protocol, with either of its parsers, and limits around it.

uvicorn bounds neither the head of a request (with httptools), nor the time until one has come, nor how many connections wait for one;
and what it refuses it answers in plain text. Nothing here reads a request: what is told is only when one begins and ends.
"""

from __future__ import annotations

import asyncio
import http
import json
from typing import Any

MAX_HEAD = 64 << 10
# Seconds from the moment a connection has nothing to do until a whole head must have come; and until a client takes in more of its answer.
HEAD_SECONDS, READ_SECONDS = 10.0, 60.0
# Seconds that a refused client has to read why.
LINGER = 1.0
MAX_CONNECTIONS = 1000


def most_connections() -> int:
    """As many as the process may have open files for, less what the service itself needs."""
    import resource

    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else max(16, min(MAX_CONNECTIONS, soft - 200))


class Bounded:
    """Mixed in before a protocol of uvicorn's, whose attributes it uses: transport, connections, cycle, loop."""

    max_head, head_seconds, read_seconds, max_connections = MAX_HEAD, HEAD_SECONDS, READ_SECONDS, MAX_CONNECTIONS
    transport: Any
    connections: set[Any]
    cycle: Any
    loop: asyncio.AbstractEventLoop

    def connection_made(self, transport: Any) -> None:
        self._head, self._refused = 0, False
        self._waiting: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        super().connection_made(transport)  # type: ignore[misc]
        if len(self.connections) > self.max_connections:
            # Far above the bound nobody is waited for.
            linger = LINGER if len(self.connections) < self.max_connections + 100 else 0
            self._refuse(503, "too many connections; try again in a while", "retry-after: 2\r\n", linger)
        self._settle()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._waiting, self._stalled):
            if timer:
                timer.cancel()
        super().connection_lost(exc)  # type: ignore[misc]

    def data_received(self, data: bytes) -> None:
        if self._refused or self.transport.is_closing():
            return
        self._head = self._head + len(data) if self._in_head() else 0
        super().data_received(data)  # type: ignore[misc]
        if not self._in_head():
            # It was whole, and is weighed by `serve.http.middleware.Heads`.
            self._head = 0
        elif self._head > self.max_head:
            self._refuse(431, self._too_large())
        self._settle()

    def eof_received(self) -> None:
        if self._refused:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        # h11 has a bound of its own and does not tell that it was that.
        too_large = self._head > self.max_head
        self._refuse(431 if too_large else 400, self._too_large() if too_large else "this is not HTTP that can be read")

    def pause_writing(self) -> None:
        super().pause_writing()  # type: ignore[misc]
        self._stalled = self.loop.call_later(self.read_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()  # type: ignore[misc]
        if self._stalled:
            self._stalled.cancel()

    def on_response_complete(self) -> None:
        super().on_response_complete()  # type: ignore[misc]
        self._settle()

    def _unsupported_upgrade_warning(self) -> None:
        """An upgrade that is not done is no news: Java's client asks for one with every first request."""

    def _in_head(self) -> bool:
        raise NotImplementedError

    def _too_large(self) -> str:
        return f"the head of the request is too large; valid: at most {self.max_head} bytes"

    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _settle(self) -> None:
        """While no request is being answered, a clock runs; whatever bytes come, a whole head stops it and nothing else does."""
        if self._busy() or self.transport.is_closing():
            if self._waiting:
                self._waiting.cancel()
            self._waiting = None
        elif self._waiting is None:
            self._waiting = self.loop.call_later(self.head_seconds, self._cut)

    def _cut(self) -> None:
        if self._head and not self._refused:
            self._refuse(408, "the request did not come in time")
        else:
            self.transport.close()

    def _refuse(self, status: int, message: str, more: str = "", linger: float = LINGER) -> None:
        """Answer and close. Closing at once would reset the connection while the client still sends, and the answer would be lost."""
        if self.transport.is_closing() or self._refused:
            return
        self._refused = True
        if self._busy():
            if self.cycle.response_started:
                return self.transport.close()  # type: ignore[no-any-return]
            # Whoever waits for the rest of this request waits no longer, and answers nothing.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        body = json.dumps({"error": message})
        head = f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(f"{head}{more}connection: close\r\n\r\n{body}".encode())
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(linger, self.transport.close)


def bounded(parser: str = "auto", **limits: float) -> type[Any]:
    """The protocol class for `uvicorn.Config(http=...)`. `parser` is h11, httptools, or auto: httptools where it is installed."""
    import importlib.util

    if parser == "h11" or (parser == "auto" and importlib.util.find_spec("httptools") is None):
        import h11
        from uvicorn.protocols.http.h11_impl import H11Protocol

        class H11(Bounded, H11Protocol):  # type: ignore[misc]
            def __init__(self, *args: Any, **kwargs: Any):
                super().__init__(*args, **kwargs)
                # Its own bound is 16 KiB, and holds only for heads that come in pieces.
                self.conn = h11.Connection(h11.SERVER, self.max_head)

            def _in_head(self) -> bool:
                return self.conn.their_state is h11.IDLE

        made: type[Any] = H11
    else:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

        class HttpTools(Bounded, HttpToolsProtocol):  # type: ignore[misc]
            whole = False

            def _in_head(self) -> bool:
                return not self.whole

            def on_headers_complete(self) -> None:
                self.whole = True
                # A request that comes in one piece is over again before anybody looks.
                self._head = 0
                super().on_headers_complete()

            def on_message_complete(self) -> None:
                self.whole = False
                super().on_message_complete()

            def on_header(self, name: bytes, value: bytes) -> None:
                # Fields after a chunked body would be taken for fields of the head, which a proxy has checked.
                if not self.whole:
                    super().on_header(name, value)

        made = HttpTools
    for name, value in {"max_connections": most_connections(), **limits}.items():
        setattr(made, name, value)
    return made

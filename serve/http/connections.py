"""Limits on connections: uvicorn's protocol, with either of its parsers, bounded in size, time and number.

uvicorn bounds neither the head of a request (with httptools), nor the time until a head has arrived, nor the number of connections that wait for one;
and it refuses in plain text, not JSON. Nothing here reads a request: only its beginning and its end are noted.
"""

from __future__ import annotations

import asyncio
import http
import json
from typing import Any

MAX_HEAD = 64 << 10
# Seconds from the moment a connection becomes idle until a whole head must have arrived; and until a client must read more of its response.
HEAD_SECONDS, READ_SECONDS = 10.0, 60.0
# Seconds that a refused client has to read the reason.
LINGER = 1.0
MAX_CONNECTIONS = 1000


def most_connections() -> int:
    """The number of files that the process may open, less what the service itself needs, and at most MAX_CONNECTIONS."""
    import resource

    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else max(16, min(MAX_CONNECTIONS, soft - 200))


class Bounded:
    """A mixin before a protocol of uvicorn's, whose attributes it uses: transport, connections, cycle, loop."""

    max_head, head_seconds, read_seconds, max_connections = MAX_HEAD, HEAD_SECONDS, READ_SECONDS, MAX_CONNECTIONS
    transport: Any
    connections: set[Any]
    cycle: Any
    loop: asyncio.AbstractEventLoop

    def connection_made(self, transport: Any) -> None:
        self._head, self._refused = 0, False
        self._idle_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        super().connection_made(transport)  # type: ignore[misc]
        if len(self.connections) > self.max_connections:
            # Far above the bound the service does not wait for refused clients.
            linger = LINGER if len(self.connections) < self.max_connections + 100 else 0
            self._refuse(503, "too many connections; try again in a while", "retry-after: 2\r\n", linger)
        self._update_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._idle_timer, self._write_timer):
            if timer:
                timer.cancel()
        super().connection_lost(exc)  # type: ignore[misc]

    def data_received(self, data: bytes) -> None:
        if self._refused or self.transport.is_closing():
            return
        self._head = self._head + len(data) if self._in_head() else 0
        super().data_received(data)  # type: ignore[misc]
        if not self._in_head():
            # The head is whole: `serve.http.middleware.HeadLimit` checks its size.
            self._head = 0
        elif self._head > self.max_head:
            self._refuse(431, self._too_large())
        self._update_timer()

    def eof_received(self) -> None:
        if self._refused:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        # h11 has a bound of its own, and its error does not say when that was the reason.
        too_large = self._head > self.max_head
        self._refuse(431 if too_large else 400, self._too_large() if too_large else "this is not HTTP that can be read")

    def pause_writing(self) -> None:
        super().pause_writing()  # type: ignore[misc]
        self._write_timer = self.loop.call_later(self.read_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()  # type: ignore[misc]
        if self._write_timer:
            self._write_timer.cancel()

    def on_response_complete(self) -> None:
        super().on_response_complete()  # type: ignore[misc]
        self._update_timer()

    def _unsupported_upgrade_warning(self) -> None:
        """No warning: Java's client asks for an upgrade with every first request."""

    def _in_head(self) -> bool:
        raise NotImplementedError

    def _too_large(self) -> str:
        return f"the head of the request is too large; valid: at most {self.max_head} bytes"

    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _update_timer(self) -> None:
        """While the connection is idle, a timer runs. Only a whole head stops it, not single bytes."""
        if self._busy() or self.transport.is_closing():
            if self._idle_timer:
                self._idle_timer.cancel()
            self._idle_timer = None
        elif self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.head_seconds, self._cut)

    def _cut(self) -> None:
        if self._head and not self._refused:
            self._refuse(408, "the request did not come in time")
        else:
            self.transport.close()

    def _refuse(self, status: int, message: str, extra_headers: str = "", linger: float = LINGER) -> None:
        """Respond and close. Closing at once would reset the connection while the client still sends, and the response would be lost."""
        if self.transport.is_closing() or self._refused:
            return
        self._refused = True
        if self._busy():
            if self.cycle.response_started:
                return self.transport.close()  # type: ignore[no-any-return]
            # The route that waits for the rest of this request stops waiting, and sends no response.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        body = json.dumps({"error": message})
        head = f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(f"{head}{extra_headers}connection: close\r\n\r\n{body}".encode())
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
                # h11's own bound is 16 KiB, and holds only for heads that arrive in pieces.
                self.conn = h11.Connection(h11.SERVER, self.max_head)

            def _in_head(self) -> bool:
                return self.conn.their_state is h11.IDLE

        protocol: type[Any] = H11
    else:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

        class HttpTools(Bounded, HttpToolsProtocol):  # type: ignore[misc]
            head_done = False

            def _in_head(self) -> bool:
                return not self.head_done

            def on_headers_complete(self) -> None:
                self.head_done = True
                # A request that arrives in one piece has ended before `data_received` looks.
                self._head = 0
                super().on_headers_complete()

            def on_message_complete(self) -> None:
                self.head_done = False
                super().on_message_complete()

            def on_header(self, name: bytes, value: bytes) -> None:
                # Trailer fields after a chunked body would count as fields of the head, which a proxy has checked.
                if not self.head_done:
                    super().on_header(name, value)

        protocol = HttpTools
    for name, value in {"max_connections": most_connections(), **limits}.items():
        setattr(protocol, name, value)
    return protocol

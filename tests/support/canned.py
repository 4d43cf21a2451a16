"""An HTTP server that says what a test tells it to: for what stands where a vLLM server should, or answers as vLLM does when it cannot be had in time."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

JSON = "application/json"


class Hang:
    """No answer, until the client has gone."""


class Drop:
    """The connection is closed without an answer."""


# (status, body) with the body as JSON unless it is bytes, which are sent as a page.
Reply = tuple[int, Any] | type[Hang] | type[Drop]


class Canned:
    """`replies` by path: a reply, or a function of the request's JSON. `seen` is every request, with its headers; `left` counts clients that went away."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply | Callable[[Any], Reply]] = {}
        self.seen: list[tuple[str, Any, dict[str, str]]] = []
        self.left = 0
        self.running = self.most = 0
        self.url = ""
        self.lock = threading.Lock()

    def requests_to(self, path: str) -> list[Any]:
        return [body for p, body, _ in self.seen if p == path]


@contextlib.contextmanager
def canned() -> Iterator[Canned]:
    state = Canned()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def _gone(self) -> bool:
            readable = select.select([self.connection], [], [], 0.01)[0]
            return bool(readable) and self.connection.recv(1, socket.MSG_PEEK) == b""

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = json.loads(raw) if raw else None
            with state.lock:
                state.seen.append((self.path, body, dict(self.headers)))
                state.running += 1
                state.most = max(state.most, state.running)
            try:
                reply = state.replies.get(self.path, (404, {"detail": "Not Found"}))
                self._send(reply(body) if callable(reply) and reply not in (Hang, Drop) else reply)
            finally:
                with state.lock:
                    state.running -= 1

        do_GET = do_POST

        def _send(self, reply: Any) -> None:
            if reply in (Hang, Drop):
                end = time.monotonic() + 30
                while reply is Hang and not self._gone() and time.monotonic() < end:
                    pass
                state.left += reply is Hang
                self.close_connection = True
                return
            status, content = reply
            page = isinstance(content, bytes)
            data = content if page else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if page else JSON)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    class Listening(ThreadingHTTPServer):
        request_queue_size = 128

    server = Listening(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

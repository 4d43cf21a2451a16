"""What comes over the wire before HTTP is understood: heads without end, two readings of one request, slow and idle clients; with both parsers."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from serve.http import middleware
from serve.http.connections import bounded
from tests.support.serving import Published, Running, running, until

pytest_plugins = ["tests.support.serving_fixtures"]

# Instead of 10 s, 60 s and 60 s.
HEAD_SECONDS, READ_SECONDS, BODY_SECONDS = 0.4, 0.6, 0.5
# More than three times what a test opens at once: the service counts a connection until its loop has seen it end, when its client has opened the next.
MOST = 40
BODY = json.dumps({"source": "is", "target": "en", "text": "a"}).encode()


@pytest.fixture(scope="module", params=["h11", "httptools"])
def wire(request: pytest.FixtureRequest, published: Published) -> Iterator[Running]:
    pytest.importorskip(request.param, reason="this parser is not installed: uvicorn has it in its extra `standard`")
    protocol = bounded(request.param, head_seconds=HEAD_SECONDS, read_seconds=READ_SECONDS, max_connections=MOST)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(middleware, "BODY_SECONDS", BODY_SECONDS)
        with running(published.base, published.registry, protocol=protocol) as server:
            yield server
            assert server.texts("still here")


def connect(service: Running) -> socket.socket:
    host, port = service.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def everything(raw: socket.socket) -> bytes:
    """All until the other side closes."""
    received = b""
    try:
        while part := raw.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


def send(service: Running, *parts: bytes) -> list[tuple[int, bytes]]:
    """(status, body) of the answers on one connection; none where it was closed without one."""
    with connect(service) as raw:
        try:
            for part in parts:
                raw.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return answers(everything(raw))


def answers(data: bytes) -> list[tuple[int, bytes]]:
    responses = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 "), data[:80]
        length = next((int(x.partition(b":")[2]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-length:")), 0)
        responses.append((int(head.split()[1]), rest[:length]))
        data = rest[length:]
    return responses


def head(*fields: bytes, line: bytes = b"POST /api/v1/translate HTTP/1.1") -> bytes:
    return b"\r\n".join([line, b"Host: localhost", *fields, b"", b""])


def refused(responses: list[tuple[int, bytes]], *statuses: int) -> None:
    """One answer of one of these statuses with its reason, or a close without one."""
    assert len(responses) <= 1, responses
    if responses:
        assert responses[0][0] in statuses, responses
        assert json.loads(responses[0][1])["error"]


def test_heads_up_to_64_kib_and_no_more(wire: Running) -> None:
    for size in (1_000, 60_000):
        responses = send(wire, head(b"X-A: " + b"a" * size, b"Connection: close", b"Content-Length: %d" % len(BODY)), BODY)
        assert [s for s, _ in responses] == [200], size
    for fields in ([b"X-A: " + b"a" * 66_000], [b"X-A: " + b"a" * 900] * 80, [b"X-A: " + b"a" * 3_000_000]):
        whole = head(*fields, b"Connection: close", b"Content-Length: %d" % len(BODY)) + BODY
        refused(send(wire, whole), 431)
        refused(send(wire, *[whole[i : i + 20_000] for i in range(0, len(whole), 20_000)]), 431)
    refused(send(wire, head(*[b"X-%d: a" % i for i in range(150)])), 431)
    # One that never ends.
    refused(send(wire, b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ", *[b"a" * 10_000] * 100), 431)
    refused(send(wire, b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"), 414, 431, 400)
    refused(send(wire, b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"), 414)
    # Beside a request that is being answered.
    wire.engine.delay = 0.3
    first = head(b"Content-Length: %d" % len(BODY)) + BODY
    assert {s for s, _ in send(wire, first + b"GET / HTTP/1.1\r\nX-A: ", *[b"a" * 10_000] * 30)} <= {200, 400, 431}
    wire.engine.delay = 0.0


CHUNKED = b"Transfer-Encoding: chunked"
ONE = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
LENGTH = b"Content-Length: %d" % len(BODY)


AMBIGUOUS = [
    head(LENGTH, CHUNKED) + ONE + SMUGGLED,
    head(CHUNKED, LENGTH) + ONE + SMUGGLED,
    head(CHUNKED, b"Content-Length: 0") + ONE + SMUGGLED,
    head(LENGTH, LENGTH.replace(b"%d" % len(BODY), b"0")) + BODY + SMUGGLED,
    head(b"Content-Length: %d, %d" % (len(BODY), len(BODY) + 5)) + BODY + SMUGGLED,
    head(b"Content-Length: +%d" % len(BODY)) + BODY + SMUGGLED,
    head(b"Content-Length: 0x10") + BODY + SMUGGLED,
    head(b"Content-Length: -1") + BODY + SMUGGLED,
    head(b"Content-Length: 1 0") + BODY + SMUGGLED,
    head(b"Content-Length : %d" % len(BODY)) + BODY + SMUGGLED,
    head(b"Content-Length: 99999999999999999999999") + BODY,
    head(b"Transfer-Encoding: chunked, identity") + ONE + SMUGGLED,
    head(b"Transfer-Encoding: identity, chunked") + ONE + SMUGGLED,
    head(b"Transfer-Encoding: xchunked") + ONE + SMUGGLED,
    head(b"Transfer-Encoding : chunked") + ONE + SMUGGLED,
    head(b"Transfer-Encoding:\x0bchunked") + ONE + SMUGGLED,
    head(b"Transfer-Encoding: gzip, chunked") + ONE + SMUGGLED,
    head(CHUNKED, CHUNKED.replace(b"chunked", b"identity")) + ONE + SMUGGLED,
    head(CHUNKED) + b"xyz\r\n" + BODY + b"\r\n0\r\n\r\n" + SMUGGLED,
    head(CHUNKED) + b"-1\r\n" + BODY + b"\r\n0\r\n\r\n" + SMUGGLED,
    head(CHUNKED) + b"0x5\r\nhello\r\n0\r\n\r\n" + SMUGGLED,
    head(CHUNKED) + b"fffffffffffffffffffff\r\n" + BODY + SMUGGLED,
    head(CHUNKED) + b"5\r\nhelloXX0\r\n\r\n" + SMUGGLED,
    head(CHUNKED) + b"5 5\r\nhello\r\n0\r\n\r\n" + SMUGGLED,
    head(b"Transfer-Encoding:\r\n chunked", LENGTH) + ONE + SMUGGLED,
    head(b"X: a\rTransfer-Encoding: chunked") + SMUGGLED,
    head(b"X: a\x00b") + SMUGGLED,
    head(b"X\xff: a") + SMUGGLED,
    head(b"no colon at all") + SMUGGLED,
    head(b"Host: y") + SMUGGLED,
    b"POST /api/v1/translate HTTP/1.1\r\n\r\n" + SMUGGLED,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
    b"GET http:// HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET \x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"G@T / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"\n\n\n\n",
    b"",
]


def test_what_could_be_read_in_two_ways_is_read_in_none(wire: Running) -> None:
    with ThreadPoolExecutor(12) as pool:
        all_responses = list(pool.map(lambda raw: send(wire, raw), AMBIGUOUS))
    for raw, responses in zip(AMBIGUOUS, all_responses, strict=True):
        # What was hidden in the body was not taken for a request of its own, which would have been answered 404.
        assert len(responses) <= 1, (raw, responses)
        for status, body in responses:
            assert 400 <= status < 500 and json.loads(body)["error"], (raw, status, body)
    # The shapes are refused, and not the route: the same body, framed once, is translated.
    for plain in (head(LENGTH, b"Connection: close") + BODY, head(CHUNKED, b"Connection: close") + ONE):
        assert [s for s, _ in send(wire, plain)] == [200]


ODD = [
    head(b"X: a\r\n folded: b"),
    head(b" X: leading space"),
    b"POST /api/v1/translate HTTP/9.9\r\nHost: localhost\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"CONNECT example.org:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /a%zz%00%ff HTTP/1.1\r\nHost: localhost\r\n\r\n",
]


def test_what_is_odd_is_refused_with_its_reason(wire: Running) -> None:
    with ThreadPoolExecutor(12) as pool:
        for raw, responses in zip(ODD, pool.map(lambda raw: send(wire, raw), ODD), strict=True):
            for status, body in responses:
                assert 400 <= status < 500 and json.loads(body)["error"], (raw, status, body)


def test_fields_after_a_chunked_body_are_not_taken_for_fields_of_the_head(wire: Running) -> None:
    body = head(CHUNKED, b"Connection: close") + b"%x\r\n%s\r\n" % (len(BODY), BODY) + b"0\r\n"
    # In the head this one would be answered 415.
    assert [s for s, _ in send(wire, body + b"Content-Encoding: gzip\r\n\r\n")] == [200]
    assert [s for s, _ in send(wire, body + b"X-A: b\r\n" * 200 + b"\r\n")] in ([200], [400])


def test_a_client_that_would_upgrade_gets_its_answer(wire: Running) -> None:
    """As Java's HttpClient asks with its first request."""
    upgrade = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA")
    with connect(wire) as raw:
        raw.sendall(head(*upgrade, line=b"GET /health HTTP/1.1"))
        assert b"200 OK" in raw.recv(65536)
    with connect(wire) as raw:
        raw.sendall(head(*upgrade, LENGTH) + BODY)
        got = raw.recv(65536)
        # httptools takes what follows for the other protocol, so there is no body.
        assert got.split()[1] in (b"200", b"400"), got
    with connect(wire) as raw:
        raw.sendall(head(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: AAAA", line=b"GET /api/v1/translate HTTP/1.1"))
        assert raw.recv(65536).split()[1] in (b"405", b"400")


def test_a_body_that_does_not_come_is_not_waited_for(wire: Running) -> None:
    for first in (head(b"Content-Length: 100"), head(CHUNKED), head(b"Content-Length: 100", line=b"POST /translate HTTP/1.1")):
        responses = send(wire, first, b"5\r\nhe")
        assert [s for s, _ in responses] == [408] and "the body did not come in time" in json.loads(responses[0][1])["error"]


def closed_within(raw: socket.socket, seconds: float, drip: bytes = b"") -> tuple[float, bytes]:
    """How long until the other side closed, sending `drip` all the while, and what it said."""
    began, received = time.monotonic(), b""
    raw.settimeout(0.05)
    while time.monotonic() - began < seconds:
        try:
            if drip:
                raw.sendall(drip)
            part = raw.recv(65536)
            if not part:
                return time.monotonic() - began, received
            received += part
        except TimeoutError:
            continue
        except (ConnectionResetError, BrokenPipeError):
            return time.monotonic() - began, received
    pytest.fail(f"not closed within {seconds} s; said {received!r}")


@pytest.mark.clock
def test_slow_heads_and_idle_connections_are_closed(wire: Running) -> None:
    for first, drip in (
        (b"", b""),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b""),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ", b"a"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"A: b\r\n"),
        (b"", b"\r\n"),
        # After an answer, on the same connection: another head that does not end; the rest of a body that nobody reads.
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\r\n"),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /", b"a"),
        (b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n", b"a"),
        (b"POST /health HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
    ):
        with connect(wire) as raw:
            raw.sendall(first)
            took, received = closed_within(raw, 10, drip)
            assert took < 8, (first, took)
            assert all(status in (200, 405, 408, 400) for status, _ in answers(received)), received
    until(lambda: wire.metric("tellmt_requests_in_flight") == 0)


def test_a_client_that_does_not_read_its_answer_is_cut_off(wire: Running) -> None:
    text = json.dumps({"source": "is", "target": "en", "text": ["a" * 60] * 1000}).encode()
    with connect(wire) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = head(b"Content-Length: %d" % len(text)) + text
        # More answers than the buffers of both sides hold.
        raw.settimeout(0.2)
        try:
            for _ in range(400):
                raw.sendall(request)
        except OSError:
            pass
        until(lambda: wire.metric("tellmt_requests_in_flight") == 0, 30)


def test_more_connections_than_allowed_are_told_so(wire: Running) -> None:
    held = [connect(wire) for _ in range(MOST)]
    try:
        with connect(wire) as raw:
            responses = answers(everything(raw))
            assert [s for s, _ in responses] == [503] and "too many connections" in json.loads(responses[0][1])["error"]
    finally:
        for raw in held:
            raw.close()
    until(lambda: wire.http.get("/health").status_code == 200)

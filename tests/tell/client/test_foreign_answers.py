"""Answers that are none of a tellmt service, such as a proxy's page: each is an exception of the client's own, never one of a library that it uses."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tell.client import AsyncClient, Client, NoAnswer, ServiceFailed, Translation, UnreadableAnswer
from tell.errors import BadInput, KeyRefused, NotFound, NotServed, Overloaded, OverShare, RequestError, ScopeRefused, TellmtError, TimedOut

HTML = b"<html><title>502 Bad Gateway</title></html>"
DEEP = b"[" * 100_000
ID = 32 * "0"
TRANSLATION = Translation(text="a", truncated=False, pair="is-en", adapter=ID, base="light")
READS: list[Callable[[Client], Any]] = [
    lambda c: c.translate("a", "is", "en"),
    lambda c: list(c.stream("a", "is", "en")),
    lambda c: list(c.events(ID)),
    lambda c: c.submit(b"a", "is", "en"),
    lambda c: c.job(ID),
    lambda c: c.wait(ID),
    lambda c: c.service(),
    lambda c: c.languages(),
    lambda c: c.adapters(),
    lambda c: c.status(),
    lambda c: c.load(),
    lambda c: c.ready(),
    lambda c: c.monitor(),
    lambda c: c.pin("is-en", "why"),
    lambda c: c.registry_log(),
    lambda c: c.metrics(),
    lambda c: c.result(ID),
    lambda c: c.delete(ID),
    lambda c: c.feedback("a", "b", TRANSLATION),
]
REFUSALS: list[tuple[int, bytes, dict[str, str], type[TellmtError], str]] = [
    (502, HTML, {"Content-Type": "text/html"}, ServiceFailed, "HTTP status 502"),
    (502, b"", {}, ServiceFailed, "HTTP status 502"),
    (500, b"[]", {}, ServiceFailed, "HTTP status 500"),
    (500, DEEP, {}, ServiceFailed, "HTTP status 500"),
    (507, b'{"error": "full"}', {}, ServiceFailed, "full"),
    (503, HTML, {"Retry-After": "\u00b2"}, Overloaded, "HTTP status 503"),
    (503, b'{"error": "starting", "status": "starting"}', {"Retry-After": "9" * 5000}, Overloaded, "starting"),
    (504, HTML, {}, TimedOut, "HTTP status 504"),
    (429, b'{"error": 5, "status": "x"}', {"Retry-After": "soon"}, OverShare, "HTTP status 429"),
    (403, HTML, {}, ScopeRefused, "HTTP status 403"),
    (401, b"\xff\xfe", {"Content-Type": "text/plain; charset=hex"}, KeyRefused, "HTTP status 401"),
    (404, b"null", {}, NotFound, "HTTP status 404"),
    (400, b'{"error": {"message": "x"}, "pairs": 5}', {}, NotServed, "HTTP status 400"),
    (418, b"tea", {}, RequestError, "HTTP status 418"),
    (302, b"", {"Location": "http://[/login"}, UnreadableAnswer, "cannot be read"),
]


# What is answered next. One client for all: each reads the certificates of the machine anew.
REPLY: dict[str, Any] = {}


def reply(request: httpx.Request) -> httpx.Response:
    return httpx.Response(REPLY["status"], headers=REPLY["headers"], stream=httpx.ByteStream(REPLY["content"]))


@functools.cache
def blocking() -> Client:
    client = Client("http://service")
    client._transport._http = httpx.Client(transport=httpx.MockTransport(reply), base_url="http://service/")
    return client


def answering(content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Client:
    REPLY.update(content=content, status=status, headers={name: value.encode() for name, value in (headers or {}).items()})
    return blocking()


@pytest.mark.parametrize(
    "body", [b"", HTML, b"[]", b"{}", b"5", b"null", b'"a"', b'[{"status": []}]', b'{"status": "starting"}', DEEP, b"\xff\xfe\x00", b'{"a": 1e999}']
)
def test_a_success_that_is_none(body: bytes) -> None:
    for read in READS:
        # An empty list is a list of languages; a stream of nothing broke off.
        try:
            got = read(answering(body, headers={"Content-Type": "text/html; charset=hex"}))
        except (UnreadableAnswer, NoAnswer):
            continue
        assert (body, got) == (b"[]", [])


@pytest.mark.parametrize(("status", "body", "headers", "kind", "message"), REFUSALS)
def test_a_refusal_of_somebody_else(status: int, body: bytes, headers: dict[str, str], kind: type[TellmtError], message: str) -> None:
    for read in READS:
        with pytest.raises(kind) as refused:
            read(answering(body, status, headers))
        assert type(refused.value) is kind and message in str(refused.value) and refused.value.status == status


@pytest.mark.parametrize("status", ["5", '"starting"', "1e999", "null", "[]", "{}", "true", "-1", "99999"])
def test_a_stray_status_in_a_stream(status: str) -> None:
    line = b'{"error": "the engine is dead", "status": %s}\n' % status.encode()
    with pytest.raises(ServiceFailed, match="the engine is dead") as failed:
        list(answering(line).stream("a", "is", "en"))
    assert failed.value.status == 500
    # And one that is a status says what it says everywhere.
    with pytest.raises(TimedOut):
        list(answering(b'{"error": "no time", "status": 504}\n').stream("a", "is", "en"))


def test_what_cannot_be_unpacked() -> None:
    for read in READS:
        with pytest.raises(UnreadableAnswer):
            read(answering(b"no gzip", headers={"Content-Encoding": "gzip"}))


def test_the_other_client_raises_the_same() -> None:
    async def ask(kind: type[TellmtError]) -> None:
        with pytest.raises(kind):
            await client.translate("a", "is", "en")

    client = AsyncClient("http://service")
    client._transport._http = httpx.AsyncClient(transport=httpx.MockTransport(reply), base_url="http://service/")
    for status, body, headers, kind in (
        (502, HTML, {}, ServiceFailed), (200, HTML, {}, UnreadableAnswer), (200, b"x", {"Content-Encoding": "gzip"}, UnreadableAnswer)
    ):  # fmt: skip
        answering(body, status, headers)
        asyncio.run(ask(kind))


@pytest.mark.parametrize("key", ["þ", "a\nb", "a\r\nX: y", "key ", " ", "a key"])
def test_a_key_that_is_none(key: str) -> None:
    with pytest.raises(BadInput) as refused:
        Client("http://service", key)
    assert str(refused.value) == "key, or TELLMT_API_KEY: not an API key; valid: what tellmt keys add wrote, in one line"


def test_a_redirect_is_told() -> None:
    with pytest.raises(UnreadableAnswer, match=r"found a redirect to 'https://mt\.example\.org/languages'"):
        answering(HTML, 301, {"Location": "https://mt.example.org/languages"}).languages()


def test_what_utf8_cannot_spell_and_times_that_are_none() -> None:
    sent: list[httpx.Request] = []

    def keep(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(404)

    client = Client("http://service")
    client._transport._http = httpx.Client(transport=httpx.MockTransport(keep), base_url="http://service/")
    for call in (
        lambda: client.translate(["\ud83d\ude00 \ud800"], "is", "en", glossary={"\ud800": "a"}, timeout=float("inf")),
        lambda: list(client.stream("\ud800", "is", "en")),
        lambda: client.submit(b"a", "is", "en", name="\ud800.txt", glossary="\ud800"),
        lambda: client.feedback("\ud800", "\ud800", TRANSLATION),
        lambda: client.pin("is-en", "\ud800"),
        lambda: client.job("\ud800"),
    ):
        with pytest.raises(NotFound):
            call()
    body = json.loads(sent[0].content)
    assert (body["text"], body["glossary"], "timeout" in body) == (["\U0001f600 \ufffd"], {"\ufffd": "a"}, False)
    with pytest.raises(RequestError, match="timeout: not a time"):
        client.translate("a", "is", "en", timeout=float("nan"))


def test_the_password_of_a_proxy_is_in_no_message() -> None:
    seen: list[httpx.Request] = []

    def keep(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(401)

    client = Client("http://user:secret@service/mt", "key")
    client._transport._http._transport = httpx.MockTransport(keep)
    with pytest.raises(KeyRefused) as refused:
        client.load()
    assert "secret" not in str(refused.value) and "http://service/mt" in str(refused.value) and client.url == "http://service/mt"
    assert seen[0].headers["Authorization"].startswith("Basic ") and seen[0].headers["X-API-Key"] == "key"
    for url in ("http://service/?a=b", "http://service#a"):
        with pytest.raises(BadInput, match="not an address"):
            Client(url)

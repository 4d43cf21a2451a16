"""The client for event loops answers as the blocking one does, and either sends a request again as its policy says."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serve.corrections import Feedback
from tell.client import AsyncClient, Client, DocumentJob, DocumentPart, NoAnswer, RetryPolicy, StreamEnd, TranslationPart, UnreadableAnswer
from tell.errors import BadInput, NotFound, NotServed, Overloaded, TimedOut
from tests.support.canned import Canned, Drop, canned
from tests.support.serving import Published, Running, running, until

pytest_plugins = ["tests.support.serving_fixtures"]
TRANSLATED = {"pair": "is-en", "adapter": "x", "base": "b", "translations": [{"text": "A", "truncated": False}]}
PATH = "/api/v1/translate"


def test_both_clients_have_the_same_methods() -> None:
    blocking, awaited = ({name: m for name, m in vars(kind).items() if not name.startswith("_") and callable(m)} for kind in (Client, AsyncClient))
    assert blocking.keys() == awaited.keys() and len(blocking) == 23
    for name, method in blocking.items():
        assert inspect.signature(method).parameters.keys() == inspect.signature(awaited[name]).parameters.keys(), name


def test_texts_and_streams_and_the_rest(published: Published, tmp_path: Path) -> None:
    (tmp_path / "bréf.txt").write_text("Halló\n\nheimur\n", encoding="utf-8")

    async def scenario(url: str) -> None:
        with Client(url) as blocking:
            async with AsyncClient(url) as client:
                texts = ["a\nb\u2028c", "", "endless"]
                assert await client.translate(texts, "is", "en") == blocking.translate(texts, "is", "en")
                translation = await client.translate("þú\n - é", "is", "en", segments=True)
                assert translation == blocking.translate("þú\n - é", "is", "en", segments=True) and len(translation.segments) == 2
                events = [event async for event in client.stream(texts, "is", "en")]
                assert events == list(blocking.stream(texts, "is", "en")) and isinstance(events[-1], StreamEnd)
                assert all(isinstance(event, TranslationPart) for event in events[:-1])
                assert await client.languages() == blocking.languages() and await client.service() == blocking.service()
                assert [a.pair for a in await client.adapters()] == [a.pair for a in blocking.adapters()]
                job = await client.submit(tmp_path / "bréf.txt", "is", "en")
                assert job.name == "bréf.txt" and (await client.wait(job.id)).state == "done"
                assert await client.result(job.id) == blocking.result(job.id)
                history = [event async for event in client.events(job.id)]
                assert isinstance(history[0], DocumentPart | DocumentJob) and isinstance(history[-1], DocumentJob) and history[-1].state == "done"
                await client.delete(job.id)
                for ask in (client.job, client.result, client.wait):
                    with pytest.raises(NotFound):
                        await ask(job.id)
                with pytest.raises(NotServed):
                    await client.translate("a", "is", "de")
                with pytest.raises(NotServed):
                    await anext(client.stream("a", "de", "en"))
                await client.feedback("þú\n - é", "you", translation)

    with running(published.base, published.registry, feedback=Feedback(tmp_path / "f")) as service:
        asyncio.run(scenario(service.url))
    assert '"target": "you"' in (tmp_path / "f").read_text()


def test_many_at_once_and_a_cancelled_call_stops_its_work(service: Running) -> None:
    async def scenario() -> None:
        async with AsyncClient(service.url) as client:
            translations = await asyncio.gather(*(client.translate(f"Texti {i}", "is", "en") for i in range(20)))
            assert [t.text.endswith(f"Texti {i}") for i, t in enumerate(translations)] == [True] * 20
            service.engine.delay = 20.0
            cancelled = service.engine.cancelled
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.translate("Einstakt hér", "is", "en"), 0.3)
            await asyncio.to_thread(until, lambda: service.engine.cancelled > cancelled)
            document = await client.submit(b"Einstakt skjal", "is", "en", cache=False)
            with pytest.raises(TimedOut, match="not done in 0 s"):
                await client.wait(document.id, 0)
            await client.delete(document.id)

    asyncio.run(scenario())


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://a"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(BadInput, match="not an address"):
        AsyncClient(url)


def translate_with(kind: str, url: str, retry: RetryPolicy) -> str:
    async def awaited() -> str:
        async with AsyncClient(url, retry=retry) as client:
            return (await client.translate("a", "is", "en")).text

    if kind == "async":
        return asyncio.run(awaited())
    with Client(url, retry=retry) as client:
        return client.translate("a", "is", "en").text


def replies(server: Canned, *outcomes: Any) -> None:
    """One outcome for each request, the last one for all that follow."""
    outcomes_left = list(outcomes)

    def reply(body: Any) -> Any:
        return outcomes_left.pop(0) if len(outcomes_left) > 1 else outcomes_left[0]

    server.replies[PATH] = reply


@pytest.fixture(params=["blocking", "async"])
def translate(request: pytest.FixtureRequest) -> Callable[[str, RetryPolicy], str]:
    return lambda url, retry: translate_with(request.param, url, retry)


def test_a_busy_service_is_asked_again(translate: Callable[[str, RetryPolicy], str]) -> None:
    notices: list[tuple[str, float]] = []
    retry = RetryPolicy((0.01, 0.02, 0.03), 0.05, notify=lambda problem, seconds: notices.append((problem, seconds)))
    with canned() as server:
        replies(server, (503, {"error": "starting"}), (502, b"<html>"), (200, TRANSLATED))
        assert translate(server.url, retry) == "A" and len(server.requests_to(PATH)) == 3
        assert notices == [("starting", 0.01), ("HTTP status 502", 0.02)]
        replies(server, (503, {"error": "starting"}))
        with pytest.raises(Overloaded, match="starting"):
            translate(server.url, retry)
        assert len(server.requests_to(PATH)) == 3 + 4
        # What asking again cannot change is raised at once, and so is everything without a policy.
        for outcome, policy, error in (((400, {"error": "no"}), retry, BadInput), ((503, {"error": "busy"}), RetryPolicy(), Overloaded)):
            replies(server, outcome)
            before = len(server.requests_to(PATH))
            with pytest.raises(error):
                translate(server.url, policy)
            assert len(server.requests_to(PATH)) == before + 1
        replies(server, (200, b"<html>"))
        with pytest.raises(UnreadableAnswer):
            translate(server.url, retry)


def test_a_service_that_is_away_is_asked_again(translate: Callable[[str, RetryPolicy], str]) -> None:
    with canned() as server:
        replies(server, Drop, Drop, (200, TRANSLATED))
        assert translate(server.url, RetryPolicy((0.0, 0.0))) == "A"
        replies(server, Drop)
        with pytest.raises(NoAnswer):
            translate(server.url, RetryPolicy((0.0,)))
        assert len(server.requests_to(PATH)) == 5


def test_the_wait_follows_retry_after_within_its_limit(published: Published, translate: Callable[[str, RetryPolicy], str]) -> None:
    """The service says 2 seconds; the policy allows for a fifth of one."""
    waits: list[float] = []
    with running(published.base, published.registry) as service:
        service.engine.failure = Overloaded("too much is waiting", retry_after=2)
        began = time.monotonic()
        with pytest.raises(Overloaded) as error:
            translate(service.url, RetryPolicy((0.01, 0.01), 0.2, notify=lambda problem, seconds: waits.append(seconds)))
        assert error.value.retry_after == 2 and waits == [0.2, 0.2] and 0.4 <= time.monotonic() - began < 10

"""The typed client against the running service: what it returns, and which exception each refusal is."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.auth.keys import add_key
from serve.corrections import Feedback
from tell.client import Client, DocumentJob, DocumentPart, NoAnswer, StreamEnd, Translation, TranslationPart
from tell.errors import (
    BadInput,
    EngineError,
    KeyRefused,
    NotFound,
    NotReady,
    NotServed,
    Overloaded,
    OverShare,
    RequestError,
    ScopeRefused,
    TellmtError,
    TimedOut,
    TooLarge,
)
from tests.conftest import ROOT
from tests.support.canned import canned
from tests.support.serving import Published, Running, running

pytest_plugins = ["tests.support.serving_fixtures"]


@pytest.fixture
def client(service: Running) -> Iterator[Client]:
    with Client(service.url) as client:
        yield client


def test_texts(client: Client, mark: str, published: Published) -> None:
    translation = client.translate("Halló\n heimur", "is", "en")
    assert translation == Translation(text=f"{mark}Halló\n {mark}heimur", truncated=False, pair="is-en", adapter=published.ids["is-en"], base="light")
    assert [t.text for t in client.translate(["a", "", "b"], "IS", "en-US", timeout=5, cache=False)] == [f"{mark}a", "", f"{mark}b"]
    assert client.translate("endless", "is", "en").flags == ("truncated",)
    aligned = client.translate("\U0001f600 þú\n - é", "is", "en", segments=True)
    aligned_texts = [("\U0001f600 þú\n - é"[slice(*s.source)], aligned.text[slice(*s.target)]) for s in aligned.segments]
    assert aligned_texts == [("\U0001f600 þú", f"{mark}\U0001f600 þú"), ("é", f"{mark}é")] and translation.segments == ()
    auto = client.translate("Hesturinn hljóp yfir túnið í gærkvöldi", "auto", "en")
    assert auto.detected and auto.detected.language == "is" and auto.pair == "is-en"
    with pytest.raises(RequestError, match="does not translate with the bare base"):
        client.translate("a", "is", "en", base=True)


@pytest.mark.clock
def test_a_stream(client: Client, service: Running, mark: str, published: Published) -> None:
    *parts, end = client.stream(["a\nb\u2028c", "", "endless"], "is", "en", segments=True)
    assert end == StreamEnd(pair="is-en", adapter=published.ids["is-en"], base="light")
    assert all(isinstance(p, TranslationPart) for p in parts)
    texts = ["".join(p.text for p in parts if isinstance(p, TranslationPart) and p.index == i) for i in range(3)]
    assert texts == [t.text for t in client.translate(["a\nb\u2028c", "", "endless"], "is", "en")]
    assert isinstance(parts[1], TranslationPart) and parts[1].segments[0].source == (2, 5) and parts[1].segments[0].target == (len(mark) + 2, 2 * len(mark) + 5)
    assert [p.flags for p in parts if isinstance(p, TranslationPart)][-1] == ("truncated",)
    # Leaving off early stops the work.
    service.engine.delay, before = 20.0, service.engine.cancelled
    leaving = client.stream("Einstakt", "is", "en", timeout=5)
    with pytest.raises(TimedOut):
        list(client.stream("Einstakt", "is", "en", timeout=0.2))
    leaving.close()  # type: ignore[attr-defined]
    assert service.engine.cancelled > before
    for bad, kind in (({"source": "de"}, NotServed), ({"source": "xx"}, RequestError)):
        with pytest.raises(kind):
            next(client.stream("a", **{"source": "is", "target": "en", **bad}))


def test_what_a_service_takes(client: Client) -> None:
    info = client.service()
    assert ".txt" in info.formats and (info.feedback, info.compare_base, info.keys, info.max_characters) == (False, False, False, 100_000)
    load, status = client.load(), client.status()
    assert load.adapters.loaded == 4 and load.segments.limit == 4096 and load.engine == status.engine == "fake" and status.base == "light"
    assert list(status.pairs) == client.adapters() and "is-en" in client.ready().pairs and "tellmt_requests_total" in client.metrics()
    assert client.monitor().enabled is False and {pair.pair for pair in client.monitor().pairs} == set(client.ready().pairs)
    is_en = next(pair for pair in status.pairs if pair.pair == "is-en")
    assert is_en.source and is_en.source.autonym == "íslenska" and is_en.since


def test_html_and_the_quality_of_a_stream(client: Client, mark: str) -> None:
    name = mark.replace("<", "&lt;").replace(">", "&gt;")
    assert client.translate("<p>a</p>", "is", "en", format="html").text == f"<p>{name}a</p>"
    *_, end = client.stream("a", "is", "en", quality="best", low=True)
    assert isinstance(end, StreamEnd) and end.quality == "best"
    assert client.wait(client.submit(b"a", "is", "en", quality="best").id).quality == "best"


def test_languages_and_adapters(client: Client, published: Published) -> None:
    assert {x.code: x.targets for x in client.languages()} == {"en": ("is",), "fo": ("is",), "is": ("en",), "pt-BR": ("en",)}
    by_pair = {a.pair: a for a in client.adapters()}
    assert set(by_pair) == set(published.ids) and by_pair["is-en"].adapter == published.ids["is-en"] and by_pair["is-en"].state == "live"


def test_documents(client: Client, service: Running, mark: str, tmp_path: Path) -> None:
    (tmp_path / "bréf.txt").write_text("Halló\n\nheimur\n", encoding="utf-8")
    job = client.submit(tmp_path / "bréf.txt", "is", "en")
    assert job.name == "bréf.txt" and not job.ended
    done = client.wait(job.id)
    assert done.state == "done" and done.progress.done == done.progress.total == 14 and done.expires and done.expires > done.created
    assert client.result(job.id).decode() == f"{mark}Halló\n\n{mark}heimur\n"
    client.delete(job.id)
    for ask in (client.job, client.result, client.delete, client.wait):
        for id in (job.id, "../translate", "", "..", "a/b", "þ?#"):
            with pytest.raises(NotFound):
                ask(id)
    watched = client.submit("".join(f"Lína {i}\n" for i in range(99)).encode(), "is", "en", name="löng.txt")
    events = list(client.events(watched.id))
    parts = [e for e in events if isinstance(e, DocumentPart)]
    assert isinstance(events[0], DocumentJob) and isinstance(events[-1], DocumentJob) and events[-1].state == "done" and len(parts) == parts[0].parts >= 2
    assert "".join(p.text for p in parts).encode() == client.result(watched.id)
    assert [e.text for e in client.events(watched.id, after=1) if isinstance(e, DocumentPart)] == [p.text for p in parts[1:]]
    client.delete(watched.id)
    with pytest.raises(NotFound):
        next(client.events(watched.id))
    service.engine.delay = 20.0
    slow = client.submit(b"Einstakt skjal", "is", "en", cache=False)
    with pytest.raises(TimedOut, match="not done in 0 s; found 0 of 14 characters"):
        client.wait(slow.id, 0)
    with pytest.raises(NotReady):
        client.result(slow.id)
    client.delete(slow.id)
    with pytest.raises(RequestError, match="files of this format"):
        client.submit(b"a", "is", "en", name="a.pdf")


def test_feedback(published: Published, tmp_path: Path, service: Running) -> None:
    with running(published.base, published.registry, feedback=Feedback(tmp_path / "f")) as keeping, Client(keeping.url) as client:
        client.feedback("a", "b", client.translate("a", "pt", "en"))
    line = (tmp_path / "f").read_text()
    assert '"source": "a", "target": "b"' in line and '"pair": "pt-BR:en"' in line and published.ids["pt-BR:en"] in line
    with Client(service.url) as client, pytest.raises(NotFound, match="keeps no feedback"):
        client.feedback("a", "b", client.translate("a", "is", "en"))


def test_the_lines_in_the_documentation_run(published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [lines] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("letter.txt").write_text("Halló\n", encoding="utf-8")
    with running(published.base, published.registry, feedback=Feedback(tmp_path / "f")) as keeping:
        exec(lines.replace("http://127.0.0.1:8080", keeping.url), {})
    assert Path("letter.en.txt").read_text().endswith(">Halló\n") and "Hello, world." in (tmp_path / "f").read_text()


def test_each_refusal_is_an_exception_of_its_own(client: Client, service: Running) -> None:
    for ask, kind, message in (
        (lambda: client.translate("a", "is", "de"), NotServed, "no adapter for this pair; found is-de"),
        (lambda: client.translate("a", "is", "xx"), RequestError, "target: unknown language code"),
        (lambda: client.translate(["a"] * 10_000, "is", "en"), TooLarge, "too many texts in one request"),
        (lambda: client.translate([], "is", "en"), RequestError, "there is no text"),
    ):
        with pytest.raises(kind) as error:
            ask()
        assert message in str(error.value) and str(error.value).startswith(service.url) and type(error.value) is kind
    service.engine.failure = EngineError("the engine is dead", found="leynilegt")
    with pytest.raises(Overloaded, match=r"the engine is dead$") as busy:
        client.translate("Einstakt hér", "is", "en")
    assert (busy.value.status, busy.value.retry_after) == (503, 2)
    service.engine.failure, service.engine.delay = None, 20.0
    with pytest.raises(TimedOut):
        client.translate("Einstakt þar", "is", "en", timeout=0.2)


def test_keys(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    key, other = add_key("a", ["translate"], requests_per_minute=2)[1], add_key("b", ["metrics"])[1]
    with running(published.base, published.registry) as service:
        with Client(service.url) as client, pytest.raises(KeyRefused, match="no valid API key"):
            client.translate("a", "is", "en")
        with Client(service.url, other) as client, pytest.raises(ScopeRefused):
            client.translate("a", "is", "en")
        with Client(service.url, add_key("c", ["admin"])[1]) as client:
            assert client.pin("is-en", "kept").pinned and not client.unpin("is-en", "not any more").pinned
            assert client.promote("is-en", published.ids["is-en"], "again").live == published.ids["is-en"]
            assert [entry["event"] for entry in client.registry_log()][-2:] == ["pin", "unpin"]
            for impossible in (lambda: client.promote("is-en", "0" * 32, "is not there"), lambda: client.rollback("is-en", "there was none before")):
                with pytest.raises(NotReady):
                    impossible()
        monkeypatch.setenv("TELLMT_API_KEY", key)
        with Client(service.url) as client:
            assert client.translate("a", "is", "en").text.endswith(">a") and client.adapters()
            with pytest.raises(OverShare, match="the quota of requests") as used:
                client.adapters()
        assert (used.value.status, used.value.retry_after >= 1) == (429, True)


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://a", "", "http://", "http://[::1"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(BadInput, match="not an address"):
        Client(url)


def test_what_is_not_tellmt() -> None:
    with Client("http://127.0.0.1:1") as client, pytest.raises(NoAnswer, match="valid: a running tellmt serve"):
        client.languages()
    one = {"pair": "is-en", "adapter": "x", "base": "b", "translations": []}
    with canned() as server, Client(server.url) as client:
        for reply in ((200, b"<html>"), (200, []), (200, one), (200, {**one, "translations": [{"text": "a"}]}), (200, {**one, "translations": 5})):
            server.replies["/api/v1/translate"] = reply
            with pytest.raises(TellmtError, match="the service's answer cannot be read"):
                client.translate("a", "is", "en")
        for lines in (b"<html>\n", b"[]\n", b'{"index": "a"}\n'):
            server.replies["/api/v1/translate/stream"] = (200, lines)
            with pytest.raises(TellmtError, match="the service's answer cannot be read"):
                list(client.stream("a", "is", "en"))
        server.replies["/api/v1/translate/stream"] = (200, b'{"index": 0, "text": "a", "truncated": false}\n')
        with pytest.raises(NoAnswer, match="the answer broke off"):
            list(client.stream("a", "is", "en"))
        server.replies["/languages"] = (200, [{"code": 5}])
        with pytest.raises(TellmtError, match="the service's answer cannot be read"):
            client.languages()
        for status, body in ((418, b"tea"), (500, {"detail": "x"}), (507, [])):
            server.replies["/languages"] = (status, body)
            with pytest.raises(TellmtError, match=f"HTTP status {status}") as error:
                client.languages()
            assert error.value.status == status
        # A newer service may tell more.
        server.replies["/languages"] = (200, [{"code": "is", "name": "Icelandic", "targets": [], "more": 1}])
        assert client.languages()[0].code == "is"


def test_it_needs_no_extra() -> None:
    heavy = {"fastapi", "starlette", "torch", "serve", "uvicorn", "numpy"}
    code = f"import sys, tell.client.client; print(sorted({{m.split('.')[0] for m in sys.modules}} & {heavy!r}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"

"""Documents as jobs over the fake engine: progress, results, whose they are, bounds, and that what is cancelled stops in the engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from serve.auth.keys import add_key
from serve.config import Limits
from serve.documents.jobs import JobLimits
from serve.documents.parts import HARD_CHARACTERS, HARD_LINES, Text, _SegmentVisitor, fit_name
from serve.formats import format_of
from serve.formats.units import UPLOADED, Replacement, Unit
from tell.errors import EngineError, TooLarge
from tell.text.segments import fill, pieces, split
from tests.conftest import ROOT
from tests.support.formats_fixture import members, through
from tests.support.serving import Published, Running, error, running, until

pytest_plugins = ["tests.support.serving_fixtures"]

JOBS = "/api/v1/jobs"
GOLDEN = ROOT / "tests" / "golden" / "files"


def post(service: Running, raw: bytes | str, name: str = "bréf.txt", headers: dict[str, str] | None = None, **fields: str) -> httpx.Response:
    data = {"source": "is", "target": "en", **fields}
    return service.http.post(JOBS, files={"file": (name, raw if isinstance(raw, bytes) else raw.encode())}, data=data, headers=headers)


def ended(service: Running, id: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    def state() -> dict[str, Any] | None:
        status = service.http.get(f"{JOBS}/{id}", headers=headers).json()
        return status if status["state"] in ("done", "failed") else None

    return dict(until(state))


def test_a_document_from_upload_to_the_end(service: Running, mark: str, published: Published) -> None:
    text = "\ufeffFyrsta lína\r\n\r\n  Önnur lína \n\tÞriðja\u2028lína\n\n"
    answer = post(service, text)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == f"{JOBS}/{job['id']}"
    assert (job["state"], job["name"], job["pair"], job["expires"]) == ("queued", "bréf.txt", "is-en", None)
    status = ended(service, job["id"])
    assert status["state"] == "done" and status["adapters"] == [published.ids["is-en"]] and status["error"] is None and status["truncated"] is False
    assert status["progress"]["done"] == status["progress"]["total"] == len(text) - 1 and status["expires"] > status["created"]
    result = service.http.get(f"{JOBS}/{job['id']}/result")
    # The layout is the text's own, whatever it is translated in; only what the engine puts before a segment is new.
    assert result.content.decode().replace(mark, "") == text and mark in result.text
    assert result.headers["content-type"] == "text/plain; charset=utf-8"
    assert result.headers["content-disposition"] == "attachment; filename=\"br_f.txt\"; filename*=UTF-8''br%C3%A9f.txt"
    assert service.http.delete(f"{JOBS}/{job['id']}").status_code == 204
    for method, path in (("GET", ""), ("GET", "/result"), ("DELETE", "")):
        assert "no such document, or it is gone" in error(service.http.request(method, f"{JOBS}/{job['id']}{path}"), 404)


def test_a_long_document_goes_in_parts_that_are_put_together_again(service: Running, mark: str) -> None:
    paragraphs = ["\n".join(f"Lína {i} {k}" for k in range(4)) for i in range(300)]
    text = "\n\n".join(paragraphs)
    job = post(service, text).json()
    assert job["progress"]["total"] == len(text)
    assert ended(service, job["id"])["state"] == "done"
    assert service.http.get(f"{JOBS}/{job['id']}/result").text.replace(mark, "") == text
    service.http.delete(f"{JOBS}/{job['id']}")


@pytest.mark.parametrize("text", ["", "a", "a\n", "\n\n\n", "a\n\nb\n" * 3000, "x" * 5000 + "\n" + "y " * 9000, "\r\n".join("abc" * 400), "  \n" * 200 + "a"])
def test_the_parts_of_a_text_are_the_text(text: str) -> None:
    for characters, lines in ((100_000, 64), (20_000, 1), (50_000, 5)):
        parts = Text.read(text.encode(), characters, lines).parts
        assert "".join(parts) == text
        assert all(len(p) <= HARD_CHARACTERS or p.count("\n") <= 1 for p in parts) and all(p.count("\n") <= min(lines, HARD_LINES) for p in parts)
        assert Text.read(text.encode(), characters, lines).filled(parts) == text.encode()


# The golden files are translated the other way.
LABELS = {"menu.po": (b"Language: is", b"Language: en"), "segments.xlf": (b'source-language="en"', b'source-language="is"')}


@pytest.mark.parametrize("name", ["menu.po", "notes.md", "page.html", "film.srt", "film.vtt", "segments.xlf", "letter.docx", "prices.xlsx"])
def test_documents_of_other_formats(service: Running, mark: str, name: str) -> None:
    """They come back in their format, with every segment translated where it stood."""
    raw, format = (GOLDEN / name).read_bytes().replace(*LABELS.get(name, (b"", b""))), format_of(name)
    job = post(service, raw, name).json()
    assert ended(service, job["id"])["state"] == "done" and job["name"] == name
    answer = service.http.get(f"{JOBS}/{job['id']}/result")
    assert answer.headers["content-type"] == format.media_type
    units: list[str] = []

    def marked(unit: Unit) -> Replacement:
        units.append(unit.text)
        return Replacement(fill(spans := split(unit.text), [mark + spans[i].text for i in pieces(spans)]))

    expected, _ = through(format.name, raw, marked, pair="is-en")
    assert (members(answer.content) == members(expected)) if format.zipped else (answer.content == expected)
    assert units and answer.content != raw
    service.http.delete(f"{JOBS}/{job['id']}")


def test_progress_is_told_while_it_is_translated(service: Running) -> None:
    service.engine.delay = 0.3
    job = post(service, "\n\n".join("".join(f"Lína {i} {k}\n" for k in range(40)) for i in range(20))).json()
    progress = until(lambda: (status := service.http.get(f"{JOBS}/{job['id']}").json()["progress"])["done"] and status)
    assert 0 < progress["done"] < progress["total"] and progress["seconds"] >= 1
    assert service.metric("tellmt_documents", state="translating") == 1 and service.metric("tellmt_documents", state="queued") == 0
    assert "the document is not translated yet; found translating" in error(service.http.get(f"{JOBS}/{job['id']}/result"), 409)
    service.http.delete(f"{JOBS}/{job['id']}")


def test_what_is_deleted_stops_in_the_engine(service: Running) -> None:
    service.engine.delay, before = 20.0, service.engine.cancelled
    job = post(service, "Lína\n" * 10).json()
    until(lambda: sum(service.engine.running.values()))
    assert service.http.delete(f"{JOBS}/{job['id']}").status_code == 204
    assert service.engine.cancelled > before and not sum(service.engine.running.values())
    assert service.metric("tellmt_segments_waiting") == 0


def test_an_engine_that_fails_is_told_by_the_job(service: Running) -> None:
    service.engine.failure = EngineError("the engine is dead", found="ValueError: leynilegur texti")
    job = post(service, "Einstakur texti\n").json()
    assert ended(service, job["id"])["error"] == "the engine is dead"
    message = error(service.http.get(f"{JOBS}/{job['id']}/result"), 409)
    assert message == "the document could not be translated; found the engine is dead"
    service.http.delete(f"{JOBS}/{job['id']}")


@pytest.mark.parametrize(
    ("raw", "more", "status", "message"),
    [
        (b"a", {"name": "a.pdf"}, 400, "file: files of this format are not translated; found .pdf; valid: .txt"),
        (b"PK\x03\x04", {"name": "a.docx"}, 400, "file: this is not a docx"),
        (b"\xd0\xcf\x11\xe0" + bytes(50), {"name": "a.xlsx"}, 400, "file: this xlsx cannot be read; found a password"),
        (b"<a/>", {"name": "a.tmx"}, 400, "file: this is not TMX"),
        (b"<tmx>", {"name": "a.tmx"}, 400, "file, line 1: this is not well-formed XML"),
        (b'msgid "a"\nmsgstr "b"\n', {"name": "a.po"}, 400, "there is nothing to translate in the file"),
        (b"a", {"name": "a"}, 400, "files of this format are not translated; valid: .txt"),
        (b"a", {"name": "a.sagan mikla"}, 400, "files of this format are not translated; valid: .txt"),
        (b"", {}, 400, "there is nothing to translate in the file"),
        (b" \n\n", {}, 400, "there is nothing to translate in the file"),
        (b"a\n\xff", {}, 400, "file, line 2, byte 2: not UTF-8; found 0xff"),
        (b"a" * 100_001, {}, 413, "a line is too long; found 100001 characters; valid: at most 100000"),
        (b"a\n" * 600_000, {}, 413, "the body is too large"),
        (b"a", {"target": "xx"}, 400, "target: unknown language code"),
        (b"a", {"target": "de"}, 400, "no adapter for this pair; found is-de"),
        (b"a", {"format": "pdf"}, 400, "unknown key; found format"),
        (b"a", {"source": "x" * 36}, 400, "source: not usable"),
    ],
)
def test_what_is_refused(service: Running, raw: bytes, more: dict[str, str], status: int, message: str) -> None:
    assert message in error(post(service, raw, **more), status)


# Just over what one upload may hold of everything.
TOO_MUCH: dict[str, tuple[str, str, str]] = {
    "nesting": ("a.xlf", '<xliff version="1.2">' + "<g>" * 100, "elements are nested too deep; found 101; valid: at most 100"),
    "elements": ("a.tmx", "<tmx><tu>" + "<x/>" * 10_001, "too many elements in one paragraph; found 20,001; valid: at most 20,000"),
    "cells": ("a.md", f"{'|a' * 300}\n{'|-' * 300}\n" + "|a\n" * 166, "too many cells in the tables of the file; found 50,267; valid: at most 50,000"),
}


def test_a_catalogue_of_another_language_is_refused(service: Running) -> None:
    po = 'msgid ""\nmsgstr "Language: de\\nContent-Type: text/plain; charset=UTF-8\\n"\n\nmsgid "bók"\nmsgstr ""\n'
    assert "file, header, Language: this is a translation into another language; found de; valid: en" in error(post(service, po, "a.po"), 400)


@pytest.mark.parametrize("kind", TOO_MUCH)
def test_what_one_file_may_hold(service: Running, kind: str) -> None:
    name, text, message = TOO_MUCH[kind]
    assert message in error(post(service, text, name), 413)


def test_how_many_texts_one_file_may_hold() -> None:
    """Counted at each, by whom the service has read a file; 150,001 of them would take seconds."""
    visitor = _SegmentVisitor(dataclasses.replace(UPLOADED, units=2))
    for _ in range(2):
        visitor.visit(Unit("a", "line 1"))
    visitor.visit(Unit("a", "line 2", translated=True))
    with pytest.raises(TooLarge, match="file: there are too many texts in the file; found 3; valid: at most 2"):
        visitor.visit(Unit("a", "line 3"))


def test_bodies_that_hold_no_file(service: Running) -> None:
    assert "the body is not a form with a file" in error(service.http.post(JOBS, json={"source": "is", "target": "en"}), 400)
    for files in ({"source": (None, "is")}, {"file": (None, "a")}, {"other": ("a.txt", b"a")}):
        error(service.http.post(JOBS, files=files), 400)
    error(service.http.post(JOBS, files=[("file", ("a.txt", b"a")), ("file", ("b.txt", b"b"))]), 400)


@pytest.mark.parametrize(
    ("name", "fit"),
    [
        ("bréf.txt", "bréf.txt"),
        ("../../etc/passwd", "passwd.txt"),
        ("C:\\skjöl\\a b.TXT", "a b.txt"),
        ('a"\r\nX: y.txt', "a_X_ y.txt"),
        ("." * 300, "document.txt"),
        ("x" * 300 + ".txt", "x" * 96 + ".txt"),
        ("", "document.txt"),
    ],
)
def test_a_name_is_made_fit(name: str, fit: str) -> None:
    assert fit_name(name, ".txt") == fit


@pytest.fixture
def keyed(published: Published) -> Iterator[tuple[Running, dict[str, str], dict[str, str]]]:
    keys = [{"X-API-Key": add_key(name, ["translate"])[1]} for name in ("a", "b")]
    limits = JobLimits(jobs=4, jobs_per_key=3, bytes=1000, kept=3.0)
    with running(published.base, published.registry, limits=Limits(waiting=40), jobs=limits) as service:
        yield service, keys[0], keys[1]


def test_a_document_is_its_keys_own(keyed: tuple[Running, dict[str, str], dict[str, str]]) -> None:
    service, owner, other = keyed
    id = post(service, "a", headers=owner).json()["id"]
    assert ended(service, id, owner)["state"] == "done"
    for method, path in (("GET", ""), ("GET", "/result"), ("DELETE", "")):
        assert "no such document" in error(service.http.request(method, f"{JOBS}/{id}{path}", headers=other), 404)
        error(service.http.request(method, f"{JOBS}/{id}{path}"), 401)
    assert service.http.get(f"{JOBS}/{id}/result", headers=owner).text.endswith(">a")


def test_bounds_and_time_to_live(keyed: tuple[Running, dict[str, str], dict[str, str]]) -> None:
    service, owner, other = keyed
    service.engine.delay = 0.3
    ids = [post(service, "a", headers=owner).json()["id"] for _ in range(3)]
    full = post(service, "a", headers=owner)
    assert "too many documents of this key are kept; valid: at most 3" in error(full, 429) and int(full.headers["retry-after"]) >= 1
    assert "too many documents are kept" in error(post(service, b"a" * 999, headers=other), 503)
    assert post(service, "a", headers=other).status_code == 202
    assert "too many documents are kept" in error(post(service, "a", headers=other), 503)
    # Two of a key at once; the third is queued until one has ended.
    assert sum(service.http.get(f"{JOBS}/{id}", headers=owner).json()["state"] == "queued" for id in ids) >= 1
    assert [ended(service, id, owner)["state"] for id in ids] == ["done"] * 3
    # What was fetched makes room for what is new, the oldest first; who only looked has fetched nothing.
    assert service.http.head(f"{JOBS}/{ids[0]}/result", headers=owner).status_code == 200
    for id in ids[1:]:
        assert service.http.get(f"{JOBS}/{id}/result", headers=owner).status_code == 200
    newest = post(service, "a", headers=owner)
    assert newest.status_code == 202, newest.text
    ids.append(newest.json()["id"])
    assert [service.http.get(f"{JOBS}/{id}", headers=owner).status_code for id in ids] == [200, 404, 200, 200]
    until(lambda: [service.http.get(f"{JOBS}/{id}", headers=owner).status_code for id in ids] == [404] * 4, 10)
    assert post(service, "a", headers=owner).status_code == 202


def test_what_of_a_document_stays_as_it_is_is_said(service: Running) -> None:
    job = post(service, "**a** " * 4000 + "\n\nOrð\n", "a.md").json()
    status = ended(service, job["id"])
    assert status["state"] == "done" and len(status["notes"]) == 1 and status["notes"][0].startswith("line 1: not translated: a paragraph of")
    assert ended(service, post(service, "a\n").json()["id"])["notes"] == []


def test_a_document_waits_while_the_queue_is_full(keyed: tuple[Running, dict[str, str], dict[str, str]]) -> None:
    """A key's share is half of 40 segments; a document of 120 lines takes its turns."""
    service, owner, _ = keyed
    text = "".join(f"line {i}\n" for i in range(120))
    job = post(service, text, headers=owner).json()
    assert ended(service, job["id"], owner)["state"] == "done"
    result = service.http.get(f"{JOBS}/{job['id']}/result", headers=owner).text
    assert result.count("\n") == 120 and result.endswith(">line 119\n")


def test_the_service_ends_while_documents_are_under_way(published: Published) -> None:
    with running(published.base, published.registry) as service:
        service.engine.delay = 20.0
        post(service, "a\n" * 100)
        until(lambda: sum(service.engine.running.values()))
        engine = service.engine
    assert engine.cancelled and engine.closed

"""Corrected translations: kept as lines that `corpus build` reads, bounded, off unless asked for, and in no log."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.auth.keys import add_key
from serve.corrections import Feedback
from tell.corpus.readers.jsonl import read_records
from tell.corpus.readers.segment import ReadOptions, ReadReport
from tell.errors import TellmtError
from tell.languages import parse_pair
from tests.conftest import Ran
from tests.support.serving import Published, Running, error, running

pytest_plugins = ["tests.support.serving_fixtures"]

ADAPTER = "0123456789abcdef" * 2
BODY = {"source": "is", "target": "en", "text": "Halló\u2028heimur", "correction": "Hello world", "translation": "Hallo world", "adapter": ADAPTER}


@pytest.fixture
def kept(published: Published, tmp_path: Path) -> Iterator[tuple[Running, Path]]:
    path = tmp_path / "feedback.jsonl"
    with running(published.base, published.registry, feedback=Feedback(path)) as server:
        yield server, path


def post(service: Running, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    return service.http.post("/api/v1/feedback", content=json.dumps({**BODY, **fields}), headers=headers)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def test_a_correction_is_kept_as_a_pair(kept: tuple[Running, Path], capfd: pytest.CaptureFixture[str]) -> None:
    service, path = kept
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and path.read_bytes() == b""
    answer = post(service)
    assert (answer.status_code, answer.content) == (204, b"")
    # The codes as the adapter has them; what is served no more is kept as it was said.
    assert post(service, source="is_IS", target="EN-us", translation="", correction="b\ud800").status_code == 204
    assert post(service, source="de", target="fo").status_code == 204
    first, second, third = rows(path)
    assert first.pop("time")[:2] == "20"
    assert first == {
        "source": "Halló\u2028heimur", "target": "Hello world", "translation": "Hallo world", "pair": "is-en", "adapter": ADAPTER, "key": None
    }  # fmt: skip
    assert (second["pair"], second["target"], third["pair"]) == ("is-en", "b\ufffd", "de-fo")
    segments = list(read_records(path, ReadOptions(parse_pair("is-en")), ReadReport((path,), "feedback", "jsonl")))
    assert (segments[0].source, segments[0].target, segments[0].reason) == ("Halló\u2028heimur", "Hello world", None)
    assert "Hello" not in capfd.readouterr().err


def test_who_said_it(published: Published, tmp_path: Path) -> None:
    key, other = add_key("translators", ["translate"])[1], add_key("metrics", ["metrics"])[1]
    with running(published.base, published.registry, feedback=Feedback(tmp_path / "f")) as service:
        error(post(service), 401)
        error(post(service, {"X-API-Key": other}), 403)
        assert post(service, {"X-API-Key": key}).status_code == 204
    assert [r["key"] for r in rows(tmp_path / "f")] == ["translators"] and key not in (tmp_path / "f").read_text()


def test_without_a_file_it_is_refused(service: Running) -> None:
    assert "this service keeps no feedback; valid: tellmt serve --feedback FILE" in error(post(service), 404)


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"correction": ""}, 400, "correction: not usable"),
        ({"text": " \n"}, 400, "text: not usable"),
        ({"text": ["a"]}, 400, "text: not usable"),
        ({"adapter": "is-en"}, 400, "adapter: not usable; valid: the id of the adapter"),
        ({"adapter": ADAPTER[:8]}, 400, "adapter: not usable"),
        ({"adapter": None}, 400, "adapter: not usable"),
        ({"target": "xx"}, 400, "target: unknown language code"),
        ({"target": "IS"}, 400, "source and target are the same language"),
        ({"score": 5}, 400, "unknown key; found score"),
        ({"text": "a" * 99_989}, 413, "too much text in one request; found 100011 characters; valid: at most 100000"),
    ],
)
def test_what_is_refused(kept: tuple[Running, Path], fields: dict[str, Any], status: int, message: str) -> None:
    service, path = kept
    answer = error(post(service, **fields), status)
    assert message in answer and "Halló" not in answer
    assert path.read_bytes() == b""


def test_the_file_is_bounded(published: Published, tmp_path: Path) -> None:
    path = tmp_path / "f"
    with running(published.base, published.registry, feedback=Feedback(path, max_bytes=1000)) as service:
        answers = [post(service).status_code for _ in range(6)]
        assert answers == sorted(answers) and set(answers) == {204, 507}
        assert len(rows(path)) == answers.count(204) and path.stat().st_size <= 1000
        assert "the feedback file is full" in error(post(service), 507)
        # Moved away, it begins anew.
        path.rename(tmp_path / "old")
        assert post(service).status_code == 204 and len(rows(path)) == 1


def test_a_line_left_open_is_closed_first_and_lines_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text('{"source": "a", "target": "b"}')
    stores = [Feedback(path), Feedback(path)]
    threads = [threading.Thread(target=lambda s=s: [s.keep({"source": "x" * 3000, "target": "y"}) for _ in range(20)]) for s in stores for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows(path)) == 81 and {len(r["source"]) for r in rows(path)} == {1, 3000}


def test_a_file_that_cannot_be_written(cli: Callable[..., Ran], tmp_path: Path) -> None:
    for name, message in ((tmp_path / "none" / "f", "the feedback file cannot be written"), (Path("/dev/null"), "the feedback file is no file")):
        ran = cli("serve", "--port", "0", "--engine", "ct2", "--feedback", name, ok=False)
        assert ran.code == 1 and message in ran.err and str(name) in ran.err
    assert cli("serve", "--port", "0", "--feedback", tmp_path, ok=False).code == 2
    with pytest.raises(TellmtError, match="cannot be written"):
        Feedback(tmp_path)


def test_a_disk_that_is_full_costs_no_line(published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "f"
    with running(published.base, published.registry, feedback=Feedback(path)) as service:
        assert post(service).status_code == 204
        monkeypatch.setattr("serve.corrections.os.fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        assert error(post(service), 503) == "the feedback file cannot be written"
        monkeypatch.undo()
        assert post(service).status_code == 204
    assert len(rows(path)) == 2 and "No space left on device" in capfd.readouterr().err

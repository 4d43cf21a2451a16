"""`tellmt registry wait`, which returns when every named service serves a version, and says what keeps those that do not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from serve.auth.gate import Keys
from serve.auth.keys import add_key
from tests.conftest import Tellmt
from tests.serve.adapters.test_eviction import limits
from tests.serve.adapters.test_follower import Bench, bench  # noqa: F401
from tests.support.serving import running


def test_it_returns_when_the_last_service_serves_the_version(bench: Bench, tellmt: Tellmt) -> None:  # noqa: F811
    bench.publish(seed=1)
    with running(bench.base, bench.registry) as first, running(bench.base, bench.registry) as second:
        second.engine.load_delay = 1.0
        began = time.monotonic()
        new = bench.publish(seed=2)
        code, out, err = tellmt("registry", "wait", "IS-en", new[:8], "--server", first.url, "--server", f"{second.url}/", "--timeout", 20)
        assert code == 0, err
        assert 1.0 <= time.monotonic() - began < 10
        assert second.status()["adapter"] == first.status()["adapter"] == new
        assert out["version"] == new[:8] and {s["url"]: (s["adapter"], s["generation"]) for s in out["servers"]} == {first.url: (new, 2), second.url: (new, 2)}
        # The answers say it too, in every API.
        for path, body in (
            ("/api/v1/translate", {"source": "is", "target": "en", "text": "a"}),
            ("/api/v1/translate/stream", {"source": "is", "target": "en", "text": "a"}),
            ("/translate", {"source": "is", "target": "en", "q": "a"}),
            ("/v2/translate", {"source_lang": "IS", "target_lang": "EN", "text": ["a"]}),
        ):
            headers = first.http.post(path, json=body).headers
            assert (headers["X-Tellmt-Adapter"], headers["X-Tellmt-Generation"]) == (new, "2"), path


def test_a_cold_pair_counts_by_what_the_next_request_loads(bench: Bench, tellmt: Tellmt) -> None:  # noqa: F811
    ids = {pair: bench.publish(pair, seed=1) for pair in ("de-is", "fo-is")}
    with running(bench.base, bench.registry, limits=limits(1)) as service:
        assert service.status("fo-is")["state"] == "cold"
        code, out, err = tellmt("registry", "wait", "fo-is", ids["fo-is"], "--server", service.url, "--timeout", 0)
        assert code == 0 and out["servers"][0]["state"] == "cold" and "to be loaded for the next request" in err


def test_what_is_not_served_in_time_is_named_with_its_reason(bench: Bench, tellmt: Tellmt) -> None:  # noqa: F811
    old = bench.publish(seed=1)
    with running(bench.base, bench.registry) as service:
        service.engine.load_failure = RuntimeError("no room")
        new = bench.publish(seed=2)
        began = time.monotonic()
        away = "http://127.0.0.1:9"
        code, out, err = tellmt("registry", "wait", "is-en", new, "--server", service.url, "--server", away, "--timeout", 1)
        assert (code, out) == (1, None) and 1 <= time.monotonic() - began < 8
        assert f"is-en: 2 of 2 services do not serve {new[:12]} after 1 s" in err
        assert f"{service.url}: answers with {old[:12]}, refused {new[:12]}: the adapter cannot be used" in err and f"; {away}: no answer" in err
        code, _, err = tellmt("registry", "wait", "is-fo", new, "--server", service.url, "--timeout", 0)
        assert code == 1 and "does not serve this pair" in err


def test_a_key_that_is_refused_ends_it_at_once(bench: Bench, tellmt: Tellmt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    id = bench.publish(seed=1)
    _, key = add_key("a", ["translate"], path=tmp_path / "keys.json")
    with running(bench.base, bench.registry, keys=Keys(tmp_path / "keys.json")) as service:
        arguments = ("registry", "wait", "is-en", id, "--server", service.url, "--timeout", 60)
        began = time.monotonic()
        code, _, err = tellmt(*arguments)
        assert code == 1 and "no valid API key" in err and time.monotonic() - began < 10
        monkeypatch.setenv("TELLMT_API_KEY", key)
        assert tellmt(*arguments)[0] == 0


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("is-en", "8c5b75"), 2, "Missing option '--server'"),
        (("is-en", "8c5b75", "--server", "localhost:8080"), 1, "--server: not an address; found localhost:8080; valid: http://HOST:PORT"),
        (("is-en", "live", "--server", "http://a"), 1, "VERSION: not an adapter's id; found live; valid: the id, or its first 4 characters or more"),
        (("is-en", "8c5", "--server", "http://a"), 1, "VERSION: not an adapter's id"),
        (("is", "8c5b", "--server", "http://a"), 1, "PAIR: not a language pair"),
        (("is-en", "8c5b", "--server", "http://a", "--timeout", "-1"), 2, "--timeout"),
    ],
)
def test_what_cannot_be_waited_for(tellmt: Tellmt, args: tuple[str, ...], code: int, message: str) -> None:
    got, out, err = tellmt("registry", "wait", *args)
    assert out is None and got in (code, 2) and message in err

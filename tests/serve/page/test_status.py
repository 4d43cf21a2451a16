"""The status view, opened as /status, in a real browser, against the real application with a history of many runs."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eval.monitor.history import Alarm, CanaryRun, History, Outputs
from serve.auth.keys import add_key
from tell.registry.registry import Registry
from tests.support.browser import CHROMIUM, DESKTOP, PHONE, Browser, proper, shot
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.serving import Running, publish
from tests.support.watched import watched

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (Debian: apt-get install chromium)")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

OLD, SIGNATURE = "0" * 32, "nrefs:1|case:mixed|version:2.6.0"


def fill(history: History, live: str) -> None:
    """Ten days of runs: a version, a bad one that was rolled back, and the one that is live; a day of traffic; corrections."""
    draw, now = random.Random(3), time.time()
    for i in range(40):
        version, base = (OLD, 33.8) if i < 19 else ("b" * 32, 21.0) if i == 19 else (live, 38.2)
        chrf = base + draw.gauss(0, 0.2)
        scores = {"bleu": {"score": round(chrf * 0.36, 2), "signature": SIGNATURE}, "chrf": {"score": round(chrf, 2), "signature": SIGNATURE}}
        bad = ("quality",) if i == 19 else ()
        hard = {"word": [0, 8], "placeholder": [1, 8]}
        run = CanaryRun(
            "is-en", version, "base", "c" * 64, "scored", 200, scores, hard, delta=-12.8 if bad else 0.1, findings=bad, baseline=i in (0, 20), seconds=90.0
        )
        history.add(CanaryRun(**{**{n: getattr(run, n) for n in CanaryRun.__slots__}, "time": now - (40 - i) * 6 * 3600}), Outputs(["x"], []))
    history.update_alarms("is-en", [Alarm("is-en", "b" * 32, "quality", "chrF2 21.0 against 33.8 (-12.8, p = 1e-04, 200 segments)")])
    history.rolled_back("is-en", "b" * 32, OLD)
    history.update_alarms("is-en", [])
    rows = []
    for i in range(200):
        traffic = {"seconds": 300.0, "segments": 50 + i % 60, "flags": {"number": 0.01}, "length_ratio": 1.05, "languages": {"source": 0.97, "other": 0.03}}
        measures = {
            "unknown_letters": 0.001,
            "drift": 0.09,
            "drift_usual": 0.08,
            "tokens_per_second": 5.0,
            "latency_p50": 0.2,
            "latency_p95": 0.9,
            "waiting": 0.1,
        }
        rows.append((now - (200 - i) * 300, "is-en", live, traffic | measures))
    # Of the other pair a single value, which is no line.
    history.add_signals([*rows, (now - 300, "fo-is", OLD, traffic | measures)])
    history.add_feedback("is-en", live, 212, {m: {"score": 55.0, "signature": SIGNATURE} for m in ("bleu", "chrf", "ter")})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("status")


@pytest.fixture(scope="module")
def history(root: Path) -> History:
    return History(root / "monitor" / "history.db")


@pytest.fixture(scope="module")
def service(root: Path, history: History) -> Iterator[Running]:
    base, registry = light_base(root / "cache"), Registry(root / "registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TELLMT_KEYS", str(root / "keys.json"))
        live = publish(registry, light_adapter(root / "one", base, seed=1))
        publish(registry, light_adapter(root / "two", base, "fo-is", seed=1))
        fill(history, live)
        with watched(base, registry, root / "monitor") as server:
            yield server


@pytest.fixture
def chromium(opened_browser: Browser) -> Any:
    return opened_browser.browser


def opened(chromium: Any, url: str, size: tuple[int, int], scheme: str) -> tuple[Any, Browser]:
    watched_browser = Browser(chromium)
    context = chromium.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, locale="en-GB")
    page = context.new_page()
    page.set_default_timeout(10_000)
    page.on("pageerror", lambda e: watched_browser.problems.append(f"script: {e}"))
    page.on("console", lambda m: watched_browser.problems.append(m.text) if m.type == "error" and "responded with a status" not in m.text else None)
    page.on("request", lambda r: None if r.url.startswith(url) else watched_browser.problems.append(f"elsewhere: {r.url}"))
    page.goto(f"{url}/status")
    page.locator("#status:not([data-state=loading])").wait_for()
    return page, watched_browser


def test_what_it_shows(service: Running, chromium: Any) -> None:
    expect = sync_api.expect
    live = service.status()["adapter"]
    for size, scheme in ((DESKTOP, "light"), (PHONE, "dark")):
        page, browser = opened(chromium, service.url, size, scheme)
        expect(page.locator("#status")).to_have_text("2 pairs live")
        card = page.locator(".st-card").first
        expect(card.get_by_role("heading", name="Icelandic → English")).to_be_visible()
        expect(card.locator(".st-badge")).to_have_text("As it should be")
        assert page.url == f"{service.url}/#/status" and page.locator("nav [aria-current]").inner_text() == "Status"
        expect(page.locator("#tiles")).to_contain_text("Ready")
        assert card.locator(".st-large svg circle.bad").count() == 1 and card.locator(".st-large path.path").count() == 3
        assert card.locator(".st-legend code").all_inner_texts() == [OLD[:12], "b" * 12, live[:12]]
        assert card.locator(".st-grid svg").count() == 6
        card.get_by_role("button", name="BLEU").click()
        expect(page.locator(".st-large svg").first).to_have_attribute("aria-label", "BLEU of 40 canary runs of is-en")
        page.locator(".st-large").first.hover()
        expect(page.locator(".st-tip").first).to_contain_text("BLEU")
        page.get_by_text("Runs", exact=True).first.click()
        assert page.locator(".st-more tbody").first.locator("tr").count() == 25
        page.get_by_text("Corrections by users").first.click()
        expect(page.locator(".st-corrections").first).to_contain_text("212")
        page.get_by_text("Alarms that are over").click()
        expect(page.locator("#past-list")).to_contain_text(f"Rolled back to {OLD[:12]}")
        assert page.locator(".st-card").nth(1).inner_text().count("tellmt monitor freeze fo-is") == 1
        proper(page)
        assert page.locator(".st-card").nth(1).locator(".st-single").count() == 6 and page.locator(".st-card").nth(1).locator(".st-chart svg").count() == 0
        shot(page, f"history-{scheme}")
        assert not browser.problems
        page.context.close()


def test_an_alarm_and_a_key(service: Running, history: History, root: Path, chromium: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expect = sync_api.expect
    history.update_alarms("is-en", [Alarm("is-en", service.status()["adapter"], "hard", "9 of 16 hard texts have a flag, 1 had <b>")])
    page, browser = opened(chromium, service.url, DESKTOP, "light")
    alarm = page.locator(".st-alarm")
    expect(alarm).to_contain_text("Hard texts go wrong")
    expect(alarm).to_contain_text("1 had <b>")
    expect(page.locator("#status")).to_have_text("1 alarm")
    shot(page, "status-alarm")
    page.context.close()
    monkeypatch.setenv("TELLMT_KEYS", str(root / "keys.json"))
    key = add_key("watcher", ["metrics"])[1]
    page, other = opened(chromium, service.url, DESKTOP, "light")
    expect(page.locator("#key-form")).to_be_visible()
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Use this key").click()
    expect(page.locator(".st-card")).to_have_count(2)
    expect(page.locator("#key-form")).to_be_hidden()
    # Of the other half of the view it says what it would take.
    expect(page.locator("#overview-refused")).to_contain_text("need a key with the scope translate")
    expect(page.locator("#pairs-card")).to_be_hidden()
    page.context.close()
    assert not browser.problems and not other.problems

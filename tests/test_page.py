"""The page at `/`, in a real browser, against the real application: what a person types, presses and sees."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running import publish, serving

from serve.keys import add_key
from tell.errors import EngineError
from tell.registry import Registry

CHROMIUM = next((p for p in ("/usr/bin/chromium", shutil.which("chromium"), shutil.which("chromium-browser")) if p and Path(p).exists()), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
DESKTOP, PHONE, SMALL = (1280, 800), (390, 844), (320, 640)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (Debian: apt-get install chromium)")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


class Browser:
    """Opens pages and notes every script error, refused resource and request that left the server."""

    def __init__(self, browser: Any):
        self.browser, self.problems = browser, list[str]()

    def open(self, url: str, size: tuple[int, int] = DESKTOP, scheme: str = "light") -> Any:
        clipboard = ["clipboard-read", "clipboard-write"]
        context = self.browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, permissions=clipboard)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda e: self.problems.append(f"script: {e}"))
        page.on("console", lambda m: self.problems.append(m.text) if m.type == "error" and "the server responded with a status" not in m.text else None)
        page.on("request", lambda r: None if r.url.startswith(url) else self.problems.append(f"elsewhere: {r.url}"))
        page.goto(f"{url}/")
        page.locator("#status:not([data-state=loading])").wait_for()
        return page


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def browser(chromium: Any) -> Iterator[Browser]:
    watched = Browser(chromium)
    yield watched
    for context in chromium.contexts:
        context.close()
    assert not watched.problems


def shot(page: Any, name: str) -> None:
    """Keep a picture where TELLMT_TEST_SHOTS says, for a person to look at."""
    if folder := SHOTS:
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


# Read before the fixtures clear the variables of this name.
SHOTS = os.environ.get("TELLMT_TEST_SHOTS")


def overflow(page: Any) -> int:
    """By how many pixels the page is wider than the window."""
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


def translate(page: Any, text: str) -> None:
    page.fill("#source-text", text)
    page.get_by_role("button", name="Translate", exact=True).click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_text_is_translated(scheme: str, isolated: Path, browser: Browser) -> None:
    expect = sync_api.expect
    id = publish(isolated, "is-en")
    with serving(isolated) as server:
        page = browser.open(server.url, scheme=scheme)
        shot(page, f"start-{scheme}")
        expect(page.get_by_label("From")).to_have_value("is")
        expect(page.get_by_label("To", exact=True)).to_have_value("en")
        expect(page.locator("#status")).to_have_text("1 pair live")
        button = page.get_by_role("button", name="Translate", exact=True)
        expect(button).to_be_disabled()
        translate(page, "Góðan daginn.\nÞað rignir 🌧")
        expect(page.locator("#target-text")).to_have_text("GÓÐAN DAGINN.\nÞAÐ RIGNIR 🌧")
        shot(page, f"done-{scheme}")
        assert page.locator("#target-text").inner_text() == "GÓÐAN DAGINN.\nÞAÐ RIGNIR 🌧"
        expect(page.locator("#answer-adapter")).to_have_text(id[:12])
        expect(page.locator("#answer-base")).to_have_text("light")
        expect(page.locator("#answer-time")).to_have_text(re.compile(r"^\d+(\.\d)? (ms|s)$"))
        expect(page.locator("#count")).to_have_text("26 characters")
        assert [page.locator("#source-text").get_attribute(a) for a in ("lang", "dir")] == ["is", "ltr"]
        assert [page.locator("#target-text").get_attribute(a) for a in ("lang", "dir")] == ["en", "ltr"]
        page.get_by_role("button", name="Copy", exact=True).click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == "GÓÐAN DAGINN.\nÞAÐ RIGNIR 🌧"
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground))) < 200) == (scheme == "dark")


def test_by_keyboard_alone(isolated: Path, browser: Browser) -> None:
    expect = sync_api.expect
    publish(isolated, "is-en")
    with serving(isolated) as server:
        page = browser.open(server.url)
        expect(page.locator("#source-text")).to_be_focused()
        page.keyboard.type("hestur")
        page.keyboard.press("Control+Enter")
        expect(page.locator("#target-text")).to_have_text("HESTUR")
        # Every control that can be reached has a name that a screen reader can say.
        for _ in range(8):
            page.keyboard.press("Tab")
            focused = page.evaluate("(e => [e.tagName, e.ariaLabel || e.labels?.[0]?.textContent || e.textContent])(document.activeElement)")
            assert focused[0] == "BODY" or focused[1].strip(), focused


def test_two_ways_and_a_language_written_from_the_right(isolated: Path, browser: Browser) -> None:
    expect = sync_api.expect
    for pair in ("is-en", "en-is", "en-ar"):
        publish(isolated, pair)
    with serving(isolated) as server:
        page = browser.open(server.url)
        page.get_by_label("From").select_option("is")
        translate(page, "hestur")
        expect(page.locator("#target-text")).to_have_text("HESTUR")
        page.get_by_role("button", name="Swap languages").click()
        expect(page.get_by_label("From")).to_have_value("en")
        expect(page.get_by_label("To", exact=True)).to_have_value("is")
        expect(page.locator("#source-text")).to_have_value("HESTUR")
        page.get_by_label("To", exact=True).select_option("ar")
        # There is no way back from Arabic.
        expect(page.get_by_role("button", name="Swap languages")).to_be_disabled()
        translate(page, "horse")
        expect(page.locator("#target-text")).to_have_text("HORSE")
        assert [page.locator("#target-text").get_attribute(a) for a in ("lang", "dir")] == ["ar", "rtl"]
        page.reload()
        expect(page.get_by_label("To", exact=True)).to_have_value("ar")


def test_errors_are_told_in_words(isolated: Path, browser: Browser) -> None:
    expect = sync_api.expect
    publish(isolated, "is-en")
    with serving(isolated) as server:
        page = browser.open(server.url)
        alert = page.get_by_role("alert")
        expect(alert).to_be_hidden()
        server.engine.problems = [EngineError("the engine has died")]
        translate(page, "hestur")
        expect(alert).to_contain_text("The engine has died. Try again in 2 s.")
        shot(page, "error-light")
        translate(page, "hestur")
        expect(page.locator("#target-text")).to_have_text("HESTUR")
        expect(alert).to_be_hidden()
        translate(page, "o" * 100_001)
        expect(alert).to_contain_text("Too much text in one request")
        # What was translated before does not stand beside a text it does not belong to.
        expect(page.locator("#target-text")).to_have_text("The translation appears here.")
        alert.get_by_role("button", name="Dismiss").click()
        expect(alert).to_be_hidden()
        page.route("**/api/v1/translate", lambda route: route.abort("connectionrefused"))
        translate(page, "hestur")
        expect(alert).to_contain_text("The server cannot be reached")
    browser.problems[:] = [p for p in browser.problems if "ERR_CONNECTION_REFUSED" not in p]


def test_a_server_that_wants_a_key_is_given_one(isolated: Path, browser: Browser) -> None:
    expect = sync_api.expect
    publish(isolated, "is-en")
    _, key = add_key("page", ["translate"])
    with serving(isolated) as server:
        page = browser.open(server.url)
        alert = page.get_by_role("alert")
        translate(page, "hestur")
        expect(alert).to_contain_text("This server wants an API key")
        for given, said in (("wrong", "does not accept this API key"), (key, "")):
            page.get_by_label("API key").fill(given)
            page.get_by_role("button", name="Use this key").click()
            if said:
                expect(alert).to_contain_text(said)
        expect(page.locator("#target-text")).to_have_text("HESTUR")
        expect(page.locator("#key-form")).to_be_hidden()
        assert page.evaluate("[localStorage, document.cookie].map(x => JSON.stringify(x)).join()").count(key) == 0


def test_while_it_works_and_how_it_is_stopped(isolated: Path, browser: Browser) -> None:
    expect = sync_api.expect
    publish(isolated, "is-en")
    with serving(isolated) as server:
        page = browser.open(server.url)
        server.engine.delay = 60.0
        translate(page, "hestur")
        stop = page.get_by_role("button", name="Stop translating")
        expect(stop).to_be_visible()
        assert page.locator("#form").get_attribute("aria-busy") == "true"
        shot(page, "busy-light")
        stop.click()
        expect(page.get_by_role("button", name="Translate", exact=True)).to_be_enabled()
        expect(page.get_by_role("alert")).to_be_hidden()
        server.engine.delay = 0.0
        translate(page, "ENDLESS saga")
        expect(page.locator("#target-text")).to_have_text("ENDLESS SAGA")
        expect(page.locator("#cut")).to_be_visible()


def test_what_is_odd_about_a_translation_is_said(isolated: Path, browser: Browser) -> None:
    expect = sync_api.expect
    publish(isolated, "is-en")
    with serving(isolated) as server:
        page = browser.open(server.url)
        translate(page, "Góðan daginn")
        expect(page.locator("#target-text")).to_have_text("GÓÐAN DAGINN")
        expect(page.locator("#doubts")).to_be_hidden()
        # The engine behind this page only makes letters large, so a whole sentence is Icelandic still.
        translate(page, "hesturinn hljóp yfir stóra túnið og út í ána í gærkvöldi")
        expect(page.locator("#doubts")).to_contain_text("Worth a look:")
        expect(page.locator("#doubts")).to_contain_text("a part was left untranslated")
        shot(page, "doubts-light")
        page.fill("#source-text", "")
        page.get_by_label("From").focus()
        page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
        assert overflow(page) <= 0


def test_an_empty_registry_is_explained_until_something_is_live(isolated: Path, browser: Browser) -> None:
    expect = sync_api.expect
    with serving(isolated) as server:
        page = browser.open(server.url)
        expect(page.get_by_role("heading", name="No adapter is live yet")).to_be_visible()
        expect(page.locator("#empty")).to_contain_text("tellmt publish")
        expect(page.locator("#form")).to_be_hidden()
        shot(page, "empty-light")
        publish(isolated, "is-en")
        expect(page.locator("#form")).to_be_visible()
        expect(page.locator("#empty")).to_be_hidden()


def test_an_adapter_that_is_refused_is_named_with_the_reason(isolated: Path, browser: Browser) -> None:
    expect = sync_api.expect
    id = publish(isolated, "is-en")
    (Registry().path(id) / "adapter_model.safetensors").write_bytes(b"cut")
    with serving(isolated) as server:
        page = browser.open(server.url)
        expect(page.locator("#refused-list")).to_contain_text("is-en:")
        expect(page.locator("#refused-list")).to_contain_text("safetensors")
        shot(page, "refused-light")


def test_a_server_that_starts_says_so(isolated: Path, browser: Browser) -> None:
    publish(isolated, "is-en")
    with serving(isolated, start=False) as server:
        page = browser.open(server.url)
        sync_api.expect(page.get_by_role("heading", name="Starting")).to_be_visible()
        shot(page, "starting-light")


@pytest.mark.parametrize("size", [PHONE, SMALL], ids=["phone", "small"])
def test_nothing_overflows_on_a_phone(size: tuple[int, int], isolated: Path, browser: Browser) -> None:
    expect = sync_api.expect
    for pair in ("is-en", "zh-Hant-TW:en"):
        publish(isolated, pair)
    with serving(isolated) as server:
        page = browser.open(server.url, size)
        assert overflow(page) <= 0
        page.get_by_label("From").select_option("is")
        translate(page, "Vaðlaheiðarvegavinnuverkfærageymsluskúrslyklakippuhringurinn" * 3 + " er ENDLESS")
        expect(page.locator("#answer")).to_be_visible()
        page.get_by_text("Use it from a program").click()
        assert overflow(page) <= 0
        shot(page, f"{size[0]}-light")
        for name in ("source-text", "target-text", "translate", "copy", "answer", "swap"):
            box = page.locator(f"#{name}").bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= size[0], name
        page.get_by_label("From").select_option("zh-Hant-TW")
        server.engine.problems = [EngineError("o" * 300)]
        translate(page, "hestur")
        expect(page.get_by_role("alert")).to_be_visible()
        assert overflow(page) <= 0

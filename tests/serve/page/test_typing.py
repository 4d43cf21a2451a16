"""The text view while one types, and what it offers around a translation: other ones, the best quality, glossaries, another language, explanations."""

from __future__ import annotations

from typing import Any

import pytest

from serve.api.stream import StreamResponse
from tests.support.browser import CHROMIUM, PHONE, VOYAGE, Browser, proper, shot
from tests.support.page import from_icelandic, translate
from tests.support.serving import Running

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (Debian: apt-get install chromium)")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect


class Streams:
    """The translations that pages ask for: their texts and other fields, and how many the service had under way at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.asked, self.now, self.most = list[tuple[list[str], str, bool]](), 0, 0
        original = StreamResponse.__call__

        async def counted(response: StreamResponse, *more: Any) -> None:
            self.asked.append((response.texts, response.options.quality, response.options.glossary is not None))
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                await original(response, *more)
            finally:
                self.now -= 1

        monkeypatch.setattr(StreamResponse, "__call__", counted)

    def texts(self) -> list[str]:
        return [text for texts, _, _ in self.asked for text in texts]


def test_as_one_types(service: Running, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    page = from_icelandic(browser.open(service.url))
    switch, target = page.get_by_role("switch", name="Translate as I type"), page.locator("#target-text")
    switch.check()
    streams = Streams(monkeypatch)
    before, service.engine.delay = service.engine.cancelled, 20.0
    page.locator("#source-text").press_sequentially("Góðan", delay=5)
    page.locator("#form[aria-busy=true]").wait_for()
    # What is under way is not what was asked for: there is nothing to stop, and nothing is announced.
    expect(page.get_by_role("button", name="Translate", exact=True)).to_be_enabled()
    expect(target).to_have_attribute("aria-live", "off")
    service.engine.delay = 0.0
    page.locator("#source-text").press_sequentially(" daginn.", delay=5)
    expect(target).to_have_text("Good morning.")
    assert streams.texts() == ["Góðan", "Góðan daginn."] and streams.most == 1
    assert (cancelled := service.engine.cancelled) == before + 1
    expect(page.locator("#said")).to_have_text("Translated.")
    # One that was asked for goes on to its end, and the newer text waits for that; what was there stays meanwhile.
    service.engine.delay = 0.8
    translate(page, "hestur")
    page.fill("#source-text", "hestur og")
    expect(target).to_have_text("HESTUR")
    expect(target).to_have_text("HESTUR OG")
    assert streams.texts()[2:] == ["hestur", "hestur og"] and streams.most == 1 and service.engine.cancelled == cancelled
    # Another language, and another quality, are translated at once too.
    service.engine.delay = 0.0
    page.get_by_label("Quality").select_option("best")
    expect(page.locator("#answer-quality")).to_have_text("best")
    assert [quality for _, quality, _ in streams.asked][-2:] == ["fast", "best"]
    # Longer texts wait for the button, and what fails while one types is said in a line.
    note = page.locator("#typing-note")
    page.fill("#source-text", "o" * 5001)
    expect(note).to_have_text("More than 5,000 characters: press Translate.")
    page.route("**/api/v1/translate/stream", lambda route: route.fulfill(status=429, json={"error": "the quota is used up"}))
    page.fill("#source-text", "hross")
    expect(note).to_have_text("Paused until you press Translate. The quota is used up. Try again in a moment.")
    expect(page.get_by_role("alert")).to_be_hidden()
    page.unroute("**/api/v1/translate/stream")
    translate(page, "hross")
    expect(target).to_contain_text("HROSS")
    expect(note).to_have_text("")
    # Both choices are remembered.
    switch.uncheck()
    page.reload()
    expect(switch).not_to_be_checked()
    expect(page.get_by_label("Quality")).to_have_value("best")


def test_other_translations_of_a_segment(service: Running, browser: Browser) -> None:
    page = from_icelandic(browser.open(service.url))
    translate(page, VOYAGE)
    page.locator("#target-text .seg").nth(2).click()
    page.get_by_role("button", name="Other translations").click()
    others = page.locator("#others-list li")
    expect(page.locator("#others-place")).to_have_text("Segment 3 of 4")
    expect(page.locator("#others-state")).to_have_text("2 others, the best first.")
    calm = "The weather was good and the sea calm all the way to the Faroe Islands."
    assert sorted(others.all_inner_texts()) == [calm, f"{calm} indeed", f"{calm}!"]
    proper(page)
    shot(page, "others-light")
    page.get_by_role("button", name=f"{calm} indeed").click()
    expect(page.locator("#target-text .seg").nth(2)).to_have_text(f"{calm} indeed")
    expect(page.get_by_role("button", name=f"{calm} indeed")).to_have_attribute("aria-pressed", "true")
    # A flag of another translation stands with it.
    page.locator("#others-previous").click()
    expect(others.first).to_contain_text("Worth a look: a number is missing or altered.")
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    proper(page)
    page.keyboard.press("Escape")
    expect(page.locator("#others")).to_be_hidden()
    expect(page.get_by_role("button", name="Other translations")).to_be_focused()


def test_a_text_in_another_language_than_chosen(service: Running, browser: Browser) -> None:
    page = from_icelandic(browser.open(service.url))
    hint, text = page.locator("#other"), "The weather was good and the sea was calm."
    expect(page.locator("#who")).to_contain_text("Your adapter")
    translate(page, text)
    expect(hint).to_contain_text("This looks like English, not Icelandic.")
    proper(page)
    shot(page, "language-light")
    page.get_by_role("button", name="Translate from English").click()
    expect(page.locator("#target-text")).to_have_attribute("lang", "is")
    expect(page.get_by_label("From", exact=True)).to_have_value("en")
    expect(hint).to_be_hidden()


def test_what_a_flag_means_stands_at_its_segment(service: Running, browser: Browser) -> None:
    page = from_icelandic(browser.open(service.url))
    why = page.locator("#why")
    translate(page, VOYAGE)
    expect(page.locator("#target-text .seg")).to_have_count(4)
    expect(why).to_be_hidden()
    page.locator("#output").focus()
    page.keyboard.press("ArrowRight")
    expect(why).to_be_hidden()
    page.keyboard.press("ArrowRight")
    expect(why).to_contain_text("A number is missing or altered. A number of the source is not here")
    expect(page.locator("#said")).to_contain_text("Worth a look: a number is missing or altered.")
    segment, box = page.locator("#target-text .seg").nth(1).bounding_box(), why.bounding_box()
    assert 0 <= box["y"] - (segment["y"] + segment["height"]) < 20
    proper(page)
    page.keyboard.press("Escape")
    expect(why).to_be_hidden()


# A term's translation, the segment's flags and translation, the number of its terms; and whether the term counts as followed.
FOLLOWED = [
    ("document", [], "a file", 1, True), ("document", ["glossary"], "documents", 1, False), ("document", ["glossary"], "Two Documents.", 2, True),
    ("document", ["glossary"], "a file", 2, False), ("sign in", ["glossary"], "signing it in", 2, True), ("sign in", ["glossary"], "design in", 2, False),
    ("$(?", ["glossary"], "x", 2, True),
]  # fmt: skip


def test_which_term_was_followed(service: Running, browser: Browser) -> None:
    page = browser.open(service.url)
    ask = """async (rows) => { const { followed } = await import("./terms.js"); return rows.map(([term, flags, translation, n]) => {
      const hint = { glossary: true, candidates: [term] }; return followed(hint, { flags, translation, hints: Array(n).fill(hint) }); }); }"""
    assert page.evaluate(ask, [list(row) for row in FOLLOWED]) == [row[-1] for row in FOLLOWED]


def test_a_glossary_that_is_kept(service: Running, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"name": "sea", "source_lang": "is", "target_lang": "en", "entries": "daginn\tday", "entries_format": "tsv"}
    id = service.http.post("/v2/glossaries", json=body).json()["glossary_id"]
    try:
        page = from_icelandic(browser.open(service.url))
        page.get_by_text("Terms", exact=True).click()
        choice = page.get_by_label("Glossary").first
        choice.select_option("sea (1 term)")
        expect(page.locator("#kept-terms")).to_have_text("daginn → day")
        expect(page.get_by_label("Terms that translations are to follow, one a line")).to_be_hidden()
        streams = Streams(monkeypatch)
        translate(page, "Góðan daginn.")
        expect(page.locator("#doubts-text")).to_have_text("Worth a look: one of your terms was not used.")
        assert streams.asked == [(["Góðan daginn."], "fast", True)]
        proper(page)
        shot(page, "glossary-light")
        # A glossary is of two languages.
        page.get_by_label("From", exact=True).select_option("auto")
        expect(choice).to_be_disabled()
        expect(page.locator("#glossary-none")).to_have_text("Choose the language of the text to use a glossary.")
        expect(page.get_by_label("Terms that translations are to follow, one a line")).to_be_visible()
    finally:
        service.http.delete(f"/v2/glossaries/{id}")


def test_the_head_of_the_page_tells_that_the_service_is_away(service: Running, browser: Browser) -> None:
    page = from_icelandic(browser.open(service.url))
    page.get_by_role("switch", name="Translate as I type").check()
    expect(page.locator("#status-text")).to_have_text("3 pairs live")
    page.route("**/api/v1/**", lambda route: route.abort("connectionrefused"))
    page.fill("#source-text", "hestur")
    expect(page.locator("#status-text")).to_have_text("Not reachable")
    page.unroute("**/api/v1/**")
    expect(page.locator("#status-text")).to_have_text("3 pairs live")
    expect(page.get_by_role("alert")).to_be_hidden()
    page.get_by_role("switch", name="Translate as I type").uncheck()
    browser.problems[:] = [p for p in browser.problems if "ERR_CONNECTION_REFUSED" not in p]


def test_it_begins_with_the_pair_that_the_user_brought(service: Running, browser: Browser) -> None:
    page = browser.open(service.url)
    status = service.http.get("/api/v1/adapters").json()
    for row in status["pairs"]:
        row["shipped"] = row["pair"] != "is-en"
    page.route("**/api/v1/adapters", lambda route: route.fulfill(json=status))
    page.evaluate("localStorage.clear()")
    page.reload()
    expect(page.locator("#status-text")).to_have_text("3 pairs live")
    assert (page.locator("#source-language").input_value(), page.locator("#target-language").input_value()) == ("is", "en")
    # What was chosen once is what it begins with.
    page.locator("#source-language").select_option("en")
    page.locator("#target-language").select_option("ar")
    page.reload()
    expect(page.locator("#status-text")).to_have_text("3 pairs live")
    assert (page.locator("#source-language").input_value(), page.locator("#target-language").input_value()) == ("en", "ar")
    page.evaluate("localStorage.clear()")

"""The text view of the page at `/`, in a real browser, against the real application: what a person types, presses and sees."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tell.errors import EngineError
from tests.support.browser import CHROMIUM, DESKTOP, PHONE, VOYAGE, Browser, proper, shot
from tests.support.page import SENTENCE, from_icelandic, lit, translate
from tests.support.serving import Published, Running

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (Debian: apt-get install chromium)")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_text_is_translated(scheme: str, service: Running, published: Published, browser: Browser) -> None:
    page = browser.open(service.url, scheme=scheme)
    expect(page.locator("#status")).to_have_text("3 pairs live")
    proper(from_icelandic(page))
    shot(page, f"start-{scheme}")
    button = page.get_by_role("button", name="Translate", exact=True)
    expect(button).to_be_disabled()
    translate(page, "Góðan daginn.\nÞað rignir 🌧")
    expect(page.locator("#target-text")).to_have_text("Good morning.\nIt is raining 🌧")
    assert page.locator("#target-text").inner_text() == "Good morning.\nIt is raining 🌧"
    expect(page.locator("#answer-adapter")).to_have_text(published.ids["is-en"][:12])
    expect(page.locator("#answer-base")).to_have_text("light")
    expect(page.locator("#answer-time")).to_have_text(re.compile(r"^\d+(\.\d)? (ms|s)$"))
    expect(page.locator("#count")).to_have_text("26 of 100,000 characters")
    expect(page.locator("#answer-origin")).to_have_text(re.compile(r"^yours, live since \d\d:\d\d$"))
    assert [page.locator("#source-text").get_attribute(a) for a in ("lang", "dir")] == ["is", "ltr"]
    assert [page.locator("#target-text").get_attribute(a) for a in ("lang", "dir")] == ["en", "ltr"]
    page.get_by_role("button", name="Copy", exact=True).click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "Good morning.\nIt is raining 🌧"
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) < 200) == (scheme == "dark")
    translate(page, VOYAGE)
    page.get_by_text("Veðrið").first.wait_for(state="attached")
    page.locator("#target-text .seg").nth(2).hover()
    proper(page)
    shot(page, f"done-{scheme}")


def test_a_segment_and_its_translation_light_up_together(service: Running, browser: Browser) -> None:
    page = from_icelandic(browser.open(service.url))
    translate(page, "😀 Góðan daginn.\n\n  - Það rignir 🌧\n17.03.\nENDLESS saga")
    expect(page.locator("#target-text .seg")).to_have_count(3)
    assert lit(page) == [[], []]
    page.locator("#target-text .seg").nth(1).hover()
    assert lit(page) == [["Það rignir 🌧"], ["It is raining 🌧"]]
    # The mirror has its letters exactly where the text box has them: the place of a letter there is where one points at the text.
    box = page.locator("#mirror .seg").nth(0).bounding_box()
    page.mouse.move(box["x"] + 12, box["y"] + 8)
    page.wait_for_function("document.querySelector('#mirror .lit')?.textContent.includes('Góðan')")
    assert lit(page) == [["😀 Góðan daginn."], ["😀 GÓÐAN DAGINN."]]
    page.mouse.move(5, 5)
    assert lit(page) == [[], []]
    # And where the cursor is.
    page.evaluate("document.querySelector('#source-text').focus(); document.querySelector('#source-text').setSelectionRange(24, 24)")
    page.wait_for_function("document.querySelector('#mirror .lit')")
    assert lit(page) == [["Það rignir 🌧"], ["It is raining 🌧"]]
    sizes = page.evaluate(
        "['#mirror', '#source-text'].map((s) => { const e = document.querySelector(s); return [e.clientWidth, e.scrollHeight > 0, getComputedStyle(e).font]; })"
    )
    assert sizes[0] == sizes[1]
    # A text that was changed is no more the text that was translated.
    page.locator("#source-text").press("x")
    expect(page.locator("#target-text")).to_have_class("stale")
    assert lit(page) == [[], []] and page.locator("#mirror .seg").count() == 0


HINTED = [
    {"index": 0, "text": "The hound sleeps.\n", "truncated": False, "flags": [], "segments": [
        {"source": [0, 16], "target": [0, 17], "truncated": False, "flags": [], "hints": [
            {"source": [0, 9], "text": "Hundurinn", "candidates": ["the hound"], "glossary": True},
            {"source": [10, 15], "text": "sefur", "candidates": ["sleeps", "is <b>asleep</b>"], "glossary": False}]}]},
    {"index": 0, "text": "Hm.", "truncated": False, "flags": [], "segments": [
        {"source": [17, 20], "target": [18, 21], "truncated": False, "flags": [], "hints": []}]},
    {"done": True, "pair": "is-en", "adapter": "3f9a0c1d5b7e28460f3c5a7e91d24b86", "base": "light", "quality": "fast"},
]  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_hints_of_a_segment(scheme: str, service: Running, browser: Browser) -> None:
    page = from_icelandic(browser.open(service.url, PHONE if scheme == "dark" else DESKTOP, scheme=scheme))
    asked = []

    def answer(route: Any) -> None:
        asked.append(route.request.post_data_json)
        route.fulfill(body="\n".join(map(json.dumps, HINTED)) + "\n", content_type="application/x-ndjson")

    page.route("**/api/v1/translate/stream", answer)
    hints = page.locator("#hints")
    expect(hints).to_be_hidden()
    translate(page, "Hundurinn sefur.\nHm.")
    expect(hints).to_have_text("The model was given translations of 2 words. Point at a segment, or choose it, to see its own.")
    assert asked[0]["hints"] is True
    below = page.locator("#answer").bounding_box()
    page.locator("#target-text .seg").nth(0).hover()
    expect(hints).to_have_text("Given to the model:Hundurinn → the hound your term, followedsefur → sleeps, is <b>asleep</b>")
    assert page.locator("#hints .term").all_inner_texts() == ["Hundurinn → the hound your term, followed"] and page.locator("#answer").bounding_box() == below
    proper(page)
    shot(page, f"hints-{scheme}")
    page.locator("#target-text .seg").nth(1).hover()
    expect(hints).to_have_text("The model was given no words for this segment.")
    page.locator("#output").focus()
    page.mouse.move(5, 5)
    page.keyboard.press("ArrowRight")
    expect(hints).to_contain_text("sefur → sleeps")
    expect(page.locator("#said")).to_contain_text("Given to the model: Hundurinn – the hound (your term, followed) and sefur – sleeps, is <b>asleep</b>")
    page.get_by_role("button", name="Clear").click()
    expect(hints).to_be_hidden()


def test_by_keyboard_alone(service: Running, kept: Path, browser: Browser) -> None:
    page = browser.open(service.url)
    expect(page.locator("#source-text")).to_be_focused()
    page.get_by_label("From", exact=True).select_option("is")
    page.locator("#source-text").focus()
    page.keyboard.type("Góðan daginn.")
    page.keyboard.press("Enter")
    page.keyboard.type("hestur")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#target-text")).to_have_text("Good morning.\nHESTUR")
    # Every control that can be reached has a name that a screen reader can say.
    for _ in range(8):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "output":
            break
    else:
        pytest.fail("the translation cannot be reached")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert lit(page) == [["hestur"], ["HESTUR"]]
    expect(page.locator("#said")).to_have_text("Segment 2 of 2: hestur – HESTUR")
    page.keyboard.press("Enter")
    expect(page.get_by_label("How it should read")).to_be_focused()
    page.keyboard.press("Control+A")
    page.keyboard.type("a horse")
    page.keyboard.press("Escape")
    expect(page.locator("#correct")).to_be_hidden()
    expect(page.locator("#output")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Control+A")
    page.keyboard.type("a mare")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#thanks")).to_contain_text("Thank you.")
    assert json.loads(kept.read_text(encoding="utf-8").split("\n")[-2])["target"] == "a mare"
    expect(page.locator("#target-text")).to_have_text("Good morning.\na mare")


def test_a_correction_is_kept(service: Running, published: Published, kept: Path, browser: Browser) -> None:
    page = from_icelandic(browser.open(service.url))
    translate(page, VOYAGE)
    page.get_by_role("button", name="Suggest a correction").click()
    # Where something looks wrong, that is what is offered first.
    expect(page.locator("#correct-source")).to_have_text("Skipið fór frá Reykjavík klukkan 14 með 327 farþega.")
    expect(page.locator("#correct-place")).to_have_text("Segment 2 of 4")
    proper(page)
    shot(page, "correct-light")
    page.get_by_role("button", name="Next segment").click()
    expect(page.locator("#correct-source")).to_have_text("Veðrið var gott og sjórinn sléttur alla leiðina til Færeyja.")
    page.get_by_role("button", name="Previous segment").click()
    page.get_by_role("button", name="Send").click()
    assert page.evaluate("document.querySelector('#correct-text').validationMessage") == "The translation is unchanged. Change it first."
    better = "The ship left Reykjavík at 2 p.m. with 327 passengers."
    page.get_by_label("How it should read").fill(better)
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#thanks")).to_contain_text("Thank you.")
    line = json.loads(kept.read_text(encoding="utf-8").split("\n")[-2])
    assert {k: line[k] for k in ("source", "target", "translation", "pair", "adapter")} == {
        "source": "Skipið fór frá Reykjavík klukkan 14 með 327 farþega.", "target": better, "pair": "is-en", "adapter": published.ids["is-en"],
        "translation": "The ship left Reykjavík at 2 p.m. with its passengers.",
    }  # fmt: skip
    expect(page.locator("#target-text")).to_contain_text(better)
    expect(page.locator("#doubts")).to_be_hidden()
    page.route("**/api/v1/feedback", lambda route: route.fulfill(status=507, json={"error": "the file that feedback is kept in is full"}))
    page.get_by_role("button", name="Suggest a correction").click()
    page.get_by_label("How it should read").fill("x")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("alert")).to_contain_text("The file that feedback is kept in is full")
    expect(page.get_by_label("How it should read")).to_have_value("x")


def test_beside_the_bare_base(service: Running, browser: Browser) -> None:
    page = from_icelandic(browser.open(service.url))
    expect(page.locator("#bare")).to_be_hidden()
    page.get_by_role("switch", name="Compare with the base model alone").check()
    translate(page, VOYAGE)
    expect(page.locator("#bare-text")).to_have_text(VOYAGE)
    expect(page.locator("#target-text")).to_contain_text("The weather was good")
    page.locator("#bare-text .seg").nth(3).hover()
    assert lit(page)[1] == ["The crew welcomed {name} on board."]
    proper(page)
    shot(page, "compare-light")
    page.get_by_role("switch", name="Compare").uncheck()
    expect(page.locator("#bare")).to_be_hidden()
    # Asked for afterwards.
    translate(page, "hestur")
    expect(page.locator("#target-text")).to_have_text("HESTUR")
    page.get_by_role("switch", name="Compare").check()
    expect(page.locator("#bare-text")).to_have_text("hestur")
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    proper(page)


def test_two_ways_a_language_written_from_the_right_and_one_that_is_found(service: Running, browser: Browser) -> None:
    page = from_icelandic(browser.open(service.url))
    translate(page, "hestur")
    expect(page.locator("#target-text")).to_have_text("HESTUR")
    page.get_by_role("button", name="Swap languages").click()
    expect(page.get_by_label("From", exact=True)).to_have_value("en")
    expect(page.get_by_label("To", exact=True)).to_have_value("is")
    expect(page.locator("#source-text")).to_have_value("HESTUR")
    page.get_by_label("To", exact=True).select_option("ar")
    # There is no way back from Arabic.
    expect(page.get_by_role("button", name="Swap languages")).to_be_disabled()
    translate(page, "horse")
    expect(page.locator("#target-text")).to_have_text("HORSE")
    assert [page.locator("#target-text").get_attribute(a) for a in ("lang", "dir")] == ["ar", "rtl"]
    from_icelandic(page)
    page.reload()
    # What was chosen last is chosen again.
    expect(page.get_by_label("From", exact=True)).to_have_value("is")
    page.get_by_label("From", exact=True).select_option("auto")
    page.get_by_label("To", exact=True).select_option("en")
    translate(page, SENTENCE)
    expect(page.locator("#found")).to_have_text("Detected: Icelandic")
    expect(page.locator("#source-text")).to_have_attribute("lang", "is")


def test_errors_are_told_in_words(service: Running, browser: Browser) -> None:
    page = from_icelandic(browser.open(service.url))
    alert = page.get_by_role("alert")
    expect(alert).to_be_hidden()
    service.engine.problems = [EngineError("the engine has died")]
    translate(page, "hross")
    expect(alert).to_contain_text("The engine has died. Try again in a moment.")
    proper(page)
    shot(page, "error-light")
    translate(page, "hross")
    expect(page.locator("#target-text")).to_have_text("HROSS")
    expect(alert).to_be_hidden()
    translate(page, "o" * 100_001)
    expect(alert).to_contain_text("Too much text in one request")
    expect(page.locator("#count")).to_have_text("100,001 characters, at most 100,000")
    # What was translated before does not stand beside a text it does not belong to.
    expect(page.locator("#target-text")).to_have_text("The translation appears here.")
    alert.get_by_role("button", name="Dismiss").click()
    expect(alert).to_be_hidden()
    line = json.dumps(
        {"index": 0, "text": "ONE", "truncated": False, "flags": [], "segments": [{"source": [0, 3], "target": [0, 3], "truncated": False, "flags": []}]}
    )
    broken = line + "\n" + json.dumps({"error": "the engine is dead", "status": 503}) + "\n"
    page.route("**/api/v1/translate/stream", lambda route: route.fulfill(body=broken, content_type="application/x-ndjson"))
    translate(page, "one\ntwo")
    expect(alert).to_contain_text("The translation is not complete. The engine is dead.")
    expect(page.locator("#target-text")).to_have_text("ONE")
    page.unroute("**/api/v1/translate/stream")
    # What a proxy may answer in the service's place.
    strange = [(line, "application/x-ndjson") for line in ("<html>\n", "null\n", "[1]\n", '{"text": 5}\n')] + [("<html>", "text/html")]
    page.route("**/api/v1/translate/stream", lambda route: route.fulfill(body=strange[-1][0], content_type=strange.pop()[1]))
    while strange:
        translate(page, "hestur")
        expect(alert).to_contain_text("answer cannot be read")
    page.unroute("**/api/v1/translate/stream")
    page.route("**/api/v1/translate/stream", lambda route: route.abort("connectionrefused"))
    translate(page, "hestur")
    expect(alert).to_contain_text("The server cannot be reached")
    browser.problems[:] = [p for p in browser.problems if "ERR_CONNECTION_REFUSED" not in p]


def test_while_it_works_and_how_it_is_stopped(service: Running, browser: Browser) -> None:
    page = from_icelandic(browser.open(service.url))
    service.engine.delay = 60.0
    translate(page, "Einstakt")
    stop = page.get_by_role("button", name="Stop translating")
    expect(stop).to_be_visible()
    assert page.locator("#form").get_attribute("aria-busy") == "true"
    shot(page, "busy-light")
    stop.click()
    expect(page.get_by_role("button", name="Translate", exact=True)).to_be_enabled()
    expect(page.get_by_role("alert")).to_be_hidden()
    service.engine.delay = 0.0
    translate(page, "ENDLESS saga")
    expect(page.locator("#target-text")).to_have_text("ENDLESS SAGA")
    expect(page.locator("#cut")).to_be_visible()


def test_what_is_odd_about_a_segment_is_said(service: Running, browser: Browser) -> None:
    page = from_icelandic(browser.open(service.url))
    translate(page, "Góðan daginn.")
    expect(page.locator("#target-text")).to_have_text("Good morning.")
    expect(page.locator("#doubts")).to_be_hidden()
    translate(page, SENTENCE)
    expect(page.locator("#doubts-text")).to_have_text("Worth a look: it may be in another language and it was left untranslated.")
    translate(page, f"{VOYAGE}\n{SENTENCE}")
    expect(page.locator("#doubts-text")).to_have_text("2 of 5 segments are worth a look.")
    expect(page.locator("#target-text .doubtful")).to_have_count(2)
    shot(page, "doubts-light")
    for message in ("a number is missing or altered", "it was left untranslated", "a number is missing or altered"):
        page.get_by_role("button", name="Show next").click()
        expect(page.locator("#doubts-text")).to_contain_text(message)
    page.locator("#target-text .seg").nth(3).click()
    expect(page.locator("#doubts-text")).to_have_text("2 of 5 segments are worth a look.")


def test_terms_are_sent_and_looked_for(service: Running, browser: Browser) -> None:
    page = from_icelandic(browser.open(service.url))
    page.get_by_text("Terms", exact=True).click()
    terms = page.get_by_label("Terms that translations are to follow, one a line")
    terms.fill("hestur = hestur\n\ndaginn\tday")
    translate(page, "hestur\nGóðan daginn.")
    expect(page.locator("#doubts-text")).to_have_text("1 of 2 segments is worth a look.")
    page.locator("#target-text .seg").nth(1).hover()
    expect(page.locator("#doubts-text")).to_have_text("Worth a look: one of your terms was not used.")
    expect(page.locator("#terms-note")).to_have_text("This adapter cannot be given terms. Translations without them are marked. One is missing in 1 segment.")
    proper(page)
    # Whatever is a name in the language of the page is a term too.
    terms.fill("__proto__ = a\nconstructor = b = c\n\n<b>.*( = $&")
    with page.expect_request("**/stream") as asked:
        translate(page, "hestur og __proto__")
    assert asked.value.post_data_json["glossary"] == {"__proto__": "a", "constructor": "b = c", "<b>.*(": "$&"}
    terms.fill("hestur = horse\nhundur")
    translate(page, "hestur")
    expect(page.locator("#notice-text")).to_have_text("Line 2 has no term with a translation: write them with = between the two.")

"""The page at `/`, in a real browser, against the real application: what a person types, presses and sees."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serve.auth.keys import add_key
from serve.corrections import Feedback
from tell.errors import EngineError
from tell.files import write_atomic
from tell.model.base import Base
from tell.registry.registry import Registry
from tests.support.browser import CHROMIUM, NARROW, PHONE, VOYAGE, Browser, Speaking, chromium, overflow, proper, shot
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.serving import Running, publish, running, until

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (Debian: apt-get install chromium)")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect

PAGE = Path(__file__).resolve().parents[3] / "serve" / "page"
SENTENCE = "hesturinn hljóp yfir stóra túnið og út í ána í gærkvöldi"
Made = tuple[Base, Registry, dict[str, str]]


@pytest.fixture(scope="module")
def opened() -> Iterator[Browser]:
    with chromium() as found:
        yield Browser(found)


@pytest.fixture
def browser(opened: Browser) -> Iterator[Browser]:
    opened.problems.clear()
    yield opened
    opened.leave()
    assert not opened.problems


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("page")
    base, registry = light_base(root / "cache"), Registry(root / "registry")
    ids = {pair: publish(registry, light_adapter(root / pair, base, pair)) for pair in ("is-en", "en-is", "en-ar")}
    return base, registry, ids


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("feedback") / "kept.jsonl"


@pytest.fixture(scope="module")
def shared(made: Made, kept: Path) -> Iterator[Running]:
    with running(made[0], made[1], Speaking, feedback=Feedback(kept), compare_base=True) as found:
        yield found


@pytest.fixture
def service(shared: Running) -> Iterator[Running]:
    yield shared
    shared.engine.delay, shared.engine.failure, shared.engine.problems = 0.0, None, []


def translate(page: Any, text: str, button: str = "Translate") -> None:
    page.fill("#source-text", text)
    page.get_by_role("button", name=button, exact=True).click()


def from_icelandic(page: Any) -> Any:
    page.get_by_label("From", exact=True).select_option("is")
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_text_is_translated(scheme: str, service: Running, made: Made, browser: Browser) -> None:
    page = browser.open(service.url, scheme=scheme)
    expect(page.locator("#status")).to_have_text("3 pairs live")
    proper(from_icelandic(page))
    shot(page, f"start-{scheme}")
    button = page.get_by_role("button", name="Translate", exact=True)
    expect(button).to_be_disabled()
    translate(page, "Góðan daginn.\nÞað rignir 🌧")
    expect(page.locator("#target-text")).to_have_text("Good morning.\nIt is raining 🌧")
    assert page.locator("#target-text").inner_text() == "Good morning.\nIt is raining 🌧"
    expect(page.locator("#answer-adapter")).to_have_text(made[2]["is-en"][:12])
    expect(page.locator("#answer-base")).to_have_text("light")
    expect(page.locator("#answer-time")).to_have_text(re.compile(r"^\d+(\.\d)? (ms|s)$"))
    expect(page.locator("#count")).to_have_text("26 characters")
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


def lit(page: Any) -> list[str]:
    return [page.locator(f"{where} .lit").all_inner_texts() for where in ("#mirror", "#target-text")]  # type: ignore[misc]


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


def test_a_correction_is_kept(service: Running, made: Made, kept: Path, browser: Browser) -> None:
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
    assert page.evaluate("document.querySelector('#correct-text').validationMessage") == "This is the translation as it is. Change it first."
    better = "The ship left Reykjavík at 2 p.m. with 327 passengers."
    page.get_by_label("How it should read").fill(better)
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#thanks")).to_contain_text("Thank you.")
    line = json.loads(kept.read_text(encoding="utf-8").split("\n")[-2])
    assert {k: line[k] for k in ("source", "target", "translation", "pair", "adapter")} == {
        "source": "Skipið fór frá Reykjavík klukkan 14 með 327 farþega.", "target": better, "pair": "is-en", "adapter": made[2]["is-en"],
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
    page.get_by_role("switch").uncheck()
    expect(page.locator("#bare")).to_be_hidden()
    # Asked for afterwards.
    translate(page, "hestur")
    expect(page.locator("#target-text")).to_have_text("HESTUR")
    page.get_by_role("switch").check()
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
    for said in ("a number is missing or altered", "it was left untranslated", "a number is missing or altered"):
        page.get_by_role("button", name="Show next").click()
        expect(page.locator("#doubts-text")).to_contain_text(said)
    page.locator("#target-text .seg").nth(3).click()
    expect(page.locator("#doubts-text")).to_have_text("2 of 5 segments are worth a look.")


def test_documents(service: Running, browser: Browser, tmp_path: Path) -> None:
    page = from_icelandic(browser.open(service.url))
    page.get_by_role("link", name="Documents").click()
    expect(page.get_by_role("heading", name="Translate documents")).to_be_attached()
    expect(page.locator("#formats")).to_contain_text(".txt")
    expect(page.locator("#formats")).to_contain_text("at most 1 MB each")
    proper(page)
    shot(page, "documents-light")
    file = tmp_path / "ferðin.txt"
    file.write_text(VOYAGE, encoding="utf-8")
    page.set_input_files("#file", file)
    item = page.locator("#files li").first
    expect(item).to_contain_text("Done")
    expect(item).to_contain_text("Icelandic → English")
    expect(item).to_contain_text("1 part is worth a look")
    with page.expect_download() as found:
        item.get_by_role("button", name="Download").click()
    assert found.value.suggested_filename == "ferðin.txt"
    assert "The crew welcomed {name} on board." in Path(found.value.path()).read_text(encoding="utf-8")
    # Dropped, anywhere; and what is not taken says why before it is sent.
    long = "".join(f"Lína {i} {k}\n" + "\n" * (k % 9 == 8) for i in range(9) for k in range(27)) + "Bíða\n"
    drop = """([files]) => { const data = new DataTransfer(); for (const [name, text] of files) data.items.add(new File([text], name));
      const more = { dataTransfer: data, bubbles: true, cancelable: true };
      for (const kind of ["dragenter", "dragover", "drop"]) document.querySelector("footer").dispatchEvent(new DragEvent(kind, more)); }"""
    page.evaluate(drop, [[["löng.txt", long], ["mynd.xyz", "x"], ["tóm.txt", ""]]])
    expect(page.locator("#files li")).to_have_count(4)
    expect(page.locator("#files li", has_text="mynd.xyz")).to_contain_text("Files of this format are not translated. Valid:")
    expect(page.locator("#files li", has_text="tóm.txt")).to_contain_text("The file is empty.")
    slow = page.locator("#files li", has_text="löng.txt")
    expect(slow).to_contain_text("Translating · ")
    expect(slow.get_by_role("progressbar")).to_be_visible()
    expect(slow.locator(".file-preview")).to_contain_text("LÍNA 0 0")
    slow.get_by_text("Translation so far").click()
    proper(page)
    shot(page, "documents-list-light")
    # A connection that breaks is made anew, from where it broke.
    lasts: list[str | None] = []

    def cut(route: Any) -> None:
        lasts.append(route.request.headers.get("last-event-id"))
        if len(lasts) > 1:
            return route.continue_()
        told = service.http.get(f"/api/v1/jobs/{route.request.url.split('/')[-2]}").json()
        part = {"index": 0, "parts": 2, "text": "FYRST\n", "truncated": False, "flags": [], "progress": told["progress"]}
        body = f"event: status\ndata: {json.dumps(told)}\n\nid: 1\nevent: part\ndata: {json.dumps(part)}\n\nid: 2\nevent: pa"
        return route.fulfill(body=body, content_type="text/event-stream")

    page.route("**/events", cut)
    page.evaluate(drop, [[["rofið.txt", "".join(f"Orð {i}\n" for i in range(99))]]])
    broken = page.locator("#files li", has_text="rofið.txt")
    expect(broken.locator(".file-preview")).to_contain_text("ORÐ 98")
    expect(broken).to_contain_text("Done")
    assert lasts == [None, "1"]
    shown = broken.locator(".file-preview").text_content()
    assert shown.startswith("FYRST\nORÐ 64\n") and shown.count("ORÐ 98\n") == 1
    broken.get_by_role("button", name="Remove").click()
    page.unroute("**/events")
    # They are still there when the page is loaded anew, and what is under way goes on.
    page.reload()
    expect(page.locator("#files li")).to_have_count(2)
    expect(page.locator("#files li", has_text="ferðin.txt")).to_contain_text("Done")
    slow.get_by_role("button", name="Stop löng.txt").click()
    expect(page.locator("#files li")).to_have_count(1)
    # More at once than are watched at once.
    service.engine.delay = 0.05
    page.evaluate(drop, [[[f"{i}.txt", f"Saga {i}"] for i in range(7)]])
    expect(page.locator("#files li", has_text="Done")).to_have_count(8)
    for i in range(7):
        page.get_by_role("button", name=f"Remove {i}.txt").click()
    service.engine.delay, service.engine.failure = 0.0, EngineError("the engine is dead")
    page.evaluate(drop, [[["biluð.txt", "Einstakt skjal"]]])
    expect(page.locator("#files li", has_text="biluð.txt")).to_contain_text("Failed. The engine is dead")
    page.get_by_role("button", name="Remove biluð.txt").click()
    expect(page.locator("#files li")).to_have_count(1)
    page.get_by_role("button", name="Remove ferðin.txt").click()
    until(lambda: service.http.get("/api/v1/load").json()["documents"] == {"queued": 0, "translating": 0, "kept": 0})


def test_status(service: Running, made: Made, browser: Browser) -> None:
    page = browser.open(service.url, path="/#/status")
    tiles = page.locator("#tiles")
    for said in ("Ready", "Base model", "light", "Adapters loaded", "3 of 8", "0 of 4,096", "0 under way"):
        expect(tiles).to_contain_text(said)
    row = page.locator("#pairs tbody tr", has_text="Icelandic → English")
    expect(row).to_contain_text("Live")
    expect(row).to_contain_text(made[2]["is-en"][:12])
    expect(page.locator("#updated")).to_contain_text("Updated at")
    expect(page.locator("#history").get_by_role("link")).to_have_attribute("href", "status")
    proper(page)
    score = {
        "name": "newstest2021",
        "systems": {"adapter": {"bleu": {"score": 12.1718, "ci": 1.0827, "signature": "nrefs:1"}, "chrf": {"score": 33.7541, "ci": 0.7767}}},
    }
    found = service.http.get("/api/v1/adapters").json()
    changes = ({"scores": [score]}, {"state": "refused", "reason": "altered since its card was written", "adapter": None}, {"state": "cold", "pinned": True})
    for pair, change in zip(sorted(found["pairs"], key=lambda p: p["pair"] != "is-en"), changes, strict=True):
        pair.update(change)
    page.route("**/api/v1/adapters", lambda route: route.fulfill(json=found))
    page.reload()
    expect(row).to_contain_text("newstest2021")
    expect(row).to_contain_text("BLEU 12.2 ± 1.1")
    expect(row).to_contain_text("chrF2 33.8 ± 0.8")
    expect(page.locator("#pairs")).to_contain_text("altered since its card was written")
    expect(page.locator("#pairs")).to_contain_text("pinned")
    proper(page)
    shot(page, "status-light")
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    proper(page)
    shot(page, "status-phone")
    page.emulate_media(color_scheme="dark")
    page.get_by_label("Language of this page").select_option("is")
    expect(row.or_(page.locator("#pairs tbody tr", has_text="Íslenska → Enska"))).to_contain_text("BLEU 12,2 ± 1,1")
    proper(page)
    shot(page, "status-phone-dark-is")


def test_in_icelandic(service: Running, browser: Browser) -> None:
    page = browser.open(service.url, locale="is-IS")
    assert page.evaluate("[document.documentElement.lang, document.title]") == ["is", "Þýða · tellmt"]
    expect(page.locator("#status")).to_have_text("3 málapör í boði")
    page.get_by_label("Frummál", exact=True).select_option(label="Íslenska")
    expect(page.get_by_label("Markmál", exact=True)).to_have_value("en")
    translate(page, f"{VOYAGE}\n{SENTENCE}", "Þýða")
    expect(page.locator("#doubts-text")).to_have_text("Vert er að skoða 2 af 5 bútum.")
    page.get_by_role("button", name="Sýna næsta").click()
    expect(page.locator("#doubts-text")).to_have_text("Vert að skoða: tölu vantar eða henni var breytt.")
    expect(page.locator("#count")).to_have_text(re.compile(r"^2\d\d stafir$"))
    proper(page)
    shot(page, "done-is")
    translate(page, "o" * 100_001, "Þýða")
    expect(page.locator("#notice-text")).to_have_text("Þetta er of mikið í einu.")
    expect(page.locator("#notice-detail")).to_contain_text("Too much text in one request")
    assert page.locator("#notice-detail").get_attribute("lang") == "en"
    expect(page.locator("#count")).to_have_text("100.001 stafur, hámark 100.000")
    shot(page, "error-is")
    page.get_by_role("link", name="Skjöl").click()
    expect(page.locator("#formats")).to_contain_text("hver skrá að hámarki 1 MB")
    page.get_by_role("link", name="Staða").click()
    expect(page.locator("#tiles")).to_contain_text("Tilbúin")
    proper(page)
    shot(page, "status-is")
    # The switch is remembered, against what the browser asks for.
    page.get_by_label("Tungumál síðunnar").select_option("en")
    expect(page.locator("#tiles")).to_contain_text("Ready")
    page.reload()
    expect(page.get_by_role("heading", name="Status of the service")).to_be_attached()


def test_both_languages_have_all_words(service: Running, browser: Browser) -> None:
    page = browser.open(service.url)
    both = """async () => {
      const [en, is] = await Promise.all([import("./words-en.js"), import("./words-is.js")]);
      const inner = (k, v) => v && typeof v === "object" && k !== "refusals";
      const keys = (o, at = "") => Object.entries(o).flatMap(([k, v]) => (inner(k, v) ? keys(v, `${at}${k}.`) : [`${at}${k}:${typeof v}`])).sort();
      return [keys(en.words), keys(is.words), keys(en.units), keys(is.units), en.words];
    }"""
    en, is_, units, eining, words = page.evaluate(both)
    assert en == is_ and units == eining and len(en) > 120
    html = (PAGE / "index.html").read_text(encoding="utf-8")
    named = {m for m in re.findall(r'data-t(?:-label|-title|-placeholder)?="(\w+)"', html)}
    scripts = "".join(f.read_text(encoding="utf-8") for f in PAGE.glob("*.js") if not f.name.startswith("words-"))
    used = named | set(re.findall(r"""\bt\("(\w+)"[,)]""", scripts))
    assert used <= {k.split(":")[0].split(".")[0] for k in en}
    # What the page says before a script has run is what the script would say.
    for key, text in re.findall(r'data-t="(\w+)"(?: hidden)?>([^<]+)<', html):
        assert words[key] == text, key


def test_a_server_that_wants_a_key_is_given_one(made: Made, browser: Browser, tmp_path: Path) -> None:
    _, key = add_key("page", ["translate"])
    with running(made[0], made[1], Speaking) as server:
        page = from_icelandic(browser.open(server.url))
        alert = page.get_by_role("alert")
        expect(page.get_by_label("API key")).to_be_visible()
        # What this service does not offer is not there.
        expect(page.get_by_role("switch")).to_be_hidden()
        translate(page, "hestur")
        expect(alert).to_contain_text("This server wants an API key")
        proper(page)
        shot(page, "key-light")
        for given, said in (("wrong", "does not accept this API key"), (key, "")):
            page.get_by_label("API key").fill(given)
            page.get_by_role("button", name="Use this key").click()
            if said:
                expect(alert).to_contain_text(said)
        expect(page.locator("#target-text")).to_have_text("HESTUR")
        expect(page.locator("#key-form")).to_be_hidden()
        expect(page.get_by_role("button", name="Suggest a correction")).to_be_hidden()
        assert page.evaluate("[localStorage, document.cookie].map(x => JSON.stringify(x)).join()").count(key) == 0
        # The other views ask with it too.
        page.get_by_role("link", name="Documents").click()
        page.set_input_files("#file", {"name": "a.txt", "mimeType": "text/plain", "buffer": "Góðan daginn.".encode()})
        with page.expect_download() as found:
            page.get_by_role("button", name="Download").click()
        assert Path(found.value.path()).read_text() == "Good morning."
        page.get_by_role("link", name="Status").click()
        expect(page.locator("#tiles")).to_contain_text("Ready")


def test_behind_a_path(service: Running, browser: Browser) -> None:
    context = browser.browser.new_context(locale="en")
    page = context.new_page()
    asked: list[str] = []

    def forward(route: Any) -> None:
        asked.append(route.request.url.removeprefix(service.url))
        route.continue_(url=route.request.url.replace("/some/where/", "/"))

    page.route("**/*", forward)
    page.goto(f"{service.url}/some/where/")
    page.get_by_label("From", exact=True).select_option("is")
    translate(page, "Góðan daginn.")
    expect(page.locator("#target-text")).to_have_text("Good morning.")
    page.get_by_role("link", name="Status").click()
    expect(page.locator("#tiles")).to_contain_text("Ready")
    assert len(asked) > 10 and all(path.startswith("/some/where/") for path in asked)
    page.get_by_role("link", name="Text").click()
    page.get_by_text("Use it from a program").click()
    expect(page.locator("#curl")).to_contain_text(f"curl {service.url}/some/where/api/v1/translate")


@pytest.mark.parametrize("size", [NARROW, (320, 640)], ids=["narrow", "smallest"])
def test_nothing_overflows_on_a_phone(size: tuple[int, int], service: Running, browser: Browser) -> None:
    page = from_icelandic(browser.open(service.url, size, touch=True))
    assert overflow(page) <= 0
    translate(page, "Vaðlaheiðarvegavinnuverkfærageymsluskúrslyklakippuhringurinn" * 3 + " er ENDLESS")
    expect(page.locator("#answer")).to_be_visible()
    proper(page)
    page.get_by_text("Use it from a program").click()
    assert overflow(page) <= 0
    translate(page, VOYAGE)
    expect(page.locator("#doubts")).to_be_visible()
    page.locator("#target-text .seg").nth(1).tap()
    assert lit(page)[0] == ["Skipið fór frá Reykjavík klukkan 14 með 327 farþega."]
    proper(page)
    shot(page, f"{size[0]}-light")
    for name in ("source-text", "target-text", "translate", "copy", "answer", "swap", "suggest", "ui-language"):
        box = page.locator(f"#{name}").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= size[0], name
    page.get_by_role("button", name="Suggest a correction").click()
    proper(page)
    shot(page, f"{size[0]}-correct")
    page.get_by_role("link", name="Documents").click()
    page.set_input_files("#file", {"name": "löng_og_leiðinleg_skýrsla_um_vegavinnu_á_Vaðlaheiði.txt", "mimeType": "text/plain", "buffer": b"a"})
    page.get_by_role("button", name="Download").wait_for()
    proper(page)
    shot(page, f"{size[0]}-documents")
    page.get_by_role("button", name="Remove").click()
    page.get_by_role("link", name="Text").click()
    service.engine.failure = EngineError("o" * 300)
    translate(page, "Sérstakt")
    expect(page.get_by_role("alert")).to_be_visible()
    assert overflow(page) <= 0


def test_before_anything_can_be_translated(tmp_path: Path, browser: Browser, made: Made) -> None:
    """Still starting; nothing published; published and refused; live: without a reload."""
    base, registry, aside = made[0], Registry(tmp_path / "registry"), Registry(tmp_path / "aside")
    with running(base, registry, Speaking) as server:
        server.service.started = False
        page = browser.open(server.url)
        expect(page.get_by_role("heading", name="Starting")).to_be_visible()
        expect(page.locator("#work")).to_be_hidden()
        shot(page, "starting-light")
        server.service.started = True
        # It looks again by itself in a while, and at once when it is returned to.
        look = "document.dispatchEvent(new Event('visibilitychange'))"
        page.evaluate(look)
        expect(page.get_by_role("heading", name="No adapter is live yet")).to_be_visible()
        expect(page.locator("#empty")).to_contain_text("tellmt publish")
        proper(page)
        shot(page, "empty-light")
        adapter = light_adapter(tmp_path / "is-en", base, "is-en")
        id = publish(aside, adapter)
        weights = aside.path(id) / "adapter_model.safetensors"
        whole = weights.read_bytes()
        weights.write_bytes(b"cut")
        # A registry promotes nothing that is damaged, so it is made elsewhere; the adapter is there before the pair that names it.
        shutil.copytree(aside.root / "adapters", registry.root / "adapters", dirs_exist_ok=True)
        write_atomic(registry.root / "pairs" / "is-en.json", (aside.root / "pairs" / "is-en.json").read_bytes())
        until(lambda: server.status().get("state") == "refused")
        page.get_by_role("button", name="Check again").click()
        expect(page.locator("#refused-list")).to_contain_text("is-en:")
        expect(page.locator("#refused-list")).to_contain_text("safetensors")
        shot(page, "refused-light")
        write_atomic(registry.path(id) / weights.name, whole)
        until(lambda: server.status()["state"] == "live")
        page.evaluate(look)
        expect(page.locator("#form")).to_be_visible()
        expect(page.locator("#empty")).to_be_hidden()

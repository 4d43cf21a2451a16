"""The documents and the status view of the page at `/`, its keys, and small screens, in a real browser against the real application."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.auth.keys import add_key
from serve.config import WebConfig
from tell.errors import EngineError
from tell.files import write_atomic
from tell.registry.registry import Registry
from tests.support.browser import CHROMIUM, NARROW, PHONE, VOYAGE, Browser, Speaking, overflow, proper, shot
from tests.support.fake_eval_engine import light_adapter
from tests.support.page import from_icelandic, lit, translate
from tests.support.serving import Published, Running, publish, running, until

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (Debian: apt-get install chromium)")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect


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
    expect(item.locator(".doubt")).to_have_text("Worth a look: a number is missing or altered.")
    with page.expect_download() as download:
        item.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "ferðin.txt"
    assert "The crew welcomed {name} on board." in Path(download.value.path()).read_text(encoding="utf-8")
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
        job = service.http.get(f"/api/v1/jobs/{route.request.url.split('/')[-2]}").json()
        part = {"index": 0, "parts": 2, "text": "FYRST\n", "truncated": False, "flags": [], "progress": job["progress"]}
        body = f"event: status\ndata: {json.dumps(job)}\n\nid: 1\nevent: part\ndata: {json.dumps(part)}\n\nid: 2\nevent: pa"
        return route.fulfill(body=body, content_type="text/event-stream")

    page.route("**/events", cut)
    page.evaluate(drop, [[["rofið.txt", "".join(f"Orð {i}\n" for i in range(99))]]])
    broken = page.locator("#files li", has_text="rofið.txt")
    expect(broken.locator(".file-preview")).to_contain_text("ORÐ 98")
    expect(broken).to_contain_text("Done")
    assert lasts == [None, "1"]
    preview = broken.locator(".file-preview").text_content()
    assert preview.startswith("FYRST\nORÐ 64\n") and preview.count("ORÐ 98\n") == 1
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


def test_status(service: Running, published: Published, browser: Browser) -> None:
    page = browser.open(service.url, path="/#/status")
    tiles = page.locator("#tiles")
    for label in ("Ready", "Base model", "light", "Adapters loaded", "3 of 8", "0 of 4,096", "0 under way"):
        expect(tiles).to_contain_text(label)
    row = page.locator("#pairs tbody tr", has_text="Icelandic → English")
    expect(row).to_contain_text("Live")
    expect(row).to_contain_text(published.ids["is-en"][:12])
    expect(page.locator("#updated")).to_contain_text("Updated at")
    expect(row).to_contain_text("yours, from the registry")
    expect(row).to_contain_text("none")
    expect(tiles).to_contain_text("Translated since the start")
    expect(page.locator("#history-note")).to_contain_text("start it with --monitor")
    expect(page.locator("nav").get_by_role("link", name="API")).to_have_attribute("href", "docs")
    proper(page)
    score = {
        "name": "newstest2021",
        "systems": {"adapter": {"bleu": {"score": 12.1718, "ci": 1.0827, "signature": "nrefs:1"}, "chrf": {"score": 33.7541, "ci": 0.7767}}},
    }
    status = service.http.get("/api/v1/adapters").json()
    changes = (
        {"scores": [score]},
        {"state": "refused", "reason": "altered since its card was written", "adapter": None},
        {"state": "cold", "pinned": True, "shipped": True},
    )
    for pair, change in zip(sorted(status["pairs"], key=lambda p: p["pair"] != "is-en"), changes, strict=True):
        pair.update(change)
    page.route("**/api/v1/adapters", lambda route: route.fulfill(json=status))
    page.reload()
    expect(row).to_contain_text("newstest2021")
    expect(row).to_contain_text("BLEU 12.2 ± 1.1")
    expect(row).to_contain_text("chrF2 33.8 ± 0.8")
    expect(page.locator("#pairs")).to_contain_text("altered since its card was written")
    expect(page.locator("#pairs tbody tr", has_text="pinned")).to_contain_text("shipped with tellmt")
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


def test_a_server_that_wants_a_key_is_given_one(published: Published, browser: Browser, tmp_path: Path) -> None:
    _, key = add_key("page", ["translate"], characters_per_day=1000)
    _, other = add_key("prometheus", ["metrics"])
    with running(published.base, published.registry, Speaking, web=WebConfig(notice="Closed on Sunday")) as server:
        page = from_icelandic(browser.open(server.url))
        alert = page.get_by_role("alert")
        expect(page.get_by_label("API key")).to_be_visible()
        # What this service does not offer is not there.
        expect(page.get_by_role("switch", name="Compare")).to_be_hidden()
        translate(page, "hestur")
        expect(alert).to_contain_text("This server needs an API key")
        proper(page)
        shot(page, "key-light")
        for typed_key, message in (("wrong", "does not accept this API key"), (other, "a key of another scope"), (key, "")):
            page.get_by_label("API key").fill(typed_key)
            page.get_by_role("button", name="Use this key").click()
            if message:
                expect(alert).to_contain_text(message)
                # The user looks for another one in another tab, and comes back.
                with page.expect_response("**/languages"):
                    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(page.locator("#target-text")).to_have_text("HESTUR")
        expect(page.locator("#key-form")).to_be_hidden()
        expect(page.locator("#told")).to_have_text("Closed on Sunday")
        expect(page.get_by_role("button", name="Suggest a correction")).to_be_hidden()
        # A translation that is stopped, since the text has changed, gives back what it took.
        expect(page.locator("#count")).to_have_text("6 of 100,000 characters · 994 of the key's 1,000 a day left")
        server.engine.delay = 20.0
        page.get_by_role("switch", name="Translate as I type").check()
        page.fill("#source-text", "Góðan")
        page.locator("#form[aria-busy=true]").wait_for()
        server.engine.delay = 0.0
        page.fill("#source-text", "Góðan daginn.")
        expect(page.locator("#target-text")).to_have_text("Good morning.")
        expect(page.locator("#count")).to_contain_text("13 of 100,000 characters")
        # By the service's account: the page was told what was left perhaps before the service saw that the first request had gone.
        spent = functools.partial(httpx.get, f"{server.url}/v2/usage", headers={"Authorization": f"DeepL-Auth-Key {key}"}, trust_env=False)
        until(lambda: spent().json()["character_count"] == 6 + 13)
        assert page.evaluate("[localStorage, document.cookie].map(x => JSON.stringify(x)).join()").count(key) == 0
        # The other views ask with it too.
        page.get_by_role("link", name="Documents").click()
        page.set_input_files("#file", {"name": "a.txt", "mimeType": "text/plain", "buffer": "Góðan daginn.".encode()})
        with page.expect_download() as download:
            page.get_by_role("button", name="Download").click()
        assert Path(download.value.path()).read_text() == "Good morning."
        page.get_by_role("link", name="Status").click()
        expect(page.locator("#tiles")).to_contain_text("Ready")
        # A key that may see one half of the status view can make way for one that may see the other.
        another = page.get_by_role("button", name="Use another key")
        expect(page.locator("#history-note")).to_contain_text("scope metrics")
        another.click()
        expect(page.get_by_label("API key")).to_be_focused()
        page.get_by_label("API key").fill(other)
        page.keyboard.press("Enter")
        expect(page.locator("#overview-refused")).to_contain_text("scope translate")
        expect(another).to_be_visible()


def test_behind_a_path(service: Running, browser: Browser) -> None:
    context = browser.browser.new_context(locale="en")
    page = context.new_page()
    requested: list[str] = []

    def forward(route: Any) -> None:
        requested.append(route.request.url.removeprefix(service.url))
        route.continue_(url=route.request.url.replace("/some/where/", "/"))

    page.route("**/*", forward)
    page.goto(f"{service.url}/some/where/")
    page.get_by_label("From", exact=True).select_option("is")
    # Where nobody has chosen, and no key is needed.
    expect(page.get_by_role("switch", name="Translate as I type")).to_be_checked()
    translate(page, "Góðan daginn.")
    expect(page.locator("#target-text")).to_have_text("Good morning.")
    page.get_by_role("link", name="Status").click()
    expect(page.locator("#tiles")).to_contain_text("Ready")
    assert len(requested) > 10 and all(path.startswith("/some/where/") for path in requested)
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


def test_before_anything_can_be_translated(tmp_path: Path, browser: Browser, published: Published) -> None:
    """Still starting; nothing published; published and refused; live: without a reload."""
    base, registry, aside = published.base, Registry(tmp_path / "registry"), Registry(tmp_path / "aside")
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

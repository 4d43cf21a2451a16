"""The languages of the page at `/`: it speaks Icelandic too, and both languages have all words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tell.text.flags import FLAGS
from tests.support.browser import CHROMIUM, VOYAGE, Browser, proper, shot
from tests.support.page import SENTENCE, translate
from tests.support.serving import Running

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (Debian: apt-get install chromium)")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect

PAGE = Path(__file__).resolve().parents[3] / "serve" / "page"


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
    expect(page.locator("#count")).to_have_text(re.compile(r"^2\d\d af 100.000 stöfum$"))
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
      const flags = [en, is].flatMap(({ words }) => [words.flags, words.flagHelp].map(Object.keys));
      return [keys(en.words), keys(is.words), keys(en.units), keys(is.units), en.words, flags];
    }"""
    en, is_, units, eining, words, flags = page.evaluate(both)
    assert en == is_ and units == eining and len(en) > 120
    # Each flag that the service can set, and no other, has a name and an explanation in both.
    assert flags == 4 * [list(FLAGS)]
    html = (PAGE / "index.html").read_text(encoding="utf-8")
    named = {m for m in re.findall(r'data-t(?:-label|-title|-placeholder)?="(\w+)"', html)}
    scripts = "".join(f.read_text(encoding="utf-8") for f in PAGE.glob("*.js") if not f.name.startswith("words-"))
    used = named | set(re.findall(r"""\bt\("(\w+)"[,)]""", scripts))
    assert used <= {k.split(":")[0].split(".")[0] for k in en}
    # What the page says before a script has run is what the script would say.
    for key, text in re.findall(r'data-t="(\w+)"(?: hidden)?>([^<]+)<', html):
        assert words[key] == text, key

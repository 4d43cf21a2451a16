"""A real browser for tests of the page, the service behind it, and what is looked at on every page: names, contrast, width, requests that leave."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tell.model.engine import EngineOptions, Generation, Prompt
from tests.support.fake_engine import FakeEngine

CHROMIUM = next((p for p in ("/usr/bin/chromium", shutil.which("chromium"), shutil.which("chromium-browser")) if p and Path(p).exists()), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
DESKTOP, PHONE, NARROW = (1280, 800), (390, 844), (360, 640)
# Where pictures are kept for a person to look at. Read before the fixtures clear the variables of this name.
SHOTS = os.environ.get("TELLMT_TEST_SHOTS")

# What a person would see translated, and what a broken adapter makes of one.
SPOKEN = {
    "Góðan daginn.": "Good morning.",
    "Það rignir 🌧": "It is raining 🌧",
    "Skipið fór frá Reykjavík klukkan 14 með 327 farþega.": "The ship left Reykjavík at 2 p.m. with its passengers.",
    "Veðrið var gott og sjórinn sléttur alla leiðina til Færeyja.": "The weather was good and the sea calm all the way to the Faroe Islands.",
    "Áhöfnin bauð {name} velkomna um borð.": "The crew welcomed {name} on board.",
    "hesturinn hljóp yfir stóra túnið og út í ána í gærkvöldi": "hesturinn hljóp yfir stóra túnið og út í ána í gærkvöldi",
}
VOYAGE = "Ferðin\n\n" + "\n".join(list(SPOKEN)[2:5])


class Speaking(FakeEngine):
    """Translates what is in SPOKEN, and writes the rest in capitals, with other endings where it samples; its bare base repeats the source. With "Bíða" it
    never comes to an end.
    `problems` are raised, one a call."""

    def __init__(self, options: EngineOptions):
        super().__init__(options)
        self.problems: list[Exception] = []

    async def generate(self, prompts: Sequence[Prompt], adapter_id: str | None) -> list[Generation]:
        if adapter_id and self.problems:
            raise self.problems.pop()
        if any("Bíða" in self.tokens.decode(list(p.ids)) for p in prompts):
            await asyncio.Event().wait()
        return await super().generate(prompts, adapter_id)

    def _answer(self, prompt: Prompt, adapter_id: str | None) -> Generation:
        source = self.tokens.decode(list(prompt.ids)).split("\n\n", 1)[1].rsplit("\n\n", 1)[0]
        if adapter_id is None:
            return Generation(source, len(source), "stop")
        ending = ("", "!", " indeed")[prompt.sampling.seed % 3] if prompt.sampling else ""
        return Generation(SPOKEN.get(source, source.upper()) + ending, len(source), "length" if "ENDLESS" in source else "stop")


# Tests press the button, unless they are about translation as one types: what is asked for is then what they asked for.
AS_ASKED = "try { if (localStorage.getItem('tellmt.typing') === null) localStorage.setItem('tellmt.typing', 'off'); } catch {}"


class Browser:
    """Opens pages and notes every script error, refused resource and request that left the server.

    Starting a tab takes as long as ten clicks, so tests with the same language and pointer get the same one, emptied.
    """

    def __init__(self, browser: Any):
        self.browser, self.problems, self.url = browser, list[str](), ""
        self._pages: dict[Any, Any] = {}

    def open(self, url: str, size: tuple[int, int] = DESKTOP, scheme: str = "light", locale: str = "en-GB", path: str = "/", touch: bool = False) -> Any:
        self.url = url
        if (page := self._pages.get((locale, touch))) is None:
            page = self._pages[locale, touch] = self._new(locale, touch)
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.goto(f"{url}{path}")
        page.locator("#status:not([data-state=loading])").wait_for()
        return page

    def leave(self) -> None:
        """Nothing of a page is left but its tab: no storage, no routes, nothing that asks a service of another test."""
        for page in self._pages.values():
            page.unroute_all()
            if not page.url.startswith("about:"):
                page.evaluate("localStorage.clear(); sessionStorage.clear()")
                page.goto("about:blank")

    def _new(self, locale: str, touch: bool) -> Any:
        clipboard = ["clipboard-read", "clipboard-write"]
        context = self.browser.new_context(locale=locale, permissions=clipboard, timezone_id="UTC", reduced_motion="reduce", has_touch=touch, is_mobile=touch)
        context.add_init_script(AS_ASKED)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda e: self.problems.append(f"script: {e}"))
        page.on("console", lambda m: self.problems.append(m.text) if m.type == "error" and "the server responded with a status" not in m.text else None)
        page.on("request", lambda r: None if r.url.startswith((self.url, f"blob:{self.url}")) else self.problems.append(f"elsewhere: {r.url}"))
        return page


@contextmanager
def chromium() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def shot(page: Any, name: str) -> None:
    """Keep a picture where TELLMT_TEST_SHOTS says."""
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


def overflow(page: Any) -> int:
    """By how many pixels the page is wider than the window."""
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


# Every visible text against what is behind it, as WCAG 2.2 counts: {text: ratio} of those below 4.5, or below 3 where letters are large.
FAINT = """() => {
  const parse = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return { rgb: m.slice(0, 3), a: m[3] ?? 1 }; };
  const over = (top, ground) => top.rgb.map((v, i) => v * top.a + ground[i] * (1 - top.a));
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const shine = (rgb) => rgb.map((v) => linear(v / 255)).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => {
    const stack = [];
    for (let at = e; at; at = at.parentElement) stack.push(parse(getComputedStyle(at).backgroundColor));
    return stack.reverse().reduce((below, c) => over(c, below), [255, 255, 255]);
  };
  const out = {};
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
    if (!text || !e.checkVisibility({ visibilityProperty: true }) || e.closest(".hidden, .mirror, .skip, option, script, noscript, button:disabled")) continue;
    const style = getComputedStyle(e), back = ground(e);
    const [a, b] = [shine(over(parse(style.color), back)), shine(back)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05), large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) out[text.slice(0, 40)] = Math.round(ratio * 100) / 100;
  }
  return out;
}"""

# What a screen reader would stumble over.
NAMELESS = """() => {
  const out = [], seen = new Set();
  for (const e of document.querySelectorAll("[id]")) { if (seen.has(e.id)) out.push(`twice: ${e.id}`); seen.add(e.id); }
  for (const name of ["aria-labelledby", "aria-describedby", "for", "aria-controls"])
    for (const e of document.querySelectorAll(`[${name}]`))
      for (const id of e.getAttribute(name).split(" ")) if (!document.getElementById(id)) out.push(`${name}: ${id}`);
  for (const e of document.querySelectorAll("a, button, input, select, textarea, progress, meter, summary, [role=group], nav, [tabindex='0']")) {
    if (!e.checkVisibility()) continue;
    const by = e.getAttribute("aria-labelledby");
    const name = e.ariaLabel || (by && document.getElementById(by).textContent) || [...(e.labels ?? [])].map((l) => l.textContent).join("") || e.textContent;
    if (!name.trim()) out.push(`no name: ${e.outerHTML.slice(0, 80)}`);
    const { width, height } = e.getBoundingClientRect();
    if (e.matches("button, select, .button, nav a") && (width < 24 || height < 24)) out.push(`small: ${e.outerHTML.slice(0, 60)}`);
  }
  const visible = (sel) => [...document.querySelectorAll(sel)].filter((e) => e.checkVisibility());
  if (visible("h1").length !== 1) out.push(`h1: ${visible("h1").length}`);
  if (!document.documentElement.lang) out.push("no language");
  return out;
}"""


def proper(page: Any) -> None:
    """Fails for faint text, what has no name, and a page that is wider than its window."""
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate(FAINT) == {}
    assert overflow(page) <= 0

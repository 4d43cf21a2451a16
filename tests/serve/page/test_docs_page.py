"""The page of the API at /docs in a real browser: everything that openapi.json says, without anything from elsewhere."""

from __future__ import annotations

import pytest

from tests.support.browser import CHROMIUM, DESKTOP, PHONE, Browser, proper, shot
from tests.support.serving import Running

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (Debian: apt-get install chromium)")


def test_every_route_and_model_is_there(service: Running, browser: Browser) -> None:
    page = browser.open(service.url, DESKTOP, path="/docs")
    api = service.http.get("/openapi.json").json()
    operations = [f"{method.upper()} {path}" for path, methods in api["paths"].items() for method in methods]
    shown = page.locator(".api-operation > summary").evaluate_all(
        "all => all.map(e => [...e.querySelectorAll('span')].slice(0, 2).map(s => s.textContent).join(' '))"
    )
    assert sorted(shown) == sorted(operations)
    assert page.locator(".api-model").count() == len(api["components"]["schemas"])
    page.locator("#post-api-v1-translate > summary").click()
    body = page.locator("#post-api-v1-translate .api-body")
    assert "curl -s" in body.inner_text() and f"'{service.url}/api/v1/translate'" in body.inner_text() and "Scope: translate." in body.inner_text()
    assert "alternatives" in body.inner_text() and "504" in body.inner_text()
    shot(page, "docs-1280")
    proper(page)
    body.get_by_role("link", name="TranslateResponse").click()
    page.locator("#model-TranslateResponse[open] .api-body").get_by_text("translations", exact=True).wait_for()


def test_finding_on_a_phone_in_the_dark(service: Running, browser: Browser) -> None:
    page = browser.open(service.url, PHONE, "dark", path="/docs")
    page.fill("#find", "suggest nothing-of-the-kind")
    assert page.locator("#found").inner_text() == "0 requests"
    page.fill("#find", "post suggest")
    assert page.locator("#found").inner_text() == "1 request" and page.locator(".api-operation:visible").count() == 1
    page.locator("#post-suggest > summary").click()
    shot(page, "docs-390-dark")
    proper(page)
    page.fill("#find", "")
    for path in ("#post-v2-translate", "#post-api-v1-jobs", "#get-api-v1-monitor"):
        page.locator(f"{path} > summary").click()
    shot(page, "docs-390-dark-all")
    proper(page)


def test_with_a_slash_at_its_end(service: Running, browser: Browser) -> None:
    """Where LibreTranslate's links lead: the page's own files and links are below the root."""
    answer = service.http.get("/docs/")
    assert (answer.status_code, answer.headers["location"]) == (308, "../docs")
    page = browser.open(service.url, path="/docs/")
    # What a cut address names is nothing.
    page.evaluate("location.hash = '#%E0%A4%A'")
    page.evaluate("location.hash = ''")
    assert page.url.rstrip("#") == f"{service.url}/docs" and page.locator(".api-operation").count() > 30

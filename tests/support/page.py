"""What the tests of the page at `/` do on it in the same way."""

from __future__ import annotations

from typing import Any

SENTENCE = "hesturinn hljóp yfir stóra túnið og út í ána í gærkvöldi"


def translate(page: Any, text: str, button: str = "Translate") -> None:
    page.fill("#source-text", text)
    page.get_by_role("button", name=button, exact=True).click()


def from_icelandic(page: Any) -> Any:
    page.get_by_label("From", exact=True).select_option("is")
    return page


def lit(page: Any) -> list[str]:
    return [page.locator(f"{where} .lit").all_inner_texts() for where in ("#mirror", "#target-text")]  # type: ignore[misc]

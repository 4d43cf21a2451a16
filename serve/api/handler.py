"""From a parsed request to translations, for every route that translates. Routes read the body, call `translate_texts`, and write their own response."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from fastapi import Request

from serve.adapters.versions import Version
from serve.api.options import ask_of, in_time, translator_headers
from serve.api.state import AppState
from serve.auth.gate import charge
from serve.config import Fallback
from serve.http.middleware import unless_gone
from serve.translation.markup_html import Parse, plain_text, translate_marked
from serve.translation.quality import Quality
from serve.translation.request import RequestOptions, Translation
from serve.translation.routing import Route, TextRoutes
from serve.translation.service import Service
from tell.errors import RequestError


@dataclasses.dataclass(frozen=True, slots=True)
class ParsedRequest:
    """What a request of any API asks for. `source` is a language code, or auto."""

    source: str
    target: str
    texts: list[str]
    # Seconds; None where only the service limits the time.
    timeout: float | None = None
    cache: bool = True
    # Reads texts that have markup.
    parse: Parse | None = None
    quality: Quality = "fast"
    alternatives: int = 0
    # The fallbacks for a pair without an adapter; None means the operator's.
    fallbacks: tuple[Fallback, ...] | None = None
    # The base translates without the pair's adapter.
    base_only: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class TranslationResult:
    """One translation per text, in order. `route`, and `versions` with one version per step of it, are those of the first text that was translated;
    `ask` is what the service granted."""

    translations: list[Translation]
    route: Route
    versions: tuple[Version, ...]
    ask: RequestOptions

    def headers(self) -> dict[str, str]:
        return translator_headers(self.route, self.versions, self.ask)


def checked_texts(text: str | list[str]) -> list[str]:
    """The texts of a request, as a list. Raises RequestError when there is nothing to translate."""
    texts = [text] if isinstance(text, str) else text
    if not texts:
        raise RequestError("there is no text", found="an empty list", valid="at least one text")
    if len(texts) == 1 and not texts[0].strip():
        raise RequestError("the text is empty", valid="a text with something other than white space")
    return texts


async def translate_texts(request: Request, state: AppState, parsed: ParsedRequest) -> TranslationResult:
    """Charge the caller's quota, choose each text's route, and translate. The work stops when the client leaves or its time is over.

    Raises RequestError, LanguageError, NotServed, TooLarge, QuotaUsed, Overloaded, EngineError, TimedOut, and KeyRefused where no caller was named.
    """
    service = state.service
    ask = ask_of(request, service, parsed.timeout, parsed.cache, parsed.quality, parsed.alternatives)
    service.check(parsed.texts, ask)
    await charge(request, parsed.texts)

    async def work() -> TranslationResult:
        # Only detection reads the texts without their markup.
        plain = [plain_text(text, parsed.parse) for text in parsed.texts] if parsed.parse and parsed.source == "auto" else parsed.texts
        routes = await service.routes(parsed.source, parsed.target, plain, parsed.fallbacks, parsed.base_only)
        return await _translate_by_routes(request, service, routes, parsed, ask)

    async with in_time(ask, service.metrics):
        return await unless_gone(request, work())


async def _translate_by_routes(request: Request, service: Service, routes: TextRoutes, parsed: ParsedRequest, ask: RequestOptions) -> TranslationResult:
    """Each text by its own route, one route after the other."""
    translations = [Translation(text, False, detected=own.detected) for text, own in zip(parsed.texts, routes.texts, strict=True)]
    first: tuple[Route, tuple[Version, ...]] | None = None
    for route, numbers in routes.groups().items():
        group, versions = await _translate_by_route(request, service, route, [parsed.texts[i] for i in numbers], parsed.parse, ask)
        first = first or (route, versions)
        for i, translation in zip(numbers, group, strict=True):
            detected = routes.texts[i].detected
            translations[i] = dataclasses.replace(translation, detected=detected, pair=route.pair) if detected else translation
    assert first is not None
    request.scope["tellmt.version"] = first[1][-1].labels
    return TranslationResult(translations, *first, ask)


async def _translate_by_route(
    request: Request, service: Service, route: Route, texts: Sequence[str], parse: Parse | None, ask: RequestOptions
) -> tuple[list[Translation], tuple[Version, ...]]:
    """The translations, and the version of each step of the route."""
    versions: list[Version] = []

    def note(version: Version) -> None:
        request.scope["tellmt.version"] = version.labels
        versions.append(version)

    if parse is None:
        translations = await service.translate_route(route, texts, ask, note)
    else:
        translations = await translate_marked(texts, lambda lines: service.translate_route(route, lines, ask, note), parse)
    return translations, tuple(versions)

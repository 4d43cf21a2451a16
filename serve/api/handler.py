"""What routes of every API share: the application's state, and for those that translate the way from a parsed request to translations.

Routes read the body, call `translate_texts`, and write their own response. The headers that a request may send are those of `serve.api.schema`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import re
from collections.abc import AsyncIterator, Sequence
from typing import Annotated
from urllib.parse import quote

from fastapi import Depends, FastAPI, Request

from serve.adapters.follower import Follower
from serve.adapters.versions import Version
from serve.api.schema import PRIORITY, TIMEOUT
from serve.auth.gate import caller_of, charge, meter_of
from serve.config import Fallback, WebConfig
from serve.corrections import Feedback
from serve.documents.jobs import Jobs
from serve.http.middleware import unless_gone
from serve.metrics.registry import Metrics
from serve.monitor import Monitor
from serve.translation.decoder import Quality
from serve.translation.markup_html import Parse, plain_text, translate_marked
from serve.translation.request import RequestOptions, Translation
from serve.translation.routing import Route, TextRoutes
from serve.translation.service import Service
from tell.errors import RequestError, TimedOut
from tell.languages import PAIR_HEADER, pair_header, parse_pair_header
from tell.lexicon.glossary import Glossary
from tell.registry.glossaries import Glossaries

_BACKGROUND = re.compile(r"(?:^|,)\s*u=7\s*(?:$|[,;])")


@dataclasses.dataclass(frozen=True, slots=True)
class AppState:
    """What the application holds. `feedback` is None where the operator names no file for corrections; `compare_base` says whether callers may ask for the
    base without an adapter; `web` has the address for links."""

    service: Service
    follower: Follower
    monitor: Monitor
    jobs: Jobs
    glossaries: Glossaries
    feedback: Feedback | None = None
    compare_base: bool = False
    web: WebConfig = dataclasses.field(default_factory=WebConfig)


def set_state(app: FastAPI, state: AppState) -> None:
    app.state.tellmt = state


def state_of(app: FastAPI) -> AppState:
    state: AppState = app.state.tellmt
    return state


# A coroutine, since FastAPI would run a plain function in a thread.
async def _request_state(request: Request) -> AppState:
    return state_of(request.app)


# The parameter by which a route gets the application's state.
StateDep = Annotated[AppState, Depends(_request_state)]


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
    # The translations say where their segments are.
    segments: bool = False
    # And which hints stood in their prompts.
    hints: bool = False
    # The fallbacks for a pair without an adapter; None means the operator's.
    fallbacks: tuple[Fallback, ...] | None = None
    # The base translates without the pair's adapter.
    base_only: bool = False
    glossary: Glossary | None = None
    # The service's limit of characters is that of each text, not of all.
    each: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class TranslationResult:
    """One translation per text, in order. `route`, and `versions` with one version per step of it, are those of the first text that was translated;
    `options` are what the service granted. `applied`: whether all adapters were given the terms of the glossary; None without one."""

    translations: list[Translation]
    route: Route
    versions: tuple[Version, ...]
    options: RequestOptions
    applied: bool | None = None

    def headers(self) -> dict[str, str]:
        return translator_headers(self.route, self.versions, self.options, self.applied)


def checked_texts(text: str | list[str]) -> list[str]:
    """The texts of a request, as a list. Raises RequestError when there is nothing to translate."""
    texts = [text] if isinstance(text, str) else text
    if not texts:
        raise RequestError("there is no text", found="an empty list", valid="at least one text")
    if len(texts) == 1 and not texts[0].strip():
        raise RequestError("the text is empty", valid="a text with something other than white space")
    return texts


def check_pair_header(request: Request, source: str, target: str) -> None:
    """Raises RequestError where the header names another pair than the body: a balancer would send the pair to a replica that has not loaded it, and
    nobody would see why it is slow. LanguageError for a header or a code that is none."""
    value = request.headers.get(PAIR_HEADER)
    if value is None:
        return
    named, expected = parse_pair_header(value), pair_header(source, target)
    if named != expected:
        raise RequestError("the header names another pair than the request", place=PAIR_HEADER, found=named, valid=f"{expected}, or no such header")


def request_options(
    request: Request,
    service: Service,
    timeout: float | None = None,
    cache: bool = True,
    quality: Quality = "fast",
    alternatives: int = 0,
    segments: bool = False,
    glossary: Glossary | None = None,
    hints: bool = False,
) -> RequestOptions:
    """What the service grants a request, from its headers, its caller, and the fields of its body. Of two times the shorter counts. Raises RequestError."""
    caller = caller_of(request)
    seconds = min(service.limits.timeout, _timeout_header(request), timeout or math.inf)
    directives = {part.strip().lower() for part in request.headers.get("cache-control", "").split(",")}
    options = RequestOptions(
        caller=caller.id,
        seconds=seconds,
        deadline=asyncio.get_running_loop().time() + seconds,
        cache=cache and caller.cache and "no-store" not in directives,
        quality=quality,
        alternatives=alternatives,
        segments=segments,
        hints=hints,
        background=_BACKGROUND.search(request.headers.get(PRIORITY, "")) is not None,
        glossary=glossary,
        meter=meter_of(request),
    )
    return service.degraded_when_busy(options)


def _timeout_header(request: Request) -> float:
    raw = request.headers.get(TIMEOUT)
    if raw is None:
        return math.inf
    try:
        seconds = float(raw)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise RequestError("not a time", place=TIMEOUT, valid="seconds, above 0")
    return seconds


@contextlib.asynccontextmanager
async def in_time(options: RequestOptions, metrics: Metrics) -> AsyncIterator[None]:
    """Cancels the block at the request's deadline, and raises TimedOut."""
    try:
        async with asyncio.timeout_at(options.deadline) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        metrics.timeouts.inc()
        raise TimedOut(f"the translation was not done in the {options.seconds:g} s that the request has") from None


def translator_headers(route: Route, versions: Sequence[Version], options: RequestOptions, applied: bool | None) -> dict[str, str]:
    """The headers that name the translator: the versions of all steps, in order. `applied`: whether it was given the glossary, if there is one."""
    headers = {
        "X-Tellmt-Pair": route.pair,
        "X-Tellmt-Adapter": versions[-1].name,
        "X-Tellmt-Base": quote(versions[-1].adapter.card.base.id, safe="/:@+ "),
        "X-Tellmt-Quality": options.quality,
    }
    if (generation := versions[-1].generation) is not None:
        headers["X-Tellmt-Generation"] = str(generation)
    if applied is not None:
        headers["X-Tellmt-Glossary"] = "applied" if applied else "checked"
    if route.fallback:
        steps = " " + ", ".join(f"{v.pair}={v.name}" for v in versions) if route.fallback == "pivot" else ""
        headers["X-Tellmt-Via"] = f"{route.fallback}{steps}"
    return headers


async def translate_texts(request: Request, service: Service, parsed: ParsedRequest) -> TranslationResult:
    """Charge the caller's quota, choose each text's route, and translate. The work stops when the client leaves or its time is over.

    Raises RequestError, LanguageError, NotServed, TooLarge, QuotaUsed, Overloaded, EngineError, TimedOut, and KeyRefused where no caller was named.
    """
    check_pair_header(request, parsed.source, parsed.target)
    options = request_options(
        request, service, parsed.timeout, parsed.cache, parsed.quality, parsed.alternatives, parsed.segments, parsed.glossary, parsed.hints
    )
    service.check(parsed.texts, options, parsed.each)
    options = dataclasses.replace(options, measured=parsed.each)
    await charge(request, parsed.texts)

    async def work() -> TranslationResult:
        # Only detection reads the texts without their markup.
        plain_texts = [plain_text(text, parsed.parse) for text in parsed.texts] if parsed.parse and parsed.source == "auto" else parsed.texts
        routes = await service.routes(parsed.source, parsed.target, plain_texts, parsed.fallbacks, parsed.base_only)
        return await _translate_by_routes(request, service, routes, parsed, options)

    async with in_time(options, service.metrics):
        return await unless_gone(request, work())


async def _translate_by_routes(request: Request, service: Service, routes: TextRoutes, parsed: ParsedRequest, options: RequestOptions) -> TranslationResult:
    """Each text by its own route, one route after the other."""
    # Texts without a route are in the target language already, or in one that no adapter translates: they stay as they are.
    translations = [Translation(text, False, route.flags, detected=route.detected) for text, route in zip(parsed.texts, routes.texts, strict=True)]
    translators: list[tuple[Route, tuple[Version, ...]]] = []
    for route, numbers in routes.groups().items():
        group, versions = await _translate_by_route(request, service, route, [parsed.texts[i] for i in numbers], parsed.parse, options)
        translators.append((route, versions))
        for i, translation in zip(numbers, group, strict=True):
            detected = routes.texts[i].detected
            translations[i] = dataclasses.replace(translation, detected=detected, pair=route.pair) if detected else translation
    first_route, first_versions = translators[0]
    request.scope["tellmt.version"] = first_versions[-1].labels
    applied = None if options.glossary is None else all(options.glossary_applied(versions) for _, versions in translators)
    return TranslationResult(translations, first_route, first_versions, options, applied)


async def _translate_by_route(
    request: Request, service: Service, route: Route, texts: Sequence[str], parse: Parse | None, options: RequestOptions
) -> tuple[list[Translation], tuple[Version, ...]]:
    """The translations, and the version of each step of the route."""
    versions: list[Version] = []

    def note(version: Version) -> None:
        request.scope["tellmt.version"] = version.labels
        versions.append(version)

    if parse is None:
        translations = await service.translate_route(route, texts, options, note)
    else:
        translations = await translate_marked(texts, lambda lines: service.translate_route(route, lines, options, note), parse)
    return translations, tuple(versions)

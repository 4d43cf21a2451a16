"""From a checked request to an answer, for every route that translates."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from fastapi import Request, Response

from serve.adapters.versions import Version
from serve.api.options import ask_of, in_time, named
from serve.api.schema import Alternative, Answer, Language, Middle, Segment, Step, Translated
from serve.auth.gate import charge
from serve.config import Way
from serve.http.middleware import unless_gone
from serve.translation.markup_html import Parse, plain_text, translate_marked
from serve.translation.quality import Quality
from serve.translation.request import Ask, Translation
from serve.translation.routing import Route, TextRoutes
from serve.translation.service import Service
from tell.errors import RequestError


def checked_texts(text: str | list[str]) -> list[str]:
    """The texts asked for. Raises RequestError when there is nothing to translate."""
    texts = [text] if isinstance(text, str) else text
    if not texts:
        raise RequestError("there is no text", found="an empty list", valid="at least one text")
    if len(texts) == 1 and not texts[0].strip():
        raise RequestError("the text is empty", valid="a text with something other than white space")
    return texts


async def translated(
    request: Request,
    response: Response,
    source: str,
    target: str,
    texts: list[str],
    timeout: float | None = None,
    cache: bool = True,
    parse: Parse | None = None,
    quality: Quality = "fast",
    alternatives: int = 0,
    ways: tuple[Way, ...] | None = None,
    base: bool = False,
) -> tuple[Answer, list[Translation]]:
    """What all APIs do: lease the pair's version, translate, and leave off when the client does or its time is over.

    `parse` reads texts that are marked up. `ways` are those in which a pair without an adapter may be translated: the operator's, unless the request
    can name some.
    """
    service: Service = request.app.state.service
    ask = ask_of(request, timeout, cache, quality, alternatives)
    service.check(texts, ask)
    await charge(request, texts)

    async def work() -> tuple[Taken, list[Translation]]:
        plain = [plain_text(text, parse) for text in texts] if parse and source == "auto" else texts
        return await _by_routes(request, await service.routes(source, target, plain, ways, base), texts, ask, parse)

    async with in_time(ask, service.metrics):
        (route, by), made = await unless_gone(request, work())
    response.headers.update(named(route, by, ask))
    answer = Answer(
        pair=route.pair, adapter=by[-1].name, base=by[-1].adapter.card.base.id, quality=ask.quality, fallback=route.way,
        via=steps(by) if route.way else None, translations=[_told(t, alternatives > 0) for t in made],
    )  # fmt: skip
    return answer, made


# A route, and the version of each of its steps.
Taken = tuple[Route, list[Version]]


async def _by(request: Request, route: Route, texts: list[str], ask: Ask, parse: Parse | None) -> tuple[Taken, list[Translation]]:
    service: Service = request.app.state.service
    by: list[Version] = []

    def taken(version: Version) -> None:
        request.scope["tellmt.version"] = version.labels
        by.append(version)

    if parse is None:
        made = await service.through(route, texts, ask, taken)
    else:
        made = await translate_marked(texts, lambda lines: service.through(route, lines, ask, taken), parse)
    return (route, by), made


async def _by_routes(request: Request, routes: TextRoutes, texts: list[str], ask: Ask, parse: Parse | None) -> tuple[Taken, list[Translation]]:
    """Each text by its own route, route after route. The answer names the first text's."""
    made = [Translation(text, False, detected=own.detected) for text, own in zip(texts, routes.texts, strict=True)]
    first: Taken | None = None
    for route, numbers in routes.groups().items():
        taken, translations = await _by(request, route, [texts[i] for i in numbers], ask, parse)
        first = first or taken
        for i, translation in zip(numbers, translations, strict=True):
            detected = routes.texts[i].detected
            made[i] = dataclasses.replace(translation, detected=detected, pair=route.pair) if detected else translation
    assert first is not None
    request.scope["tellmt.version"] = first[1][-1].labels
    return first, made


def steps(by: Sequence[Version]) -> list[Step]:
    return [Step(pair=v.pair, adapter=None if v.bare else v.name) for v in by]


def segments_of(made: Translation) -> list[Segment]:
    return [Segment(source=list(s.source), target=list(s.target), truncated=s.truncated, flags=list(s.flags)) for s in made.segments]


def _told(made: Translation, alternatives: bool) -> Translated:
    found, middle = made.detected, made.middle
    out = Translated(text=made.text, truncated=made.truncated, flags=list(made.flags), pair=made.pair)
    out.detected = None if found is None else Language(language=found.language, confidence=round(found.confidence, 4))
    if made.pair and made.way:
        out.fallback, out.via = made.way, steps(made.by)
    out.pivot = Middle(text=middle.text, flags=list(middle.flags)) if middle else None
    out.alternatives = [Alternative(text=a.text, flags=list(a.flags)) for a in made.alternatives] if alternatives else None
    return out

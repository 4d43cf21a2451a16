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
from serve.translation.request import RequestOptions, Translation
from serve.translation.routing import Route
from serve.translation.service import Service
from serve.translation.source_language import find_all, pairs_into
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
        if source == "auto":
            return await _by_language(request, target, texts, ask, parse, service.limits.fallback if ways is None else ways, base)
        route = dataclasses.replace(service.route(source, target, ways), bare=base)
        return await _by(request, route, texts, ask, parse)

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


async def _by(request: Request, route: Route, texts: list[str], ask: RequestOptions, parse: Parse | None) -> tuple[Taken, list[Translation]]:
    service: Service = request.app.state.service
    by: list[Version] = []

    def taken(version: Version) -> None:
        request.scope["tellmt.version"] = version.labels
        by.append(version)

    if parse is None:
        made = await service.translate_route(route, texts, ask, taken)
    else:
        made = await translate_marked(texts, lambda lines: service.translate_route(route, lines, ask, taken), parse)
    return (route, by), made


async def _by_language(
    request: Request, target: str, texts: list[str], ask: RequestOptions, parse: Parse | None, ways: tuple[Way, ...], base: bool
) -> tuple[Taken, list[Translation]]:
    """Each text by the pair of its own language, pair after pair. What is named is the first one's."""
    service: Service = request.app.state.service
    pairs = pairs_into(service.pairs(ways), target)
    found = await find_all(pairs, [plain_text(text, parse) for text in texts] if parse else texts)
    made = {i: Translation(text, False, detected=f.detected) for i, (text, f) in enumerate(zip(texts, found, strict=True)) if f.pair is None}
    first: Taken | None = None
    for pair in dict.fromkeys(f.pair for f in found if f.pair) or [pairs[0]]:
        own = [i for i, f in enumerate(found) if f.pair == pair]
        route = dataclasses.replace(service.route(pair.source.tag, pair.target.tag, ways), bare=base)
        taken, its = await _by(request, route, [texts[i] for i in own], ask, parse)
        first = first or taken
        for i, t in zip(own, its, strict=True):
            made[i] = dataclasses.replace(t, detected=found[i].detected, pair=str(pair))
    assert first is not None
    request.scope["tellmt.version"] = first[1][-1].labels
    return first, [made[i] for i in range(len(texts))]


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

"""The native API: translations with the adapter version that made them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from serve.access import charge
from serve.asking import NAMED, PARAMETERS, ask_of, in_time, named
from serve.auto import find_all, pairs_into
from serve.bare import check_bare
from serve.bodies import body_schema, read_body
from serve.guards import unless_gone
from serve.markup import Parse, parse_html, plain_text, translate_marked
from serve.quality import ALTERNATIVES, MOST_ALTERNATIVES, QUALITY, Quality
from serve.service import Service
from serve.translations import Ask, Translation
from serve.versions import Version, Way
from serve.ways import ALLOWED, Route, asked_ways
from tell.errors import RequestError
from tell.text.flags import Flag

# Longer than any BCP 47 tag in use.
MAX_CODE = 35
CODE = "a BCP 47 language code, such as is or pt-BR"


class Problem(BaseModel):
    """Every answer that is not 2xx."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"error": "no adapter for this pair; found is-de; valid: is-en", "pairs": ["is-en"]}]})

    error: str = Field(description="What is wrong, for a person")
    pairs: list[str] | None = Field(default=None, description="The pairs served now, where the one asked for is not")
    status: str | None = Field(default=None, description="Of /ready: starting, empty, down or stopping")


EXAMPLES: list[Any] = [
    {"source": "is", "target": "en", "text": "Halló heimur."},
    {"source": "is", "target": "en", "text": ["Halló heimur."], "quality": "best", "alternatives": 2},
]
PIVOTED: dict[str, Any] = {
    "pair": "is-fo", "adapter": "847403e6501f3c5a7e91d24b86a1c2e4", "base": "gemma-3-270m", "quality": "best", "fallback": "pivot",
    "via": [{"pair": "is-en", "adapter": "cdf9de02f30fe98d769625fad317e6bb"}, {"pair": "en-fo", "adapter": "847403e6501f3c5a7e91d24b86a1c2e4"}],
    "translations": [
        {
            "text": "Halló heimur.", "truncated": False, "flags": [], "pivot": {"text": "Hello world.", "flags": []},
            "alternatives": [{"text": "Hey heimur.", "flags": []}],
        }
    ],
}  # fmt: skip


class Asked(BaseModel):
    """A text, or up to a thousand of them."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [*EXAMPLES]})

    source: str = Field(max_length=MAX_CODE, description=f"{CODE}, or auto: each text's language is found, among those that are translated into the target")
    target: str = Field(max_length=MAX_CODE, description=CODE)
    text: str | list[str] = Field(description="a string, or a list of strings")
    format: Literal["text", "html"] = Field(default="text", description="text, or html: tags and attributes stay, and what they hold is translated")
    timeout: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="seconds within which the answer is wanted, above 0; the service's own limit is the most"
    )
    cache: bool = Field(default=True, description="false, so that the cache neither answers nor keeps what is translated, or true")
    quality: Quality = Field(default="fast", description=QUALITY)
    alternatives: int = Field(default=0, ge=0, le=MOST_ALTERNATIVES, description=ALTERNATIVES)
    fallback: Literal["none"] | Way | Annotated[list[Way], Field(max_length=2)] = Field(
        default="none", description=f"where the pair has no adapter: {ALLOWED}, as a list; the service must let it be used (serve --fallback)"
    )
    segments: bool = Field(default=False, description="true, to be told which part of the text each part of the translation is of, or false")
    base: bool = Field(
        default=False, description="true, for the bare base's translation with the pair's prompt and no adapter, where the service has that; or false"
    )


Place = Annotated[list[int], Field(min_length=2, max_length=2)]


class Segment(BaseModel):
    """What was translated in one piece. Places are a start and an end in Unicode code points, from 0, the end not included."""

    source: Place = Field(description="Its place in the text")
    target: Place = Field(description="The place of its translation in the whole translation of the text")
    truncated: bool = Field(description="Whether it was cut at the token limit")
    flags: list[Flag] = Field(description="What looks wrong with it after all tries, the worst first")


class Language(BaseModel):
    language: str = Field(description="Its BCP 47 code; und where a text has no words")
    confidence: float = Field(description="How likely it is among the languages that the text could be in here, from 0 to 1")


class Alternative(BaseModel):
    text: str
    flags: list[Flag]


class Step(BaseModel):
    pair: str
    adapter: str | None = Field(default=None, description="The id of the adapter; not there where the bare base translated")


class Middle(BaseModel):
    text: str = Field(description="What was translated out of the source, and into the target")
    flags: list[Flag]


class Translated(BaseModel):
    text: str = Field(description="The translation, with the lines and white space of the text")
    truncated: bool = Field(description="Whether some of it was cut at the token limit")
    flags: list[Flag] = Field(description="What looks wrong with it after all tries, the worst first; docs/text.md has what each means")
    segments: list[Segment] | None = Field(default=None, description="With segments: true: its segments, in order. What lies between them is the same in both")
    detected: Language | None = Field(default=None, description="With source auto: the language that was found")
    pair: str | None = Field(
        default=None, description="With source auto: the pair that translated; not there where the text is in the target language, and stays as it is"
    )
    fallback: Way | None = Field(default=None, description="With source auto, where this text's pair has no adapter: as that of the answer")
    via: list[Step] | None = Field(default=None, description="With source auto, where this text's pair has no adapter: as that of the answer")
    pivot: Middle | None = Field(default=None, description="With fallback pivot: the text between the two steps, with its flags, which `flags` has too")
    alternatives: list[Alternative] | None = Field(
        default=None,
        description="Where some were asked for: other translations, the best first; fewer where no more came out, and none while the service is busy",
    )


ANSWER: dict[str, Any] = {
    "pair": "is-en", "adapter": "3f9a0c1d5b7e28460f3c5a7e91d24b86", "base": "gemma-3-270m", "quality": "fast",
    "translations": [{"text": "Hello world.", "truncated": False, "flags": []}],
}  # fmt: skip


class Answer(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [ANSWER, PIVOTED]})

    pair: str = Field(description="The pair that translated; with source auto the first text's, and each translation names its own")
    adapter: str = Field(
        description="The id of the adapter that translated, the last of several: the hash of its content; base where the pair has none. "
        "With base: true that of the pair's adapter, after base-"
    )
    base: str = Field(description="The base model, by the id of its card")
    quality: Quality = Field(description="How hard it was tried for: fast also where best was asked for, while the service is busy")
    fallback: Way | None = Field(default=None, description="Where the pair has no adapter: pivot, through English, or base, the base without an adapter")
    via: list[Step] | None = Field(default=None, description="Where the pair has no adapter: what translated, in order")
    translations: list[Translated] = Field(description="One per text, in order")


ERRORS: dict[int | str, dict[str, Any]] = {
    200: {"headers": NAMED},
    400: {"model": Problem, "description": "The request cannot be used, or its pair is not served"},
    413: {"model": Problem, "description": "Too much in one request"},
    429: {"model": Problem, "description": "A quota of this key is used up, or too much of it is waiting; Retry-After says when to ask again"},
    503: {"model": Problem, "description": "Starting, overloaded, or the engine is down; Retry-After says when to ask again"},
    504: {"model": Problem, "description": "Not done in the time that the request has"},
}
routes = APIRouter()


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


async def _by_language(
    request: Request, target: str, texts: list[str], ask: Ask, parse: Parse | None, ways: tuple[Way, ...], base: bool
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


@routes.post(
    "/api/v1/translate",
    response_model=Answer,
    response_model_exclude_none=True,
    responses=ERRORS,
    openapi_extra={**body_schema(Asked, "application/json"), "parameters": PARAMETERS},
    summary="Translate texts",
    tags=["native"],
)
async def translate(request: Request, response: Response) -> Answer:
    asked = await read_body(request, Asked)
    check_bare(asked.base, request.app.state.compare_base)
    if asked.segments and asked.format != "text":
        raise RequestError("the segments of HTML are not told, since tags are not translated with them", place="segments", valid="false, or format: text")
    ways = asked_ways(request.app.state.service.limits.fallback, asked.fallback)
    answer, made = await translated(
        request, response, asked.source, asked.target, checked_texts(asked.text), asked.timeout, asked.cache, parse_html if asked.format == "html" else None,
        asked.quality, asked.alternatives, ways, asked.base,
    )  # fmt: skip
    if asked.segments:
        for told, one in zip(answer.translations, made, strict=True):
            told.segments = segments_of(one)
    return answer

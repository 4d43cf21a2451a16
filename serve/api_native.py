"""The native API: translations with the adapter version that made them."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from serve.asking import NAMED, PARAMETERS, ask_of, in_time, named
from serve.auto import find_all, pairs_into
from serve.bare import check_bare, leased
from serve.bodies import body_schema, read_body
from serve.gate import charge
from serve.guards import unless_gone
from serve.markup import plain_text, translate_html
from serve.service import Ask, Service, Translation
from serve.versions import Version
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


class Asked(BaseModel):
    """A text, or up to a thousand of them."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"source": "is", "target": "en", "text": "Halló heimur."}]})

    source: str = Field(max_length=MAX_CODE, description=f"{CODE}, or auto: each text's language is found, among those that are translated into the target")
    target: str = Field(max_length=MAX_CODE, description=CODE)
    text: str | list[str] = Field(description="a string, or a list of strings")
    format: Literal["text", "html"] = Field(default="text", description="text, or html: tags and attributes stay, and what they hold is translated")
    timeout: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="seconds within which the answer is wanted, above 0; the service's own limit is the most"
    )
    cache: bool = Field(default=True, description="false, so that the cache neither answers nor keeps what is translated, or true")
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


class Translated(BaseModel):
    text: str = Field(description="The translation, with the lines and white space of the text")
    truncated: bool = Field(description="Whether some of it was cut at the token limit")
    flags: list[Flag] = Field(description="What looks wrong with it after all tries, the worst first; docs/text.md has what each means")
    segments: list[Segment] | None = Field(default=None, description="With segments: true: its segments, in order. What lies between them is the same in both")
    detected: Language | None = Field(default=None, description="With source auto: the language that was found")
    pair: str | None = Field(
        default=None, description="With source auto: the pair that translated; not there where the text is in the target language, and stays as it is"
    )


ANSWER: dict[str, Any] = {
    "pair": "is-en", "adapter": "3f9a0c1d5b7e28460f3c5a7e91d24b86", "base": "gemma-3-270m",
    "translations": [{"text": "Hello world.", "truncated": False, "flags": []}],
}  # fmt: skip


class Answer(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [ANSWER]})

    pair: str = Field(description="The pair that translated; with source auto the first text's, and each translation names its own")
    adapter: str = Field(description="The id of the adapter that translated: the hash of its content. With base: true that of the pair's adapter, after base-")
    base: str = Field(description="The base model, by the id of its card")
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
    format: Literal["text", "html"] = "text",
    base: bool = False,
) -> tuple[Answer, list[Translation]]:
    """What both APIs do: lease the pair's version, translate, and leave off when the client does or its time is over."""
    service: Service = request.app.state.service
    ask = ask_of(request, timeout, cache)
    service.check(texts, ask)
    await charge(request, texts)

    async def work() -> tuple[Version, list[Translation]]:
        if source == "auto":
            return await _by_language(request, target, texts, ask, format, base)
        async with leased(service, source, target, base) as version:
            request.scope["tellmt.version"] = (version.adapter.card.pair, version.adapter.id)
            return version, await _by(service, version, texts, ask, format)

    async with in_time(ask, service.metrics):
        version, made = await unless_gone(request, work())
    response.headers.update(named(version))
    card = version.adapter.card
    return Answer(pair=card.pair, adapter=version.adapter.id, base=card.base.id, translations=[_told(t) for t in made]), made


async def _by(service: Service, version: Version, texts: list[str], ask: Ask, format: str) -> list[Translation]:
    if format == "text":
        return await service.translate(version, texts, ask)
    return await translate_html(texts, lambda lines: service.translate(version, lines, ask))


async def _by_language(request: Request, target: str, texts: list[str], ask: Ask, format: str, base: bool) -> tuple[Version, list[Translation]]:
    """Each text by the pair of its own language, pair after pair: a lease that waits for another's end could wait for ever. The version is the first one's."""
    service: Service = request.app.state.service
    pairs = pairs_into(service.pairs(), target)
    found = await find_all(pairs, [plain_text(text) for text in texts] if format == "html" else texts)
    made = {i: Translation(text, False, detected=f.detected) for i, (text, f) in enumerate(zip(texts, found, strict=True)) if f.pair is None}
    first: Version | None = None
    for pair in dict.fromkeys(f.pair for f in found if f.pair) or [pairs[0]]:
        async with leased(service, pair.source.tag, pair.target.tag, base) as version:
            if first is None:
                first = version
                request.scope["tellmt.version"] = (version.adapter.card.pair, version.adapter.id)
            own = [i for i, f in enumerate(found) if f.pair == pair]
            for i, t in zip(own, await _by(service, version, [texts[i] for i in own], ask, format), strict=True):
                made[i] = dataclasses.replace(t, detected=found[i].detected, pair=str(pair))
    assert first is not None
    return first, [made[i] for i in range(len(texts))]


def segments_of(made: Translation) -> list[Segment]:
    return [Segment(source=list(s.source), target=list(s.target), truncated=s.truncated, flags=list(s.flags)) for s in made.segments]


def _told(made: Translation) -> Translated:
    found = made.detected
    detected = None if found is None else Language(language=found.language, confidence=round(found.confidence, 4))
    return Translated(text=made.text, truncated=made.truncated, flags=list(made.flags), detected=detected, pair=made.pair)


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
    answer, made = await translated(
        request, response, asked.source, asked.target, checked_texts(asked.text), asked.timeout, asked.cache, asked.format, asked.base
    )
    if asked.segments:
        for told, one in zip(answer.translations, made, strict=True):
            told.segments = segments_of(one)
    return answer

"""The native API: translations with the adapter version that made them."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response

from serve.adapters.base_only import check_base_allowed
from serve.adapters.versions import Version
from serve.api.glossaries import glossary_of
from serve.api.handler import ParsedRequest, StateDep, TranslationResult, checked_texts, translate_texts
from serve.api.schema import (
    ERRORS,
    GLOSSARY_NOT_FOUND,
    PARAMETERS,
    Alternative,
    DetectedLanguage,
    GlossaryUse,
    PivotText,
    RouteStep,
    Segment,
    TranslatedText,
    TranslateRequest,
    TranslateResponse,
    WordHint,
)
from serve.http.bodies import body_schema, read_body
from serve.translation.markup_html import parse_html
from serve.translation.request import Translation
from serve.translation.routing import requested_fallbacks
from tell.errors import RequestError

routes = APIRouter()


def steps_of(versions: Sequence[Version]) -> list[RouteStep]:
    return [RouteStep(pair=v.pair, adapter=None if v.bare else v.name) for v in versions]


def located(body: TranslateRequest) -> bool:
    """Whether the response has segments."""
    return body.segments or body.hints


def segments_of(translation: Translation, hints: bool) -> list[Segment]:
    """The segments of a translation, with their hints where the request asks for them."""
    return [
        Segment(
            source=list(s.source), target=list(s.target), truncated=s.truncated, flags=list(s.flags),
            hints=[WordHint(source=list(h.source), text=h.text, candidates=list(h.candidates), glossary=h.glossary) for h in s.hints] if hints else None,
        )
        for s in translation.segments
    ]  # fmt: skip


def _translated_text(translation: Translation, body: TranslateRequest) -> TranslatedText:
    detected, pivot = translation.detected, translation.middle
    text = TranslatedText(text=translation.text, truncated=translation.truncated, flags=list(translation.flags), pair=translation.pair)
    if located(body):
        text.segments = segments_of(translation, body.hints)
    if detected is not None:
        text.detected = DetectedLanguage(language=detected.language, confidence=round(detected.confidence, 4))
    if translation.pair and translation.fallback:
        text.fallback, text.via = translation.fallback, steps_of(translation.versions)
    if pivot is not None:
        text.pivot = PivotText(text=pivot.text, flags=list(pivot.flags))
    if body.alternatives:
        text.alternatives = [Alternative(text=a.text, flags=list(a.flags)) for a in translation.alternatives]
    return text


def _response(result: TranslationResult, body: TranslateRequest) -> TranslateResponse:
    translator = result.versions[-1]
    return TranslateResponse(
        pair=result.route.pair, adapter=translator.name, base=translator.adapter.card.base.id, quality=result.options.quality,
        fallback=result.route.fallback, via=steps_of(result.versions) if result.route.fallback else None,
        glossary=None if result.applied is None else GlossaryUse(applied=result.applied),
        translations=[_translated_text(translation, body) for translation in result.translations],
    )  # fmt: skip


@routes.post(
    "/api/v1/translate",
    response_model=TranslateResponse,
    response_model_exclude_none=True,
    responses={**ERRORS, **GLOSSARY_NOT_FOUND},
    openapi_extra={**body_schema(TranslateRequest, "application/json"), "parameters": PARAMETERS},
    summary="Translate texts",
    tags=["native"],
)
async def translate(request: Request, response: Response, state: StateDep) -> TranslateResponse:
    body = await read_body(request, TranslateRequest)
    if body.base:
        check_base_allowed(state.compare_base)
    if located(body) and body.format != "text":
        place = "segments" if body.segments else "hints"
        raise RequestError("HTML texts have no segments, since tags are not translated with them", place=place, valid="false, or format: text")
    fallbacks = requested_fallbacks(state.service.limits.fallback, body.fallback)
    parsed = ParsedRequest(
        body.source, body.target, checked_texts(body.text), body.timeout, body.cache, parse_html if body.format == "html" else None,
        body.quality, body.alternatives, located(body), body.hints, fallbacks, body.base,
        None if body.glossary is None else await glossary_of(request, state, body.glossary, body.source, body.target),
    )  # fmt: skip
    result = await translate_texts(request, state.service, parsed)
    response.headers.update(result.headers())
    return _response(result, body)

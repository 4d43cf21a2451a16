"""The native API: translations with the adapter version that made them."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from serve.adapters.base_only import check_base_allowed
from serve.api.handler import checked_texts, segments_of, translated
from serve.api.options import PARAMETERS
from serve.api.schema import ERRORS, Answer, Asked
from serve.http.bodies import body_schema, read_body
from serve.translation.markup_html import parse_html
from serve.translation.routing import asked_ways
from tell.errors import RequestError

routes = APIRouter()


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
    check_base_allowed(asked.base, request.app.state.compare_base)
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

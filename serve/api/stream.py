"""Translations part by part, while the engine works: POST /api/v1/translate/stream sends one JSON object a line (NDJSON).

    {"index": 0, "text": "First line.\n", "truncated": false, "flags": []}      a part of the translation of text 0; the parts, joined, are the translation;
                                                                                with `segments: true` also the segment that the part is of,
                                                                                and with `hints: true` the hints of this
    {"done": true, "pair": "is-en", "adapter": "...", "base": "...", "quality": "fast"}
    {"error": "...", "status": 504}                                instead of the last line, when something failed after the head was sent

Not server-sent events: those are for a browser's EventSource, which cannot POST, and every client has a reader of lines and of JSON.
An error before the first part is an ordinary error response.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
from collections.abc import Sequence
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from serve.adapters.base_only import check_base_allowed
from serve.adapters.versions import Version
from serve.api.glossaries import glossary_of
from serve.api.handler import StateDep, check_pair_header, checked_texts, in_time, request_options, translator_headers
from serve.api.native import located, segments_of, steps_of
from serve.api.openapi import inlined
from serve.api.schema import (
    ERRORS,
    FLAGS,
    GLOSSARY_NOT_FOUND,
    PARAMETERS,
    TRANSLATOR_HEADERS,
    DetectedLanguage,
    GlossaryUse,
    RouteStep,
    Segment,
    TranslateRequest,
)
from serve.auth.gate import charge, mark_unfinished
from serve.config import Fallback
from serve.http.bodies import body_schema, read_body
from serve.http.middleware import unless_gone
from serve.logs import where
from serve.translation.decoder import Quality
from serve.translation.request import RequestOptions, Translation
from serve.translation.routing import Route, TextRoutes, requested_fallbacks
from serve.translation.service import Service
from tell.errors import RequestError, TellmtError
from tell.text.flags import Flag, union
from tell.text.language_id import Detected

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/x-ndjson"
# Proxies hold back what they think is one response.
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
# Seconds that a client which does not read has to take the line with the error.
ERROR_SECONDS = 5.0


class TranslationPart(BaseModel):
    """A part of the translation of one text."""

    index: int = Field(description="The number of the text, from 0. Every text has at least one part, and its parts come in order")
    text: str = Field(description="The part, with the line breaks and white space around it; the parts, joined, are the translation")
    truncated: bool = Field(description="Whether the token limit cut this part")
    flags: list[Flag] = Field(description=f"{FLAGS}. In a pivot, flags of the text between the two steps are included")
    segments: list[Segment] = Field(
        default=[],
        description="With segments: true or hints: true: the segment that the part is of, with its ranges in the whole text and the whole translation; or none",
    )
    pair: str = Field(
        default="", description="With source auto: the pair that translated; absent where the text is in the target language and was not translated"
    )
    detected: DetectedLanguage = Field(default=DetectedLanguage(language="und", confidence=0.0), description="With source auto: the language of the text")


class StreamEnd(BaseModel):
    """The last line when all texts are translated: it names the translator."""

    done: Literal[True]
    pair: str
    adapter: str
    base: str
    quality: Quality
    fallback: Fallback = Field(default="pivot", description="Where the pair has no adapter; with source auto this line names the translator of the last texts")
    via: list[RouteStep] = Field(default=[], description="Where the pair has no adapter: the steps that translated, in order")
    glossary: GlossaryUse = Field(
        default=GlossaryUse(applied=True), description="Where the request has a glossary; the service does not look for its terms in the parts of a pivot"
    )


class StreamError(BaseModel):
    """The last line when the translation failed."""

    error: str
    status: int


routes = APIRouter(tags=["native"])


def _line(**event: Any) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode() + b"\n"


class StreamResponse(Response):
    """Translates while it sends, so that an early failure is still an error response, and the work stops when the client leaves."""

    media_type = MEDIA_TYPE

    def __init__(self, request: Request, service: Service, texts: list[str], options: RequestOptions, routes: TextRoutes):
        self.request, self.service, self.texts, self.options, self.routes = request, service, texts, options, routes
        self.status_code, self.background = 200, None
        self.started = False
        # Lines that wait for the head: until it is sent, the response may still become an error.
        self.unsent: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await unless_gone(self.request, self._send_or_fail(send))

    async def _send_or_fail(self, send: Send) -> None:
        try:
            async with in_time(self.options, self.service.metrics):
                await self._send_all(send)
        except Exception as e:
            if not self.started:
                raise
            mark_unfinished(self.request)
            line = _line(error="something went wrong in the service", status=500)
            if isinstance(e, TellmtError):
                line = _line(error=e.thing if e.status >= 500 else str(e), status=e.status)
                logger.log(logging.WARNING if e.status >= 500 else logging.INFO, f"{e.status}: {e.thing}, in a stream", extra={"status": e.status})
            else:
                logger.error(f"unexpected {where(e)}, in a stream")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ERROR_SECONDS):
                    await send({"type": "http.response.body", "body": line, "more_body": False})

    async def _send_all(self, send: Send) -> None:
        """The texts in order; neighbours of one route are translated together."""
        last_route: Route | None = None
        versions: list[Version] = []
        for route, numbers in self.routes.runs():
            if route is None:
                await self._send_untranslated(send, numbers)
            else:
                last_route, versions = route, await self._send_run(send, route, numbers)
        if last_route is None:
            last_route = self.routes.default
            async with self.service.step(last_route, len(last_route.steps) - 1, self.options.seconds_left()) as version:
                versions = [version]
                await self._start(send, last_route, versions)
        await self._flush(send)
        end: dict[str, Any] = {
            "pair": last_route.pair,
            "adapter": versions[-1].name,
            "base": versions[-1].adapter.card.base.id,
            "quality": self.options.quality,
        }
        if (applied := self.options.glossary_applied(versions)) is not None:
            end["glossary"] = {"applied": applied}
        if last_route.fallback:
            end |= {"fallback": last_route.fallback, "via": [s.model_dump(exclude_none=True) for s in steps_of(versions)]}
        await send({"type": "http.response.body", "body": _line(done=True, **end), "more_body": False})

    async def _send_untranslated(self, send: Send, numbers: Sequence[int]) -> None:
        """Texts that stay as they are: in the target language already, or in one that no adapter translates."""
        optional_fields: dict[str, Any] = {"segments": []} if self.options.segments else {}
        for i in numbers:
            route = self.routes.texts[i]
            self.unsent.append(_line(index=i, text=self.texts[i], truncated=False, flags=route.flags, **optional_fields, detected=_language(route.detected)))
        if self.started:
            await self._flush(send)

    async def _send_run(self, send: Send, route: Route, numbers: Sequence[int]) -> list[Version]:
        """Neighbouring texts of one route. Returns the versions that translated."""
        texts = [self.texts[i] for i in numbers]
        versions: list[Version] = []
        pivots: list[Translation] = []
        options = self.options
        if len(route.steps) > 1:
            # The terms of a glossary are of neither step's pair.
            options = dataclasses.replace(options, glossary=None, hints=False)
            # The texts between the steps of a pivot are translated whole before the first part of their translation.
            async with self.service.step(route, 0, options.seconds_left()) as version:
                versions.append(version)
                pivots = await self.service.translate(version, texts, dataclasses.replace(options, meter=None))
        options = dataclasses.replace(options, measured=bool(pivots))
        texts = [t.text for t in pivots] or texts
        leased = self.service.step(route, len(route.steps) - 1, options.seconds_left())
        async with leased as version, self.service.decoding(version, texts, options) as pending:
            versions.append(version)
            await self._start(send, route, versions)
            await self._flush(send)
            async for position, part in pending.parts():
                flags, truncated = part.flags, part.truncated
                if pivots:
                    flags, truncated = union([pivots[position].flags, flags]), truncated or pivots[position].truncated
                optional_fields: dict[str, Any] = {}
                if options.segments:
                    segments = [] if pivots else segments_of(part, options.hints)
                    optional_fields["segments"] = [s.model_dump(exclude_none=True) for s in segments]
                number = numbers[position]
                if detected := self.routes.texts[number].detected:
                    optional_fields |= {"pair": route.pair, "detected": _language(detected)}
                self.unsent.append(_line(index=number, text=part.text, truncated=truncated, flags=flags, **optional_fields))
                await self._flush(send)
        return versions

    async def _start(self, send: Send, route: Route, versions: Sequence[Version]) -> None:
        if self.started:
            return
        self.request.scope["tellmt.version"] = versions[-1].labels
        applied = self.options.glossary_applied(versions)
        self.init_headers({**translator_headers(route, versions, self.options, applied), **HEADERS})
        self.started = True
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})

    async def _flush(self, send: Send) -> None:
        while self.unsent:
            await send({"type": "http.response.body", "body": self.unsent.pop(0), "more_body": True})


def _language(detected: Detected | None) -> dict[str, Any]:
    return {} if detected is None else {"language": detected.language, "confidence": round(detected.confidence, 4)}


def _line_schema() -> dict[str, Any]:
    """The schema of a line. FastAPI describes JSON bodies alone."""
    return {"oneOf": [inlined(model) for model in (TranslationPart, StreamEnd, StreamError)]}


_LINES: dict[str, Any] = {
    "part": {"index": 0, "text": "Hello world.", "truncated": False, "flags": []},
    "part with segments": {
        "index": 0, "text": "\nHow are you?", "truncated": False, "flags": [],
        "segments": [{"source": [14, 26], "target": [13, 25], "truncated": False, "flags": []}],
    },
    "done": {"done": True, "pair": "is-en", "adapter": "3f9a0c1d5b7e28460f3c5a7e91d24b86", "base": "gemma-3-270m", "quality": "fast"},
    "failed": {"error": "the translation was not done in the 10 s that the request has", "status": 504},
}  # fmt: skip
EXAMPLES = {name: {"value": line} for name, line in _LINES.items()}
NDJSON: dict[str, Any] = {
    "description": "One JSON object a line", "headers": TRANSLATOR_HEADERS, "content": {MEDIA_TYPE: {"schema": _line_schema(), "examples": EXAMPLES}}
}  # fmt: skip


@routes.post(
    "/api/v1/translate/stream",
    response_class=StreamResponse,
    status_code=200,
    responses={**ERRORS, **GLOSSARY_NOT_FOUND, 200: NDJSON},
    openapi_extra={**body_schema(TranslateRequest, "application/json"), "parameters": PARAMETERS},
    summary="Translate texts, and send each part as soon as it is translated",
)
async def stream(request: Request, state: StateDep) -> Response:
    body = await read_body(request, TranslateRequest)
    if body.base:
        check_base_allowed(state.compare_base)
    if body.format != "text":
        raise RequestError(
            "HTML is not sent in parts, since its tags belong together", place="format", found=body.format, valid="text, or POST /api/v1/translate"
        )
    if body.alternatives:
        raise RequestError("alternatives are not sent in parts", place="alternatives", valid="0, or POST /api/v1/translate")
    texts = checked_texts(body.text)
    check_pair_header(request, body.source, body.target)
    service = state.service
    glossary = None if body.glossary is None else await glossary_of(request, state, body.glossary, body.source, body.target)
    options = request_options(request, service, body.timeout, body.cache, body.quality, segments=located(body), glossary=glossary, hints=body.hints)
    service.check(texts, options)
    routes = await service.routes(body.source, body.target, texts, requested_fallbacks(service.limits.fallback, body.fallback), body.base)
    await charge(request, texts)
    return StreamResponse(request, service, texts, options, routes)

"""Translations as they come: POST /api/v1/translate/stream, one JSON object a line (NDJSON).

    {"index": 0, "text": "First line.\n", "truncated": false, "flags": []}      a part of the translation of text 0; its parts, joined, are the translation;
                                                                                with `segments: true` it says of which part of the text it is
    {"done": true, "pair": "is-en", "adapter": "...", "base": "...", "quality": "fast"}
    {"error": "...", "status": 504}                                instead of the last line, when it went wrong after the head was sent

Not server-sent events: those are for a browser's EventSource, which cannot POST, and every client has a reader of lines and of JSON.
What is wrong before the first part is known is an ordinary error answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import Sequence
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from serve.adapters.base_only import check_base_allowed
from serve.adapters.versions import Version
from serve.api.handler import checked_texts, segments_of, steps
from serve.api.openapi import inlined
from serve.api.options import NAMED, PARAMETERS, ask_of, in_time, named
from serve.api.schema import ERRORS, Asked, Language, Segment, Step
from serve.auth.gate import charge
from serve.config import Way
from serve.http.bodies import body_schema, read_body
from serve.http.middleware import unless_gone
from serve.logs import where
from serve.translation.quality import Quality
from serve.translation.request import Ask, Translation
from serve.translation.routing import Route, asked_ways
from serve.translation.service import Service
from serve.translation.source_language import Found, find_all, pairs_into
from tell.console import say
from tell.errors import RequestError, TellmtError
from tell.text.flags import Flag, union

KIND = "application/x-ndjson"
# Proxies hold back what they think is one answer.
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
# Seconds that a client which does not read is given to take the line that says so.
LAST_WORD = 5.0


class Part(BaseModel):
    index: int = Field(description="The number of the text, from 0. Every text has one part or more, in order")
    text: str = Field(description="A part of its translation, with the lines and white space around it; all parts, joined, are the translation")
    truncated: bool = Field(description="Whether this part was cut at the token limit")
    flags: list[Flag] = Field(description="What looks wrong with this part after all tries, the worst first; in a pivot also with the text between the steps")
    segments: list[Segment] = Field(
        default=[],
        description="With segments: true: the one segment that the part is of, with its places in the whole text and the whole translation; or none",
    )
    pair: str = Field(
        default="", description="With source auto: the pair that translated; not there where the text is in the target language, and stays as it is"
    )
    detected: Language = Field(default=Language(language="und", confidence=0.0), description="With source auto: the language of the text")


class Done(BaseModel):
    """The last line, when all is translated: who translated."""

    done: Literal[True]
    pair: str
    adapter: str
    base: str
    quality: Quality
    fallback: Way = Field(default="pivot", description="Where the pair has no adapter; with source auto, as all here, that of the last texts")
    via: list[Step] = Field(default=[], description="Where the pair has no adapter: what translated, in order")


class Failed(BaseModel):
    """The last line, when it is not."""

    error: str
    status: int


routes = APIRouter(tags=["native"])


def _line(**event: Any) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode() + b"\n"


class Lines(Response):
    """Runs the translation while it is sent, so that what goes wrong first is still an error answer, and a client that leaves ends it."""

    media_type = KIND

    def __init__(self, request: Request, asked: Asked, texts: list[str], ask: Ask, stretches: list[Stretch], default: Route):
        self.request, self.asked, self.texts, self.ask, self.stretches, self.default = request, asked, texts, ask, stretches, default
        self.service: Service = request.app.state.service
        self.status_code, self.background = 200, None
        self.begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await unless_gone(self.request, self._told(send))

    async def _told(self, send: Send) -> None:
        try:
            async with in_time(self.ask, self.service.metrics):
                await self._sent(send)
        except Exception as e:
            if not self.begun:
                raise
            last = _line(error="something went wrong in the service", status=500)
            if isinstance(e, TellmtError):
                last = _line(error=e.thing if e.status >= 500 else str(e), status=e.status)
            say(f"{e.status}: {e.thing}, in a stream" if isinstance(e, TellmtError) else f"unexpected {where(e)}")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORD):
                    await send({"type": "http.response.body", "body": last, "more_body": False})

    async def _sent(self, send: Send) -> None:
        """One stretch of texts after the other that one pair translates."""
        last: Route | None = None
        by: list[Version] = []
        kept: list[bytes] = []
        for route, first, found in self.stretches:
            texts = self.texts[first : first + len(found)]
            if route is None:
                # In the target language already. Before the head is sent it may still be that all ends in an error answer.
                for i, (text, f) in enumerate(zip(texts, found, strict=True), first):
                    more: dict[str, Any] = {"segments": []} if self.asked.segments else {}
                    kept.append(_line(index=i, text=text, truncated=False, flags=(), **more, detected=_language(f)))
                if self.begun:
                    await self._flush(send, kept)
                continue
            last, by = route, []
            before: list[Translation] = []
            if len(route.steps) > 1:
                # What is between the steps of a pivot is translated whole before the first part of what comes of it.
                async with self.service.step(route, 0) as version:
                    by.append(version)
                    before = await self.service.translate(version, texts, self.ask)
            ask = dataclasses.replace(self.ask, measured=bool(before))
            texts = [t.text for t in before] or texts
            async with self.service.step(route, len(route.steps) - 1) as version, self.service.work(version, texts, ask) as work:
                by.append(version)
                await self._begin(send, route, by)
                await self._flush(send, kept)
                async for number, part in work.parts():
                    flags, cut = part.flags, part.truncated
                    if before:
                        flags, cut = union([before[number].flags, flags]), cut or before[number].truncated
                    more = {"segments": [] if before else [s.model_dump() for s in segments_of(part)]} if self.asked.segments else {}
                    if found[number]:
                        more |= {"pair": route.pair, "detected": _language(found[number])}
                    await self._flush(send, [_line(index=first + number, text=part.text, truncated=cut, flags=flags, **more)])
        if last is None:
            last = self.default
            async with self.service.step(last, len(last.steps) - 1) as version:
                by.append(version)
                await self._begin(send, last, by)
        await self._flush(send, kept)
        end: dict[str, Any] = {"pair": last.pair, "adapter": by[-1].name, "base": by[-1].adapter.card.base.id, "quality": self.ask.quality}
        if last.way:
            end |= {"fallback": last.way, "via": [s.model_dump(exclude_none=True) for s in steps(by)]}
        await send({"type": "http.response.body", "body": _line(done=True, **end), "more_body": False})

    async def _begin(self, send: Send, route: Route, by: Sequence[Version]) -> None:
        if self.begun:
            return
        self.request.scope["tellmt.version"] = by[-1].labels
        self.init_headers({**named(route, by, self.ask), **HEADERS})
        self.begun = True
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})

    async def _flush(self, send: Send, kept: list[bytes]) -> None:
        while kept:
            await send({"type": "http.response.body", "body": kept.pop(0), "more_body": True})


def _language(found: Found | None) -> dict[str, Any]:
    return {} if found is None else {"language": found.detected.language, "confidence": round(found.detected.confidence, 4)}


# How it is translated (None: nothing to do), the number of the first text, and what was found of each, with source auto.
Stretch = tuple[Route | None, int, list[Found | None]]


async def _stretches(service: Service, asked: Asked, texts: list[str]) -> tuple[list[Stretch], Route]:
    """What is translated together, in order, and the pair that is named where nothing is translated."""
    ways = asked_ways(service.limits.fallback, asked.fallback)

    def route(source: str, target: str) -> Route:
        return dataclasses.replace(service.route(source, target, ways), bare=asked.base)

    if asked.source != "auto":
        only = route(asked.source, asked.target)
        return [(only, 0, [None] * len(texts))], only
    pairs = pairs_into(service.pairs(ways), asked.target)
    routes = {pair: route(pair.source.tag, pair.target.tag) for pair in pairs}
    out: list[Stretch] = []
    for i, found in enumerate(await find_all(pairs, texts)):
        own = routes[found.pair] if found.pair else None
        if out and out[-1][0] == own:
            out[-1][2].append(found)
        else:
            out.append((own, i, [found]))
    return out, routes[pairs[0]]


def _schema() -> dict[str, Any]:
    """What a line can be. FastAPI describes JSON answers alone."""
    return {"oneOf": [inlined(model) for model in (Part, Done, Failed)]}


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


@routes.post(
    "/api/v1/translate/stream",
    response_class=Lines,
    status_code=200,
    responses={**ERRORS, 200: {"description": "One object a line", "headers": NAMED, "content": {KIND: {"schema": _schema(), "examples": EXAMPLES}}}},
    openapi_extra={**body_schema(Asked, "application/json"), "parameters": PARAMETERS},
    summary="Translate texts, and send each part as it is done",
)
async def stream(request: Request) -> Response:
    asked = await read_body(request, Asked)
    check_base_allowed(asked.base, request.app.state.compare_base)
    if asked.format != "text":
        raise RequestError(
            "HTML is not sent in parts, since its tags belong together", place="format", found=asked.format, valid="text, or POST /api/v1/translate"
        )
    if asked.alternatives:
        raise RequestError("alternatives are not sent in parts", place="alternatives", valid="0, or POST /api/v1/translate")
    texts = checked_texts(asked.text)
    ask = ask_of(request, asked.timeout, asked.cache, asked.quality)
    request.app.state.service.check(texts, ask)
    stretches = await _stretches(request.app.state.service, asked, texts)
    await charge(request, texts)
    return Lines(request, asked, texts, ask, *stretches)

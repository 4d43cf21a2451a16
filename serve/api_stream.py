"""Translations as they come: POST /api/v1/translate/stream, one JSON object a line (NDJSON).

    {"index": 0, "text": "First line.\n", "truncated": false}      a part of the translation of text 0; its parts, joined, are the translation
    {"done": true, "pair": "is-en", "adapter": "...", "base": "..."}
    {"error": "...", "status": 504}                                instead of the last line, when it went wrong after the head was sent

Not server-sent events: those are for a browser's EventSource, which cannot POST, and every client has a reader of lines and of JSON.
What is wrong before the first part is known is an ordinary error answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from serve.api_native import ERRORS, Asked, checked_texts
from serve.asking import NAMED, PARAMETERS, ask_of, in_time, named
from serve.bodies import body_schema, read_body
from serve.gate import charge
from serve.guards import unless_gone, where
from serve.service import Ask, Service
from tell.console import say
from tell.errors import TellmtError

KIND = "application/x-ndjson"
# Proxies hold back what they think is one answer.
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
# Seconds that a client which does not read is given to take the line that says so.
LAST_WORD = 5.0


class Part(BaseModel):
    index: int = Field(description="The number of the text, from 0. Every text has one part or more, in order")
    text: str = Field(description="A part of its translation, with the lines and white space around it; all parts, joined, are the translation")
    truncated: bool = Field(description="Whether this part was cut at the token limit")


class Done(BaseModel):
    """The last line, when all is translated."""

    done: Literal[True]
    pair: str
    adapter: str
    base: str


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

    def __init__(self, request: Request, asked: Asked, texts: list[str], ask: Ask):
        self.request, self.asked, self.texts, self.ask = request, asked, texts, ask
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
        asked = self.asked
        async with self.service.lease(asked.source, asked.target) as version:
            card = version.adapter.card
            self.request.scope["tellmt.version"] = (card.pair, version.adapter.id)
            async with self.service.work(version, self.texts, self.ask) as work:
                self.init_headers({**named(version), **HEADERS})
                self.begun = True
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                async for number, part in work.parts():
                    body = _line(index=number, text=part.text, truncated=part.truncated)
                    await send({"type": "http.response.body", "body": body, "more_body": True})
            last = _line(done=True, pair=card.pair, adapter=version.adapter.id, base=card.base.id)
            await send({"type": "http.response.body", "body": last, "more_body": False})


def _schema() -> dict[str, Any]:
    """What a line can be. FastAPI describes JSON answers alone."""
    return {"oneOf": [model.model_json_schema() for model in (Part, Done, Failed)]}


@routes.post(
    "/api/v1/translate/stream",
    response_class=Lines,
    status_code=200,
    responses={**ERRORS, 200: {"description": "One object a line", "headers": NAMED, "content": {KIND: {"schema": _schema()}}}},
    openapi_extra={**body_schema(Asked, "application/json"), "parameters": PARAMETERS},
    summary="Translate texts, and send each part as it is done",
)
async def stream(request: Request) -> Response:
    asked = await read_body(request, Asked)
    texts = checked_texts(asked.text)
    ask = ask_of(request, asked.timeout, asked.cache)
    request.app.state.service.check(texts, ask)
    await charge(request, texts)
    return Lines(request, asked, texts, ask)

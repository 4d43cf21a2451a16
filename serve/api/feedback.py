"""POST /api/v1/feedback: a translation as it should have been. Kept where the operator names a file for it (`serve.corrections`), and else refused with 404."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from serve.api.schema import CODE, MAX_CODE, Problem
from serve.corrections import Feedback
from serve.http.bodies import body_schema, read_body
from serve.translation.service import Service
from tell.errors import NotFound, NotServed, TooLarge
from tell.languages import LanguagePair, language

BLANK = r"\S"
EXAMPLE: dict[str, Any] = {
    "source": "is", "target": "en", "text": "Halló heimur.", "translation": "Hallo world.", "correction": "Hello world.",
    "adapter": "3f9a0c1d5b7e28460f3c5a7e91d24b86",
}  # fmt: skip


class Asked(BaseModel):
    """A text, the adapter that translated it, and what it should have written."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    source: str = Field(max_length=MAX_CODE, description=CODE)
    target: str = Field(max_length=MAX_CODE, description=CODE)
    text: str = Field(pattern=BLANK, description="the text that was translated")
    correction: str = Field(pattern=BLANK, description="the translation as it should be")
    translation: str = Field(default="", description="the translation as it was")
    adapter: str = Field(pattern=r"^([0-9a-f]{32}|base)$", description="the id of the adapter that translated, as the answer named it")


routes = APIRouter(tags=["native"])


def _pair(service: Service, asked: Asked) -> str:
    """The pair that answers for these codes; one that is served no more as it was asked for."""
    wanted = LanguagePair(language(asked.source, "source"), language(asked.target, "target"))
    try:
        return service.versions.find_pair(asked.source, asked.target)
    except NotServed:
        return str(wanted)


@routes.post(
    "/api/v1/feedback",
    status_code=204,
    responses={
        400: {"model": Problem, "description": "The request cannot be used"},
        404: {"model": Problem, "description": "This service keeps no feedback"},
        413: {"model": Problem, "description": "Too much in one request"},
        507: {"model": Problem, "description": "The file that feedback is kept in is full"},
    },
    openapi_extra=body_schema(Asked, "application/json"),
    summary="Say what a translation should have been",
)
async def post(request: Request) -> None:
    feedback: Feedback | None = request.app.state.feedback
    if feedback is None:
        raise NotFound("this service keeps no feedback", valid="tellmt serve --feedback FILE")
    asked = await read_body(request, Asked)
    service: Service = request.app.state.service
    if (characters := len(asked.text) + len(asked.correction) + len(asked.translation)) > service.limits.characters:
        raise TooLarge("too much text in one request", found=f"{characters} characters", valid=f"at most {service.limits.characters}")
    caller = request.scope["tellmt.caller"]
    record = {
        "source": asked.text, "target": asked.correction, "translation": asked.translation, "pair": _pair(service, asked), "adapter": asked.adapter,
        "time": datetime.now(UTC).isoformat(timespec="seconds"), "key": caller.name if caller.id else None,
    }  # fmt: skip
    await asyncio.to_thread(feedback.keep, record)

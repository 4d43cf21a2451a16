"""POST /api/v1/feedback: a correction of a translation. The service keeps it where the operator names a file (`serve.corrections`), and else answers 404."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from serve.api.handler import StateDep
from serve.api.schema import CODE, MAX_CODE, Error
from serve.auth.gate import caller_of
from serve.corrections import Feedback
from serve.http.bodies import body_schema, read_body
from serve.threads import FEEDBACK
from serve.translation.service import Service
from tell.errors import NotFound, NotServed, TooLarge
from tell.languages import LanguagePair, language

NOT_BLANK = r"\S"
EXAMPLE: dict[str, Any] = {
    "source": "is", "target": "en", "text": "Halló heimur.", "translation": "Hallo world.", "correction": "Hello world.",
    "adapter": "3f9a0c1d5b7e28460f3c5a7e91d24b86",
}  # fmt: skip


class FeedbackRequest(BaseModel):
    """A text, the adapter that translated it, and the correct translation."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    source: str = Field(max_length=MAX_CODE, description=CODE)
    target: str = Field(max_length=MAX_CODE, description=CODE)
    text: str = Field(pattern=NOT_BLANK, description="the text that was translated")
    correction: str = Field(pattern=NOT_BLANK, description="the correct translation")
    translation: str = Field(default="", description="the translation that the service gave")
    adapter: str = Field(pattern=r"^([0-9a-f]{32}|base)$", description="the id of the adapter that translated, as the response named it")


routes = APIRouter(tags=["native"])


def _pair(service: Service, body: FeedbackRequest) -> str:
    """The pair that translates between these languages now; where none does any more, the pair as the request names it."""
    pair = LanguagePair(language(body.source, "source"), language(body.target, "target"))
    try:
        return service.versions.find_pair(body.source, body.target)
    except NotServed:
        return str(pair)


@routes.post(
    "/api/v1/feedback",
    status_code=204,
    responses={
        400: {"model": Error, "description": "The request is not valid"},
        404: {"model": Error, "description": "This service keeps no feedback"},
        413: {"model": Error, "description": "The request has too much text"},
        507: {"model": Error, "description": "The feedback file is full"},
    },
    openapi_extra=body_schema(FeedbackRequest, "application/json"),
    summary="Send the correct translation of a text",
)
async def post(request: Request, state: StateDep) -> None:
    if state.feedback is None:
        raise NotFound("this service keeps no feedback", valid="tellmt serve --feedback FILE")
    await keep_correction(request, state.service, state.feedback, await read_body(request, FeedbackRequest))


async def keep_correction(request: Request, service: Service, feedback: Feedback, body: FeedbackRequest) -> None:
    """Append a correction to the operator's file, and return when it is on the disk. `adapter` is empty where the client does not know which one translated.

    Raises TooLarge, LanguageError, NoRoom, NotKept.
    """
    limit = service.limits.characters
    if (characters := len(body.text) + len(body.correction) + len(body.translation)) > limit:
        raise TooLarge("too much text in one request", found=f"{characters} characters", valid=f"at most {limit}")
    caller = caller_of(request)
    record = {
        "source": body.text, "target": body.correction, "translation": body.translation, "pair": _pair(service, body), "adapter": body.adapter,
        "time": datetime.now(UTC).isoformat(timespec="seconds"), "key": caller.name if caller.id else None,
    }  # fmt: skip
    await FEEDBACK.run(feedback.keep, record)

"""The native API: translations with the adapter version that made them, and what is live."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from serve.bodies import body_schema, read_body
from serve.follow import Follower
from serve.guards import unless_gone
from serve.service import Service, Translation
from tell.errors import LanguageError, RequestError
from tell.languages import parse_pair

# Longer than any BCP 47 tag in use.
MAX_CODE = 35
CODE = "a BCP 47 language code, such as is or pt-BR"


class Problem(BaseModel):
    """Every answer that is not 2xx."""

    error: str = Field(description="What is wrong, for a person")
    pairs: list[str] | None = Field(default=None, description="The pairs served now, where the one asked for is not")


class Asked(BaseModel):
    """A text, or up to a thousand of them."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"source": "is", "target": "en", "text": "Halló heimur."}]})

    source: str = Field(max_length=MAX_CODE, description=f"{CODE}, or auto where only one pair goes into the target")
    target: str = Field(max_length=MAX_CODE, description=CODE)
    text: str | list[str] = Field(description="a string, or a list of strings")


class Translated(BaseModel):
    text: str = Field(description="The translation, with the lines and white space of the text")
    truncated: bool = Field(description="Whether some of it was cut at the token limit")


class Answer(BaseModel):
    pair: str
    adapter: str = Field(description="The id of the adapter that translated: the hash of its content")
    base: str
    translations: list[Translated] = Field(description="One per text, in order")


class Code(BaseModel):
    code: str
    name: str
    autonym: str
    rtl: bool


class PairStatus(BaseModel):
    pair: str
    source: Code | None
    target: Code | None
    adapter: str | None = Field(description="The version that answers now")
    wanted: str | None = Field(description="The version that the registry names as live; where it names none, the one that came with tellmt")
    shipped: bool = Field(description="Whether `wanted` came with tellmt: the registry has no live version of the pair")
    state: str = Field(description="live; loading; or refused, with the reason, while `adapter` (if any) goes on answering")
    reason: str | None
    base: str | None
    since: datetime | None
    in_flight: int
    scores: list[dict[str, Any]] = Field(description="From the card of the version that answers")


class Status(BaseModel):
    engine: str
    base: str
    revision: str
    reason: str | None = Field(description="Why the registry cannot be read, if so")
    pairs: list[PairStatus]


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The request cannot be used, or its pair is not served"},
    413: {"model": Problem, "description": "Too much in one request"},
    503: {"model": Problem, "description": "Starting, overloaded, or the engine is down; Retry-After says when to ask again"},
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


async def translated(request: Request, source: str, target: str, texts: list[str]) -> tuple[Answer, list[Translation]]:
    """What both APIs do: lease the pair's version, translate, and leave off when the client does."""
    service: Service = request.app.state.service
    with service.lease(source, target) as version:
        card = version.adapter.card
        request.scope["tellmt.version"] = (card.pair, version.adapter.id)
        made = await unless_gone(request, service.translate(version, texts))
    translations = [Translated(text=t.text, truncated=t.truncated) for t in made]
    return Answer(pair=card.pair, adapter=version.adapter.id, base=card.base.id, translations=translations), made


@routes.post(
    "/api/v1/translate",
    response_model=Answer,
    responses=ERRORS,
    openapi_extra=body_schema(Asked, "application/json"),
    summary="Translate texts",
    tags=["native"],
)
async def translate(request: Request) -> Answer:
    asked = await read_body(request, Asked)
    answer, _ = await translated(request, asked.source, asked.target, checked_texts(asked.text))
    return answer


def _codes(pair: str) -> tuple[Code | None, Code | None]:
    try:
        found = parse_pair(pair)
    except LanguageError:
        # The name of a file in the registry that no pair has.
        return None, None
    source, target = (Code(code=x.tag, name=x.name, autonym=x.autonym, rtl=x.rtl) for x in (found.source, found.target))
    return source, target


@routes.get("/api/v1/adapters", response_model=Status, summary="What answers for each pair, and why not something else", tags=["native"])
async def adapters(request: Request) -> Status:
    service: Service = request.app.state.service
    follower: Follower = request.app.state.follower
    pairs = []
    for pair, followed in sorted(follower.pairs.items()):
        version = service.versions.live.get(pair)
        card = version.adapter.card if version else None
        source, target = _codes(pair)
        pairs.append(
            PairStatus(
                pair=pair, source=source, target=target, adapter=version.adapter.id if version else None, wanted=followed.wanted, shipped=followed.shipped,
                state=followed.state, reason=followed.reason, base=card.base.id if card else None,
                since=datetime.fromtimestamp(version.since, UTC) if version else None, in_flight=version.in_flight if version else 0,
                scores=card.scores if card else [],
            )
        )  # fmt: skip
    return Status(engine=service.engine.name, base=service.base.id, revision=service.base.revision, reason=follower.reason, pairs=pairs)

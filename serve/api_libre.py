"""LibreTranslate's API, as far as its clients use it: POST /translate and GET /languages.

A text that cannot be told apart from markup is translated as text; `format: html` is refused rather than damaged.
"""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from serve.api_native import CODE, ERRORS, MAX_CODE, checked_texts, translated
from serve.asking import PARAMETERS
from serve.bodies import body_schema, read_body
from serve.gate import identify
from serve.service import Service
from tell.errors import RequestError
from tell.languages import parse_pair


class Asked(BaseModel):
    """What LibreTranslate's clients send; `alternatives` and what else they add is not read."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={"examples": [{"q": "Halló heimur.", "source": "is", "target": "en", "format": "text"}]})

    q: str | list[str] = Field(description="a string, or a list of strings")
    source: str = Field(max_length=MAX_CODE, description=f"{CODE}, or auto where only one pair goes into the target")
    target: str = Field(max_length=MAX_CODE, description=CODE)
    format: Literal["text", "html"] = Field(default="text", description="text")
    api_key: str = Field(default="", description="an API key, where no header holds one")


class Detected(BaseModel):
    confidence: float
    language: str


class Answer(BaseModel):
    translatedText: str | list[str] = Field(description="A string for a string, a list for a list")
    detectedLanguage: Detected | list[Detected] | None = Field(
        default=None, description="For source auto: the language of the only pair into the target. Nothing is detected, so the confidence is 0"
    )


class Language(BaseModel):
    code: str
    name: str
    targets: list[str]


routes = APIRouter(tags=["LibreTranslate"])


@routes.post(
    "/translate",
    response_model=Answer,
    response_model_exclude_none=True,
    responses=ERRORS,
    openapi_extra={**body_schema(Asked, "application/json", "application/x-www-form-urlencoded", "multipart/form-data"), "parameters": PARAMETERS},
    summary="Translate texts, as LibreTranslate does",
)
async def translate(request: Request, response: Response) -> Answer:
    asked = await read_body(request, Asked, forms=True)
    await identify(request, asked.api_key)
    if asked.format == "html":
        raise RequestError("HTML is not translated yet", place="format", found="html", valid="text")
    answer, made = await translated(request, response, asked.source, asked.target, checked_texts(asked.q))
    texts = [t.text for t in made]
    one = isinstance(asked.q, str)
    if asked.source != "auto":
        return Answer(translatedText=texts[0] if one else texts)
    found = Detected(confidence=0.0, language=parse_pair(answer.pair).source.tag)
    return Answer(translatedText=texts[0] if one else texts, detectedLanguage=found if one else [found] * len(texts))


@routes.get("/languages", response_model=list[Language], summary="The languages of the live pairs, as LibreTranslate lists them")
async def languages(request: Request) -> list[Language]:
    service: Service = request.app.state.service
    out: dict[str, Language] = {}
    for pair in (parse_pair(p) for p in service.pairs()):
        for side in (pair.source, pair.target):
            out.setdefault(side.tag, Language(code=side.tag, name=side.name, targets=[]))
        out[pair.source.tag].targets.append(pair.target.tag)
    return sorted(out.values(), key=lambda x: x.name)

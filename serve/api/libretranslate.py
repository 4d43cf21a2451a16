"""LibreTranslate's API, as its clients use it: /translate, /detect, /languages, /frontend/settings, /translate_file and the file it links to.

`format: html` is parsed (serve.translation.markup_html); without it, what looks like markup is text with placeholders in it.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from serve.api.documents import GONE, NOT_DONE, begin, file_of
from serve.api.handler import checked_texts, translated
from serve.api.options import PARAMETERS, ask_of, in_time
from serve.api.schema import CODE, ERRORS, MAX_CODE
from serve.auth.gate import LINKS, identify
from serve.documents.jobs import Jobs
from serve.documents.parts import FORMATS
from serve.http.bodies import MULTIPART, URLENCODED, body_schema, read_body, read_upload, upload_schema
from serve.http.middleware import unless_gone
from serve.translation.markup_html import parse_html
from serve.translation.quality import ALTERNATIVES, MOST_ALTERNATIVES
from serve.translation.request import Translation
from serve.translation.service import Service
from tell.errors import NotFound, NotServed
from tell.languages import parse_pair
from tell.text.language_id import Detected as Found
from tell.text.language_id import ranked

# Languages less likely than this are not named by /detect.
UNLIKELY = 0.02
BODIES = ("application/json", URLENCODED, MULTIPART)
# Its web page translates as one types: so many milliseconds after the last key.
TYPING = 500
# What Weblate asks when its settings are saved, whatever languages the service has; it reads that there is one translation, and throws it away.
PROBE = {"q": ["test"], "source": "en", "target": "de"}


def _given(value: Any) -> Any:
    """What its clients send for a field that they leave out: null, or nothing."""
    return None if value == "" else value


class Asked(BaseModel):
    """What LibreTranslate's clients send; what else they add is not read."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={"examples": [{"q": "Halló heimur.", "source": "is", "target": "en", "format": "text"}]})

    q: str | list[str] = Field(description="a string, or a list of strings")
    source: str = Field(max_length=MAX_CODE, description=f"{CODE}, or auto")
    target: str = Field(max_length=MAX_CODE, description=CODE)
    format: Annotated[Literal["text", "html"] | None, BeforeValidator(_given)] = Field(default=None, description="text or html")
    alternatives: Annotated[int | None, BeforeValidator(_given)] = Field(default=None, ge=0, le=MOST_ALTERNATIVES, description=ALTERNATIVES)
    api_key: str | None = Field(default=None, description="an API key, where no header holds one")


class AskedFile(BaseModel):
    """The fields beside the file."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={"examples": [{"file": "Halló heimur.\n", "source": "is", "target": "en"}]})

    source: str = Field(max_length=MAX_CODE, description=f"{CODE}, or auto where only one pair goes into the target")
    target: str = Field(max_length=MAX_CODE, description=CODE)
    api_key: str | None = Field(default=None, description="an API key, where no header holds one")


class AskedLanguage(BaseModel):
    model_config = ConfigDict(extra="ignore", json_schema_extra={"examples": [{"q": "Halló heimur."}]})

    q: str = Field(description="a string")
    api_key: str | None = Field(default=None, description="an API key, where no header holds one")


class Detected(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"confidence": 90.0, "language": "is"}]})

    confidence: float = Field(description="Percent")
    language: str


class Answer(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"translatedText": "Hello world."}]})

    translatedText: str | list[str] = Field(description="A string for a string, a list for a list")
    detectedLanguage: Detected | list[Detected] | None = Field(
        default=None, description="For source auto: each text's language, `und` where there is nothing in it that could tell"
    )
    alternatives: list[str] | list[list[str]] | None = Field(
        default=None, description="Where some were asked for: a list, or one for each text, the best first; fewer where no more came out"
    )


class Link(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"translatedFileUrl": f"http://127.0.0.1:8080{LINKS}{64 * '0'}.txt"}]})

    translatedFileUrl: str = Field(description="Where the file is for an hour. The link is its own key: who has it has the file")


class Language(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"code": "is", "name": "Icelandic", "targets": ["en"]}]})

    code: str
    name: str
    targets: list[str]


SETTINGS: dict[str, Any] = {
    "apiKeys": False, "charLimit": 100_000, "filesTranslation": True, "frontendTimeout": TYPING, "keyRequired": False, "suggestions": False,
    "language": {"source": {"code": "is", "name": "Icelandic"}, "target": {"code": "en", "name": "English"}}, "supportedFilesFormat": [".txt"],
}  # fmt: skip


class Named(BaseModel):
    code: str
    name: str


class Chosen(BaseModel):
    source: Named
    target: Named


class Settings(BaseModel):
    """What LibreTranslate's web page reads when it starts."""

    model_config = ConfigDict(json_schema_extra={"examples": [SETTINGS]})

    apiKeys: bool
    charLimit: int
    filesTranslation: bool
    frontendTimeout: int
    keyRequired: bool
    language: Chosen
    suggestions: bool
    supportedFilesFormat: list[str]


routes = APIRouter(tags=["LibreTranslate"])


def _texts(made: list[Translation], asked: Asked) -> dict[str, Any]:
    """The texts in the shape of the question, and as many lists of alternatives."""
    texts, others = [t.text for t in made], [[a.text for a in t.alternatives] for t in made]
    one = isinstance(asked.q, str)
    out: dict[str, Any] = {"translatedText": texts[0] if one else texts}
    if asked.alternatives:
        out["alternatives"] = others[0] if one else others
    return out


def _percent(found: Found) -> Detected:
    return Detected(confidence=round(100 * found.confidence, 1), language=found.language)


def _probes(request: Request, asked: Asked) -> bool:
    """Whether this is Weblate's probe, in a language that is not served: without an answer nobody can save its settings."""
    if not request.headers.get("user-agent", "").startswith("Weblate/") or asked.model_dump(include=set(PROBE)) != PROBE:
        return False
    service: Service = request.app.state.service
    try:
        service.versions.find_pair(asked.source, asked.target)
    except NotServed:
        return True
    return False


@routes.post(
    "/translate",
    response_model=Answer,
    response_model_exclude_none=True,
    responses=ERRORS,
    openapi_extra={**body_schema(Asked, *BODIES), "parameters": PARAMETERS},
    summary="Translate texts, as LibreTranslate does",
)
async def translate(request: Request, response: Response) -> Answer:
    asked = await read_body(request, Asked, forms=True)
    await identify(request, asked.api_key)
    if _probes(request, asked):
        response.headers["X-Tellmt-Probe"] = "not translated"
        return Answer(translatedText=asked.q)
    _, made = await translated(
        request,
        response,
        asked.source,
        asked.target,
        checked_texts(asked.q),
        parse=parse_html if asked.format == "html" else None,
        alternatives=asked.alternatives or 0,
    )
    out = _texts(made, asked)
    found = [_percent(t.detected) for t in made if t.detected]
    if found:
        out["detectedLanguage"] = found[0] if isinstance(asked.q, str) else found
    return Answer(**out)


@routes.post(
    "/detect",
    response_model=list[Detected],
    responses={400: ERRORS[400]},
    openapi_extra=body_schema(AskedLanguage, *BODIES),
    summary="The languages a text may be in, the likeliest first",
)
async def detect(request: Request) -> list[Detected]:
    asked = await read_body(request, AskedLanguage, forms=True)
    await identify(request, asked.api_key)
    return [_percent(found) for found in await asyncio.to_thread(ranked, asked.q) if found.confidence >= UNLIKELY]


@routes.get("/languages", response_model=list[Language], summary="The languages of the live pairs, as LibreTranslate lists them")
async def languages(request: Request) -> list[Language]:
    service: Service = request.app.state.service
    out: dict[str, Language] = {}
    for pair in (parse_pair(p) for p in service.pairs(service.limits.fallback)):
        for side in (pair.source, pair.target):
            out.setdefault(side.tag, Language(code=side.tag, name=side.name, targets=[]))
        out[pair.source.tag].targets.append(pair.target.tag)
    return sorted(out.values(), key=lambda x: x.name)


@routes.get("/frontend/settings", response_model=Settings, summary="What LibreTranslate's web page wants to know")
async def settings(request: Request) -> Settings:
    service: Service = request.app.state.service
    first = parse_pair(next(iter(service.pairs()), "en-is"))
    keys = request.scope["tellmt.gate"].keys.wanted
    source, target = (Named(code=side.tag, name=side.name) for side in (first.source, first.target))
    return Settings(
        apiKeys=keys, charLimit=service.limits.characters, filesTranslation=True, frontendTimeout=TYPING, keyRequired=keys,
        language=Chosen(source=source, target=target), suggestions=False, supportedFilesFormat=list(FORMATS),
    )  # fmt: skip


@routes.post(
    "/translate_file", response_model=Link, responses=ERRORS, openapi_extra=upload_schema(AskedFile), summary="Translate a file, and link to the result"
)
async def translate_file(request: Request) -> Link:
    asked, upload = await read_upload(request, AskedFile)
    await identify(request, asked.api_key)
    jobs: Jobs = request.app.state.jobs
    job = await begin(request, upload, asked.source, asked.target)
    try:
        async with in_time(ask_of(request), request.app.state.service.metrics):
            # The client waits for the answer, so one that leaves or runs out of time wants the file no more.
            await unless_gone(request, job.over())
        if job.failure is not None:
            raise job.failure
    except BaseException:
        await jobs.drop(job)
        raise
    return Link(translatedFileUrl=f"{str(request.base_url).rstrip('/')}{LINKS}{job.secret}{job.ending}")


@routes.get(f"{LINKS}{{name}}", response_class=Response, responses={200: NOT_DONE[200], **GONE}, summary="The file that /translate_file links to")
async def download_file(request: Request, name: str) -> Response:
    jobs: Jobs = request.app.state.jobs
    secret, _, ending = name.partition(".")
    job = jobs.opened(secret)
    if job.result is None or f".{ending}" != job.ending:
        raise NotFound("no such document, or it is gone")
    return file_of(job)

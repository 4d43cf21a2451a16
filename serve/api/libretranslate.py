"""LibreTranslate's API, as its clients use it: /translate, /detect, /languages, /frontend/settings, /translate_file and the file it links to.

With `format: html` the text is parsed (serve.translation.markup_html); without it, tags count as placeholders in plain text.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from serve.api.documents import FILE_OR_CONFLICT, JOB_NOT_FOUND, file_response, start_job
from serve.api.handler import ParsedRequest, StateDep, checked_texts, in_time, request_options, translate_texts
from serve.api.schema import ALTERNATIVES, CODE, ERRORS, MAX_CODE, PARAMETERS
from serve.auth.gate import LINKS, gate_of, identify
from serve.documents.parts import FORMATS
from serve.http.bodies import MULTIPART, URLENCODED, body_schema, read_body, read_upload, upload_schema
from serve.http.middleware import unless_gone
from serve.threads import TEXTS
from serve.translation.decoder import MOST_ALTERNATIVES
from serve.translation.markup_html import parse_html
from serve.translation.request import Translation
from serve.translation.service import Service
from tell.errors import NotFound, NotServed
from tell.languages import parse_pair
from tell.text.language_id import Detected, ranked

# /detect leaves out languages that are less likely than this.
UNLIKELY = 0.02
MEDIA_TYPES = ("application/json", URLENCODED, MULTIPART)
# LibreTranslate's web page translates while the user types: so many milliseconds after the last key.
TYPING = 500
# The request that Weblate sends when its settings are saved, whatever languages the service has; it checks that there is a translation, and drops it.
PROBE = {"q": ["test"], "source": "en", "target": "de"}


def _none_if_empty(value: Any) -> Any:
    """LibreTranslate's clients send null or an empty string for a field without a value."""
    return None if value == "" else value


API_KEY = "an API key, where no header holds one"


class LibreTranslateRequest(BaseModel):
    """The fields that LibreTranslate's clients send; the service ignores other fields."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={"examples": [{"q": "Halló heimur.", "source": "is", "target": "en", "format": "text"}]})

    q: str | list[str] = Field(description="a string, or a list of strings")
    source: str = Field(max_length=MAX_CODE, description=f"{CODE}, or auto")
    target: str = Field(max_length=MAX_CODE, description=CODE)
    format: Annotated[Literal["text", "html"] | None, BeforeValidator(_none_if_empty)] = Field(default=None, description="text or html")
    alternatives: Annotated[int | None, BeforeValidator(_none_if_empty)] = Field(default=None, ge=0, le=MOST_ALTERNATIVES, description=ALTERNATIVES)
    api_key: str | None = Field(default=None, description=API_KEY)


class LibreTranslateFileRequest(BaseModel):
    """The fields beside the file."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={"examples": [{"file": "Halló heimur.\n", "source": "is", "target": "en"}]})

    source: str = Field(max_length=MAX_CODE, description=f"{CODE}, or auto where only one pair translates into the target")
    target: str = Field(max_length=MAX_CODE, description=CODE)
    api_key: str | None = Field(default=None, description=API_KEY)


class LibreTranslateDetectRequest(BaseModel):
    model_config = ConfigDict(extra="ignore", json_schema_extra={"examples": [{"q": "Halló heimur."}]})

    q: str = Field(description="a string")
    api_key: str | None = Field(default=None, description=API_KEY)


class LibreTranslateDetection(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"confidence": 90.0, "language": "is"}]})

    confidence: float = Field(description="Percent")
    language: str


class LibreTranslateResponse(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"translatedText": "Hello world."}]})

    translatedText: str | list[str] = Field(description="A string for a string, a list for a list")
    detectedLanguage: LibreTranslateDetection | list[LibreTranslateDetection] | None = Field(
        default=None, description="With source auto: each text's language, `und` where a text has no words"
    )
    alternatives: list[str] | list[list[str]] | None = Field(
        default=None,
        description="Where the request asks for them: a list, or one for each text, the best first; fewer where the model made no more",
    )


class LibreTranslateFileResponse(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"translatedFileUrl": f"http://127.0.0.1:8080{LINKS}{64 * '0'}.txt"}]})

    translatedFileUrl: str = Field(description="The link to the translated file, for one hour. It needs no key: whoever has the link can open the file")


class LibreTranslateLanguage(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"code": "is", "name": "Icelandic", "targets": ["en"]}]})

    code: str
    name: str
    targets: list[str] = Field(description="The codes of the languages into which the service translates this one")


SETTINGS_EXAMPLE: dict[str, Any] = {
    "apiKeys": False, "charLimit": 100_000, "filesTranslation": True, "frontendTimeout": TYPING, "keyRequired": False, "suggestions": False,
    "language": {"source": {"code": "is", "name": "Icelandic"}, "target": {"code": "en", "name": "English"}}, "supportedFilesFormat": [".txt"],
}  # fmt: skip


class LibreTranslateLanguageName(BaseModel):
    code: str
    name: str


class LibreTranslateDefaultPair(BaseModel):
    """The languages that the page selects when it opens."""

    source: LibreTranslateLanguageName
    target: LibreTranslateLanguageName


class LibreTranslateSettings(BaseModel):
    """The settings that LibreTranslate's web page reads when it opens."""

    model_config = ConfigDict(json_schema_extra={"examples": [SETTINGS_EXAMPLE]})

    apiKeys: bool = Field(description="Whether the service has API keys")
    charLimit: int = Field(description="The most characters of text in one request")
    filesTranslation: bool
    frontendTimeout: int = Field(description="Milliseconds after the last key press until the page sends the text")
    keyRequired: bool = Field(description="Whether requests need a key")
    language: LibreTranslateDefaultPair
    suggestions: bool
    supportedFilesFormat: list[str] = Field(description="The file name endings of the formats that the service translates")


routes = APIRouter(tags=["LibreTranslate"])


def _percent(detected: Detected) -> LibreTranslateDetection:
    return LibreTranslateDetection(confidence=round(100 * detected.confidence, 1), language=detected.language)


def _response(translations: list[Translation], body: LibreTranslateRequest) -> LibreTranslateResponse:
    """Strings where the request has a string, and lists where it has a list."""
    texts, alternatives = [t.text for t in translations], [[a.text for a in t.alternatives] for t in translations]
    detections = [_percent(t.detected) for t in translations if t.detected]
    single = isinstance(body.q, str)
    response = LibreTranslateResponse(translatedText=texts[0] if single else texts)
    if body.alternatives:
        response.alternatives = alternatives[0] if single else alternatives
    if detections:
        response.detectedLanguage = detections[0] if single else detections
    return response


def _is_probe(request: Request, service: Service, body: LibreTranslateRequest) -> bool:
    """Whether this is Weblate's probe for a pair that is not served: without a translation Weblate does not save its settings."""
    if not request.headers.get("user-agent", "").startswith("Weblate/") or body.model_dump(include=set(PROBE)) != PROBE:
        return False
    try:
        service.versions.find_pair(body.source, body.target)
    except NotServed:
        return True
    return False


@routes.post(
    "/translate",
    response_model=LibreTranslateResponse,
    response_model_exclude_none=True,
    responses=ERRORS,
    openapi_extra={**body_schema(LibreTranslateRequest, *MEDIA_TYPES), "parameters": PARAMETERS},
    summary="Translate texts, as LibreTranslate does",
)
async def translate(request: Request, response: Response, state: StateDep) -> LibreTranslateResponse:
    body = await read_body(request, LibreTranslateRequest, forms=True)
    await identify(request, body.api_key)
    if _is_probe(request, state.service, body):
        response.headers["X-Tellmt-Probe"] = "not translated"
        return LibreTranslateResponse(translatedText=body.q)
    parse = parse_html if body.format == "html" else None
    parsed = ParsedRequest(body.source, body.target, checked_texts(body.q), parse=parse, alternatives=body.alternatives or 0)
    result = await translate_texts(request, state.service, parsed)
    response.headers.update(result.headers())
    return _response(result.translations, body)


@routes.post(
    "/detect",
    response_model=list[LibreTranslateDetection],
    responses={400: ERRORS[400]},
    openapi_extra=body_schema(LibreTranslateDetectRequest, *MEDIA_TYPES),
    summary="List the languages that a text may be in, the likeliest first",
)
async def detect(request: Request) -> list[LibreTranslateDetection]:
    body = await read_body(request, LibreTranslateDetectRequest, forms=True)
    await identify(request, body.api_key)
    return [_percent(detected) for detected in await TEXTS.run(ranked, body.q) if detected.confidence >= UNLIKELY]


@routes.get("/languages", response_model=list[LibreTranslateLanguage], summary="List the languages of the live pairs, as LibreTranslate does")
async def languages(state: StateDep) -> list[LibreTranslateLanguage]:
    service = state.service
    by_code: dict[str, LibreTranslateLanguage] = {}
    for pair in (parse_pair(p) for p in service.pairs(service.limits.fallback)):
        for language in (pair.source, pair.target):
            by_code.setdefault(language.tag, LibreTranslateLanguage(code=language.tag, name=language.name, targets=[]))
        by_code[pair.source.tag].targets.append(pair.target.tag)
    return sorted(by_code.values(), key=lambda language: language.name)


@routes.get("/frontend/settings", response_model=LibreTranslateSettings, summary="Show the settings that LibreTranslate's web page reads")
async def settings(request: Request, state: StateDep) -> LibreTranslateSettings:
    service = state.service
    default_pair = parse_pair(next(iter(service.pairs()), "en-is"))
    keys = gate_of(request).keys.required
    source, target = (LibreTranslateLanguageName(code=language.tag, name=language.name) for language in (default_pair.source, default_pair.target))
    return LibreTranslateSettings(
        apiKeys=keys, charLimit=service.limits.characters, filesTranslation=True, frontendTimeout=TYPING, keyRequired=keys,
        language=LibreTranslateDefaultPair(source=source, target=target), suggestions=False, supportedFilesFormat=list(FORMATS),
    )  # fmt: skip


@routes.post(
    "/translate_file",
    response_model=LibreTranslateFileResponse,
    responses=ERRORS,
    openapi_extra=upload_schema(LibreTranslateFileRequest),
    summary="Translate a file, and return a link to the translation",
)
async def translate_file(request: Request, state: StateDep) -> LibreTranslateFileResponse:
    body, upload = await read_upload(request, LibreTranslateFileRequest)
    await identify(request, body.api_key)
    job = await start_job(request, state, upload, body.source, body.target)
    try:
        async with in_time(request_options(request, state.service), state.service.metrics):
            # The client waits for the response: one that leaves or runs out of time no longer wants the file.
            await unless_gone(request, job.over())
        if job.failure is not None:
            raise job.failure
    except BaseException:
        await state.jobs.drop(job)
        raise
    address = state.web.public_url or str(request.base_url).rstrip("/")
    return LibreTranslateFileResponse(translatedFileUrl=f"{address}{LINKS}{job.secret}{job.ending}")


@routes.get(
    f"{LINKS}{{name}}",
    response_class=Response,
    responses={200: FILE_OR_CONFLICT[200], **JOB_NOT_FOUND},
    summary="Download the file that /translate_file links to",
)
async def download_file(name: str, state: StateDep) -> Response:
    secret, _, ending = name.partition(".")
    job = state.jobs.opened(secret)
    if job.result is None or f".{ending}" != job.ending:
        raise NotFound("no such document, or it is gone")
    return file_response(job)

"""LibreTranslate's API, as its clients use it: /translate, /detect, /suggest, /languages, /frontend/settings, /spec, /translate_file and the file it links to.

With `format: html` the text is parsed (serve.translation.markup_html); without it, tags count as placeholders in plain text. Statuses are LibreTranslate's:
400 where a text is too long, 403 for keys that are not valid (serve.api.libretranslate_errors). Fields may stand in the address too; a key never.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from serve.api.documents import FILE_OR_CONFLICT, JOB_NOT_FOUND, file_response, start_job
from serve.api.feedback import NOT_BLANK, FeedbackRequest, keep_correction
from serve.api.handler import ParsedRequest, StateDep, checked_texts, in_time, request_options, translate_texts
from serve.api.schema import ALTERNATIVES, CODE, ERRORS, MAX_CODE, PARAMETERS, Error
from serve.auth.gate import LINKS, gate_of, identify
from serve.documents.parts import FORMATS
from serve.http.bodies import MULTIPART, URLENCODED, body_schema, none_if_empty, read_body, read_upload, upload_schema
from serve.http.middleware import unless_gone
from serve.threads import TEXTS
from serve.translation.decoder import MOST_ALTERNATIVES
from serve.translation.markup_html import parse_html
from serve.translation.request import Translation
from serve.translation.service import Service
from serve.translation.source_language import as_served, find_served_pair
from tell.errors import NotFound, NotServed, Overloaded, RequestError, ScopeRefused, TooLarge
from tell.languages import distance, language, parse_pair, same_variety
from tell.text.language_id import Detected, ranked

# /detect leaves out languages that are less likely than this.
UNLIKELY = 0.02
MEDIA_TYPES = ("application/json", URLENCODED, MULTIPART)
# LibreTranslate's web page translates while the user types: so many milliseconds after the last key.
TYPING = 500
# The request that Weblate sends when its settings are saved, whatever languages the service has; it checks that there is a translation, and drops it.
PROBE = {"q": ["test"], "source": "en", "target": "de"}


M = TypeVar("M", bound=BaseModel)
API_KEY = "an API key, where no header holds one"
IN_ADDRESS = "Without a JSON body, every field but the key may stand in the address as well. A key in the address is refused: addresses are logged on the way."


def _in_address(model: type[BaseModel]) -> list[dict[str, Any]]:
    """The fields of a body as parameters of the address, for OpenAPI. Strings without bounds: beside a JSON body they are not looked at."""
    described = "As in the body, where that is a form or there is none"
    names = [name for name in model.model_fields if name != "api_key"]
    return [{"name": name, "in": "query", "required": False, "description": described, "schema": {"type": "string"}} for name in names]


class LibreTranslateRequest(BaseModel):
    """The fields that LibreTranslate's clients send; the service ignores other fields."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={"examples": [{"q": "Halló heimur.", "source": "is", "target": "en", "format": "text"}]})

    q: str | list[str] = Field(description="a string, or a list of strings")
    source: str = Field(max_length=MAX_CODE, description=f"{CODE}, or auto")
    target: str = Field(max_length=MAX_CODE, description=CODE)
    format: Annotated[Literal["text", "html"] | None, BeforeValidator(none_if_empty)] = Field(default=None, description="text or html")
    alternatives: Annotated[int | None, BeforeValidator(none_if_empty)] = Field(default=None, ge=0, le=MOST_ALTERNATIVES, description=ALTERNATIVES)
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


class LibreTranslateSuggestRequest(BaseModel):
    """A text, and what its translation should be."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={"examples": [{"q": "Halló heimur.", "s": "Hello world.", "source": "is", "target": "en"}]})

    q: str = Field(pattern=NOT_BLANK, description="the text that was translated")
    s: str = Field(pattern=NOT_BLANK, description="the correct translation")
    source: str = Field(max_length=MAX_CODE, description=f"{CODE}, or auto")
    target: str = Field(max_length=MAX_CODE, description=CODE)
    api_key: str | None = Field(default=None, description=API_KEY)


class LibreTranslateSuggestResponse(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"success": True}]})

    success: Literal[True] = Field(description="The correction is on the disk")


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
    charLimit: int = Field(description="The most characters of one text")
    filesTranslation: bool
    frontendTimeout: int = Field(description="Milliseconds after the last key press until the page sends the text")
    keyRequired: bool = Field(description="Whether requests need a key")
    language: LibreTranslateDefaultPair
    suggestions: bool = Field(description="Whether the service keeps corrections: /suggest")
    supportedFilesFormat: list[str] = Field(description="The file name endings of the formats that the service translates")


# Too much text is 400 here; a body that is too large is 413 everywhere.
REFUSALS = {status: response for status, response in ERRORS.items() if status != 413}
routes = APIRouter(tags=["LibreTranslate"])


def _refuse_key_in_address(request: Request) -> None:
    """Raises RequestError where the address has a key. An empty one is none: some clients send all they have."""
    if any(request.query_params.getlist("api_key")):
        raise RequestError(
            "a key in the address is not read, since addresses are logged on the way", place="api_key",
            valid="api_key in the body, X-API-Key: KEY, or Authorization: Bearer KEY",
        )  # fmt: skip


async def _read(request: Request, model: type[M]) -> M:
    """The fields of a form, of a JSON body, or of the address. Raises RequestError, first for a key in the address."""
    _refuse_key_in_address(request)
    return await read_body(request, model, forms=True, address=model.model_fields.keys() - {"api_key"})


@contextlib.contextmanager
def _too_long() -> Iterator[None]:
    """Too many or too long texts are not valid requests (400) at LibreTranslate."""
    try:
        yield
    except TooLarge as e:
        raise RequestError(e.thing, place=e.place, found=e.found, valid=e.valid) from None


def _same_language(service: Service, body: LibreTranslateRequest) -> bool:
    """Whether the texts are to be translated into the language that they are in, and some pair has that language."""
    if body.source == "auto" or not same_variety(source := language(body.source, "source"), language(body.target, "target")):
        return False
    pairs = [parse_pair(pair) for pair in service.pairs(service.limits.fallback)]
    return any(distance(source, side) is not None for pair in pairs for side in (pair.source, pair.target))


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
    responses=REFUSALS,
    openapi_extra={**body_schema(LibreTranslateRequest, *MEDIA_TYPES), "parameters": [*PARAMETERS, *_in_address(LibreTranslateRequest)]},
    summary="Translate texts, as LibreTranslate does",
    description=IN_ADDRESS,
)
async def translate(request: Request, response: Response, state: StateDep) -> LibreTranslateResponse:
    body = await _read(request, LibreTranslateRequest)
    await identify(request, body.api_key)
    if _is_probe(request, state.service, body):
        response.headers["X-Tellmt-Probe"] = "not translated"
        return LibreTranslateResponse(translatedText=body.q)
    # One empty text of a list is translated to an empty one, as it is among others: the last part of a long list may be one.
    texts = body.q if isinstance(body.q, list) and body.q else checked_texts(body.q)
    with _too_long():
        if _same_language(state.service, body):
            state.service.check(texts, each=True)
            return _response([Translation(text, False) for text in texts], body)
        parse = parse_html if body.format == "html" else None
        parsed = ParsedRequest(body.source, body.target, texts, parse=parse, alternatives=body.alternatives or 0, each=True)
        result = await translate_texts(request, state.service, parsed)
    response.headers.update(result.headers())
    return _response(result.translations, body)


@routes.post(
    "/detect",
    response_model=list[LibreTranslateDetection],
    responses={400: ERRORS[400]},
    openapi_extra={**body_schema(LibreTranslateDetectRequest, *MEDIA_TYPES), "parameters": _in_address(LibreTranslateDetectRequest)},
    summary="List the languages that a text may be in, the likeliest first",
    description=IN_ADDRESS,
)
async def detect(request: Request, state: StateDep) -> list[LibreTranslateDetection]:
    body = await _read(request, LibreTranslateDetectRequest)
    await identify(request, body.api_key)
    served = state.service.pairs()
    return [_percent(as_served(detected, served)) for detected in await TEXTS.run(ranked, body.q) if detected.confidence >= UNLIKELY]


@routes.post(
    "/suggest",
    response_model=LibreTranslateSuggestResponse,
    responses={400: ERRORS[400], 507: {"model": Error, "description": "The feedback file is full"}},
    openapi_extra={**body_schema(LibreTranslateSuggestRequest, *MEDIA_TYPES), "parameters": _in_address(LibreTranslateSuggestRequest)},
    summary="Send the correct translation of a text, as LibreTranslate's clients do",
    description=f"403 where the service keeps no corrections. {IN_ADDRESS}",
)
async def suggest(request: Request, state: StateDep) -> LibreTranslateSuggestResponse:
    body = await _read(request, LibreTranslateSuggestRequest)
    await identify(request, body.api_key)
    if state.feedback is None:
        raise ScopeRefused("suggestions are disabled on this server", valid="tellmt serve --feedback FILE")
    source = body.source
    if source == "auto":
        # LibreTranslate's page sends what is chosen there.
        found = await TEXTS.run(find_served_pair, state.service.pairs(state.service.limits.fallback), body.target, body.q)
        if found.pair is None:
            raise RequestError("the text is in the target language already", place="q", valid="a text in another language")
        source = found.pair.source.tag
    # LibreTranslate's clients do not say which translation they correct, nor what made it.
    correction = FeedbackRequest.model_construct(source=source, target=body.target, text=body.q, correction=body.s, adapter="")
    with _too_long():
        await keep_correction(request, state.service, state.feedback, correction)
    return LibreTranslateSuggestResponse(success=True)


@routes.get("/languages", response_model=list[LibreTranslateLanguage], summary="List the languages of the live pairs, as LibreTranslate does")
async def languages(state: StateDep) -> list[LibreTranslateLanguage]:
    service = state.service
    by_code: dict[str, LibreTranslateLanguage] = {}
    for pair in (parse_pair(p) for p in service.pairs(service.limits.fallback)):
        for side in (pair.source, pair.target):
            by_code.setdefault(side.tag, LibreTranslateLanguage(code=side.tag, name=side.name, targets=[]))
        by_code[pair.source.tag].targets.append(pair.target.tag)
    return sorted(by_code.values(), key=lambda row: row.name)


@routes.get("/frontend/settings", response_model=LibreTranslateSettings, summary="Show the settings that LibreTranslate's web page reads")
async def settings(request: Request, state: StateDep) -> LibreTranslateSettings:
    service = state.service
    default_pair = parse_pair(next(iter(service.pairs()), "en-is"))
    keys = gate_of(request).keys.required
    source, target = (LibreTranslateLanguageName(code=language.tag, name=language.name) for language in (default_pair.source, default_pair.target))
    return LibreTranslateSettings(
        apiKeys=keys, charLimit=service.limits.characters, filesTranslation=True, frontendTimeout=TYPING, keyRequired=keys,
        language=LibreTranslateDefaultPair(source=source, target=target), suggestions=state.feedback is not None, supportedFilesFormat=list(FORMATS),
    )  # fmt: skip


@routes.get("/spec", include_in_schema=False)
async def spec(request: Request) -> JSONResponse:
    """The description of the API, where LibreTranslate has its own."""
    return JSONResponse(request.app.openapi())


@routes.post(
    "/translate_file",
    response_model=LibreTranslateFileResponse,
    responses=REFUSALS,
    openapi_extra=upload_schema(LibreTranslateFileRequest),
    summary="Translate a file, and return a link to the translation",
)
async def translate_file(request: Request, state: StateDep) -> LibreTranslateFileResponse:
    _refuse_key_in_address(request)
    body, upload = await read_upload(request, LibreTranslateFileRequest)
    await identify(request, body.api_key)
    with _too_long():
        job = await start_job(request, state, upload, body.source, body.target)
        try:
            async with in_time(request_options(request, state.service), state.service.metrics):
                # The client waits for the response: one that leaves or runs out of time no longer wants the file.
                await unless_gone(request, state.jobs.over(job))
            if job.failure is not None:
                raise job.failure
        except BaseException:
            with contextlib.suppress(NotFound, Overloaded):
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
async def download_file(request: Request, name: str, state: StateDep) -> Response:
    secret, _, ending = name.partition(".")
    job = await state.jobs.opened(secret)
    if job.state != "done" or f".{ending}" != job.ending:
        raise NotFound("no such document, or it is gone")
    return await file_response(request, state.jobs, job)

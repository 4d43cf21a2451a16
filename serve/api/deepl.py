"""DeepL's API, version 2, as far as its clients need it to translate texts and documents: /v2/translate, /v2/languages, /v2/usage, /v2/document.

The service refuses an option that it cannot follow where the translation would be another one with it (formality, styles, tags), and ignores
hints (context, split_sentences, preserve_formatting). `serve.api.deepl_errors` puts errors in DeepL's form.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from serve.api.deepl_errors import CHARACTERS_USED, DEEPL, OTHER_VERSIONS
from serve.api.documents import FILE_CONTENT, NOT_AT_HAND, failure_message, file_response, start_job
from serve.api.glossaries import glossary_of
from serve.api.handler import AppState, ParsedRequest, StateDep, translate_texts
from serve.api.schema import CODE, MAX_CODE, PARAMETERS
from serve.auth.gate import caller_of, gate_of
from serve.auth.quota import UNLIMITED
from serve.documents.jobs import Job
from serve.documents.parts import ending_of
from serve.http.bodies import MULTIPART, URLENCODED, Upload, body_schema, media_type_of, none_if_empty, read_body, read_upload, upload_schema
from serve.http.origins import METHODS
from serve.translation.decoder import Quality
from serve.translation.markup_html import Parse, parse_html
from serve.translation.markup_xml import XmlRules, parse_xml
from serve.translation.request import Translation
from tell.errors import NotFound, QuotaUsed, RequestError
from tell.languages import language, parse_pair
from tell.lexicon.glossary import Glossary

# Of the form that asks for languages, which has one.
MOST_FIELDS = 10
# DeepL's clients accept these languages as a target only with a region. An adapter does not say which region it writes, so both are accepted.
REGIONS = {"en": ("EN-GB", "EN-US"), "pt": ("PT-BR", "PT-PT")}
TARGET = f"{CODE}; EN-US and EN-GB mean English where no adapter has either as its target"
NO_FORMALITY = "default, prefer_more or prefer_less: no adapter lets a client choose the formality"


def _as_string(value: Any) -> Any:
    """Numbers and booleans of a JSON body as the strings that a form has; None for an empty one."""
    return str(int(value)) if isinstance(value, bool | int) else none_if_empty(value)


def _tag_names(value: Any) -> Any:
    """The names of elements, from a list, from one string with commas, or from a list of such strings."""
    parts = [value] if isinstance(value, str) else [] if value is None else value
    if isinstance(parts, list | tuple) and all(isinstance(part, str) for part in parts):
        return tuple(name.strip() for part in parts for name in part.split(",") if name.strip())
    return value


# Names as they are written, with a prefix where they have one.
TAGS = "names of elements, in a list or separated by commas"
Tags = Annotated[tuple[Annotated[str, Field(max_length=100)], ...], Field(max_length=200), BeforeValidator(_tag_names)]


class DeepLOptions(BaseModel):
    """The options that texts and documents share. The service ignores DeepL's other options."""

    model_config = ConfigDict(extra="ignore")

    target_lang: str = Field(max_length=MAX_CODE, description=TARGET)
    source_lang: str | None = Field(default=None, max_length=MAX_CODE, description=f"{CODE}; without it, the service detects each text's language")
    formality: Annotated[Literal["default", "more", "less", "prefer_more", "prefer_less"] | None, BeforeValidator(none_if_empty)] = Field(
        default=None, description=NO_FORMALITY
    )
    glossary_id: str | None = Field(
        default=None, max_length=100, description="the id of a glossary of /v2/glossaries, for the two languages; needs source_lang"
    )
    glossary_ids: str | list[str] | None = Field(default=None, description="nothing: a request has one glossary, in glossary_id")
    style_id: str | None = Field(default=None, description="nothing: the service has no styles")
    translation_memory_id: str | None = Field(default=None, description="nothing: the service has no translation memories")

    def source(self) -> str:
        return self.source_lang or "auto"

    def check(self) -> None:
        """Raises RequestError for an option that the service cannot follow and that would change the translation."""
        if self.formality in ("more", "less"):
            raise RequestError("the formality of the translation cannot be chosen", place="formality", found=self.formality, valid=NO_FORMALITY)
        for name in ("glossary_ids", "style_id", "translation_memory_id", "custom_instructions"):
            if getattr(self, name, None):
                field = type(self).model_fields[name]
                raise RequestError("this option is not supported", place=name, valid=field.description)

    async def glossary(self, request: Request, state: AppState) -> Glossary | None:
        """The glossary that the request names. Raises RequestError, NotFound, BadInput for one of other languages."""
        if not self.glossary_id:
            return None
        if self.source_lang is None:
            raise RequestError("missing", place="source_lang", valid=f"{CODE}, with glossary_id")
        return await glossary_of(request, state, self.glossary_id, self.source_lang, self.target_lang, "glossary_id")


class DeepLTranslateRequest(DeepLOptions):
    model_config = ConfigDict(json_schema_extra={"examples": [{"text": ["Halló heimur."], "source_lang": "IS", "target_lang": "EN-US"}]})

    text: str | list[str] = Field(description="a list of strings; in a form, the field once for each text")
    tag_handling: Annotated[Literal["xml", "html"] | None, BeforeValidator(none_if_empty)] = Field(
        default=None, description="xml or html: the service keeps tags and attributes, and translates the text between tags"
    )
    ignore_tags: Tags = Field(default=(), description=f"{TAGS}; the service does not translate what these elements hold")
    splitting_tags: Tags = Field(default=(), description=f"{TAGS}, in XML; a sentence ends where these elements begin and end")
    non_splitting_tags: Tags = Field(default=(), description=f"{TAGS}, in XML; these elements are part of a sentence")
    outline_detection: Annotated[Literal["0", "1"] | None, BeforeValidator(_as_string)] = Field(
        default=None, description="0: in XML, only the elements in splitting_tags end a sentence; or 1"
    )
    split_sentences: Annotated[Literal["0", "1", "nonewlines"] | None, BeforeValidator(_as_string)] = Field(
        default=None, description="0, 1 or nonewlines; no effect"
    )
    model_type: Annotated[Literal["latency_optimized", "quality_optimized", "prefer_quality_optimized"] | None, BeforeValidator(none_if_empty)] = Field(
        default=None,
        description="quality_optimized or prefer_quality_optimized: the service makes several candidates and takes the best one; or latency_optimized",
    )
    custom_instructions: str | list[str] | None = Field(default=None, description="nothing: the service translates texts and follows no instructions")

    def parse(self) -> Parse | None:
        """What reads the texts, if they are marked up."""
        ignored = frozenset(self.ignore_tags)
        if self.tag_handling == "xml":
            return partial(
                parse_xml, rules=XmlRules(ignored, frozenset(self.splitting_tags), frozenset(self.non_splitting_tags), self.outline_detection != "0")
            )
        return partial(parse_html, ignored={tag.lower() for tag in ignored}) if self.tag_handling else None


class DeepLDocumentRequest(DeepLOptions):
    model_config = ConfigDict(json_schema_extra={"examples": [{"file": "Halló heimur.\n", "source_lang": "IS", "target_lang": "EN-US"}]})

    filename: str | None = Field(default=None, max_length=1000, description="the file's name, where its part of the form has none, or one without an ending")
    output_format: str | None = Field(default=None, max_length=20, description="the format of the file itself")


class DeepLDocumentHandle(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"document_id": 32 * "0", "document_key": 64 * "0"}]})

    document_id: str
    document_key: str = Field(description="Opens the document, together with its id and the API key")


class DeepLDocumentKey(BaseModel):
    model_config = ConfigDict(extra="ignore", json_schema_extra={"examples": [{"document_key": 64 * "0"}]})

    document_key: str = Field(max_length=200, description="the document_key that the service returned with the document_id")


class DeepLTranslation(BaseModel):
    detected_source_language: str = Field(description="The source language of the pair that translated, or the detected language")
    text: str
    billed_characters: int = Field(description="Characters of the text, as the quota counts them")
    model_type_used: str | None = Field(default=None, description="Where the request names a model_type: quality_optimized, or latency_optimized")


class DeepLTranslateResponse(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"translations": [{"detected_source_language": "IS", "text": "Hello world.", "billed_characters": 13}]}]}
    )

    translations: list[DeepLTranslation]


class DeepLLanguage(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"language": "EN-US", "name": "English (United States)", "supports_formality": False}]})

    language: str
    name: str
    supports_formality: bool


class DeepLUsage(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"character_count": 1200, "character_limit": 100_000}]})

    character_count: int = Field(description="Characters of the last day, as this service or the storage of quotas counted them")
    character_limit: int = Field(description=f"The key's quota of characters a day; {UNLIMITED} where it has none")


class DeepLDocumentStatus(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"document_id": 32 * "0", "status": "done", "billed_characters": 1200}]})

    document_id: str
    status: Literal["queued", "translating", "done", "error"]
    seconds_remaining: int | None = None
    billed_characters: int | None = None
    error_message: str | None = None


class DeepLError(BaseModel):
    """The body of every response under /v2/ that is not 2xx."""

    message: str = Field(description="What is wrong, for a person to read")


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": DeepLError, "description": "The request is not valid or names an option that is not supported, or the service does not serve its pair"},
    404: {"model": DeepLError, "description": "The API key has no such glossary"},
    413: {"model": DeepLError, "description": "The request has too much text"},
    456: {"model": DeepLError, "description": "The key has used up its quota of characters"},
    503: {"model": DeepLError, "description": "The service is starting or overloaded, or its engine is down; Retry-After says when to try again"},
    504: {"model": DeepLError, "description": "The translation took longer than the request allows"},
}
DOCUMENT_NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"model": DeepLError, "description": "The API key has no such document, the document_key is wrong, or the service has forgotten the document"},
    503: {"model": DeepLError, "description": NOT_AT_HAND},
}
routes = APIRouter(prefix=DEEPL.rstrip("/"), tags=["DeepL"])
other_versions = APIRouter(include_in_schema=False)


@contextlib.contextmanager
def _characters_quota(request: Request) -> Iterator[None]:
    """Marks a quota that is used up as the quota of characters: the gate has counted the request already."""
    try:
        yield
    except QuotaUsed:
        request.scope[CHARACTERS_USED] = True
        raise


def _base_code(tag: str) -> str:
    """DeepL's code of a source language, which has no region."""
    return tag.partition("-")[0].upper()


def _source_code(translation: Translation, pair: str) -> str:
    """The code of a text's source language; `pair` is that of the request."""
    if translation.detected and not translation.pair:
        return _base_code(translation.detected.language)
    return _base_code(parse_pair(translation.pair or pair).source.tag)


@routes.post(
    "/translate",
    response_model=DeepLTranslateResponse,
    response_model_exclude_none=True,
    responses=ERRORS,
    openapi_extra={**body_schema(DeepLTranslateRequest, "application/json", URLENCODED, MULTIPART), "parameters": PARAMETERS},
    summary="Translate texts, as DeepL does",
)
async def translate(request: Request, response: Response, state: StateDep) -> DeepLTranslateResponse:
    body = await read_body(request, DeepLTranslateRequest, forms=True)
    body.check()
    texts = [body.text] if isinstance(body.text, str) else body.text
    if not texts:
        raise RequestError("there is no text", place="text", found="an empty list", valid="at least one text")
    quality: Quality = "best" if body.model_type in ("quality_optimized", "prefer_quality_optimized") else "fast"
    with _characters_quota(request):
        glossary = await body.glossary(request, state)
        parsed = ParsedRequest(body.source(), body.target_lang, texts, parse=body.parse(), quality=quality, glossary=glossary)
        result = await translate_texts(request, state.service, parsed)
    response.headers.update(result.headers())
    model_type = ("quality_optimized" if result.options.quality == "best" else "latency_optimized") if body.model_type else None
    return DeepLTranslateResponse(
        translations=[
            DeepLTranslation(
                detected_source_language=_source_code(translation, result.route.pair),
                text=translation.text,
                billed_characters=len(text),
                model_type_used=model_type,
            )
            for text, translation in zip(texts, result.translations, strict=True)
        ]
    )


async def _language_kind(request: Request) -> str:
    """`type` of the query, or of a form: DeepL's own client sends a form with GET."""
    if (kind := request.query_params.get("type")) is None and media_type_of(request) == URLENCODED:
        try:
            kind = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=MOST_FIELDS).get("type", [None])[0]
        except ValueError:
            raise RequestError("too many fields in the form", valid=f"at most {MOST_FIELDS}") from None
    if kind not in (None, "", "source", "target"):
        raise RequestError("not usable", place="type", valid="source or target")
    return kind or "source"


TYPE = {
    "name": "type", "in": "query", "required": False,
    "description": "Which languages to list; source by default", "schema": {"type": "string", "enum": ["source", "target"]},
}  # fmt: skip


@routes.get(
    "/languages",
    response_model=list[DeepLLanguage],
    responses={400: ERRORS[400]},
    openapi_extra={"parameters": [TYPE]},
    summary="List languages, as DeepL does",
)
# DeepL's PHP client sends its form, and with it libcurl makes a POST of GET.
@routes.post("/languages", response_model=list[DeepLLanguage], include_in_schema=False)
async def languages(request: Request, state: StateDep) -> list[DeepLLanguage]:
    service = state.service
    kind = await _language_kind(request)
    pairs = [parse_pair(pair) for pair in service.pairs(service.limits.fallback)]
    if kind == "source":
        codes = {_base_code(pair.source.tag) for pair in pairs}
    else:
        codes = {code for pair in pairs for code in REGIONS.get(pair.target.tag, (pair.target.tag.upper(),))}
    return [DeepLLanguage(language=code, name=language(code).name, supports_formality=False) for code in sorted(codes)]


@routes.get("/usage", response_model=DeepLUsage, summary="Show how much of its quota of characters the key has used")
async def usage(request: Request) -> DeepLUsage:
    used, limit = await gate_of(request).quota.used(caller_of(request), "characters")
    return DeepLUsage(character_count=used, character_limit=limit)


async def not_offered() -> None:
    raise NotFound("of DeepL's API the service offers version 2 alone", valid=DEEPL)


for version in OTHER_VERSIONS:
    other_versions.add_api_route(f"{version}{{rest:path}}", not_offered, methods=list(METHODS))


@routes.post("/write/rephrase", include_in_schema=False)
async def rephrase() -> None:
    raise NotFound("the service translates, and does not rephrase")


@routes.post(
    "/document",
    response_model=DeepLDocumentHandle,
    responses={status: response for status, response in ERRORS.items() if status != 504},
    openapi_extra=upload_schema(DeepLDocumentRequest),
    summary="Translate a document",
)
async def post(request: Request, state: StateDep) -> DeepLDocumentHandle:
    body, upload = await read_upload(request, DeepLDocumentRequest)
    body.check()
    name = upload.name if ending_of(upload.name) else body.filename or upload.name
    if body.output_format and f".{body.output_format.lower().lstrip('.')}" != ending_of(name):
        raise RequestError("documents are not converted to other formats", place="output_format", valid="the format of the file, or nothing")
    with _characters_quota(request):
        glossary = await body.glossary(request, state)
        job = await start_job(request, state, Upload(name, upload.raw), body.source(), body.target_lang, glossary=glossary)
    return DeepLDocumentHandle(document_id=job.id, document_key=job.secret)


async def _open_job(request: Request, state: AppState, id: str) -> Job:
    """The caller's job of this id, where the body has its document_key. Raises NotFound."""
    body = await read_body(request, DeepLDocumentKey, forms=True)
    return await state.jobs.opened(body.document_key, caller_of(request).id, id)


# The same fields as a form are read too. Described are bodies of one kind alone where a route has no parameter that may be left out: of several kinds
# openapi-python-client then makes a module that cannot be imported (findings/openapi-python-client-media-types.sh).
KEY_BODY = body_schema(DeepLDocumentKey, "application/json")


@routes.post(
    "/document/{id}",
    response_model=DeepLDocumentStatus,
    response_model_exclude_none=True,
    responses=DOCUMENT_NOT_FOUND,
    openapi_extra=KEY_BODY,
    summary="Show the progress of a document",
)
async def status(request: Request, id: str, state: StateDep) -> DeepLDocumentStatus:
    job = await _open_job(request, state, id)
    if job.state in ("queued", "translating"):
        return DeepLDocumentStatus(document_id=job.id, status=job.state, seconds_remaining=job.seconds_left() if job.state == "translating" else None)
    if job.failure is not None:
        return DeepLDocumentStatus(document_id=job.id, status="error", error_message=failure_message(job))
    return DeepLDocumentStatus(document_id=job.id, status="done", billed_characters=job.total)


RESULT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The translated file. The service then forgets the document", "content": FILE_CONTENT},
    503: {"model": DeepLError, "description": f"The document is not translated yet, or: {NOT_AT_HAND[0].lower()}{NOT_AT_HAND[1:]}"},
}


@routes.post(
    "/document/{id}/result",
    response_class=Response,
    responses={**DOCUMENT_NOT_FOUND, **RESULT},
    openapi_extra=KEY_BODY,
    summary="Download the translated document, once",
)
async def result(request: Request, id: str, state: StateDep) -> Response:
    job = await _open_job(request, state, id)
    if job.failure is not None:
        raise NotFound("the document could not be translated", found=failure_message(job))
    response = await file_response(request, state.jobs, job)
    await state.jobs.drop(job)
    return response

"""DeepL's API, version 2, as far as its clients need it to translate texts and documents: /v2/translate, /v2/languages, /v2/usage, /v2/document.

What a request asks for beyond a translation is refused where ignoring it would give another text than was asked for (formality, glossaries, styles,
tags), and has no effect where it is a hint (context, split_sentences, preserve_formatting). Errors are put in DeepL's words by `serve.api.deepl_errors`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from serve.api.deepl_errors import CHARACTERS_USED, DEEPL
from serve.api.documents import FILE, begin, file_of, jobs_of, said
from serve.api.handler import translated
from serve.api.options import PARAMETERS
from serve.api.schema import CODE, MAX_CODE
from serve.auth.quota import Quota
from serve.documents.jobs import Job
from serve.documents.parts import ending_of
from serve.http.bodies import MULTIPART, URLENCODED, Upload, body_schema, kind_of, read_body, read_upload, upload_schema
from serve.translation.markup_html import Parse, parse_html
from serve.translation.markup_xml import Rules, parse_xml
from serve.translation.quality import Quality
from serve.translation.request import Translation
from serve.translation.service import Service
from tell.errors import NotFound, QuotaUsed, RequestError
from tell.languages import language, parse_pair

# Of these DeepL's clients take no target without a region; which of them an adapter writes is not known, so both are accepted.
REGIONS = {"en": ("EN-GB", "EN-US"), "pt": ("PT-BR", "PT-PT")}
TARGET = f"{CODE}; EN-US and EN-GB mean English where no adapter is for either"
NO_FORMALITY = "default, prefer_more or prefer_less: no adapter has a choice of formality"


def _text(value: Any) -> Any:
    """Numbers and truth values, as JSON bodies have them where forms have words."""
    return str(int(value)) if isinstance(value, bool | int) else value


def _tags(value: Any) -> Any:
    """Names as a list, or in one string between commas, or several of these."""
    given = [value] if isinstance(value, str) else [] if value is None else value
    if isinstance(given, list | tuple) and all(isinstance(x, str) for x in given):
        return tuple(name.strip() for x in given for name in x.split(",") if name.strip())
    return value


# Names as they are written, with a prefix where they have one.
TAGS = "names of elements, in a list or between commas"
Tags = Annotated[tuple[Annotated[str, Field(max_length=100)], ...], Field(max_length=200), BeforeValidator(_tags)]


class Options(BaseModel):
    """What texts and documents have in common. What else DeepL knows has no effect here, and is not read."""

    model_config = ConfigDict(extra="ignore")

    target_lang: str = Field(max_length=MAX_CODE, description=TARGET)
    source_lang: str | None = Field(default=None, max_length=MAX_CODE, description=f"{CODE}; may be left out: each text is then looked at")
    formality: Literal["default", "more", "less", "prefer_more", "prefer_less"] | None = Field(default=None, description=NO_FORMALITY)
    glossary_id: str | None = Field(default=None, description="nothing: there are no glossaries")
    glossary_ids: str | list[str] | None = Field(default=None, description="nothing: there are no glossaries")
    style_id: str | None = Field(default=None, description="nothing: there are no styles")
    translation_memory_id: str | None = Field(default=None, description="nothing: there are no translation memories")

    def source(self) -> str:
        return self.source_lang or "auto"

    def check(self) -> None:
        """Raises RequestError for what would have to be ignored, though the text would be another one with it."""
        if self.formality in ("more", "less"):
            raise RequestError("the target language has no formality", place="formality", found=self.formality, valid=NO_FORMALITY)
        for name in ("glossary_id", "glossary_ids", "style_id", "translation_memory_id", "custom_instructions"):
            if getattr(self, name, None):
                field = type(self).model_fields[name]
                raise RequestError("this is not supported", place=name, valid=field.description)


class Asked(Options):
    model_config = ConfigDict(json_schema_extra={"examples": [{"text": ["Halló heimur."], "source_lang": "IS", "target_lang": "EN-US"}]})

    text: str | list[str] = Field(description="a list of strings; in a form, the field once for each")
    tag_handling: Literal["xml", "html"] | None = Field(default=None, description="xml or html: tags and attributes stay, and what they hold is translated")
    ignore_tags: Tags = Field(default=(), description=f"{TAGS}; what they hold is not translated")
    splitting_tags: Tags = Field(default=(), description=f"{TAGS}, of XML; a sentence ends where they begin and end")
    non_splitting_tags: Tags = Field(default=(), description=f"{TAGS}, of XML; they are part of a sentence")
    outline_detection: Annotated[Literal["0", "1"] | None, BeforeValidator(_text)] = Field(
        default=None, description="0: of XML, no other element than splitting_tags ends a sentence; or 1"
    )
    split_sentences: Annotated[Literal["0", "1", "nonewlines"] | None, BeforeValidator(_text)] = Field(
        default=None, description="0, 1 or nonewlines; no effect"
    )
    model_type: Literal["latency_optimized", "quality_optimized", "prefer_quality_optimized"] | None = Field(
        default=None, description="quality_optimized or prefer_quality_optimized: several candidates, the best of which is taken; or latency_optimized"
    )
    custom_instructions: str | list[str] | None = Field(default=None, description="nothing: texts are translated, and no instructions are followed")

    def parse(self) -> Parse | None:
        """What reads the texts, if they are marked up."""
        ignored = frozenset(self.ignore_tags)
        if self.tag_handling == "xml":
            return partial(parse_xml, rules=Rules(ignored, frozenset(self.splitting_tags), frozenset(self.non_splitting_tags), self.outline_detection != "0"))
        return partial(parse_html, ignored={tag.lower() for tag in ignored}) if self.tag_handling else None


class AskedDocument(Options):
    model_config = ConfigDict(json_schema_extra={"examples": [{"file": "Halló heimur.\n", "source_lang": "IS", "target_lang": "EN-US"}]})

    filename: str | None = Field(default=None, max_length=1000, description="the file's name, where its part of the form has none")
    output_format: str | None = Field(default=None, max_length=20, description="the format of the file itself")


class Handle(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"document_id": 32 * "0", "document_key": 64 * "0"}]})

    document_id: str
    document_key: str = Field(description="Opens the document, together with its id and the API key")


class AskedKey(BaseModel):
    model_config = ConfigDict(extra="ignore", json_schema_extra={"examples": [{"document_key": 64 * "0"}]})

    document_key: str = Field(max_length=200, description="the document_key that came with the document_id")


class Translated(BaseModel):
    detected_source_language: str = Field(description="The source language of the pair that translated, or the one that was found")
    text: str
    billed_characters: int = Field(description="Characters of the text, as the quota counts them")
    model_type_used: str | None = Field(default=None, description="Where a model_type was asked for: quality_optimized, or latency_optimized")


class Answer(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"translations": [{"detected_source_language": "IS", "text": "Hello world.", "billed_characters": 13}]}]}
    )

    translations: list[Translated]


class Listed(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"language": "EN-US", "name": "English (United States)", "supports_formality": False}]})

    language: str
    name: str
    supports_formality: bool


class Usage(BaseModel):
    """Characters of the last day, where the key has a quota of them. Without one nothing is counted, and both are left out."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"character_count": 1200, "character_limit": 100_000}]})

    character_count: int | None = None
    character_limit: int | None = None


class Document(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"document_id": 32 * "0", "status": "done", "billed_characters": 1200}]})

    document_id: str
    status: Literal["queued", "translating", "done", "error"]
    seconds_remaining: int | None = None
    billed_characters: int | None = None
    error_message: str | None = None


class Message(BaseModel):
    """Every answer under /v2/ that is not 2xx."""

    message: str = Field(description="What is wrong, for a person")


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Message, "description": "The request cannot be used, asks for what is not supported, or its pair is not served"},
    413: {"model": Message, "description": "Too much in one request"},
    456: {"model": Message, "description": "The quota of characters of this key is used up"},
    503: {"model": Message, "description": "Starting, overloaded, or the engine is down; Retry-After says when to ask again"},
    504: {"model": Message, "description": "Not done in the time that the request has"},
}
GONE: dict[int | str, dict[str, Any]] = {404: {"model": Message, "description": "No such document of this key, another document_key, or it is gone"}}
routes = APIRouter(prefix=DEEPL.rstrip("/"), tags=["DeepL"])


@contextlib.contextmanager
def _quota(request: Request) -> Iterator[None]:
    try:
        yield
    except QuotaUsed:
        # The gate has let the request in, so what is used up are characters.
        request.scope[CHARACTERS_USED] = True
        raise


def _base(tag: str) -> str:
    return tag.partition("-")[0].upper()


@routes.post(
    "/translate",
    response_model=Answer,
    response_model_exclude_none=True,
    responses=ERRORS,
    openapi_extra={**body_schema(Asked, "application/json", URLENCODED, MULTIPART), "parameters": PARAMETERS},
    summary="Translate texts, as DeepL does",
)
async def translate(request: Request, response: Response) -> Answer:
    asked = await read_body(request, Asked, forms=True)
    asked.check()
    texts = [asked.text] if isinstance(asked.text, str) else asked.text
    if not texts:
        raise RequestError("there is no text", place="text", found="an empty list", valid="at least one text")
    quality: Quality = "best" if asked.model_type in ("quality_optimized", "prefer_quality_optimized") else "fast"
    with _quota(request):
        answer, made = await translated(request, response, asked.source(), asked.target_lang, texts, parse=asked.parse(), quality=quality)
    used = ("quality_optimized" if answer.quality == "best" else "latency_optimized") if asked.model_type else None

    def source(t: Translation) -> str:
        if t.detected and not t.pair:
            return _base(t.detected.language)
        return _base(parse_pair(t.pair or answer.pair).source.tag)

    out = [
        Translated(detected_source_language=source(t), text=t.text, billed_characters=len(q), model_type_used=used) for q, t in zip(texts, made, strict=True)
    ]
    return Answer(translations=out)


async def _kind(request: Request) -> str:
    """`type` of the address, or of a form: DeepL's own client sends one with GET."""
    if (given := request.query_params.get("type")) is None and kind_of(request) == URLENCODED:
        given = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=10).get("type", [None])[0]
    if given not in (None, "source", "target"):
        raise RequestError("not usable", place="type", valid="source or target")
    return given or "source"


TYPE = {"name": "type", "in": "query", "required": False, "description": "source unless given", "schema": {"type": "string", "enum": ["source", "target"]}}


@routes.get(
    "/languages", response_model=list[Listed], responses={400: ERRORS[400]}, openapi_extra={"parameters": [TYPE]}, summary="Languages, as DeepL lists them"
)
async def languages(request: Request) -> list[Listed]:
    service: Service = request.app.state.service
    kind = await _kind(request)
    pairs = [parse_pair(pair) for pair in service.pairs(service.limits.fallback)]
    if kind == "source":
        codes = {_base(pair.source.tag) for pair in pairs}
    else:
        codes = {code for pair in pairs for code in REGIONS.get(pair.target.tag, (pair.target.tag.upper(),))}
    return [Listed(language=code, name=language(code).name, supports_formality=False) for code in sorted(codes)]


@routes.get("/usage", response_model=Usage, response_model_exclude_none=True, summary="What is used of the key's quota of characters")
async def usage(request: Request) -> Usage:
    quota: Quota = request.scope["tellmt.gate"].quota
    found = await quota.used(request.scope["tellmt.caller"], "characters")
    return Usage() if found is None else Usage(character_count=found[0], character_limit=found[1])


@routes.post(
    "/document",
    response_model=Handle,
    responses={s: e for s, e in ERRORS.items() if s != 504},
    openapi_extra=upload_schema(AskedDocument),
    summary="Translate a document",
)
async def post(request: Request) -> Handle:
    asked, upload = await read_upload(request, AskedDocument)
    asked.check()
    name = upload.name or asked.filename or ""
    if asked.output_format and f".{asked.output_format.lower().lstrip('.')}" != ending_of(name):
        raise RequestError("documents are not turned into other formats", place="output_format", valid="the format of the file, or nothing")
    with _quota(request):
        job = await begin(request, Upload(name, upload.raw), asked.source(), asked.target_lang)
    return Handle(document_id=job.id, document_key=job.secret)


async def _opened(request: Request, id: str) -> Job:
    asked = await read_body(request, AskedKey, forms=True)
    jobs, _ = jobs_of(request)
    return jobs.opened(asked.document_key, request.scope["tellmt.caller"].id, id)


KEY = body_schema(AskedKey, "application/json", URLENCODED)


@routes.post("/document/{id}", response_model=Document, response_model_exclude_none=True, responses=GONE, openapi_extra=KEY, summary="How far a document is")
async def status(request: Request, id: str) -> Document:
    job = await _opened(request, id)
    if job.state in ("queued", "translating"):
        return Document(document_id=job.id, status=job.state, seconds_remaining=job.seconds_left() if job.state == "translating" else None)
    if job.failure is not None:
        return Document(document_id=job.id, status="error", error_message=said(job))
    return Document(document_id=job.id, status="done", billed_characters=job.total)


RESULT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The translated file, which is then gone", "content": FILE},
    503: {"model": Message, "description": "Not translated yet"},
}


@routes.post("/document/{id}/result", response_class=Response, responses={**GONE, **RESULT}, openapi_extra=KEY, summary="The translated document, once")
async def result(request: Request, id: str) -> Response:
    job = await _opened(request, id)
    if job.failure is not None:
        raise NotFound("the document could not be translated", found=said(job))
    file = file_of(job)
    await jobs_of(request)[0].drop(job)
    return file

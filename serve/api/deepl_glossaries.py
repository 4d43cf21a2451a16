"""Glossaries of DeepL's API, version 2: /v2/glossaries and /v2/glossary-language-pairs. The terms are kept for the key, in the service's registry."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from serve.api.deepl import DeepLError
from serve.api.deepl_errors import DEEPL
from serve.api.handler import StateDep
from serve.api.schema import CODE, MAX_CODE
from serve.auth.gate import caller_of
from serve.http.bodies import body_schema, read_body
from serve.threads import REGISTRY
from tell.errors import NotServed
from tell.languages import LanguagePair, base_language, language, parse_pair
from tell.lexicon.glossary import TWO_COLUMNS, EntriesFormat, Glossary
from tell.registry.glossaries import KeptGlossary

TSV = "text/tab-separated-values"
NAME = "a name, of at most 200 characters"
routes = APIRouter(prefix=DEEPL.rstrip("/"), tags=["DeepL"])


class DeepLGlossaryRequest(BaseModel):
    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [{"name": "Interface", "source_lang": "is", "target_lang": "en", "entries": "skrá\tfile\nvista\tsave", "entries_format": "tsv"}]
        },
    )

    name: str = Field(description=NAME)
    source_lang: str = Field(max_length=MAX_CODE, description=CODE)
    target_lang: str = Field(max_length=MAX_CODE, description=CODE)
    entries: str = Field(description=f"the terms, one a line: {TWO_COLUMNS}")
    entries_format: Annotated[EntriesFormat, BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)] = Field(
        description="tsv, or csv"
    )


class DeepLGlossary(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "glossary_id": "0f3c5a7e-91d2-4b86-a1c2-e4f608152a3b", "name": "Interface", "ready": True, "source_lang": "is", "target_lang": "en",
                    "creation_time": "2030-01-31T12:00:00Z", "entry_count": 2,
                }
            ]
        }
    )  # fmt: skip

    glossary_id: str
    name: str
    ready: bool = Field(description="Whether it can be used: always true")
    source_lang: str
    target_lang: str
    creation_time: datetime
    entry_count: int


class DeepLGlossaries(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"glossaries": []}]})

    glossaries: list[DeepLGlossary]


class DeepLGlossaryPair(BaseModel):
    source_lang: str
    target_lang: str


class DeepLGlossaryPairs(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"supported_languages": [{"source_lang": "is", "target_lang": "en"}]}]})

    supported_languages: list[DeepLGlossaryPair]


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": DeepLError, "description": "The entries are no glossary, or the service does not translate between the languages"},
    413: {"model": DeepLError, "description": "The glossary is too large, or the key has too many"},
}
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": DeepLError, "description": "The API key has no such glossary"}}


def _shown(kept: KeptGlossary) -> DeepLGlossary:
    return DeepLGlossary(
        glossary_id=kept.id, name=kept.name, ready=True, source_lang=_base(kept.source), target_lang=_base(kept.target),
        creation_time=kept.created, entry_count=len(kept.terms),
    )  # fmt: skip


def _base(tag: str) -> str:
    """A code as DeepL's glossaries have it: without a region."""
    return tag.partition("-")[0]


@routes.post(
    "/glossaries",
    response_model=DeepLGlossary,
    status_code=201,
    responses=ERRORS,
    openapi_extra=body_schema(DeepLGlossaryRequest, "application/json"),
    summary="Keep a glossary, as DeepL does",
)
async def create(request: Request, state: StateDep) -> DeepLGlossary:
    body = await read_body(request, DeepLGlossaryRequest, forms=True)
    pair = LanguagePair(language(body.source_lang, "source_lang"), language(body.target_lang, "target_lang"))
    served = list(map(parse_pair, state.service.pairs(state.service.limits.fallback)))
    if (base_language(pair.source.tag), base_language(pair.target.tag)) not in {(base_language(p.source.tag), base_language(p.target.tag)) for p in served}:
        valid = ", ".join(sorted({f"{_base(p.source.tag)}-{_base(p.target.tag)}" for p in served}))
        raise NotServed("the service does not translate between these languages", found=str(pair), valid=valid)
    owner = caller_of(request).id

    def keep() -> KeptGlossary:
        return state.glossaries.create(owner, body.name, pair, Glossary.parse(body.entries, body.entries_format, "entries", pair))

    return _shown(await REGISTRY.run(keep))


@routes.get("/glossaries", response_model=DeepLGlossaries, summary="List the glossaries that the key may use")
async def list_all(request: Request, state: StateDep) -> DeepLGlossaries:
    return DeepLGlossaries(glossaries=[_shown(kept) for kept in await REGISTRY.run(state.glossaries.list, caller_of(request).id)])


@routes.get("/glossaries/{id}", response_model=DeepLGlossary, responses=NOT_FOUND, summary="Show a glossary without its terms")
async def show(request: Request, id: str, state: StateDep) -> DeepLGlossary:
    return _shown(await REGISTRY.run(state.glossaries.find, caller_of(request).id, id))


ENTRIES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The terms, one a line", "content": {TSV: {"schema": {"type": "string", "examples": ["skrá\tfile\nvista\tsave\n"]}}}}
}


@routes.get("/glossaries/{id}/entries", response_class=Response, responses={**ENTRIES, **NOT_FOUND}, summary="Download the terms of a glossary")
async def entries(request: Request, id: str, state: StateDep) -> Response:
    kept = await REGISTRY.run(state.glossaries.find, caller_of(request).id, id)
    return Response(Glossary(kept.terms).tsv(), headers={"Content-Type": f"{TSV}; charset=utf-8"})


@routes.delete("/glossaries/{id}", status_code=204, responses=NOT_FOUND, summary="Delete a glossary that the key created")
async def delete(request: Request, id: str, state: StateDep) -> None:
    await REGISTRY.run(state.glossaries.delete, caller_of(request).id, id)


@routes.get("/glossary-language-pairs", response_model=DeepLGlossaryPairs, summary="List the languages that glossaries can be for")
async def language_pairs(state: StateDep) -> DeepLGlossaryPairs:
    pairs = [parse_pair(pair) for pair in state.service.pairs(state.service.limits.fallback)]
    codes = sorted({(_base(pair.source.tag), _base(pair.target.tag)) for pair in pairs})
    return DeepLGlossaryPairs(supported_languages=[DeepLGlossaryPair(source_lang=source, target_lang=target) for source, target in codes])

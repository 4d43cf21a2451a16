"""Documents: POST /api/v1/jobs takes a file and answers at once; the client asks for its progress and its result by the id of the job.

`start_job`, `file_response` and the like serve all APIs that take a file.
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from serve.api.glossaries import glossary_of, terms_of
from serve.api.handler import AppState, StateDep, request_options
from serve.api.schema import CODE, ERRORS, GLOSSARY, GLOSSARY_NOT_FOUND, MAX_CODE, QUALITY, TRUNCATED, Error, GlossaryUse
from serve.auth.gate import caller_of, charge, check_charge, leave_charge
from serve.config import Fallback
from serve.documents.jobs import SHARE, Job, Jobs, State
from serve.formats import FORMATS
from serve.http.bodies import Upload, read_upload, upload_schema
from serve.http.middleware import ASKED_FOR_HEAD
from serve.translation.decoder import Quality
from tell.errors import NotReady
from tell.languages import parse_pair
from tell.lexicon.glossary import Glossary


class DocumentRequest(BaseModel):
    """The fields beside the file."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"file": "Halló heimur.\n", "source": "is", "target": "en"}]})

    source: str = Field(max_length=MAX_CODE, description=f"{CODE}, or auto where only one pair translates into the target")
    target: str = Field(max_length=MAX_CODE, description=CODE)
    cache: bool = Field(default=True, description="true, or false: the service neither answers from its cache nor stores the translations there")
    quality: Quality = Field(default="fast", description=QUALITY)
    glossary: str | None = Field(default=None, description=f"{GLOSSARY}; terms as a JSON object")


class DocumentProgress(BaseModel):
    done: int = Field(description="Characters of the document that are translated")
    total: int = Field(description="Characters of the document")
    seconds: int | None = Field(default=None, description="Seconds until the document is done, at the speed so far; null while the speed is not known")


EXAMPLE: dict[str, Any] = {
    "id": "0f3c5a7e91d24b86a1c2e4f608152a3b", "state": "translating", "name": "letter.txt", "pair": "is-en", "adapters": ["3f9a0c1d5b7e28460f3c5a7e91d24b86"],
    "progress": {"done": 1200, "total": 4800, "seconds": 9}, "truncated": False,
    "quality": "fast", "fallback": None, "glossary": None, "error": None, "created": "2030-01-31T12:00:00Z", "expires": None,
}  # fmt: skip


class DocumentJob(BaseModel):
    """A document and its translation."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: str
    state: State = Field(description="queued, translating, done: the result is ready; or failed: `error` gives the reason")
    name: str = Field(description="The file name of the result")
    pair: str
    progress: DocumentProgress
    adapters: list[str] = Field(description="The ids of the adapters that have translated so far: several where another version became live meanwhile")
    truncated: bool = Field(description=TRUNCATED)
    quality: Quality = Field(description="As requested; fast where a part was translated while the service was busy")
    fallback: Fallback | None = Field(default=None, description="Where the pair has no adapter: pivot or base; the operator must allow it (serve --fallback)")
    glossary: GlossaryUse | None = Field(default=None, description="Where the document has a glossary: whether it could be applied to all parts so far")
    notes: list[str] = Field(default=[], description="What of the document stays untranslated, and what is odd about it, each with its place; at most 20")
    error: str | None = None
    created: datetime
    expires: datetime | None = Field(default=None, description="When the service forgets the job and its result; null until the job has ended")


NOT_AT_HAND = "What replicas share of their documents does not answer; Retry-After says when to try again"
JOB_NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"model": Error, "description": "The key has no such document, or the service has forgotten it"},
    503: {"model": Error, "description": NOT_AT_HAND},
}
_BYTES = {"schema": {"type": "string", "examples": ["the bytes of the file"]}}
FILE_CONTENT: dict[str, Any] = {
    "text/plain": {"schema": {"type": "string", "examples": ["Hello world.\n"]}},
    **{f.media_type.partition(";")[0]: _BYTES for f in FORMATS.values() if f.without_options and f.name != "text"},
}
LOCATION: dict[str, Any] = {"Location": {"description": "The path that shows the progress", "schema": {"type": "string"}}}
routes = APIRouter(prefix="/api/v1/jobs", tags=["native"])


def failure_message(job: Job) -> str | None:
    """Why a job failed, as its client may read it: the details of an error of the service may name paths of this machine, and are left out."""
    if job.failure is None:
        return None
    return job.failure.thing if job.failure.status >= 500 else str(job.failure)


def status_of(job: Job, jobs: Jobs) -> DocumentJob:
    return DocumentJob(
        id=job.id, state=job.state, name=job.name, pair=job.pair, progress=progress_of(job), adapters=job.adapters, truncated=job.truncated,
        notes=list(job.notes), quality=job.given_quality, fallback=job.fallback, error=failure_message(job),
        glossary=None if job.applied is None else GlossaryUse(applied=job.applied), created=datetime.fromtimestamp(job.created, UTC),
        expires=datetime.fromtimestamp(job.ended + jobs.limits.kept, UTC) if job.ended else None,
    )  # fmt: skip


def progress_of(job: Job) -> DocumentProgress:
    return DocumentProgress(done=job.done, total=job.total, seconds=job.seconds_left())


async def start_job(
    request: Request,
    state: AppState,
    upload: Upload,
    source: str,
    target: str,
    cache: bool = True,
    quality: Quality = "fast",
    glossary: Glossary | None = None,
) -> Job:
    """Read a file, charge its characters, and start its job.

    Raises RequestError, NotServed, TooLarge, QuotaUsed, Overloaded, and KeyRefused where no caller was named.
    """
    service, jobs = state.service, state.jobs
    limits = service.limits
    # The quality is decided part by part, when it is known how busy the service is.
    options = dataclasses.replace(request_options(request, service, cache=cache, glossary=glossary), quality=quality)
    # Everything else is checked first: a request that is refused for another reason costs no quota, and no work; least of all that of reading a file.
    pair = parse_pair(service.route(source, target).pair)
    await check_charge(request)
    async with jobs.reading(options.caller, len(upload.raw)) as id:
        document = await jobs.workers.read(options.caller, upload.name, upload.raw, pair, limits.characters, max(1, limits.waiting // SHARE))
        await charge(request, list(document.parts))
        job = await jobs.start(options, document, upload.name, len(upload.raw), source, target, caller_of(request), id)
    leave_charge(request)
    return job


async def file_response(request: Request, jobs: Jobs, job: Job) -> Response:
    """The translated file. Raises NotReady, also for a job that failed, and NotFound for one that is gone meanwhile."""
    if job.failure is not None:
        # The failure is now a state of the document, and no error of the service.
        raise NotReady("the document could not be translated", found=failure_message(job))
    if job.state != "done":
        raise NotReady("the document is not translated yet", found=job.state)
    raw = await jobs.result(job, fetched=ASKED_FOR_HEAD not in request.scope)
    ascii_name = job.name.encode("ascii", "replace").decode().replace("?", "_")
    disposition = f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(job.name, safe='')}"
    # As a header of our own: Starlette would add a charset to `media_type`, which spoils a file in another one.
    return Response(raw, headers={"Content-Type": job.media_type, "Content-Disposition": disposition})


async def find_job(request: Request, state: AppState, id: str) -> Job:
    """The caller's own job of this id. Raises NotFound."""
    return await state.jobs.find(caller_of(request).id, id)


@routes.post(
    "", response_model=DocumentJob, status_code=202, openapi_extra=upload_schema(DocumentRequest), summary="Translate a document",
    responses={**{status: response for status, response in ERRORS.items() if status not in (200, 504)}, **GLOSSARY_NOT_FOUND, 202: {"headers": LOCATION}},
)  # fmt: skip
async def post(request: Request, response: Response, state: StateDep) -> DocumentJob:
    body, upload = await read_upload(request, DocumentRequest)
    glossary = None if body.glossary is None else await glossary_of(request, state, terms_of(body.glossary), body.source, body.target)
    job = await start_job(request, state, upload, body.source, body.target, body.cache, body.quality, glossary)
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    return status_of(job, state.jobs)


@routes.get("/{id}", response_model=DocumentJob, responses={**JOB_NOT_FOUND}, summary="Show the progress of a document")
async def get(request: Request, id: str, state: StateDep) -> DocumentJob:
    return status_of(await find_job(request, state, id), state.jobs)


FILE_OR_CONFLICT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The translated file", "content": FILE_CONTENT},
    409: {"model": Error, "description": "The document is not translated yet, or its translation failed: the error gives the reason"},
}


@routes.get("/{id}/result", response_class=Response, responses={**JOB_NOT_FOUND, **FILE_OR_CONFLICT}, summary="Download the translated document")
async def result(request: Request, id: str, state: StateDep) -> Response:
    return await file_response(request, state.jobs, await find_job(request, state, id))


@routes.delete("/{id}", status_code=204, responses={**JOB_NOT_FOUND}, summary="Stop a document that is being translated, and forget it")
async def delete(request: Request, id: str, state: StateDep) -> None:
    await state.jobs.drop(await find_job(request, state, id))

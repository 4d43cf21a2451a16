"""Documents: POST /api/v1/jobs takes a file and answers at once; its progress, its result and its end are asked for by its id.

What is common to all protocols that take a file is here too: `begin` reads the document, counts its characters and starts the job.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from serve.api.options import ask_of
from serve.api.schema import CODE, ERRORS, MAX_CODE, Problem
from serve.auth.gate import charge
from serve.config import Way
from serve.documents.jobs import Job, Jobs, State
from serve.documents.parts import open_document
from serve.formats import FORMATS
from serve.http.bodies import Upload, read_upload, upload_schema
from serve.translation.quality import QUALITY, Quality
from serve.translation.service import Service
from tell.errors import NotReady
from tell.languages import parse_pair

# Of what may wait, so much at most is one part of a document.
SHARE = 8


class Asked(BaseModel):
    """The fields beside the file."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"file": "Halló heimur.\n", "source": "is", "target": "en"}]})

    source: str = Field(max_length=MAX_CODE, description=f"{CODE}, or auto where only one pair goes into the target")
    target: str = Field(max_length=MAX_CODE, description=CODE)
    cache: bool = Field(default=True, description="false, so that the cache neither answers nor keeps what is translated, or true")
    quality: Quality = Field(default="fast", description=QUALITY)


class Progress(BaseModel):
    done: int = Field(description="Characters of the document that are translated")
    total: int = Field(description="Characters of the document")
    seconds: int | None = Field(default=None, description="Seconds until it is done, by the speed so far; null while that is not known")


EXAMPLE: dict[str, Any] = {
    "id": "0f3c5a7e91d24b86a1c2e4f608152a3b", "state": "translating", "name": "letter.txt", "pair": "is-en", "adapters": ["3f9a0c1d5b7e28460f3c5a7e91d24b86"],
    "progress": {"done": 1200, "total": 4800, "seconds": 9}, "truncated": False,
    "quality": "fast", "fallback": None, "error": None, "created": "2030-01-31T12:00:00Z", "expires": None,
}  # fmt: skip


class JobStatus(BaseModel):
    """A document on its way."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: str
    state: State = Field(description="queued, translating, done: the result can be fetched; or failed: `error` says why")
    name: str = Field(description="The name of the result")
    pair: str
    progress: Progress
    adapters: list[str] = Field(description="The ids of the adapters that translated so far: several when another version went live meanwhile")
    truncated: bool = Field(description="Whether some of it was cut at the token limit")
    quality: Quality = Field(description="As asked for; fast where some part was translated while the service was busy")
    fallback: Way | None = Field(default=None, description="Where the pair has no adapter: pivot or base; the service must let it be used (serve --fallback)")
    error: str | None = None
    created: datetime
    expires: datetime | None = Field(default=None, description="When the job and its result are forgotten; null while it is under way")


GONE: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "No such document of this key, or it is gone"}}
_BYTES = {"schema": {"type": "string", "examples": ["the bytes of the file"]}}
FILE: dict[str, Any] = {
    "text/plain": {"schema": {"type": "string", "examples": ["Hello world.\n"]}},
    **{f.media_type.partition(";")[0]: _BYTES for f in FORMATS.values() if f.without_options and f.name != "text"},
}
LOCATION: dict[str, Any] = {"Location": {"description": "Where to ask how far it is", "schema": {"type": "string"}}}
routes = APIRouter(prefix="/api/v1/jobs", tags=["native"])


def said(job: Job) -> str | None:
    """What went wrong, as it is told to who asks: what is the service's own may name paths of this machine."""
    if job.failure is None:
        return None
    return job.failure.thing if job.failure.status >= 500 else str(job.failure)


def status_of(job: Job, jobs: Jobs) -> JobStatus:
    return JobStatus(
        id=job.id, state=job.state, name=job.name, pair=job.pair, progress=Progress(done=job.done, total=job.total, seconds=job.seconds_left()),
        adapters=job.adapters, truncated=job.truncated, quality=job.used, fallback=job.way, error=said(job), created=datetime.fromtimestamp(job.created, UTC),
        expires=datetime.fromtimestamp(job.ended + jobs.limits.kept, UTC) if job.ended else None,
    )  # fmt: skip


async def begin(request: Request, upload: Upload, source: str, target: str, cache: bool = True, quality: Quality = "fast") -> Job:
    """The job of a file. Raises RequestError, NotServed, TooLarge, QuotaUsed, Overloaded, and KeyRefused where nobody was named."""
    service: Service = request.app.state.service
    jobs: Jobs = request.app.state.jobs
    limits = service.limits
    ask = ask_of(request, None, cache)
    # What is refused for another reason costs no quota, and no work.
    pair = parse_pair(service.route(source, target).pair)
    document = await asyncio.to_thread(open_document, upload.name, upload.raw, pair, limits.characters, max(1, limits.waiting // SHARE))
    jobs.check(ask.caller, len(upload.raw))
    await charge(request, list(document.parts))
    return jobs.start(ask.caller, document, upload.name, len(upload.raw), source, target, ask.cache, quality)


def file_of(job: Job) -> Response:
    """The translated file. Raises NotReady, also when there will be none."""
    if job.failure is not None:
        # What went wrong then is now a state of the document, and no fault of the service.
        raise NotReady("the document could not be translated", found=said(job))
    if job.result is None:
        raise NotReady("the document is not translated yet", found=job.state)
    job.fetched = True
    plain = job.name.encode("ascii", "replace").decode().replace("?", "_")
    disposition = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(job.name, safe='')}"
    # Said as it is: a charset that is added to what has another would spoil the file.
    return Response(job.result, headers={"Content-Type": job.media_type, "Content-Disposition": disposition})


def jobs_of(request: Request) -> tuple[Jobs, Callable[[str], Job]]:
    """The jobs, and how the caller's own are found."""
    jobs: Jobs = request.app.state.jobs
    owner: str = request.scope["tellmt.caller"].id
    return jobs, lambda id: jobs.find(owner, id)


@routes.post(
    "", response_model=JobStatus, status_code=202, openapi_extra=upload_schema(Asked), summary="Translate a document",
    responses={**{status: answer for status, answer in ERRORS.items() if status not in (200, 504)}, 202: {"headers": LOCATION}},
)  # fmt: skip
async def post(request: Request, response: Response) -> JobStatus:
    asked, upload = await read_upload(request, Asked)
    job = await begin(request, upload, asked.source, asked.target, asked.cache, asked.quality)
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    return status_of(job, request.app.state.jobs)


@routes.get("/{id}", response_model=JobStatus, responses={**GONE}, summary="How far a document is")
async def get(request: Request, id: str) -> JobStatus:
    jobs, find = jobs_of(request)
    return status_of(find(id), jobs)


NOT_DONE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The translated file", "content": FILE},
    409: {"model": Problem, "description": "Not translated yet, or it failed: the reason is said"},
}


@routes.get("/{id}/result", response_class=Response, responses={**GONE, **NOT_DONE}, summary="The translated document")
async def result(request: Request, id: str) -> Response:
    return file_of(jobs_of(request)[1](id))


@routes.delete("/{id}", status_code=204, responses={**GONE}, summary="Stop a document that is under way, and forget it")
async def delete(request: Request, id: str) -> None:
    jobs, find = jobs_of(request)
    await jobs.drop(find(id))

"""A document as server-sent events, part by part: GET /api/v1/jobs/{id}/events.

    event: status         {the job, as GET /api/v1/jobs/{id} has it}         at the start, and when its state changes
    id: 3, event: part    {"index": 2, "parts": 40, "text": "...", ...}      each translated part, in order; all parts, joined, are the text
    id: end, event: done  {the job}                                          or `failed`, or `gone` when it was deleted: the last one

A client that lost the connection sends the last id back as Last-Event-ID, as browsers do by themselves, and gets what it has not had. Who leaves
stops only watching. What has ended is told again from the beginning until the job is forgotten.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from serve.api.documents import EXAMPLE, GONE, Progress, jobs_of, status_of
from serve.api.openapi import inlined
from serve.documents.jobs import Job, Jobs
from serve.http.middleware import unless_gone
from tell.text.flags import Flag

KIND = "text/event-stream"
# Proxies hold back what they think is one answer.
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
# Seconds without an event after which a comment is sent, so that nobody on the way takes the connection for dead.
QUIET = 15.0
# The id of the last event. Who sends it back has all, and 204 tells a browser to leave off.
END = "end"


PART: dict[str, Any] = {
    "index": 2, "parts": 40, "text": "Hello world.\n\n", "truncated": False, "flags": [], "progress": {"done": 360, "total": 4800, "seconds": 9},
}  # fmt: skip


class DocumentPart(BaseModel):
    """The data of an event `part`."""

    model_config = ConfigDict(json_schema_extra={"examples": [PART]})

    index: int = Field(description="The number of the part, from 0; the id of its event is one more")
    parts: int = Field(description="Parts of the document")
    text: str = Field(description="Its translation, with the lines and white space around it")
    truncated: bool = Field(description="Whether some of it was cut at the token limit")
    flags: list[Flag] = Field(description="What looks wrong with it after all tries, the worst first")
    progress: Progress


routes = APIRouter(prefix="/api/v1/jobs", tags=["native"])


def _event(kind: str, data: BaseModel, id: str | None = None) -> bytes:
    # JSON has no line break outside of its strings, and in them it is escaped: one `data` line holds it.
    head = f"id: {id}\n" if id else ""
    return f"{head}event: {kind}\ndata: {json.dumps(data.model_dump(mode='json'), ensure_ascii=False)}\n\n".encode()


class Events(Response):
    """Sends what there is, then what comes, until the job has ended; a client that does not read holds up nothing but itself."""

    media_type = KIND

    def __init__(self, request: Request, jobs: Jobs, job: Job, had: int):
        self.request, self.jobs, self.job, self.had = request, jobs, job, had
        self.status_code, self.background = 200, None
        self.init_headers(HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await unless_gone(self.request, self._told(send))

    async def _told(self, send: Send) -> None:
        job = self.job

        async def tell(body: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": body, "more_body": more})

        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        state = None
        while True:
            news = job.news
            if state is None or (job.state != state and job.ended is None):
                state = job.state
                await tell(_event("status", status_of(job, self.jobs)))
            while self.had in job.made:
                await tell(self._part(self.had))
                self.had += 1
            if job.gone or job.ended is not None:
                return await tell(_event("gone" if job.gone else job.state, status_of(job, self.jobs), END), more=False)
            # What was told to happen while the last event was sent has set it already.
            try:
                async with asyncio.timeout(QUIET):
                    await news.wait()
            except TimeoutError:
                await tell(b": still here\n\n")

    def _part(self, number: int) -> bytes:
        job, made = self.job, self.job.made[number]
        progress = Progress(done=job.done, total=job.total, seconds=job.seconds_left())
        part = DocumentPart(index=number, parts=job.parts, text=made.text, truncated=made.truncated, flags=list(made.flags), progress=progress)
        return _event("part", part, str(number + 1))


def _shown(kind: str, data: dict[str, Any], id: str = "") -> str:
    return (f"id: {id}\n" if id else "") + f"event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


_DONE = {**EXAMPLE, "state": "done", "progress": {"done": 4800, "total": 4800, "seconds": None}, "expires": "2030-01-31T13:00:09Z"}
STREAM: dict[str, Any] = {
    "schema": {"type": "string", "description": "Server-sent events: status, part, and at the end done, failed or gone"},
    # OpenAPI 3.1 has no words for the events of a stream: the schema of the data of each.
    "x-events": {"part": inlined(DocumentPart), **{kind: {"$ref": "#/components/schemas/JobStatus"} for kind in ("status", "done", "failed", "gone")}},
    "example": _shown("status", EXAMPLE) + _shown("part", PART, "3") + _shown("done", _DONE, END),
}
LAST = {"name": "Last-Event-ID", "in": "header", "required": False, "description": "The id of the last event that came", "schema": {"type": "string"}}


@routes.get(
    "/{id}/events",
    response_class=Events,
    status_code=200,
    responses={
        **GONE,
        200: {"description": "The events, as they come", "content": {KIND: STREAM}},
        204: {"description": "The client has had the last event: there is nothing more"},
    },
    openapi_extra={"parameters": [LAST]},
    summary="A document as server-sent events, part by part",
)
async def events(request: Request, id: str) -> Response:
    """The data of `status`, `done`, `failed` and `gone` is that of GET /api/v1/jobs/{id}; a `part` has `index`, `parts`, `text`, `truncated`, `flags`
    and `progress`. With Last-Event-ID only what came after it is sent."""
    jobs, find = jobs_of(request)
    job, last = find(id), request.headers.get("last-event-id", "")
    if last == END and job.ended is not None:
        return Response(status_code=204)
    # What is no number of ours may be another server's: then all is told.
    return Events(request, jobs, job, min(int(last), job.parts) if last.isdecimal() and len(last) < 10 else 0)

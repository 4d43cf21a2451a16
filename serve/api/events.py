"""A document as server-sent events, part by part: GET /api/v1/jobs/{id}/events.

    event: status         {the job, as GET /api/v1/jobs/{id} has it}         at the start, and when its state changes
    id: 3, event: part    {"index": 2, "parts": 40, "text": "...", ...}      each translated part, in order; the parts, joined, are the translation
    id: end, event: done  {the job}                                          or `failed`, or `gone` when the job was deleted: the last event

A client that lost the connection sends the last id back as Last-Event-ID, as browsers do by themselves, and receives only the events after it. A client
that leaves does not stop the job. Until a job that has ended is forgotten, its events can be read again from the beginning.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from serve.api.documents import EXAMPLE, JOB_NOT_FOUND, DocumentProgress, find_job, progress_of, status_of
from serve.api.handler import StateDep
from serve.api.openapi import inlined
from serve.api.schema import FLAGS, TRUNCATED
from serve.documents.jobs import Job, Jobs
from serve.http.middleware import unless_gone
from tell.text.flags import Flag

MEDIA_TYPE = "text/event-stream"
# Proxies hold back what they think is one response.
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
# Seconds without an event after which a comment is sent, so that no proxy takes the connection for dead.
QUIET = 15.0
# The id of the last event. A client that sends it back has all events, and status 204 tells a browser not to connect again.
END = "end"


PART_EXAMPLE: dict[str, Any] = {
    "index": 2, "parts": 40, "text": "Hello world.\n\n", "truncated": False, "flags": [], "progress": {"done": 360, "total": 4800, "seconds": 9},
}  # fmt: skip


class DocumentPart(BaseModel):
    """The data of an event `part`."""

    model_config = ConfigDict(json_schema_extra={"examples": [PART_EXAMPLE]})

    index: int = Field(description="The number of the part, from 0; the id of its event is one more")
    parts: int = Field(description="How many parts the document has")
    text: str = Field(description="The translation of the part, with the line breaks and white space around it")
    truncated: bool = Field(description=TRUNCATED)
    flags: list[Flag] = Field(description=FLAGS)
    progress: DocumentProgress


routes = APIRouter(prefix="/api/v1/jobs", tags=["native"])


def _event(kind: str, data: BaseModel, id: str | None = None) -> bytes:
    # JSON has no line break outside of its strings, and in them it is escaped: one `data` line holds it.
    head = f"id: {id}\n" if id else ""
    return f"{head}event: {kind}\ndata: {json.dumps(data.model_dump(mode='json'), ensure_ascii=False)}\n\n".encode()


class EventResponse(Response):
    """Sends the events so far, then new ones until the job has ended. A client that reads slowly delays nobody else."""

    media_type = MEDIA_TYPE

    def __init__(self, request: Request, jobs: Jobs, job: Job, next_part: int):
        self.request, self.jobs, self.job, self.next_part = request, jobs, job, next_part
        self.status_code, self.background = 200, None
        self.init_headers(HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self.jobs.watching(self.job):
            await unless_gone(self.request, self._send_events(send))

    async def _send_events(self, send: Send) -> None:
        job = self.job

        async def send_body(body: bytes, more_body: bool = True) -> None:
            await send({"type": "http.response.body", "body": body, "more_body": more_body})

        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        state = None
        while True:
            # Taken before the state is read: a change while an event is sent has then set it already.
            changed = job.changed
            if state is None or (job.state != state and job.ended is None):
                state = job.state
                await send_body(_event("status", status_of(job, self.jobs)))
            while self.next_part in job.translations:
                await send_body(self._part(self.next_part))
                self.next_part += 1
            if job.gone or job.ended is not None:
                return await send_body(_event("gone" if job.gone else job.state, status_of(job, self.jobs), END), more_body=False)
            try:
                async with asyncio.timeout(QUIET):
                    await changed.wait()
            except TimeoutError:
                await send_body(b": still here\n\n")

    def _part(self, number: int) -> bytes:
        job, translation = self.job, self.job.translations[number]
        part = DocumentPart(
            index=number, parts=job.parts, text=translation.text, truncated=translation.truncated, flags=list(translation.flags), progress=progress_of(job)
        )
        return _event("part", part, str(number + 1))


def _event_example(kind: str, data: dict[str, Any], id: str = "") -> str:
    return (f"id: {id}\n" if id else "") + f"event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


_DONE = {**EXAMPLE, "state": "done", "progress": {"done": 4800, "total": 4800, "seconds": None}, "expires": "2030-01-31T13:00:09Z"}
EVENT_CONTENT: dict[str, Any] = {
    "schema": {"type": "string", "description": "Server-sent events: status, part, and at the end done, failed or gone"},
    # OpenAPI 3.1 cannot describe the events of a stream: this gives the schema of the data of each kind.
    "x-events": {"part": inlined(DocumentPart), **{kind: {"$ref": "#/components/schemas/DocumentJob"} for kind in ("status", "done", "failed", "gone")}},
    "example": _event_example("status", EXAMPLE) + _event_example("part", PART_EXAMPLE, "3") + _event_example("done", _DONE, END),
}
LAST_EVENT_ID = {
    "name": "Last-Event-ID", "in": "header", "required": False,
    "description": "The id of the last event that the client received", "schema": {"type": "string"},
}  # fmt: skip


@routes.get(
    "/{id}/events",
    response_class=EventResponse,
    status_code=200,
    responses={
        **JOB_NOT_FOUND,
        200: {"description": "The events", "content": {MEDIA_TYPE: EVENT_CONTENT}},
        204: {"description": "The client has received the last event: there are no more"},
    },
    openapi_extra={"parameters": [LAST_EVENT_ID]},
    summary="Send a document as server-sent events, part by part",
)
async def events(request: Request, id: str, state: StateDep) -> Response:
    """The data of `status`, `done`, `failed` and `gone` is that of GET /api/v1/jobs/{id}; a `part` has `index`, `parts`, `text`, `truncated`, `flags`
    and `progress`. With Last-Event-ID the service sends only the events after that one."""
    job, last_id = await find_job(request, state, id), request.headers.get("last-event-id", "")
    if last_id == END and job.ended is not None:
        return Response(status_code=204)
    # An id that is no number may come from another server: all events are sent then.
    return EventResponse(request, state.jobs, job, min(int(last_id), job.parts) if last_id.isdecimal() and len(last_id) < 10 else 0)

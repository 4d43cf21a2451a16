"""What a client may need to know before its first request, and how busy the service is: GET /api/v1/service and /api/v1/load. No text, no key, no path."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from serve.api.handler import StateDep
from serve.auth.gate import gate_of
from serve.documents.parts import FORMATS
from serve.http.middleware import MAX_BODY
from tell import __version__

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge

INFO_EXAMPLE: dict[str, Any] = {
    "formats": [".txt"], "feedback": True, "compare_base": False, "keys": False, "max_characters": 100_000, "max_texts": 1000, "max_bytes": MAX_BODY,
    "notice": "",
}  # fmt: skip
LOAD_EXAMPLE: dict[str, Any] = {
    "version": "0.1.0", "engine": "ct2", "started": "2030-01-31T12:00:00Z", "uptime": 86_400, "requests": 3,
    "segments": {"waiting": 120, "running": 64, "limit": 4096}, "documents": {"queued": 0, "translating": 1, "kept": 4},
    "adapters": {"loaded": 2, "limit": 8}, "translated": {"segments": 52_000, "characters": 4_100_000, "flagged": 310, "cached": 900},
}  # fmt: skip


class ServiceInfo(BaseModel):
    """What this service accepts. It needs no key, so that a page can be drawn before it has one."""

    model_config = ConfigDict(json_schema_extra={"examples": [INFO_EXAMPLE]})

    formats: list[str] = Field(description="The file name endings of the formats that the service translates")
    feedback: bool = Field(description="Whether the service keeps corrections (POST /api/v1/feedback)")
    compare_base: bool = Field(description="Whether a request may ask for the base without an adapter (base: true)")
    keys: bool = Field(description="Whether requests need a key")
    max_characters: int = Field(description="The most characters of text in one request")
    max_texts: int = Field(description="The most texts in one request")
    max_bytes: int = Field(description="The most bytes in the body of a request: a file with its form")
    notice: str = Field(description="What the operator tells the users of the page; empty where nothing")


class SegmentLoad(BaseModel):
    waiting: int = Field(description="Segments that are admitted and not translated yet, including those in the engine")
    running: int = Field(description="Segments in the engine")
    limit: int = Field(description="The most segments that may wait; the service refuses more with 503")


class DocumentLoad(BaseModel):
    queued: int
    translating: int
    kept: int = Field(description="Documents that are done or failed and not yet forgotten")


class AdapterLoad(BaseModel):
    loaded: int = Field(description="Pairs that are loaded")
    limit: int = Field(description="The most pairs that can be loaded at once")


class TranslationTotals(BaseModel):
    """Counts since the service started."""

    segments: int = Field(description="Segments translated; each retry counts")
    characters: int = Field(description="Characters of these segments")
    flagged: int = Field(description="Flags on the segments that clients received")
    cached: int = Field(description="Segments answered from the cache")


class LoadResponse(BaseModel):
    """How busy the service is, and how much it has translated. /metrics has the same and more, for Prometheus."""

    model_config = ConfigDict(json_schema_extra={"examples": [LOAD_EXAMPLE]})

    version: str
    engine: str
    started: datetime
    uptime: int = Field(description="Seconds since the service started")
    requests: int = Field(description="Requests that the service is answering, without this one")
    segments: SegmentLoad
    documents: DocumentLoad
    adapters: AdapterLoad
    translated: TranslationTotals


routes = APIRouter(prefix="/api/v1", tags=["native"])


def _total(metric: Counter | Gauge) -> int:
    """The sum over all labels."""
    return int(sum(s.value for family in metric.collect() for s in family.samples if not s.name.endswith("_created")))


@routes.get("/service", response_model=ServiceInfo, summary="Show what this service accepts: formats, limits, corrections, the base without an adapter")
async def info(request: Request, state: StateDep) -> ServiceInfo:
    limits = state.service.limits
    return ServiceInfo(
        formats=list(FORMATS), feedback=state.feedback is not None, compare_base=state.compare_base, keys=gate_of(request).keys.required,
        max_characters=limits.characters, max_texts=limits.texts, max_bytes=MAX_BODY,
        notice=state.web.notice,
    )  # fmt: skip


@routes.get("/load", response_model=LoadResponse, summary="Show how busy the service is, and how much it has translated")
async def load(state: StateDep) -> LoadResponse:
    service = state.service
    metrics, jobs = service.metrics, state.jobs.states()
    return LoadResponse(
        version=__version__, engine=service.engine.name, started=datetime.fromtimestamp(service.since, UTC), uptime=int(time.time() - service.since),
        requests=_total(metrics.in_flight) - 1,
        segments=SegmentLoad(waiting=_total(metrics.waiting), running=_total(metrics.in_engine), limit=service.limits.waiting),
        documents=DocumentLoad(queued=jobs["queued"], translating=jobs["translating"], kept=jobs["done"] + jobs["failed"]),
        adapters=AdapterLoad(loaded=len(service.versions.live), limit=service.limits.adapters - 1),
        translated=TranslationTotals(
            segments=_total(metrics.segments), characters=_total(metrics.characters), flagged=_total(metrics.flagged), cached=_total(metrics.cache_hits)
        ),
    )  # fmt: skip

"""What a client may want to know before it asks, and how much there is to do: GET /api/v1/service and /api/v1/load. No text, no key, no path."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from serve.documents.jobs import Jobs
from serve.documents.parts import FORMATS
from serve.http.middleware import MAX_BODY
from serve.translation.service import Service
from tell import __version__

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge

OFFER: dict[str, Any] = {
    "formats": [".txt"], "feedback": True, "compare_base": False, "keys": False, "max_characters": 100_000, "max_texts": 1000, "max_bytes": MAX_BODY,
}  # fmt: skip
LOAD: dict[str, Any] = {
    "version": "0.1.0", "engine": "ct2", "started": "2030-01-31T12:00:00Z", "uptime": 86_400, "requests": 3,
    "segments": {"waiting": 120, "running": 64, "limit": 4096}, "documents": {"queued": 0, "translating": 1, "kept": 4},
    "adapters": {"loaded": 2, "limit": 8}, "translated": {"segments": 52_000, "characters": 4_100_000, "flagged": 310, "cached": 900},
}  # fmt: skip


class Offer(BaseModel):
    """What this service takes. Known to everybody, so that a page can be drawn before it has a key."""

    model_config = ConfigDict(json_schema_extra={"examples": [OFFER]})

    formats: list[str] = Field(description="The endings of files that are translated")
    feedback: bool = Field(description="Whether corrections are kept (POST /api/v1/feedback)")
    compare_base: bool = Field(description="Whether the bare base's translation can be asked for (base: true)")
    keys: bool = Field(description="Whether a key is wanted")
    max_characters: int = Field(description="Characters of text in one request, at most")
    max_texts: int = Field(description="Texts in one request, at most")
    max_bytes: int = Field(description="Bytes of a request's body, at most: a file with its form")


class Segments(BaseModel):
    waiting: int = Field(description="Admitted and not translated yet, those that run included")
    running: int = Field(description="In the engine")
    limit: int = Field(description="So many may wait; more are refused with 503")


class Documents(BaseModel):
    queued: int
    translating: int
    kept: int = Field(description="Ended, and not forgotten yet")


class Adapters(BaseModel):
    loaded: int = Field(description="Pairs that are loaded")
    limit: int = Field(description="Pairs that can be loaded at once")


class Translated(BaseModel):
    """Since the service started."""

    segments: int = Field(description="Segments translated, each try counted")
    characters: int = Field(description="Characters of these")
    flagged: int = Field(description="Flags on segments that were answered")
    cached: int = Field(description="Segments answered from the cache")


class Load(BaseModel):
    """How much there is to do now, and how much was done. /metrics has the same and more, for Prometheus."""

    model_config = ConfigDict(json_schema_extra={"examples": [LOAD]})

    version: str
    engine: str
    started: datetime
    uptime: int = Field(description="Seconds")
    requests: int = Field(description="Requests that are being answered, beside this one")
    segments: Segments
    documents: Documents
    adapters: Adapters
    translated: Translated


routes = APIRouter(prefix="/api/v1", tags=["native"])


def _total(metric: Counter | Gauge) -> int:
    """The sum over all labels."""
    return int(sum(s.value for family in metric.collect() for s in family.samples if not s.name.endswith("_created")))


@routes.get("/service", response_model=Offer, summary="What this service takes: formats, limits, corrections, the bare base")
async def offer(request: Request) -> Offer:
    service: Service = request.app.state.service
    return Offer(
        formats=list(FORMATS), feedback=request.app.state.feedback is not None, compare_base=request.app.state.compare_base,
        keys=request.scope["tellmt.gate"].keys.wanted, max_characters=service.limits.characters, max_texts=service.limits.texts, max_bytes=MAX_BODY,
    )  # fmt: skip


@routes.get("/load", response_model=Load, summary="How much there is to do, and how much was done")
async def load(request: Request) -> Load:
    service: Service = request.app.state.service
    jobs: Jobs = request.app.state.jobs
    metrics, states = service.metrics, jobs.states()
    return Load(
        version=__version__, engine=service.engine.name, started=datetime.fromtimestamp(service.since, UTC), uptime=int(time.time() - service.since),
        requests=_total(metrics.in_flight) - 1,
        segments=Segments(waiting=_total(metrics.waiting), running=_total(metrics.in_engine), limit=service.limits.waiting),
        documents=Documents(queued=states["queued"], translating=states["translating"], kept=states["done"] + states["failed"]),
        adapters=Adapters(loaded=len(service.versions.live), limit=service.limits.adapters - 1),
        translated=Translated(
            segments=_total(metrics.segments), characters=_total(metrics.characters), flagged=_total(metrics.flagged), cached=_total(metrics.cache_hits)
        ),
    )  # fmt: skip
